"""Compiled methods: loops over time, threads, random numbers, and what is kept on disk."""
from __future__ import annotations

import pytest
import torch

from conftest import CPU, compose_config
from happo_gpu import accelerate, build, kept, loops, threads
from happo_gpu.lanes import kernel
from happo_gpu.lanes.gather import has_torchs_threads
from happo_gpu.lanes.kernel import Kernel, Kernels


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HAPPO_GPU_CACHE", str(tmp_path))
    monkeypatch.setattr(accelerate, "_warned", set())
    return tmp_path


class Clocks:
    """N clocks that tick in a nested loop; one hand belongs to all of them."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.speed = torch.linspace(0.5, 1.5, num_envs)
        self.angle, self.turns = torch.zeros(2, num_envs), torch.zeros(num_envs, dtype=torch.int64)
        self.time, self.rung = torch.zeros(1), torch.zeros(num_envs, 1, dtype=torch.bool)

    def run(self) -> None:
        loops.repeat(5, self._hour)

    def _hour(self) -> None:
        self.time.add_(1.0)
        loops.repeat(3, self._tick)
        self.turns.add_(self.angle[1] > 6.0)

    def _tick(self) -> None:
        self.time.mul_(1.25)
        self.angle[0].copy_(self.angle[1])
        self.angle[1].add_(self.speed * (self.time < 20.0))
        self.rung.logical_or_((self.angle.sum(0) > 9.0).unsqueeze(-1))

    def wind(self, by: torch.Tensor) -> None:
        self.angle[1].sub_(by.sum(-1))

    def shake(self) -> None:
        self.speed.copy_(torch.rand(self.num_envs) + torch.randn(self.num_envs, 2).sum(-1))
        self.turns.add_(torch.randint(7, (self.num_envs,)) * torch.randint(-3, 4, (self.num_envs,)))
        self.angle.copy_(torch.rand_like(self.angle.t()).t())  # drawn as the numbers lie in memory

    def state(self) -> torch.Tensor:
        return torch.cat((self.angle.flatten(), self.turns, self.rung.flatten(), self.time, self.speed))


def pair(num_envs: int):
    return Clocks(num_envs), Clocks(num_envs)


@pytest.mark.parametrize("num_envs,threads", [(67, 1), (1031, 1), (1031, 3)])
def test_loops_over_time_end_where_pythons_do_on_any_number_of_threads(num_envs, threads):
    torch.set_num_threads(threads)
    plain, fast = pair(num_envs)
    run = Kernel(fast.run, num_envs)
    for _ in range(20 if threads > 1 else 2):
        plain.run()
        run()
        assert torch.equal(fast.state(), plain.state())


def test_the_same_random_numbers_are_drawn_in_the_same_order():
    plain, fast = pair(67)
    shake = Kernel(fast.shake, 67)
    for each in (plain.shake, shake):
        torch.manual_seed(11)
        each(), each()
    torch.testing.assert_close(fast.state(), plain.state(), rtol=0.0, atol=1e-6)


def test_after_a_run_the_generator_stands_where_torch_would_have_left_it():
    plain, fast = pair(67)
    shake, after = Kernel(fast.shake, 67), []
    for each in (plain.shake, shake):
        torch.manual_seed(11)
        each()
        after.append(torch.rand(3))
    assert torch.equal(*after)


def test_an_argument_may_be_another_tensor_each_time_of_any_layout():
    plain, fast = pair(67)
    wind = Kernels(fast.wind, 67)
    for by in (torch.randn(67, 3), torch.randn(67, 3), torch.randn(3, 67).t(), torch.randn(67, 7)[:, 2:5], torch.randn(1, 3).expand(67, 3)):
        plain.wind(by)
        wind(by)
        torch.testing.assert_close(fast.state(), plain.state())


def test_a_second_kernel_loads_what_the_first_compiled_for_another_number_of_environments(monkeypatch):
    Kernel(Clocks(67).run, 67)
    monkeypatch.setattr(kernel, "_build", None)
    plain, fast = pair(101)
    plain.run()
    Kernel(fast.run, 101)()
    assert torch.equal(fast.state(), plain.state())


def test_a_damaged_library_is_compiled_anew(cache, capsys):
    Kernel(Clocks(67).run, 67)
    (library,) = cache.glob("*.so")
    data = library.read_bytes()
    library.unlink()  # this process has the old one in memory
    library.write_bytes(data[: len(data) // 2])
    Kernel(Clocks(67).run, 67)
    assert capsys.readouterr().out == f"warning: compiled code {library} is damaged; it is compiled anew\n"
    assert kept.is_whole(library)


def test_a_method_that_cannot_be_compiled_runs_as_it_is_and_says_so_once(capsys):
    class Mixed(Clocks):
        device = CPU

        def mix(self) -> None:
            self.angle.copy_(self.angle.sort(0)[0])

    mixed = Mixed(67)
    mixed.angle[0] = 2.0
    accelerate.compile_envs([(mixed, "fast", "mix")], 67)
    mixed.fast(), mixed.fast()
    assert mixed.angle[1].tolist() == [2.0] * 67
    assert capsys.readouterr().out == "WARNING: compiling Mixed.mix failed, running it eagerly: Unsupported: aten.sort.default\n"


def test_a_compiler_that_fails_leads_to_the_plain_method(cache, monkeypatch, capsys):
    monkeypatch.setattr(kernel, "compiler", lambda: "/bin/false")
    clocks = Clocks(67)
    clocks.device = CPU
    accelerate.compile_envs([(clocks, "fast", "run")], 67)
    clocks.fast()
    assert clocks.time.item() > 1.0 and "running it eagerly: SubprocessError: /bin/false: failed" in capsys.readouterr().out
    assert [path for path in cache.iterdir() if path.suffix != kept.SUFFIX] == []


def test_fewer_environments_than_a_tile_are_left_alone():
    clocks = Clocks(63)
    accelerate.compile_envs([(clocks, "fast", "run")], 63)
    assert not hasattr(clocks, "fast")


def compiled_beside_eager(num_envs: int, *overrides: str):
    """Both after seven decisions on the same actions; their tasks' tensors must agree all the while."""
    cfg = compose_config(f"num_envs={num_envs}", *overrides)
    tasks = []
    for mode in ("eager", "compile"):
        torch.manual_seed(7)
        tasks.append(build.build_task(cfg, num_envs, CPU, mode, training=True))
        tasks[-1].reset(stagger=True)
    plain, fast = tasks
    with torch.no_grad():
        for decision in range(7):
            actions = torch.randn(num_envs, plain.num_actions)
            for task in (plain, fast):
                torch.manual_seed(decision)
                task.step(actions)
            agree(plain, fast)
    return plain, fast


def agree(plain, fast) -> None:
    states, others = plain.state_dict(), fast.state_dict()
    for part in states:
        for name, value in states[part].items():
            close = torch.isclose(others[part][name].float(), value.float(), rtol=1e-3, atol=2e-3)
            # A tie between two edges of the outline may be broken either way.
            assert close.float().sum() >= (0.98 if name in ("sums/reward_ocb", "episode_return") else 0.9999) * close.numel(), name
    assert torch.equal(plain.reset_buf, fast.reset_buf) and torch.equal(plain.timeout_buf, fast.timeout_buf)
    for name, value in plain.extras["episode"].items():
        assert torch.isclose(fast.extras["episode"][name], value, rtol=1e-3, atol=2e-3).float().mean() > 0.98, name


SIMILAR = [["task=Go1PushHeading"], ["task=Go1PushTee"], ["task=Go1PushCylinder"], ["task=Go1WheeledPush"], ["task=Go1PushPartialObs"],
           ["task=Go1PushHeavy"], ["task.env.observation=reference", "task.env.spawn=reference", "task.env.teamReward=false"],
           ["+task.curriculum.easiest.goalDistance=[1.1,1.3]", "task.noise.position=0.03", "+task.randomize.latency=[0.2,1.0]"]]


@pytest.mark.parametrize("overrides", [[], ["task=Go1PushLong"], *(pytest.param(each, marks=pytest.mark.slow) for each in SIMILAR)], ids=" ".join)
def test_a_compiled_task_computes_what_the_plain_one_does(cache, capsys, overrides):
    plain, fast = compiled_beside_eager(1009, "task.env.episodeLength=30", *overrides)
    assert plain.extras["reset"].any() and capsys.readouterr().out == ""  # nothing was run eagerly
    assert len(list(cache.glob("*.so"))) == 2  # a decision as a whole, and what follows it


def test_a_watched_decision_is_taken_step_by_step_and_comes_out_the_same():
    from happo_gpu.recording import watching

    cfg = compose_config("num_envs=67")
    alone, watched = (build.build_task(cfg, 67, CPU, "compile") for _ in range(2))
    seen = []
    with torch.no_grad():
        for task in (alone, watched):
            torch.manual_seed(7)
            task.reset()
        actions = torch.randn(67, alone.num_actions)
        torch.manual_seed(8)
        alone.step(actions)
        with watching(watched, lambda: seen.append(watched.sim.agent_pose.clone())):
            torch.manual_seed(8)
            watched.step(actions)
    assert len(seen) == alone.decimation and not torch.equal(seen[0], seen[-1])
    assert torch.equal(watched.obs_buf, alone.obs_buf) and torch.equal(watched.rew_buf, alone.rew_buf)


@pytest.mark.parametrize("same", [True, False])
def test_torch_keeps_its_threads_only_where_compiled_code_has_the_same(monkeypatch, same):
    monkeypatch.setattr(accelerate, "has_torchs_threads", lambda: same)
    accelerate.take_threads(3)
    assert (threads.count(), torch.get_num_threads()) == (3, 3 if same else 1)


def test_asking_whose_threads_compiled_code_has_leaves_torchs_as_they_are():
    torch.set_num_threads(2)
    assert has_torchs_threads() in (True, False) and torch.get_num_threads() == 2
