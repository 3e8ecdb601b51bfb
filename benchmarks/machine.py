"""What a benchmark ran on, for its results file."""
from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any, Dict


def machine() -> Dict[str, Any]:
    """Processor, its widest vector instructions as torch uses them, GPU and versions; nothing that names a host."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "processor": _processor(), "instructions": torch.backends.cpu.get_cpu_capability(), "cpus": os.cpu_count(),
        "gpu": gpu, "torch": torch.__version__, "python": platform.python_version(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else []
    return names[0].strip() if names else platform.processor() or platform.machine()


def device_name() -> str:
    """A short name for a results file: the GPU's, or cpu and its instructions."""
    facts = machine()
    return re.sub(r"[^a-z0-9]+", "-", (facts["gpu"] or f"cpu {facts['cpus']}x {facts['instructions']}").lower()).strip("-")
