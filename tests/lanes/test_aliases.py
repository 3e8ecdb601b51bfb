"""Names that share memory, and sums in order: either the numbers are torch's, or nothing is compiled."""
from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch

from happo_gpu.lanes.kernel import Kernel, Kernels
from happo_gpu.lanes.program import Unsupported
from happo_gpu.lanes.trace import trace
from happo_gpu.loops import repeat

N, B = 67, 211  # environments, samples


def numbers() -> SimpleNamespace:
    torch.manual_seed(3)
    both = torch.arange(4.0)
    return SimpleNamespace(
        x=torch.randn(N, 3), y=torch.randn(N, 3), one=torch.randn(N, 3, 1), count=torch.randint(-5, 5, (N,)), flag=torch.rand(N, 3) < 0.5,
        other=torch.rand(N, 3) < 0.5, order=torch.tensor([1, 1]), table=torch.randn(5, 2), clock=both[2:3], both=both,
        strange=torch.tensor([88.6, 3.4e38, -103.0, -200.0, torch.inf, torch.nan]).expand(N, 6).clone(), out=torch.zeros(N, 6))


def written_before_a_sum_of_one(s: SimpleNamespace) -> torch.Tensor:
    made = s.one * 1.0
    total = made.sum(-1)
    made.mul_(2.0)
    return total + made[..., 0]


def taken_twice(s: SimpleNamespace) -> torch.Tensor:
    made = s.x.index_select(1, s.order)
    made[:, 0] = 5.0
    return made


def timed(s: SimpleNamespace) -> torch.Tensor:
    s.clock.add_(1.0)
    return s.x * s.clock


CASES = {
    "a sum of one number is a number of its own": written_before_a_sum_of_one,
    "a column that is taken twice becomes two": taken_twice,
    "a part of a larger tensor is one for all": timed,
    "flags are added and multiplied as flags": lambda s: ~(s.flag * s.other) & (s.flag + s.other),
    "a row counts from the end of a table": lambda s: s.table[s.count],
    "large and small powers": lambda s: s.strange.exp() + s.strange[:, :2].abs().log().sum(-1, keepdim=True),
    "the sign of what is no number": lambda s: s.strange.sign(),
}


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_torchs(name):
    plain, compiled = numbers(), numbers()
    expected = CASES[name](plain)
    out = torch.zeros_like(expected)
    Kernel(lambda: out.copy_(CASES[name](compiled)), N)()
    torch.testing.assert_close(out, expected, rtol=2e-6, atol=1e-37, equal_nan=True)
    assert torch.equal(compiled.both, plain.both)


def changed_in_a_loop(s: SimpleNamespace) -> None:
    made = s.x * 1.0
    repeat(4, lambda: made.mul_(2.0))
    s.y.copy_(made)


REFUSED = {
    "made outside of a loop and changed in it": changed_in_a_loop,
    "takes rows or columns apart": lambda s: s.y.copy_((s.x * 2.0).reshape(3, N).t()),
    "the bits of numbers": lambda s: s.y.copy_(s.x.view(torch.int32)),
    "written under one name and used under another": lambda s: (s.table.mul_(2.0), s.y[:, :2].copy_(s.table[s.count])),
    "more than 32 bits": lambda s: s.count.add_(2**33),
    "a generator of random numbers": lambda s: s.x.add_(torch.rand_like(s.x) + torch.randn(N, 3, generator=torch.Generator())),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_could_come_out_otherwise_is_refused(reason):
    given = numbers()
    with pytest.raises(Unsupported, match=re.escape(reason)):
        trace(lambda: REFUSED[reason](given), N)


# -- sums over samples ----------------------------------------------------------------------------


def sums() -> SimpleNamespace:
    torch.manual_seed(4)
    return SimpleNamespace(total=torch.randn(3), wide=torch.randn(31), out=torch.randn(3), matrix=torch.randn(2, 3), weights=torch.randn(31, 3))


IN_ORDER = {
    "after nothing": lambda s, x, y: (s.total.zero_(), s.total.add_(x.sum(0))),
    "to a moving average": lambda s, x, y: (s.total.mul_(0.9), s.total.add_(x.sum(0))),
    "with a weight": lambda s, x, y: s.total.add_(x.sum(0) * 0.5),
    "after they were divided": lambda s, x, y: s.total.add_(x.mean(0).div_(2.0)),
    "of many columns": lambda s, x, y: s.wide.add_(y.sum(0)),
}


@pytest.mark.parametrize("name", IN_ORDER)
def test_sums_are_added_in_order(name):
    plain, compiled = sums(), sums()
    x, y = torch.randn(B, 3), torch.randn(B, 31)
    IN_ORDER[name](plain, x, y)
    Kernel(lambda x, y: IN_ORDER[name](compiled, x, y), 0, [x, y])(x, y)
    for key in vars(plain):
        torch.testing.assert_close(getattr(compiled, key), getattr(plain, key), rtol=1e-5, atol=1e-5)


OUT_OF_ORDER = {
    "alpha": lambda s, x, y: s.total.add_(x.sum(0), alpha=0.5),
    "sums (3,) added to (31, 3)": lambda s, x, y: s.weights.add_(x.sum(0)),
    "known in the end": lambda s, x, y: (s.total.add_(x.sum(0)), x.mul_(s.total)),
    "under one name and used": lambda s, x, y: (s.matrix.mul_(0.5), x.copy_(x[:, :2] @ s.matrix)),
    "rows once more": lambda s, x, y: x.copy_(x @ (x.t() @ x)),
    "two axes of columns": lambda s, x, y: x.add_((y.unsqueeze(1) * y.unsqueeze(2)).sum((1, 2)).unsqueeze(-1)),
    "how many samples": lambda s, x, y: s.total.add_(x.mean(0) * len(x)),
    "one column and many": lambda s, x, y: s.wide.copy_(torch.stack((torch.ones_like(y), y), 1).sum(0)[1]),
}


@pytest.mark.parametrize("reason", OUT_OF_ORDER)
def test_sums_that_could_come_out_otherwise_are_refused(reason):
    x, y, of = torch.randn(B, 3), torch.randn(B, 31), sums()
    with pytest.raises(Unsupported, match=re.escape(reason)):
        Kernel(lambda x, y: OUT_OF_ORDER[reason](of, x, y), 0, [x, y])


# -- calls -----------------------------------------------------------------------------------------


def test_arguments_of_the_same_strides_but_other_columns_or_types_have_kernels_of_their_own():
    out = torch.zeros(())
    kernels = Kernels(lambda x: out.copy_(x.sum()), 0)
    full = torch.arange(30.0).view(10, 3)
    for given in (full, full[:, :2]):
        kernels(given)
        assert out == given.sum()
    with pytest.raises(Unsupported, match="a sum of integers"):
        kernels(full.to(torch.int32))


def test_indices_that_change_are_not_overlooked():
    s = numbers()
    kernel = Kernel(lambda: s.y[:, :2].copy_(s.x.index_select(1, s.order)), N)
    kernel()
    s.order.fill_(2)
    with pytest.raises(Unsupported, match="indices that have changed"):
        kernel()
