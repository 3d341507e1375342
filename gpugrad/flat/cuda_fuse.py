"""Groups of operations that one launch can do: elementwise formulas of one shape, with the reductions over their last axes.

Within a group every value is a formula of the arrays that it reads. A reduction over the last axes gives one number a row; what
reads it goes over the row once more, in the same kernel. Truth values never reach memory: each group that needs one computes it.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy

from gpugrad.flat.elements import ours
from gpugrad.flat.formulas import expressible, is_truth
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.kernels.geometry import FLOATS

REDUCTIONS = frozenset(("sum", "max", "min"))
MOST_OPS, MOST_ARRAYS = 100, 20
LONGEST_ROW = 1 << 15             # elements of a row that the threads of one block go over


def is_elementwise(op: Op) -> bool:
    return len(op.outputs) == 1 and expressible(op) and ours(op)


def trailing(op: Op) -> int:
    """How many last axes a reduction goes over; 0 where it goes over others."""
    x, axis = op.args[0], sorted(a % op.args[0].ndim for a in op.params["axis"])
    count = len(axis)
    length = math.prod(x.shape[x.ndim - count:])
    return count if axis == list(range(x.ndim - count, x.ndim)) and 1 < length <= LONGEST_ROW else 0


def is_row_reduction(op: Op) -> bool:
    return (op.name in REDUCTIONS and ours(op) and isinstance(op.args[0], Value) and op.args[0].dtype.char in FLOATS
            and op.outputs[0].dtype == op.args[0].dtype and op.args[0].size > 0 and trailing(op) > 0)


class Group:
    """Operations of one launch.

    shape   of the values that have an element for each of the rows and columns
    tail    how many last axes make a row; 0 where nothing is reduced
    kinds   of every value: "F" has that shape, "R" one element a row; only with a tail also "C", one a column, and "S", one
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any):
        self.shape, self.dtype = shape, dtype
        self.tail = 0
        self.ops: list[Op] = []
        self.made: dict[Value, str] = {}
        self.read: dict[Value, None] = {}

    @property
    def cols(self) -> int:
        return math.prod(self.shape[len(self.shape) - self.tail:])

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:len(self.shape) - self.tail])

    def kind(self, x: Value, tail: int) -> str | None:
        """What part of the shape the value has elements for; None where it is none of the kinds."""
        if x in self.made:
            return self.made[x]
        rank = len(self.shape)
        if x.shape == self.shape:
            return "F"
        if not tail:
            return "F" if x.ndim <= rank and numpy.broadcast_shapes(x.shape, self.shape) == self.shape else None
        if x.size == 1 and x.ndim <= rank:
            return "S"
        lead, row = self.shape[:rank - tail], self.shape[rank - tail:]
        if x.shape == (*lead, *(1,) * tail):
            return "R"
        if (1,) * (rank - x.ndim) + x.shape == (*(1,) * (rank - tail), *row):
            return "C"
        return "R" if x.shape == lead else None            # for what has that shape itself, not for the rows and columns

    def fit(self, op: Op) -> tuple[int, str] | None:
        """(tail, kind of the result) that the group would have with the operation; None where it does not belong here."""
        y = op.outputs[0]
        if is_row_reduction(op):
            x, tail = op.args[0], trailing(op)
            if self.tail not in (0, tail) or x.shape != self.shape or x.dtype != self.dtype:
                return None
            if not self.tail and any(self.kind(v, tail) is None for v in self.read):
                return None
            return tail, "R"
        floats = [x for x in (*op.values, y) if x.dtype.kind != "b"]
        if any(x.dtype != self.dtype for x in floats):
            return None
        if y.shape == self.shape:
            kinds = [self.kind(x, self.tail) for x in op.values]
            whole = all(k is not None and (k != "R" or x.ndim == y.ndim) for k, x in zip(kinds, op.values, strict=True))
            return (self.tail, "F") if whole else None
        if not self.tail or not any(self.made.get(x) == "R" for x in op.values):
            return None
        lead = self.shape[:len(self.shape) - self.tail]
        if y.shape not in (lead, (*lead, *(1,) * self.tail)):
            return None
        fits = all(x.size == 1 or (x.shape == y.shape and self.kind(x, self.tail) == "R") for x in op.values)
        return (self.tail, "R") if fits else None

    def take(self, op: Op, fitted: tuple[int, str]) -> None:
        self.tail, kind = fitted
        self.ops.append(op)
        self.made[op.outputs[0]] = kind
        for x in op.values:
            if x not in self.made:
                self.read[x] = None


def fuse(graph: Graph) -> list[Group | Op]:
    """The program as groups and single operations, in an order in which they can run."""
    return Fusion(graph).steps()


class Fusion:
    def __init__(self, graph: Graph):
        self.graph = graph
        self.placed: list[Group | Op] = []
        self.looks: dict[int, list[Op]] = {}               # step -> views of what it makes; -1: of inputs
        self.where: dict[Value, int] = {}
        self.truths: dict[Value, Op] = {}                  # what each group that needs it computes for itself

    def steps(self) -> list[Group | Op]:
        for op in self.graph.ops:
            self.add(op)
        self.sink()
        ordered: list[Group | Op] = list(self.looks.get(-1, ()))
        for i, step in enumerate(self.placed):
            if not isinstance(step, Group) or len(step.ops) > 1:
                ordered.append(step)
            else:                                           # one alone runs as the primitive's own function, none not at all
                ordered += step.ops
            ordered += self.looks.get(i, ())
        return self.with_truths(ordered)

    def add(self, op: Op) -> None:
        if op.name in ("reshape", "transpose", "matrix_transpose") and ours(op):
            place = self.where.get(op.args[0], -1)
            if self.joins_row(op, place):
                return
            self.looks.setdefault(place, []).append(op)
            self.where[op.outputs[0]] = place
            return
        if is_elementwise(op) and is_truth(op) and op.outputs[0].size:
            self.truths[op.outputs[0]] = op
            self.where[op.outputs[0]] = self.earliest([op]) - 1
            return
        found = self.position(op) if op.outputs and op.outputs[0].size else None
        if found is None:
            found = len(self.placed)
            self.placed.append(op)
        for y in op.outputs:
            self.where[y] = found

    def made_in(self, x: Value, place: int) -> bool:
        step = self.placed[place]
        return isinstance(step, Group) and x in step.made

    def joins_row(self, op: Op, place: int) -> bool:
        """A reshape of one number a row, between (..., 1) and (...), stays in the group."""
        x, y = op.args[0], op.outputs[0]
        group = self.placed[place] if place >= 0 else None
        if op.name != "reshape" or not isinstance(group, Group) or group.made.get(x) != "R":
            return False
        lead = group.shape[:len(group.shape) - group.tail]
        if y.shape not in (lead, (*lead, *(1,) * group.tail)):
            return False
        group.take(op, (group.tail, "R"))
        self.where[y] = place
        return True

    def position(self, op: Op) -> int | None:
        """The step that takes the operation in: the first that fits and does not come before its arguments, or a new one."""
        if not (is_elementwise(op) or is_row_reduction(op)):
            return None
        whole = self.closure(op)
        dtype = op.outputs[0].dtype
        if dtype.char not in FLOATS:
            return None
        for place in range(self.earliest(whole), len(self.placed)):
            group = self.placed[place]
            if isinstance(group, Group) and len(group.ops) < MOST_OPS and self.taken(group, whole):
                return place
        group = Group(op.args[0].shape if is_row_reduction(op) else op.outputs[0].shape, dtype)
        if not self.taken(group, whole):
            return None
        self.placed.append(group)
        return len(self.placed) - 1

    def closure(self, op: Op) -> list[Op]:
        """The operation behind the truth values that it needs computed."""
        found = [op]
        for x in op.values:
            if x in self.truths:
                found = [*self.closure(self.truths[x]), *found]
        return found

    def earliest(self, whole: list[Op]) -> int:
        """The first step that may hold these: that of a value which its group can read at once, or the one behind."""
        first = 0
        for op in whole:
            for x in op.values:
                if x in self.where and x not in self.truths:
                    place = self.where[x]
                    first = max(first, place if place >= 0 and place < len(self.placed) and self.made_in(x, place) else place + 1)
        return first

    def taken(self, group: Group, whole: list[Op]) -> bool:
        """Take the operations into the group where all of them fit."""
        before = group.tail, len(group.ops), dict(group.made), dict(group.read)
        for op in whole:
            if op.outputs[0] in group.made:
                continue
            fitted = group.fit(op)
            if fitted is None or len({*group.read, *op.values}) > MOST_ARRAYS + len(group.made):
                group.tail, group.made, group.read = before[0], before[2], before[3]
                del group.ops[before[1]:]
                return False
            group.take(op, fitted)
        if len(group.read) > MOST_ARRAYS or any(x.dtype.kind == "b" for x in group.read):
            group.tail, group.made, group.read = before[0], before[2], before[3]
            del group.ops[before[1]:]
            return False
        return True

    def sink(self) -> None:
        """Move what one later group alone reads into that group, where nothing that it needs has to be stored for it."""
        readers: dict[Value, set[int]] = {y: {-1} for y in self.graph.outputs}
        for i, step in enumerate(self.placed):
            for op in operations(step):
                for x in op.values:
                    readers.setdefault(x, set()).add(i)
        for looks in self.looks.values():
            for op in looks:
                readers.setdefault(op.args[0], set()).add(-1)
        for op in self.truths.values():
            for x in op.values:
                readers.setdefault(x, set()).add(-1)
        for i in range(len(self.placed) - 1, -1, -1):
            group = self.placed[i]
            if not isinstance(group, Group):
                continue
            for op in reversed(list(group.ops)):
                y = op.outputs[0]
                goal = next(iter(readers.get(y, {-1}))) if len(readers.get(y, ())) == 1 else -1
                later = self.placed[goal] if goal > i else None
                if not isinstance(later, Group) or op.name in REDUCTIONS or any(
                        x in group.made and (x.dtype == bool or not readers.get(x, set()) - {i}) for x in op.values):
                    continue
                joined, left = rebuilt(later, [op, *later.ops]), rebuilt(group, [o for o in group.ops if o is not op])
                if joined is None or left is None:
                    continue
                self.placed[i], self.placed[goal], group = left, joined, left
                self.where[y] = goal
                for x in op.values:
                    readers[x] = {j for j in readers[x] if j != i or any(x in o.values for o in left.ops)} | {goal}

    def with_truths(self, ordered: list[Group | Op]) -> list[Group | Op]:
        """The steps, with an operation of its own for each truth value that is read outside the groups that compute it."""
        wanted = {y for y in self.graph.outputs if y in self.truths}
        for step in reversed(ordered):
            if isinstance(step, Op):
                wanted |= {x for x in step.values if x in self.truths}
        todo = list(wanted)
        while todo:
            for x in self.truths[todo.pop()].values:
                if x in self.truths and x not in wanted:
                    wanted.add(x)
                    todo.append(x)
        if not wanted:
            return ordered
        ready = {*self.graph.inputs, *self.graph.constants}
        waiting = [self.truths[y] for y in self.truths if y in wanted]
        done: list[Group | Op] = []

        def emit_ready() -> None:
            for op in list(waiting):
                if all(x in ready for x in op.values):
                    done.append(op)
                    ready.update(op.outputs)
                    waiting.remove(op)
        emit_ready()
        for step in ordered:
            done.append(step)
            ready.update(y for op in operations(step) for y in op.outputs)
            emit_ready()
        return done


def rebuilt(group: Group, ops: list[Op]) -> Group | None:
    """A group of the same shape with these operations; None where they do not make one."""
    made = Group(group.shape, group.dtype)
    for op in ops:
        fitted = (made.tail, "R") if op.name == "reshape" and made.tail else made.fit(op)
        if fitted is None:
            return None
        made.take(op, fitted)
    return made if len(made.read) <= MOST_ARRAYS else None


def operations(step: Group | Op) -> Iterator[Op]:
    return iter(step.ops if isinstance(step, Group) else (step,))
