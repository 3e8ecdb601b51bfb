"""python -m tests.oracle FILE...: one line for each recorded file, exit code 1 if one fails."""
from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.oracle.replay import Unsupported, replay


def main() -> int:
    torch.set_num_threads(1)
    paths = [Path(name) for name in sys.argv[1:]] or sorted((Path(__file__).parent / "data").glob("*.npz"))
    failed = 0
    for path in paths:
        try:
            report = replay(path)
        except Unsupported as error:
            print(f"skip  {path.stem:<44} {error} is not an algorithm of this project")
            continue
        print(report.line(path.stem))
        failed += not report.passed
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
