"""What tests/faults/test_guard.py starts in two processes: train.py, in which the second one's environment 4 sees a NaN once."""
from __future__ import annotations

import functools
import sys

from test_guard import poison

from happo_gpu import build, cli, distributed


def with_a_nan(make, at_call, *args):
    trainer = make(*args)
    if distributed.RANK == 1:
        poison(trainer.task, "compute_observations", at_call, environment=4, column=8)
    return trainer


if __name__ == "__main__":
    build.build_trainer = functools.partial(with_a_nan, build.build_trainer, int(sys.argv.pop(1)))
    cli.main()
