"""What becomes of one environment's numbers: named values, and the statements that compute them."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, List, NamedTuple, Optional, Set, Tuple, Union

import torch
from torch import Tensor

FLOAT, INT, MASK = "float", "int", "mask"  # float32; 32-bit integer; all bits or none
KINDS = {torch.float32: FLOAT, torch.int64: INT, torch.int32: INT, torch.bool: MASK}


class Unsupported(Exception):
    """The method does something that is not alike for all environments, or that nobody has taught this compiler."""


class Place(NamedTuple):
    """Where a number lies: element ``rows * N + offset + stride * n`` of a storage, for environment n; stride 0: one for all."""

    storage: int
    rows: int
    offset: int
    stride: int
    dtype: torch.dtype


class Cell:
    """A number of every environment. One with a place is there before the method and after it."""

    __slots__ = ("kind", "name", "place", "function")

    def __init__(self, kind: str, name: str = "", place: Optional[Place] = None, function: Optional["Function"] = None) -> None:
        self.kind, self.name, self.place, self.function = kind, name, place, function


@dataclass(eq=False)
class Function:
    """Statements without a loop over time; names hold within it."""

    lines: List[str] = field(default_factory=list)
    known: Dict[Tuple[str, str], str] = field(default_factory=dict)  # (kind, expression) -> the name that has it
    touched: Dict[int, Cell] = field(default_factory=dict)  # by id: cells with a place that have a name here
    written: Set[int] = field(default_factory=set)  # ids of those that are written


class Loop(NamedTuple):
    times: int
    body: List[Union[Function, "Loop"]]


class Program:
    """Statements in order, and the memory that they work on.

    Attributes:
        schedule: functions and loops.
        rows: the places that are touched, each with its row in a tile of environments.
        loaded, stored: rows that are read before they are written; rows that are written.
        storages: tensors in whose memory the places lie; the first are the method's arguments.
        draws: what fills the storages of random numbers before a run.
    """

    def __init__(self) -> None:
        self.schedule: List[Union[Function, Loop]] = []
        self.rows: Dict[Place, int] = {}
        self.loaded: Set[int] = set()
        self.stored: Set[int] = set()
        self.storages: List[Tensor] = []
        self.draws: List[Callable[[], None]] = []
        self._open = [self.schedule]
        self._function: Optional[Function] = None
        self._count = 0

    @property
    def in_loop(self) -> bool:
        return len(self._open) > 1

    def value(self, kind: str, expression: str) -> str:
        """The name of an expression; computed once in a function, however often it is asked for."""
        known = self._current().known
        if (kind, expression) not in known:
            known[(kind, expression)] = self._declare(kind, expression)
        return known[(kind, expression)]

    def read(self, cell: Cell) -> str:
        """The name of a cell's number as it is now."""
        function = self._current()
        if not cell.name:
            row = self._row(cell.place)
            if row not in self.stored:
                self.loaded.add(row)
            cell.name = self._declare(cell.kind, load(cell.kind, row))
            function.touched[id(cell)] = cell
        elif cell.function not in (None, function):
            raise Unsupported("a value that is computed on one side of a loop's edge is used on the other")
        return cell.name

    def write(self, cell: Cell, name: str) -> None:
        """Gives a cell another number."""
        function = self._current()
        cell.name = name
        if cell.place is None:
            cell.function = function
        else:
            self.stored.add(self._row(cell.place))
            function.touched[id(cell)] = cell
            function.written.add(id(cell))

    def cell(self, kind: str, name: str) -> Cell:
        """A new one, without a place."""
        return Cell(kind, name, function=self._current())

    def loop(self, times: int, body: Callable[[], None]) -> None:
        """For :func:`happo_gpu.loops.recorded`: what ``body`` does once is done so many times."""
        self.end()
        loop = Loop(times, [])
        self._open[-1].append(loop)
        self._open.append(loop.body)
        body()
        self.end()
        self._open.pop()

    def end(self) -> None:
        """Closes the function that is being written: what it has changed goes back to the tile."""
        if self._function is None:
            return
        for key, cell in self._function.touched.items():
            if key in self._function.written:
                self._function.lines.append(store(cell.kind, self.rows[cell.place], cell.name))
            cell.name = ""
        self._function = None

    def _current(self) -> Function:
        if self._function is None:
            self._function = Function()
            self._open[-1].append(self._function)
        return self._function

    def _declare(self, kind: str, expression: str) -> str:
        name, self._count = f"t{self._count}", self._count + 1
        self._current().lines.append(f"const {'F' if kind == FLOAT else 'I'} {name} = {expression};")
        return name

    def _row(self, place: Place) -> int:
        return self.rows.setdefault(place, len(self.rows))


def load(kind: str, row: int) -> str:
    """A row of the tile: of R, floats, or of J, integers, where masks lie as 0 and 1."""
    return f"R[{row}][i]" if kind == FLOAT else f"J[{row}][i]" + (" != 0" if kind == MASK else "")


def store(kind: str, row: int, name: str) -> str:
    return f"{load(FLOAT if kind == FLOAT else INT, row)} = {name}{' & 1' if kind == MASK else ''};"
