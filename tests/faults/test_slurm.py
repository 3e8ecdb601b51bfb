"""cluster/slurm.sbatch on a pretended cluster: two seeds, of which the first is told to make room."""
from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from children import SMALL

from happo_gpu import checkpoint

ROOT = Path(__file__).resolve().parent.parent.parent
SRUN = """#!{python}
# Runs a step; the first of seed 1 gets SIGUSR1 once it has trained a little.
import os, pathlib, signal, subprocess, sys
first = pathlib.Path("told") if os.environ["SLURM_ARRAY_TASK_ID"] == "1" else None
with subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True) as step:
    for line in step.stdout:
        print(line, end="", flush=True)
        if first and not first.exists() and "epoch: 2/" in line:
            first.touch()
            step.send_signal(signal.SIGUSR1)
sys.exit(step.returncode)
"""


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def sbatch(home: Path, seed: int, codes: dict) -> None:
    """What SLURM does with one task of the array: runs the script, and again while it is requeued."""
    job = str(100 + seed)
    env = {**os.environ, "PATH": f"{home}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "SLURM_JOB_ID": job,
           "SLURM_JOB_NAME": "it", "SLURM_ARRAY_TASK_ID": str(seed)}
    codes[seed] = []
    while not codes[seed] or (home / f"requeue_{job}").exists():
        (home / f"requeue_{job}").unlink() if codes[seed] else None
        with (home / f"{job}.log").open("a") as log:
            codes[seed].append(subprocess.run(
                ["bash", str(ROOT / "cluster" / "slurm.sbatch"), *SMALL, "max_iterations=40"],
                cwd=str(home), env=env, stdout=log, stderr=log, timeout=300,
            ).returncode)


def test_an_array_of_seeds_is_requeued_until_it_is_done(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "train.py").symlink_to(ROOT / "train.py")
    program(tmp_path / "bin" / "srun", SRUN.format(python=sys.executable))
    program(tmp_path / "bin" / "python", f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    program(tmp_path / "bin" / "scontrol", '#!/bin/bash\n[ "$1" = requeue ] && touch "requeue_$2"\n')
    codes: dict = {}
    tasks = [threading.Thread(target=sbatch, args=(tmp_path, seed, codes)) for seed in (1, 2)]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()
    assert codes == {1: [75, 0], 2: [0]}, (tmp_path / "101.log").read_text()
    runs = sorted((tmp_path / "runs").iterdir())
    assert [run.name[:8] for run in runs] == ["it_seed1", "it_seed2"]
    assert all("_ep_40_" in checkpoint.numbered(run)[0].name for run in runs)
