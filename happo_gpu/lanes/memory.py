"""Whether a program uses each number in memory in one way: what it writes through one name it must not read through another.

Values live in registers and tiles while the program runs. Two names for the same memory (views that take rows apart, a table that the
method also changes) would not hear of each other.
"""
from __future__ import annotations

from typing import List

import numpy as np

from happo_gpu.lanes.program import Place, Program, Region, Unsupported


def check(program: Program, num_rows: int, num_args: int) -> None:
    """Looks at every number of every storage.

    Raises:
        Unsupported: something is written and also read, written or summed up under another name.
    """
    written = {place for place, block in program.places.items() if block in program.stored}
    written |= {cell.place for cell in program.end_written.values()}
    stored, added = _Marks(program), _Marks(program)  # of places; of sums to targets, which may add up
    for place in written:
        if place.storage < num_args and not place.stride:
            raise Unsupported("an argument that is one for all rows and is written")
        stored.add(place.storage, _of_place(place, num_rows), unless=[stored])
    for target, _ in program.transfers:
        added.add(target.storage, _of_region(target), unless=[stored])
    for place in set(program.places) - written:
        _check_free(place.storage, _of_place(place, num_rows), [stored, added])
    for region in (*program.matrices, *program.constants, *(source for _, source in program.transfers)):
        _check_free(region.storage, _of_region(region), [stored, added])


class _Marks:
    """Which numbers of the storages something is done to."""

    def __init__(self, program: Program) -> None:
        self.of: List[np.ndarray] = [np.zeros(storage.numel(), bool) for storage in program.storages]

    def add(self, storage: int, numbers: np.ndarray, unless: List["_Marks"]) -> None:
        _check_free(storage, numbers, unless)
        self.of[storage][numbers] = True


def _check_free(storage: int, numbers: np.ndarray, of: List[_Marks]) -> None:
    if any(marks.of[storage][numbers].any() for marks in of):
        raise Unsupported("memory that is written under one name and used under another")


def _of_place(place: Place, num_rows: int) -> np.ndarray:
    rows = place.stride * np.arange(num_rows if place.stride else 1)
    return place.rows * num_rows + place.offset + rows[:, None] + place.step * np.arange(place.width)


def _of_region(region: Region) -> np.ndarray:
    numbers = np.full(region.shape, region.offset)
    for axis, (size, step) in enumerate(zip(region.shape, region.steps)):
        numbers += step * np.arange(size).reshape([-1] + [1] * (len(region.shape) - 1 - axis))
    return numbers
