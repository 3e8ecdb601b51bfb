"""Compiled methods that are kept on disk: a second process loads them, and what cannot be loaded is compiled anew."""
from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import CPU, compose_config
from happo_gpu import accelerate, compiled, kept, warm_up
from happo_gpu.algo.on_policy import OnPolicyLearner
from happo_gpu.types import AgentSpec, box

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not compiled.supported(CPU), reason="this torch keeps no compiled code")


class Kettles:
    """Heat of 3 plates that any number of kettles give theirs to: weights, an argument, a view and writes in place."""

    device = CPU

    def __init__(self) -> None:
        self.weight, self.sums = torch.linspace(0.0, 1.0, 6).view(2, 3), torch.zeros(2, 3)
        self.last = self.sums[1]
        self._loss = torch.tensor([0.25])
        self.heat = self._heat

    def _heat(self, power: torch.Tensor) -> None:
        """power: (n, 2)"""
        given = torch.tanh(power @ self.weight)  # (n, 3)
        self.sums.mul_(1.0 - self._loss).add_(given.sum(0))

    def _confused(self) -> None:
        self.sums[0].add_(self.last)
        self.sums.add_(self.last.sum())


def heated(num_kettles: int, folder: str = "") -> torch.Tensor:
    """The sums after some heating, with compiled code of ``folder`` if given."""
    kettles = Kettles()
    power = torch.sin(torch.arange(2.0 * num_kettles)).view(num_kettles, 2)
    if folder:
        accelerate.compile_networks([(kettles, "heat", "_heat")], Path(folder))
    for _ in range(5):
        kettles.heat(power)
    return kettles.sums


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With the code of 19 kettles in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("kept")
        torch.testing.assert_close(heated(19, str(folder)), heated(19))
        yield folder


@pytest.fixture
def compilations(monkeypatch):
    calls, compile_ = [], compiled._compile
    monkeypatch.setattr(compiled, "_compile", lambda *args: calls.append(args) or compile_(*args))
    return calls


def heated_by_another_process(folder: Path, output: Path) -> str:
    """What a process prints that may load compiled code and compile none; its state is that of the plain path."""
    code = ("import sys, torch, test_compiled as t; torch.set_num_threads(1); t.compiled._compile = None; "
            "t.torch.compile = None; torch.save(t.heated(53, sys.argv[1]), sys.argv[2])")
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(output)], env={**os.environ, "PYTHONPATH": path},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, (done.returncode, done.stdout)
    torch.testing.assert_close(torch.load(output), heated(53))
    return done.stdout


def test_a_second_process_loads_for_another_number_of_samples_what_the_first_compiled(folder, tmp_path):
    assert heated_by_another_process(folder, tmp_path / "state.pt") == ""


def kept_file(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.suffix != kept.SUFFIX)


class Bomb:
    """Runs code wherever it is unpickled."""

    def __reduce__(self):
        return os._exit, (77,)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def without_its_manifest(path: Path) -> None:
    Path(str(path) + kept.SUFFIX).unlink()


@pytest.mark.parametrize("harm", [truncated, foreign, without_its_manifest])
def test_a_damaged_file_is_compiled_anew_and_replaced(folder, compilations, capsys, harm):
    path = kept_file(folder)
    harm(path)
    torch.testing.assert_close(heated(31, str(folder)), heated(31))
    assert capsys.readouterr().out == f"warning: compiled code {path} is damaged; it is compiled anew\n"
    heated(31, str(folder))
    assert len(compilations) == 1 and capsys.readouterr().out == ""


def test_a_torn_library_is_built_anew_before_it_can_end_the_process(folder, tmp_path):
    vouched_for = json.loads(Path(str(kept_file(folder)) + kept.SUFFIX).read_text())
    library = next(Path(name) for name in vouched_for if name.endswith(".main.so"))  # not torch's probe of the processor
    whole = library.read_bytes()
    library.unlink()  # this process has the old one in memory
    library.write_bytes(whole[: len(whole) // 10])  # the rest is mapped all the same, and ends the process that touches it
    assert heated_by_another_process(folder, tmp_path / "state.pt") == f"warning: compiled code {library} is damaged; it is compiled anew\n"
    assert heated_by_another_process(folder, tmp_path / "state.pt") == ""


def test_a_library_that_nobody_vouches_for_is_recognised_if_it_is_torn(folder, tmp_path):
    (library, *_) = [path for path in compiled._libraries().glob("*/*.so")]
    (tmp_path / "ab").mkdir()
    for name, share in (("whole", 1.0), ("torn", 0.9), ("cut", 0.1), ("empty", 0.0)):
        data = library.read_bytes()
        path = tmp_path / "ab" / f"{name}.so"
        path.write_bytes(data[: round(share * len(data))])
        os.utime(str(path), (0.0, 0.0))
    (tmp_path / "ab" / "being_written.so").write_bytes(b"")
    assert sorted(path.stem for path in kept.torn_libraries(tmp_path)) == ["cut", "empty", "torn"]


def test_another_layout_is_another_file(folder, compilations):
    kettles = Kettles()
    kettles.weight = kettles.weight.t().contiguous().t()
    before = len(list(folder.iterdir()))
    compiled.load_or_compile(kettles._heat, [torch.zeros(19, 2)], folder)
    assert (len(list(folder.iterdir())), len(compilations)) == (before + 2, 1)  # with its manifest


def test_one_tensor_under_two_names_is_not_compiled(folder, monkeypatch, capsys):
    kettles, plain = Kettles(), Kettles()
    monkeypatch.setattr(accelerate, "_warned", set())
    accelerate.compile_networks([(kettles, "heat", "_confused")] * 2, folder)
    kettles.heat()
    plain._confused()
    assert torch.equal(kettles.sums, plain.sums)
    assert capsys.readouterr().out == ("WARNING: compiling Kettles._confused failed, running it eagerly: RuntimeError: Kettles._confused sees one "
                                       "tensor under two names\n")


def gradients_of(learner, samples: int) -> torch.Tensor:
    """Everything that one pass over random samples leaves in the buffers of actor and critic."""
    torch.manual_seed(3)
    actor, critic = learner.actor_gradients[0], learner.critic_gradients
    for each in (actor, critic):
        each.buffer.zero()
    actor.sums.zero_(), critic.loss.zero_()
    for share in (0.25, 0.75):
        obs, actions, log_probs = torch.randn(samples, 5), torch.randn(samples, 2), -2.0 - 0.1 * torch.rand(samples, 2)
        actor.add_plain(obs, actions, log_probs, torch.randn(samples), torch.tensor(share))
        critic.add_plain(torch.randn(samples, 11), torch.randn(samples, 1), torch.randn(samples, 1), torch.tensor(share))
    return torch.cat([actor.buffer.flat, critic.buffer.flat, actor.sums, critic.loss.view(1)])


@pytest.mark.parametrize("recurrent", ["none", "chunked"])
def test_compiled_gradients_are_those_of_autograd_and_only_plain_samples_have_them(tmp_path, monkeypatch, compilations, capsys, recurrent):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    cfg = compose_config(f"algo.model.recurrent={recurrent}", "algo.model.data_chunk_length=4", "algo.model.hidden_sizes=[13,7]",
                         "algo.model.use_layer_norm=true")
    learner = OnPolicyLearner([AgentSpec("a", 5, box(2)), AgentSpec("b", 5, box(2))], 11, 1, False, cfg.algo, CPU, 1)
    expected = {samples: gradients_of(learner, samples) for samples in (29, 1009)} if recurrent == "none" else {}
    warm_up.compile_learner(learner, cfg)
    warm_up.run_learner(learner)
    assert len(compilations) == (2 if recurrent == "none" else 0)  # both actors share one
    for samples, eager in expected.items():
        torch.testing.assert_close(gradients_of(learner, samples), eager, rtol=1e-4, atol=1e-5)
    assert capsys.readouterr().out == ""


def draws_of(policy, num_envs: int) -> torch.Tensor:
    """Actions and log-probabilities of one decision."""
    torch.manual_seed(3)
    return torch.cat(policy.act(torch.randn(num_envs, 12), None, torch.zeros(num_envs, dtype=torch.bool)))


@pytest.mark.parametrize("iterations", [100, 20_000])
def test_where_many_decisions_are_to_come_a_policy_is_compiled_and_draws_the_same(tmp_path, monkeypatch, compilations, capsys, iterations):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    cfg = compose_config(f"max_iterations={iterations}", "algo.model.hidden_sizes=[13,7]", "algo.model.use_feature_normalization=true")
    learner = OnPolicyLearner([AgentSpec("a", 5, box(2)), AgentSpec("b", 7, box(3))], 11, 1, False, cfg.algo, CPU, 1)
    policy, plain = learner.policy(29), learner.policy(29)
    warm_up.compile_policy(policy, cfg)
    for num_envs in (29, 1009):
        torch.testing.assert_close(draws_of(policy, num_envs), draws_of(plain, num_envs), rtol=1e-5, atol=1e-5)
    for actor in learner.actors:
        torch.nn.init.constant_(actor.head.mean.bias, 3.0)  # learning goes on in the same tensors
    torch.testing.assert_close(draws_of(policy, 29), draws_of(plain, 29), rtol=1e-5, atol=1e-5)
    assert len(compilations) == (iterations > 100) and capsys.readouterr().out == ""
