"""What becomes of one row's numbers: named values, and the statements that compute them. A row is an environment, or a sample.

Statements are C++ (happo_gpu.lanes.source has its types and functions) for W rows at once, with these names:

    t12         a value, constant once it is declared; known within the function that declares it
    X[c][i]     column c of the tile, rows i * W and following: what functions and loops hand on
    S[k]        what this thread has summed up over rows so far
    V[i]        which of the rows there are, in the last tile
    j           the column, in functions of many columns that are treated alike
    n_          the number of rows
    p           the addresses of the storages
    @7@         the first column of block 7: where it lies is settled in the end, when it is known which ones are needed at once
    $7$         the number of block 7, if it is one for all rows: in the tile or in memory
"""
from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import torch
from torch import Tensor

FLOAT, INT, MASK = "float", "int", "mask"  # float32; 32-bit integer; all bits or none
KINDS = {torch.float32: FLOAT, torch.int64: INT, torch.int32: INT, torch.bool: MASK}  # 64-bit integers are those that fit into 32
ROWS, COMMON, SUMMED = "rows", "common", "summed"  # a number of each row; one for all; one that needs all rows to be known


class Unsupported(Exception):
    """The method does something that is not alike for all rows, or that nobody has taught this compiler."""


class Place(NamedTuple):
    """Where numbers lie: element ``rows * N + offset + stride * n + step * j`` of a storage, for row n and column j < width."""

    storage: int
    rows: int
    offset: int
    stride: int  # 0: one for all rows
    dtype: torch.dtype
    width: int = 1
    step: int = 0


class Spot(NamedTuple):
    """Where numbers lie in a tile of rows: the column ``offset`` of a block, or as many as a value is wide."""

    block: int
    offset: int = 0

    @property
    def text(self) -> str:
        return f"@{self.block}@ + {self.offset}" if self.offset else f"@{self.block}@"


class Cell:
    """A number of every row, or ``width`` columns of numbers that are treated alike.

    Attributes:
        kind: FLOAT, INT or MASK. side: ROWS, COMMON or SUMMED.
        name, function: what it is called, and where; a literal has no function.
        place: where it was before the method and will be after it.
        spot: where it lies in a tile.
        after: the function at whose end it is known: a sum over columns.
        end_name: what it is called once all rows are through.
        loop: the schedule that was being written when it was made; of cells without a place.
    """

    __slots__ = ("kind", "width", "side", "name", "function", "place", "spot", "after", "end_name", "loop")

    def __init__(self, kind: str, name: str = "", function: Optional["Function"] = None, width: int = 1, side: str = COMMON,
                 place: Optional[Place] = None, spot: Optional[Spot] = None) -> None:
        self.kind, self.width, self.side, self.name, self.function, self.place, self.spot = kind, width, side, name, function, place, spot
        self.after: Optional["Function"] = None
        self.end_name = ""
        self.loop: Any = None


@dataclass(eq=False)
class Function:
    """Statements without a loop over time, for every column of ``width``; names hold within it. Or what is done to a tile as a whole."""

    width: int = 1
    setup: List[str] = field(default_factory=list)  # of each row, once for all columns
    lines: List[str] = field(default_factory=list)
    whole: str = ""  # of a tile
    known: Dict[Tuple[str, str], str] = field(default_factory=dict)  # (kind, expression) -> the name that has it
    touched: Dict[int, Cell] = field(default_factory=dict)  # by id: cells with a place that have a name here
    written: Set[int] = field(default_factory=set)  # ids of those that are written


class Loop(NamedTuple):
    times: int
    body: List[Union[Function, "Loop"]]


class Region(NamedTuple):
    """Numbers that are one for all rows: element ``offset + sum of steps * indices`` of a storage."""

    storage: int
    offset: int
    shape: Tuple[int, ...]
    steps: Tuple[int, ...]


class Outer(NamedTuple):
    """A sum of outer products over all rows: into a contiguous matrix of a storage."""

    storage: int
    shape: Tuple[int, int]


class Program:
    """Statements in order, and the memory that they work on.

    Attributes:
        schedule: functions and loops, of every tile of rows.
        end: what follows once all rows are through.
        blocks: widths of the blocks of a tile.
        places: the places that are touched, each with its block.
        loaded, stored: blocks that are read before they are written; blocks that are written.
        storages: tensors in whose memory the places lie; the first are the method's arguments.
        draws: what fills the storages of random numbers before a run.
        sums: storages of sums over rows, each with its first slot. matrices: packed before the first tile. outers: summed over all.
        constants: tables and indices, read as they are when the method begins. baked: indices, with their version: part of the code.
        transfers: (target, source): sums that are added to something in the end.
    """

    def __init__(self, samples: bool = False) -> None:
        self._samples = samples
        self.schedule: List[Union[Function, Loop]] = []
        self.end = Function()
        self.end_written: Dict[int, Cell] = {}
        self.blocks: List[int] = []
        self.places: Dict[Place, int] = {}
        self.loaded: Set[int] = set()
        self.stored: Set[int] = set()
        self.storages: List[Tensor] = []
        self.draws: List[Callable[[], None]] = []
        self.sums: List[Tuple[int, int]] = []
        self.num_slots = 0
        self.matrices: List[Region] = []
        self.constants: List[Region] = []
        self.baked: List[Tuple[Tensor, int]] = []
        self.outers: List[Outer] = []
        self.transfers: List[Tuple[Region, Region]] = []
        self._open = [self.schedule]
        self._function: Optional[Function] = None
        self._ending = False
        self._count = 0

    @property
    def in_loop(self) -> bool:
        return len(self._open) > 1

    # -- values ------------------------------------------------------------------------------

    def cell(self, kind: str, **attributes: Any) -> Cell:
        """A new cell, of a number that has no place in memory."""
        cell = Cell(kind, **attributes)
        cell.loop = self._open[-1]
        return cell

    def computed(self, kind: str, form: Callable[..., str], operands: Sequence[Any]) -> Cell:
        """A new cell: what ``form``, which asks :meth:`read` and :meth:`value`, makes of operands, cells or numbers."""
        cells = [each for each in operands if isinstance(each, Cell)]
        sides, widths = {cell.side for cell in cells}, {cell.width for cell in cells} - {1}
        if len(widths) > 1:
            raise Unsupported(f"columns of {sorted(widths)} side by side")
        if SUMMED in sides:
            if ROWS in sides or widths:
                raise Unsupported("what is summed over rows meets the rows once more")
            with self._at_end():
                cell = self.cell(kind, side=SUMMED)
                cell.end_name = form(*operands)
                return cell
        self._enter(max(widths, default=1), cells)
        cell = self.cell(kind, name=form(*operands), function=self._current(), width=max(widths, default=1), side=ROWS if ROWS in sides else COMMON)
        if self._samples and cell.side == COMMON and cell.width == 1:
            with self._at_end():  # it may be wanted there, and what it is made of may have changed by then
                cell.end_name = form(*operands)
        return cell

    def value(self, kind: str, expression: str) -> str:
        """The name of an expression; computed once in a function, however often it is asked for."""
        known = self._current().known
        if (kind, expression) not in known:
            known[(kind, expression)] = self._declare(kind, expression)
        return known[(kind, expression)]

    def read(self, cell: Cell) -> str:
        """The name of a cell's number as it is now."""
        if self._ending:
            return self._read_in_the_end(cell)
        function = self._current()
        if cell.name and cell.function in (None, function):
            return cell.name
        if cell.place is not None:
            if id(cell) in self.end_written:
                raise Unsupported("a number that is known in the end alone")
            block = self._block_of(cell.place)
            if block not in self.stored:
                self.loaded.add(block)
            cell.name = self._declare(cell.kind, f"${block}$" if cell.side == COMMON else self._text(cell, Spot(block)))
            function.touched[id(cell)] = cell
        else:
            cell.name = self._declare(cell.kind, self._text(cell, self.spot_of(cell)))
        cell.function = function
        return cell.name

    def write(self, cell: Cell, value: Cell) -> None:
        """Gives a cell another number."""
        if cell.place is None and cell.loop is not self._open[-1]:  # what it was before would come again each time
            raise Unsupported("a tensor that is made outside of a loop and changed in it")
        once = self._samples and cell.side == COMMON and cell.place is not None
        if value.side == SUMMED or (once and value.side == COMMON):
            with self._at_end():
                cell.end_name = self.read(value)
            if cell.place is not None:
                self.end_written[id(cell)] = cell
            else:
                cell.side, cell.name, cell.spot = value.side, "", None
            return
        self._enter(max(cell.width, value.width), [value])
        name, function = self.read(value), self._current()
        cell.name, cell.function = name, function
        if cell.place is not None:
            self.stored.add(self._block_of(cell.place))
            function.touched[id(cell)] = cell
            function.written.add(id(cell))
        else:
            cell.spot, cell.side, cell.width, cell.end_name = None, value.side, max(cell.width, value.width), value.end_name

    def spot_of(self, cell: Cell) -> Spot:
        """Where a cell lies in a tile; it is put there by the function that computed it."""
        if cell.place is not None:
            block = self._block_of(cell.place)
            if block not in self.stored:
                self.loaded.add(block)
            return Spot(block)
        if cell.spot is None:
            cell.spot = Spot(self.new_block(cell.width))
            cell.function.lines.append(f"{self._text(cell, cell.spot, store=True)} = {_bits(cell)};")
        return cell.spot

    def side_by_side(self, cells: Sequence[Cell], width: int) -> Spot:
        """Where ``width`` columns lie in one block: those of a wide cell, of as many plain ones, or a plain one over and over."""
        if len(cells) == 1 and cells[0].width == width and cells[0].side == ROWS:
            return self.spot_of(cells[0])
        spot = Spot(self.new_block(width))
        if len(cells) == width:
            self._enter(1, cells)
            for i, cell in enumerate(cells):
                self._current().lines.append(f"X[{spot._replace(offset=i).text}][i] = {self.read(cell)};")
        else:
            self._enter(width, cells)
            self._current().lines.append(f"X[{spot.text} + j][i] = {self.read(cells[0])};")
        return spot

    def new_block(self, width: int) -> int:
        self.blocks.append(width)
        return len(self.blocks) - 1

    # -- sums --------------------------------------------------------------------------------

    def total(self, cell: Cell) -> Cell:
        """The sum of a cell's columns."""
        self._enter(cell.width, [cell])
        function, spot = self._current(), Spot(self.new_block(1))
        function.setup.append(f"X[{spot.text}][i] = F{{}};")
        function.lines.append(f"X[{spot.text}][i] += {self.read(cell)};")
        total = self.cell(FLOAT, side=cell.side, spot=spot)
        total.after = function
        return total

    def sum_over_rows(self, cells: Sequence[Cell], storage: int) -> None:
        """Adds up cells over all rows, into a storage of as many numbers as they have columns."""
        self.sums.append((storage, self.num_slots))
        for cell in cells:
            self._enter(cell.width, [cell])
            column = " + j" if cell.width > 1 else ""
            self._current().lines.append(f"S[{self.num_slots}{column}] += V[i] ? {self.read(cell)} : F{{}};")
            self.num_slots += cell.width

    def multiply(self, matrix: Region, spot: Spot) -> Spot:
        """A matrix (M, K) times K columns: M columns."""
        result = Spot(self.new_block(matrix.shape[0]))
        self._whole(f"multiply<{matrix.shape[0]}>(X + {result.text}, packed_{len(self.matrices)}, {matrix.shape[1]}, X + {spot.text});")
        self.matrices.append(matrix)
        return result

    def multiply_over_rows(self, left: Spot, right: Spot, outer: Outer) -> None:
        """Adds up over all rows the products of M columns and K others."""
        self._whole(f"outer<{outer.shape[0]}>(outer_{len(self.outers)}, {outer.shape[1]}, X + {left.text}, X + {right.text}, count, room);")
        self.outers.append(outer)

    # -- functions ---------------------------------------------------------------------------

    def loop(self, times: int, body: Callable[[], None]) -> None:
        """For :func:`happo_gpu.loops.recorded`: what ``body`` does once is done so many times."""
        self.close()
        loop = Loop(times, [])
        self._open[-1].append(loop)
        self._open.append(loop.body)
        body()
        self.close()
        self._open.pop()

    def close(self) -> None:
        """Ends the function that is being written: what it has changed goes back to the tile."""
        if self._function is None:
            return
        for key, cell in self._function.touched.items():
            if key in self._function.written:
                bits = f"(F)({cell.name} & 1)" if cell.kind == MASK else _bits(cell)
                text = self._text(cell, Spot(self.places[cell.place]), store=True)
                self._function.lines.append(f"{text} = {bits};")
            cell.name, cell.function = "", None
        self._function = None

    def _enter(self, width: int, cells: Sequence[Cell]) -> None:
        """Makes the current function one of that width in which all cells are known."""
        function = self._function
        if function is not None and (function.width != width or function.whole or any(cell.after is function for cell in cells)):
            self.close()
        self._current(width)

    def _whole(self, text: str) -> None:
        self.close()
        self._open[-1].append(Function(whole=text))

    def _current(self, width: int = 1) -> Function:
        if self._ending:
            return self.end
        if self._function is None:
            self._function = Function(width)
            self._open[-1].append(self._function)
        return self._function

    @contextlib.contextmanager
    def _at_end(self) -> Iterator[None]:
        before, self._ending = self._ending, True
        try:
            yield
        finally:
            self._ending = before

    def _read_in_the_end(self, cell: Cell) -> str:
        if cell.end_name:
            return cell.end_name
        if cell.place is not None and not cell.place.stride:
            if cell.place in self.places and self.places[cell.place] in self.stored:
                raise Unsupported("a number that changes on the way to the end")
            cell.end_name = self._declare(cell.kind, f"${self._block_of(cell.place)}$")
        elif cell.name and cell.function is None:
            return cell.name
        else:
            raise Unsupported("what is summed over rows meets the rows once more")
        return cell.end_name

    def _declare(self, kind: str, expression: str) -> str:
        name, self._count = f"t{self._count}", self._count + 1
        self._current().lines.append(f"const {'F' if kind == FLOAT else 'I'} {name} = {expression};")
        return name

    def _block_of(self, place: Place) -> int:
        if place not in self.places:
            self.places[place] = self.new_block(place.width)
        return self.places[place]

    def _text(self, cell: Cell, spot: Spot, store: bool = False) -> str:
        """A cell in the tile; what is no float lies there bit by bit, but masks of places as 0 and 1."""
        text = f"X[{spot.text}{' + j' if cell.width > 1 else ''}][i]"
        if store or cell.kind == FLOAT:
            return text
        return f"(I){text}" + (" != 0" if cell.kind == MASK and cell.place is not None else "")


def _bits(cell: Cell) -> str:
    return cell.name if cell.kind == FLOAT else f"(F){cell.name}"
