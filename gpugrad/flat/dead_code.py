"""The pass that leaves out what nobody reads, and keeps what may be an error of the function's."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy

from gpugrad.flat.ir import Graph, Op, Value, like, pure


def dead_code(graph: Graph, looks: bool = True) -> Graph:
    """Without the operations that nothing reads. Of those that may refuse a value, which nobody else would, the look remains.

    looks  whether operations look at values, as they do on the CPU
    """
    live = reached(graph, ())
    said = {check for op in live if (check := checked(op)) is not None}
    constants, number = dict(graph.constants), itertools.count(graph.fresh())
    alone: dict[Op, Check] = {}
    for op in graph.ops if looks else ():
        check = checked(op) if op not in live else None
        if check is not None and check not in said and not all(x in constants for x in check.values if isinstance(x, Value)):
            said.add(check)
            alone[op] = check
    wanted, ops = set(graph.outputs), []
    for op in reversed(graph.ops):
        if not any(v in wanted for v in op.outputs):      # another look may read what this one makes
            if op not in alone:
                continue
            op = look_only(op, alone[op].values, constants, number)
        wanted.update(op.values)
        ops.append(op)
    return Graph(graph.inputs, {v: c for v, c in constants.items() if v in wanted}, ops[::-1], graph.outputs)


def reached(graph: Graph, alone: Iterable[Op]) -> set[Op]:
    """The operations that the outputs, or these operations, depend on; they themselves among them."""
    found = set(alone)
    wanted = set(graph.outputs)
    for op in reversed(graph.ops):
        if op in found or any(v in wanted for v in op.outputs):
            wanted.update(op.values)
            found.add(op)
    return found


class Check(NamedTuple):
    """What an operation looks at before it answers, and may refuse: equal for all that refuse the same values."""

    kind: str
    values: tuple
    limits: tuple


def checked(op: Op) -> Check | None:
    look = CHECKS.get(op.name) if pure(op) else None
    return look(op) if look is not None else None


def look_only(op: Op, values: tuple, constants: dict[Value, numpy.ndarray], number: Iterator[int]) -> Op:
    """The operation with these of its arguments; the others are zeros, so that nothing is computed for them."""
    if all(x in values or x in constants for x in op.values):
        return op
    args = list(op.args)
    for i, x in enumerate(args):
        if isinstance(x, Value) and x not in values:
            args[i] = zero = Value(next(number), x.shape, x.dtype)
            constants[zero] = numpy.broadcast_to(numpy.zeros((), x.dtype), x.shape)
    new = like(op, op.name, tuple(args), op.params, op.function)
    new.outputs = tuple([Value(next(number), v.shape, v.dtype, new, i) for i, v in enumerate(op.outputs)])
    return new


def indexed(op: Op, shape: tuple[int, ...], first: int) -> Check:
    """Index arrays, from argument `first` on, each with the length of the axis in which it names elements."""
    lengths = iter(shape)
    axes = [n for item, n in ((item, next(lengths)) for item in op.params["index"] if item is not None)
            if not isinstance(item, int | slice)]
    return Check("index", op.args[first:], tuple(axes))


def labelled(op: Op) -> Check:
    return Check("labels", op.args[1:2], op.args[0].shape[-1:])


def exponents(op: Op) -> Check | None:
    whole = op.outputs[0].dtype.kind == "i" and isinstance(op.args[1], Value)
    return Check("exponents", op.args[1:], ()) if whole else None


CHECKS: dict[str, Callable[[Op], Check | None]] = {
    "gather": lambda op: indexed(op, op.args[0].shape, 1),
    "scatter_add": lambda op: indexed(op, op.params["shape"], 1),
    "scatter_set": lambda op: indexed(op, op.args[0].shape, 2),
    "ranged": lambda op: Check("range", op.args, (op.params["low"], op.params["high"])),
    "probabilities": lambda op: Check("probabilities", op.args, ()),
    "cross_entropy": labelled, "mean_cross_entropy": labelled, "power": exponents,
}
