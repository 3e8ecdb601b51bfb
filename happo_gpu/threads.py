"""How many threads compiled code may use."""
from __future__ import annotations

from typing import Optional

import torch

_own: Optional[int] = None


def count() -> int:
    return _own or torch.get_num_threads()


def take_over(number: int = 0) -> None:
    """From now on so many threads, or those that torch has, are compiled code's, and torch itself works on one."""
    global _own
    _own = number or count()
    torch.set_num_threads(1)
