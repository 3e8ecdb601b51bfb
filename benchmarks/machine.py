"""What a benchmark ran on, and of which commit, for its results file."""
from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any, Dict, Optional


def machine() -> Dict[str, Any]:
    """Processor, its widest vector instructions as torch uses them, GPU, versions and commit; nothing that names a host."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "processor": _processor(), "instructions": torch.backends.cpu.get_cpu_capability(), "cpus": os.cpu_count(),
        "gpu": gpu, "torch": torch.__version__, "python": platform.python_version(), "commit": commit(),
    }


def commit() -> Optional[str]:
    """Of this checkout, with "-dirty" where code or settings differ from it; None outside of git."""
    git = ["git", "-C", str(Path(__file__).parent.parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ".", ":!benchmarks/results", ":!docs"])
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + "-dirty" * changed.returncode


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else []
    return names[0].strip() if names else platform.processor() or platform.machine()


def device_name() -> str:
    """A short name for a results file: the GPU's, or cpu and its instructions."""
    facts = machine()
    return re.sub(r"[^a-z0-9]+", "-", (facts["gpu"] or f"cpu {facts['cpus']}x {facts['instructions']}").lower()).strip("-")
