"""Environment steps per second: simulator, with inference, learner alone, end to end; and how far from the floor.

    python benchmarks/throughput.py                       # 64 to 65,536 environments
    python benchmarks/throughput.py --num-envs 4096 --profile trace.json

Every size runs in a process of its own, on the main command's settings (further arguments override them), in a run so long that
it is worth compiling. A rate is the median over rounds; a step is one control step of 20 ms of one environment. ``learner`` trains on a rollout
that no simulator fills. The floor is the time that the iteration's matrix products would take at the speed that this machine reaches on
a large one, and the fraction is floor over measured time. ``cores_in_use`` is the processor's time over that of the clock and the
threads, of which those that spin are busy, too; ``over_one_thread`` is how many times as fast an iteration is on all threads as on one,
in turn within the run. What logging and evaluations add is overheads.py's question. Writes
benchmarks/results/throughput_<device>.json and .png.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from machine import commit, device_name, machine

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SIZES = [64, 256, 1024, 4096, 16384, 65536]


# -- one size, in its own process ----------------------------------------------------------------


def measure(num_envs: int, overrides: list, rounds: int, profile: str) -> dict:
    """All rates at one number of environments."""
    started = time.perf_counter()
    from happo_gpu import process

    process.prepare()
    import torch
    from happo_gpu import build, config, threads
    from happo_gpu.config.files import composed_raw
    from happo_gpu.data.collect import collect

    cfg = config.parse(composed_raw([f"num_envs={num_envs}", "max_iterations=100000", *overrides]))
    if cfg.num_threads:
        torch.set_num_threads(cfg.num_threads)
    device = build.device_of(cfg)
    seed = build.seed_everything(cfg.seed, False)
    home = tempfile.TemporaryDirectory()
    trainer = build.build_trainer(cfg, Path(home.name), "throughput", device, seed)
    start_up = time.perf_counter() - started
    task, learner, rollout, policy = trainer.task, trainer.learner, trainer.rollout, trainer.policy
    actions = torch.rand(num_envs, task.num_actions, device=device) * 2.0 - 1.0

    def simulate() -> None:
        for _ in range(rollout.num_steps):
            task.step(actions)

    def infer() -> None:
        for _ in range(rollout.num_steps):
            policy.act(task.obs_buf, task.available_buf, task.reset_buf)

    pieces = {
        "simulator": simulate, "simulator_and_inference": lambda: collect(task, policy, rollout),
        "inference": infer, "learner": lambda: learner.update(rollout), "end_to_end": trainer.iterate,
    }
    collect(task, policy, rollout)  # what the learner learns from
    busy = time.process_time(), time.perf_counter()
    seconds = {name: timed(piece, device, rounds) for name, piece in pieces.items()}
    busy = (time.process_time() - busy[0]) / (time.perf_counter() - busy[1]) / threads.count()
    scaling = over_one_thread(trainer.iterate) if device.type == "cpu" else None
    trainer.logger.close()
    home.cleanup()
    steps = trainer.frames_per_epoch
    flops = update_flops(learner, cfg.algo, num_envs)
    peak = matmul_peak(device)
    if profile:
        trace(trainer.iterate, Path(profile))
    return {
        "num_envs": num_envs, "threads": threads.count(), "env_steps_per_iteration": steps,
        "seconds": seconds,
        "rates": {name: steps / value for name, value in seconds.items()},
        "decisions_per_s": steps / task.decimation / seconds["end_to_end"],
        "agent_steps_per_s": steps * len(task.agents) / seconds["end_to_end"],
        "cores_in_use": busy, "over_one_thread": scaling, "seconds_per_million_steps": 1e6 * seconds["end_to_end"] / steps,
        "peak_memory_mb": peak_memory_mb(device), "start_up_seconds": start_up,
        "learner_gflop": flops / 1e9, "matmul_peak_gflops": peak / 1e9,
        "learner_floor_seconds": flops / peak, "learner_fraction_of_floor": flops / peak / seconds["learner"],
    }


def timed(piece, device, rounds: int) -> float:
    """Median seconds of a call, after one that warms up."""
    import torch

    def once() -> float:
        started = time.perf_counter()
        piece()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    once()
    taken = []
    while len(taken) < rounds and (len(taken) < 3 or sum(taken) < 20.0):
        taken.append(once())
    return median(taken)


def over_one_thread(piece) -> float:
    """Seconds of a call on one thread over those on all: the median of pairs, for the machine's speed varies."""
    import torch
    from happo_gpu import threads

    number = threads.count()
    if number == 1:
        return 1.0
    use = threads.take_over if torch.get_num_threads() < number else torch.set_num_threads  # compiled code's threads, or torch's

    def seconds(count: int) -> float:
        use(count)
        piece()
        started = time.perf_counter()
        piece()
        return time.perf_counter() - started

    pairs, started = [], time.perf_counter()
    while len(pairs) < 3 or len(pairs) < 30 and time.perf_counter() - started < 20.0:
        pairs.append(seconds(1) / seconds(number))
    return median(pairs)


def update_flops(learner, cfg, num_envs: int) -> float:
    """Multiply-adds, times two, of one update: 2 forward, 4 backward per weight, sample and epoch.

    Forward passes besides: values of states and final states, and every actor's factor.
    """
    def weights(network) -> int:
        return sum(p.numel() for p in network.parameters() if p.dim() == 2)

    samples = cfg.episode_length * num_envs
    actors = sum(weights(actor) * len(group) for actor, group in zip(learner.actors, learner.groups))
    critic = weights(learner.critic)
    return samples * (actors * (6.0 * cfg.ppo_epoch + 2.0) + critic * (6.0 * cfg.critic_epoch + 4.0))


def matmul_peak(device) -> float:
    """FLOP/s of a 2048-cubed float32 product, the best of five, on all threads."""
    import torch

    from happo_gpu import threads

    torch.set_num_threads(threads.count())  # training is over
    a, b = torch.randn(2048, 2048, device=device), torch.randn(2048, 2048, device=device)
    best = min(timed(lambda: a @ b, device, 5) for _ in range(2))
    return 2.0 * 2048**3 / best


def peak_memory_mb(device) -> float:
    import resource

    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def trace(piece, path: Path) -> None:
    from torch.profiler import profile

    with profile() as profiler:
        piece()
    profiler.export_chrome_trace(str(path))
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=20), file=sys.stderr)


# -- the sweep -------------------------------------------------------------------------------------


def show(row: dict) -> None:
    rates = row["rates"]
    cells = [f"{rates[name]:,.0f}" for name in ("simulator", "simulator_and_inference", "learner", "end_to_end")]
    print(f"{row['num_envs']:>9,}" + "".join(f"{cell:>14}" for cell in cells) + f"{row['decisions_per_s']:>12,.0f}"
          f"{row['peak_memory_mb']:>10,.0f}{100 * row['learner_fraction_of_floor']:>10.0f} %{row['over_one_thread'] or float('nan'):>15.2f}", flush=True)


def draw(rows: list, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.5, 4))
    for name in ("simulator", "simulator_and_inference", "learner", "end_to_end"):
        axis.plot([row["num_envs"] for row in rows], [row["rates"][name] for row in rows], "o-", label=name.replace("_", " "))
    axis.set(xscale="log", yscale="log", xlabel="environments", ylabel="environment steps/s")
    axis.grid(alpha=0.3, which="both")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-envs", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--profile", default="", help="write a torch profiler trace of one iteration here")
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments, overrides = parser.parse_known_args()
    if arguments.worker:
        (num_envs,) = arguments.num_envs
        print(json.dumps(measure(num_envs, overrides, arguments.rounds, arguments.profile)))
        return
    output = arguments.output or ROOT / "benchmarks" / "results" / f"throughput_{device_name()}.json"
    print(f"{'envs':>9}{'simulator':>14}{'+ inference':>14}{'learner':>14}{'end to end':>14}{'decisions':>12}{'MB':>10}{'of floor':>12}{'over 1 thread':>15}")
    rows = []
    for num_envs in arguments.num_envs:
        command = [sys.executable, __file__, "--worker", "--num-envs", str(num_envs), "--rounds", str(arguments.rounds),
                   *(["--profile", arguments.profile] if arguments.profile else []), *overrides]
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if process.returncode:
            raise SystemExit(f"{num_envs} environments failed")
        rows.append(json.loads(process.stdout.splitlines()[-1]))
        show(rows[-1])
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps({"machine": machine(), "commit": commit(), "overrides": overrides, "rows": rows}, indent=1) + "\n")
    if len(rows) > 1:
        draw(rows, output.with_suffix(".png"))


if __name__ == "__main__":
    main()
