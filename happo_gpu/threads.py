"""Work that leaves Python for long, on all the threads that torch would use. Between such calls the threads sleep."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict, List, Sequence

import torch

_pools: Dict[int, ThreadPoolExecutor] = {}


def at_once(calls: Sequence[Callable[[], None]]) -> None:
    """Runs all calls, the first on this thread; returns when all are done, and raises what one of them raised."""
    if len(calls) > 1 and len(calls) not in _pools:
        _pools[len(calls)] = ThreadPoolExecutor(len(calls) - 1, initializer=torch.set_num_threads, initargs=(1,))
    others = [_pools[len(calls)].submit(call) for call in calls[1:]]
    try:
        calls[0]()
    finally:
        for other in others:
            other.result()


def shares(total: int, at_least: int) -> List[range]:
    """``total`` things in near-equal runs, one for each of torch's threads, but none of fewer than ``at_least``."""
    count = max(1, min(torch.get_num_threads(), total // at_least))
    edges = [total * i // count for i in range(count + 1)]
    return [range(low, high) for low, high in zip(edges, edges[1:])]
