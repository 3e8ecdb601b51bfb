"""What torch operations become: one kernel computes all of them, and each is compared with torch's own."""
from __future__ import annotations

import math
import re

import pytest
import torch

from happo_gpu.lanes.kernel import Kernel
from happo_gpu.lanes.program import Unsupported
from happo_gpu.lanes.trace import trace
from happo_gpu.loops import repeat

N = 67  # environments: of one tile and a part of the next


class Numbers:
    """Tensors of every layout that simulators and tasks have."""

    def __init__(self) -> None:
        self.x, self.y = torch.randn(N, 3), torch.randn(N, 3)  # environments first
        self.rows = torch.randn(2, 5, N)  # environments last
        self.view = self.rows.permute(2, 0, 1)  # (N, 2, 5)
        self.count = torch.randint(5, (N,))
        self.flag, self.other = torch.rand(N, 3) < 0.5, torch.rand(N, 3) < 0.5
        self.weight, self.table, self.order = torch.randn(3), torch.randn(5, 2), torch.tensor([2, 0])
        self.wide = 300.0 * torch.randn(N, 3)
        self.strange = self.x.clone()
        self.strange[::5, 0], self.strange[1::5, 1], self.strange[2::5, 2] = math.nan, math.inf, -math.inf


CASES = {
    "arithmetic": lambda s: (2.0 * s.x - s.y / 3.0 + 1) * s.weight,
    "a number less a tensor": lambda s: 1.0 - s.x,
    "negation": lambda s: -s.x,
    "square": lambda s: s.x ** 2,
    "reciprocal": lambda s: 1.0 / s.x,
    "root": lambda s: s.x.abs().sqrt(),
    "sine and cosine": lambda s: torch.stack((s.wide.sin(), s.wide.cos()), -1),
    "arctangent": lambda s: torch.atan2(s.x, s.y),
    "exponential and logarithm": lambda s: (s.x.exp() + s.y.abs().log()).tanh(),
    "floor and remainder": lambda s: torch.stack((s.x.floor(), torch.remainder(s.wide, 2.0 * math.pi), torch.remainder(s.wide, -0.7))),
    "sign of another": lambda s: torch.copysign(torch.full_like(s.x, 0.6), s.y),
    "larger and smaller": lambda s: torch.maximum(s.x, s.y) - 3.0 * torch.minimum(s.x, s.y),
    "clamped by numbers": lambda s: s.x.clamp(-0.3, 0.4) + s.x.clamp(min=0.1) + s.x.clamp(max=0.2),
    "clamped by tensors": lambda s: s.x.clamp(-s.weight.abs(), s.weight.abs()),
    "what is no number stays": lambda s: torch.stack((s.strange.clamp(-1.0, 1.0), torch.maximum(s.strange, s.y), torch.minimum(s.y, s.strange))),
    "comparisons": lambda s: torch.stack((s.x < s.y, s.x <= 0.5, s.x > s.weight, s.x >= s.y, s.x == s.x, s.x != s.y)),
    "comparisons of integers": lambda s: torch.stack((s.count < 2, s.count == 3, s.count >= 4)),
    "logic": lambda s: (s.flag & s.other) | (~s.flag & ~s.other),
    "logic by name": lambda s: torch.logical_or(s.flag, torch.logical_and(s.other, torch.logical_not(s.flag))),
    "choice": lambda s: torch.where(s.flag, s.x, torch.where(s.other, s.y, 0.25)),
    "masked": lambda s: s.x.masked_fill(s.flag, -2.0),
    "a flag as a number": lambda s: s.x * s.flag + s.other.to(torch.float32) - (2.0 * s.flag - 1.0),
    "integers": lambda s: 3 * s.count + 1 + s.flag[:, 0],
    "an integer as a number": lambda s: s.x / s.count.clamp(min=1).unsqueeze(-1),
    "filled": lambda s: torch.stack((torch.zeros_like(s.x), torch.ones_like(s.x), torch.full((N, 3), 0.7), torch.zeros(N, 3), s.x.new_zeros(N, 3))),
    "infinity": lambda s: torch.minimum(torch.full_like(s.x, math.inf), s.x),
    "environments last": lambda s: s.rows[1] * s.rows[0, 2] + s.count,
    "a view": lambda s: s.view[:, 0, 1:4] - s.x,
    "parts": lambda s: torch.cat((s.x[:, 1:], s.x[:, :1], s.view.flatten(1)), -1),
    "unbound and split": lambda s: torch.stack((*s.x.unbind(-1), s.y.split([1, 2], -1)[1].sum(-1))),
    "every second": lambda s: s.rows[0, ::2],
    "rolled": lambda s: s.x.roll(1, 1) - s.rows.roll(2, 1)[0, :3].t(),
    "expanded": lambda s: s.count.view(N, 1, 1).expand(-1, 2, 3) * s.x.unsqueeze(1),
    "squeezed": lambda s: s.x[:, 0:1].squeeze(-1) + s.rows[1:2].squeeze(0)[4],
    "sums": lambda s: torch.cat((s.view.sum((1, 2)).unsqueeze(-1), s.x.sum(-1, keepdim=True), s.rows.sum(0).t()), -1),
    "means": lambda s: s.view.mean(1).mean(-1),
    "any and all": lambda s: torch.stack((s.flag.any(-1), s.flag.all(-1), (s.rows > 0.0).any(0).all(0))),
    "extremes": lambda s: s.view.amin(-1) + s.rows.amax(1).t(),
    "length": lambda s: torch.linalg.vector_norm(s.x, dim=-1),
    "columns by number": lambda s: s.x.index_select(1, s.order),
    "each its own column": lambda s: s.view[:, 0].gather(1, s.count.unsqueeze(-1)).squeeze(-1),
    "each its own row of a table": lambda s: s.table[s.count],
    "written in part": lambda s: written_in_part(s),
    "copies do not see what comes later": lambda s: copied(s),
}


def written_in_part(s: Numbers) -> torch.Tensor:
    made = torch.zeros(N, 2, 3)
    made[:, 0, :2] = s.x[:, 1:]
    made[:, 1] += s.y
    made[:, 1, 0].mul_(2.0).add_(s.flag[:, 0])
    return made


def copied(s: Numbers) -> torch.Tensor:
    made = s.x * 1.0
    before, seen = made.clone(), made[:, 1]
    made.sub_(s.y).div_(2.0)
    made.masked_fill_(s.flag, 3.0)
    return torch.stack((before, made, seen.unsqueeze(-1).expand(N, 3)))


@pytest.fixture(scope="module")
def results():
    """By case: torch's own, and the kernel's."""
    torch.manual_seed(5)
    numbers = Numbers()
    expected = {name: case(numbers) for name, case in CASES.items()}
    computed = {name: torch.zeros_like(value) for name, value in expected.items()}

    def everything() -> None:
        for name, case in CASES.items():
            computed[name].copy_(case(numbers))

    Kernel(everything, N)()
    return {name: (expected[name], computed[name]) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_torchs(results, name):
    expected, computed = results[name]
    of_hundreds = {"sine and cosine": 1e-5, "floor and remainder": 1e-4}  # where float32 itself is that far apart
    torch.testing.assert_close(computed, expected, rtol=2e-6, atol=of_hundreds.get(name, 2e-6), equal_nan=True)


REFUSED = {
    "a sum or choice over rows": lambda s: s.x.add_(s.y.mean(0)),
    "some of the rows picked out": lambda s: s.x.add_(s.y[3]),
    "rows or columns joined": lambda s: torch.cat((s.x, s.y)),
    "rows or columns rearranged": lambda s: s.x.add_(s.x.roll(1, 0)),
    "a matrix product of environments": lambda s: s.x.add_(s.y @ s.weight.view(3, 1)),
    "a power of 3": lambda s: s.x.add_(s.y ** 3),
    "torch.float64": lambda s: s.x.copy_(s.y.double() * 2.0),
    "with out=": lambda s: torch.add(s.x, s.y, out=s.x),
    "indices that are computed": lambda s: s.x[:, :2].add_(s.x.index_select(1, s.order + 1)),
    "random numbers within a loop": lambda s: repeat(2, lambda: s.x.add_(torch.rand(N, 3))),
    "two axes of rows": lambda s: s.x.add_(SQUARE.unsqueeze(0).sum()),
    "aten.lift_fresh.default": lambda s: s.x.add_(torch.tensor([1.0, 2.0, 3.0])),
    "aten.sort.default": lambda s: s.x.sort(-1),
}
SQUARE = torch.zeros(N, N)


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_alike_for_all_environments_is_refused(reason):
    numbers = Numbers()
    before = numbers.x.clone()
    with pytest.raises(Unsupported, match=re.escape(reason)):
        trace(lambda: REFUSED[reason](numbers), N)
    assert torch.equal(numbers.x, before)  # nothing was computed


def test_a_value_that_is_made_before_a_loop_is_seen_in_it_and_after_it():
    numbers, plain = Numbers(), Numbers()
    for name in vars(plain):
        setattr(plain, name, getattr(numbers, name).clone())

    def run(of: Numbers) -> None:
        made, flag, count = of.x * 2.0, of.x > 0.5, of.count + 1
        repeat(3, lambda: of.y.add_(torch.where(flag, made, of.y * count.unsqueeze(-1))))
        of.x.copy_(torch.where(flag, of.y, made))

    run(plain)
    Kernel(lambda: run(numbers), N)()
    torch.testing.assert_close(torch.stack((numbers.x, numbers.y)), torch.stack((plain.x, plain.y)))
