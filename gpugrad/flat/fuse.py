"""Groups of operations that one loop nest can do together.

A group runs over n elements in flat order; where it has row reductions or columns, as n / cols rows of `cols`. Each value
has one of four roles in it, by how its elements lie along that order:

    F  one element for each of n         R  one for each row
    C  one for each column               S  one for all
    A  read where the operation says (reads.py), perhaps also as F; never made in the group

A row reduction turns F into R, and what reads it runs in a later pass over the same row: softmax is three passes because its
two reductions wait for each other. A sum over rows (C) or over everything (S) is known only after the loop, so its readers
are in later groups.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from gpugrad.flat.elements import fusable
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.flat.llvm import ELEMENTS
from gpugrad.flat.reads import OWN, VIEWS, Folded, Placed, Reading, Triangle, View, columns, reading

REDUCTIONS = frozenset(("sum", "max", "min"))
#: What is a loop of its own: row numbers turned round.
CLOSED = frozenset(("chains", "lasts"))
LOOKS = frozenset(("reshape", "transpose"))
MOST_OPS, MOST_ARRAYS = 300, 24
#: Bytes of a result that nothing in the program reads, from which it is written past the caches.
PASSING = 1 << 22
#: Rows, and at least so many columns, of the blocks in which transposed arrays are read.
BLOCK = 16
#: Groups of so few elements are straight code: an array is read once, and no loop keeps its address.
STRAIGHT, MOST_STRAIGHT_OPS, MOST_STRAIGHT_ARRAYS = 16, 1000, 200


def implied(shape: tuple[int, ...], full: tuple[int, ...]) -> tuple[str, int] | None:
    """(role, cols) of an operand of this shape that is broadcast to `full`; cols is 0 where the role says nothing of it."""
    padded = (1,) * (len(full) - len(shape)) + shape
    stretched = [i for i, n in enumerate(padded) if n == 1 != full[i]]
    live = [i for i, n in enumerate(padded) if n != 1]
    if not stretched:
        return "F", 0
    if not live:
        return "S", 0
    if stretched[0] > live[-1]:
        return "R", math.prod(full[live[-1] + 1:])
    if stretched[-1] < live[0]:
        return "C", math.prod(full[live[0]:])
    return None


def reduced(op: Op) -> tuple[str, int] | None:
    """(role, cols) of the result of a reduction, in a group over its argument."""
    x = op.args[0]
    if op.name not in REDUCTIONS or x.dtype.kind != "f" or x.dtype not in ELEMENTS or op.outputs[0].dtype != x.dtype:
        return None
    gone = [i for i in op.params["axis"] if x.shape[i] != 1]
    live = [i for i, n in enumerate(x.shape) if n != 1 and i not in gone]
    if not gone:
        return None
    if not live:
        return "S", 0
    if min(gone) > max(live):
        return "R", math.prod(x.shape[max(live) + 1:])
    if max(gone) < min(live):
        return "C", math.prod(x.shape[min(live):])
    return None


class Group:
    """Operations over one loop nest.

    roles   of every value it reads or makes
    level   the pass in which a value is known: 0, or one more than that of the row reductions it waits for
    late    values that are known only after the loop
    readings  how those of its operations that read elsewhere do it
    closed  takes no other operation
    repeats elements that reductions of complete values read for each of their own
    passing results so large that the caches are better off without them
    """

    def __init__(self, n: int):
        self.n = n
        self.cols = 0
        self.ops: list[Op] = []
        self.made: set[Value] = set()
        self.late: set[Value] = set()
        self.roles: dict[Value, str] = {}
        self.level: dict[Value, int] = {}
        self.readings: dict[Op, Reading] = {}
        self.closed = False
        self.repeats = 0
        self.passing: set[Value] = set()

    def fit(self, op: Op, how: Reading | None = None) -> tuple[int, dict[Value, str]] | None:
        """(cols, roles) that this group would have with the operation; None where it does not belong here."""
        if self.closed:
            return None
        if how is not None:
            return self.fit_reading(op, how)
        return self.fit_reduction(op) if op.name in REDUCTIONS else self.fit_elements(op)

    def fit_reading(self, op: Op, how: Reading) -> tuple[int, dict[Value, str]] | None:
        """As it reads what is complete, only the order of its result counts: rows of its own, or parts of them."""
        if op.outputs[0].size != self.n:
            return None
        own = isinstance(how, Placed) and how.rest is None or isinstance(how, OWN)
        wanted = [(x, "F" if own and i == 0 else "A") for i, x in enumerate(op.args) if isinstance(x, Value)]
        cols = columns(how)
        if cols and self.cols and cols % self.cols == 0 and not isinstance(how, Triangle):
            cols = 0
        return self.agree(cols, [*wanted, (op.outputs[0], "F")])

    def fit_reduction(self, op: Op) -> tuple[int, dict[Value, str]] | None:
        found = reduced(op)
        x, y = op.args[0], op.outputs[0]
        if found is None or x.size != self.n:
            return None
        return self.agree(found[1], [(x, "F"), (y, found[0])])

    def fit_elements(self, op: Op) -> tuple[int, dict[Value, str]] | None:
        y = op.outputs[0]
        if y.size == self.n:
            cols, wanted = 0, [(y, "F")]
            for x in op.values:
                found = implied(x.shape, y.shape) if op.name != "one_hot" else ("R", y.shape[-1])
                if found is None or (cols and found[1] and cols != found[1]):
                    return None
                cols = cols or found[1]
                wanted.append((x, found[0]))
            return self.agree(cols, wanted)
        if self.cols and y.size == self.n // self.cols and any(self.roles.get(x) == "R" for x in op.values if x in self.made):
            if any(x.size not in (1, y.size) for x in op.values):
                return None
            return self.agree(self.cols, [(y, "R")] + [(x, "R" if x.size == y.size else "S") for x in op.values])
        return None

    def agree(self, cols: int, wanted: list[tuple[Value, str]]) -> tuple[int, dict[Value, str]] | None:
        if cols and self.cols and cols != self.cols:
            return None
        new: dict[Value, str] = {}
        for x, role in wanted:
            have = new.get(x) or self.roles.get(x, role)
            if have != role and {have, role} == {"A", "F"}:
                have = role = "A"
            if have != role or x in self.late or (role == "A" and x in self.made):
                return None
            new[x] = role
        return self.cols or cols, new

    def take(self, op: Op, fitted: tuple[int, dict[Value, str]], how: Reading | None = None) -> None:
        self.cols, roles = fitted
        if how is not None:
            self.readings[op] = how
        if isinstance(how, Folded):
            self.repeats += math.prod(how.inner)
        self.roles |= roles
        self.ops.append(op)
        y = op.outputs[0]
        self.made.add(y)
        level = max((self.level.get(x, 0) for x in op.values), default=0)
        reduction = op.name in REDUCTIONS
        self.level[y] = level + (reduction and roles[y] == "R")
        if reduction and roles[y] != "R":
            self.late.add(y)

    def has_room(self, op: Op) -> bool:
        ops, arrays = (MOST_OPS, MOST_ARRAYS) if self.n > STRAIGHT else (MOST_STRAIGHT_OPS, MOST_STRAIGHT_ARRAYS)
        new = sum([x not in self.roles for x in set(op.values)])
        return len(self.ops) < ops and len(self.roles) - len(self.made) + new <= arrays

    def settle(self) -> None:
        """Move each F value to the pass of its first reader, so that fewer wait in memory for a later pass."""
        first: dict[Value, int] = {}
        for op in reversed(self.ops):
            y = op.outputs[0]
            turn = self.level[y] - 1 if op.name in REDUCTIONS and self.roles[y] == "R" else self.level[y]
            if self.roles[y] == "F" and op.name not in REDUCTIONS:
                turn = self.level[y] = max(turn, first.get(y, turn))
            elif op.name in REDUCTIONS and y in self.late:
                continue
            for x in op.values:
                first[x] = min(first.get(x, turn), turn)

    @property
    def crosses(self) -> bool:
        """Whether neighbours in a row lie far apart in what is read, and those in a column near: blocks are faster than rows."""
        return (self.cols >= 2 * BLOCK and self.rows >= BLOCK and not any(self.level.values()) and not self.late
                and any(isinstance(how, View) and abs(how.steps[-1]) >= BLOCK for how in self.readings.values()))

    @property
    def rows(self) -> int:
        return self.n // self.cols if self.cols else self.n


def started(op: Op, how: Reading | None) -> Group:
    """A group of one operation, which can start one."""
    if op.name in CLOSED:
        group = Group(op.params["targets"])
        group.closed = True
        fitted: Any = (0, {op.args[0]: "A", op.outputs[0]: "F"})
    else:
        group = Group((op.args[0] if op.name in REDUCTIONS else op.outputs[0]).size)
        fitted = group.fit(op, how)
        assert fitted is not None
    group.take(op, fitted, how)
    return group


def can_start(op: Op, how: Reading | None = None) -> bool:
    if how is not None or op.name in CLOSED:
        return True
    if any(x.size == 0 for x in (*op.values, *op.outputs)):
        return False
    if op.name in REDUCTIONS:
        return reduced(op) is not None
    return op.name == "one_hot" or (fusable(op) and Group(op.outputs[0].size).fit(op) is not None)


def aligned(group: Group, y: Value) -> bool:
    """Whether all rows of y begin at multiples of 16 bytes, if y does."""
    return group.roles[y] == "F" and y.dtype.kind == "f" and group.cols * y.dtype.itemsize % 16 == 0


def passes(group: Group, readers: Sequence[Op]) -> bool:
    """Whether only operations beside the one that makes a value read it."""
    return all(op in group.ops for op in readers) and (not readers or not any(group.level.values()))


def readings_in(graph: Graph, uses: dict[Value, list[Op]]) -> dict[Op, Reading]:
    """How operations that read elsewhere do it in loops. A view stays NumPy's unless all that read it are in loops too."""
    found: dict[Op, Reading] = {}
    for op in reversed(graph.ops):
        if op.name in VIEWS:
            readers = uses.get(op.outputs[0], ())
            if not readers or not all(reader in found or can_start(reader) or reshapes(reader) for reader in readers):
                continue
            if op.name == "spread" and can_start(op):
                continue
        how = reading(op)
        if how is not None:
            found[op] = how
    return found


def reshapes(op: Op) -> bool:
    """A reshape keeps the flat order, so that inside a group it is nothing."""
    return op.name == "reshape" and op.outputs[0].size > 0 and op.outputs[0].dtype.name in ("float32", "float64", "bool")


def fuse(graph: Graph) -> list[Group | Op]:
    """The program as groups and single operations, in an order in which they can run."""
    steps: list[Group | Op] = []
    looks: dict[int, list[Op]] = {}                      # step -> reshapes and transposes of what it makes; -1: of inputs
    where: dict[Value, int] = {}
    uses = graph.uses()
    readings = readings_in(graph, uses)
    for op in graph.ops:
        how = readings.get(op)
        place = position(op, steps, where, how)
        if place is None and op.name in LOOKS and how is None:
            place = where.get(op.args[0], -1)
            looks.setdefault(place, []).append(op)
        elif place is None:
            place = len(steps)
            steps.append(started(op, how) if can_start(op, how) else op)
        for y in op.outputs:
            where[y] = place
    leaving = {y for y in graph.outputs if y.nbytes >= PASSING}
    for step in steps:
        if isinstance(step, Group):
            step.settle()
            step.passing = {y for y in step.made if y in leaving and aligned(step, y) and passes(step, uses.get(y, ()))}
    ordered: list[Group | Op] = list(looks.get(-1, ()))
    for i, step in enumerate(steps):
        ordered += [step, *looks.get(i, ())]
    return ordered


def position(op: Op, steps: list, where: dict[Value, int], how: Reading | None) -> int | None:
    """The step that takes the operation in: the first that fits and does not come before its arguments."""
    if reshapes(op):
        x, y = op.args[0], op.outputs[0]
        group = steps[where[x]] if where.get(x, -1) >= 0 else None
        if not isinstance(group, Group) or x not in group.made or x in group.late:
            return None
        group.take(op, (group.cols, {y: group.roles[x]}))
        return where[x]
    if op.name in CLOSED or not can_start(op, how):
        return None
    earliest = 0
    for x in op.values:
        if x in where:
            step = steps[where[x]] if where[x] >= 0 else None
            known = isinstance(step, Group) and x in step.made and x not in step.late
            earliest = max(earliest, where[x] + (not known))
    for place in range(earliest, len(steps)):
        group = steps[place]
        if isinstance(group, Group) and group.has_room(op):
            fitted = group.fit(op, how)
            if fitted is not None:
                group.take(op, fitted, how)
                return place
    return None


def stored(steps: list[Group | Op], outputs: list[Value]) -> set[Value]:
    """Values that a group makes and something outside it reads."""
    home = {y: i for i, step in enumerate(steps) for op in operations(step) for y in op.outputs}
    kept = set(outputs)
    for i, step in enumerate(steps):
        for op in operations(step):
            kept |= {x for x in op.values if home.get(x, i) != i}
    return kept


def operations(step: Group | Op) -> Iterator[Op]:
    return iter(step.ops if isinstance(step, Group) else (step,))
