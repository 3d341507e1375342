"""A flat program: values, operations in order, and what goes in and out.

An operation has the name of a primitive, so that `PRIMITIVES[op.name].impls[numpy.ndarray]` is its meaning. Nothing in a
program is ever overwritten: each value is made once, by one operation. Emitters may reuse memory, passes need not think of it.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy

from gpugrad.graph.namespace import PRIMITIVES
from gpugrad.graph.node import Shaped


class Value(Shaped):
    """An array of a program, known by shape and dtype.

    number  unique in its program, in order of creation
    op      what makes it; None for inputs and constants
    index   which output of `op` it is
    """

    __slots__ = ("number", "op", "index")

    def __init__(self, number: int, shape: tuple[int, ...], dtype: Any, op: Op | None = None, index: int = 0):
        super().__init__(tuple(shape), numpy.dtype(dtype))
        self.number = number
        self.op = op
        self.index = index

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"v{self.number}:{self.dtype.str[1:]}[{','.join(map(str, self.shape))}]"


class Op:
    """outputs = PRIMITIVES[name](*args, **params).

    args     values, Python scalars, or None
    values   those of them that are values
    params   static: shapes, axes, index layouts
    several  True where the primitive returns a tuple, even of one
    line     the user's line that asked for it, "file:number: text"; for an operation of a sweep, the line of `forward`
    forward  the operation whose derivative this one is part of; None in the forward pass
    function what it does to NumPy arrays: the primitive's own function, also where users' primitives share a name
    part     the primitive that was written out in simpler ones, of which this is one; None for an operation by itself
    """

    __slots__ = ("name", "args", "values", "params", "outputs", "several", "line", "forward", "function", "part")

    def __init__(self, name: str, args: Iterable[Any], params: dict[str, Any], outputs: tuple[Value, ...] = (), *,
                 several: bool = False, line: str | None = None, forward: Op | None = None,
                 function: Callable | None = None, part: str | None = None):
        self.name = name
        self.read(args)
        self.params = params
        self.outputs = outputs
        self.several = several
        self.line = line
        self.forward = forward
        self.function = function
        self.part = part

    def read(self, args: Iterable[Any]) -> None:
        """Be an operation on these arguments."""
        self.args = tuple(args)
        self.values = tuple([x for x in self.args if isinstance(x, Value)])

    def __repr__(self) -> str:
        parts = [repr(x) for x in self.args] + [f"{k}={v!r}" for k, v in self.params.items()]
        return f"{', '.join(map(repr, self.outputs))} = {self.name}({', '.join(parts)})"


class Graph:
    """A program: `ops` in an order in which they can run; every value they read is an input, a constant or made before."""

    __slots__ = ("inputs", "constants", "ops", "outputs")

    def __init__(self, inputs: list[Value], constants: dict[Value, numpy.ndarray], ops: list[Op], outputs: list[Value]):
        self.inputs = inputs
        self.constants = constants
        self.ops = ops
        self.outputs = outputs

    def uses(self) -> dict[Value, list[Op]]:
        """The operations that read each value, once for each time they read it. Being an output is no use."""
        found: dict[Value, list[Op]] = {}
        for op in self.ops:
            for x in op.values:
                found.setdefault(x, []).append(op)
        return found

    def fresh(self) -> int:
        """A number that no value has yet; the values made after it take the numbers that follow."""
        return 1 + max((v.number for v in self.values()), default=-1)

    def values(self) -> Iterator[Value]:
        yield from self.inputs
        yield from self.constants
        for op in self.ops:
            yield from op.outputs

    def __str__(self) -> str:
        lines = [f"input    {', '.join(map(repr, self.inputs))}"]
        lines += [f"constant {v!r}" for v in self.constants]
        lines += [f"{op!r}" + (f"    # {op.line}" if op.line else "") for op in self.ops]
        return "\n".join([*lines, f"output   {', '.join(map(repr, self.outputs))}"])


def like(op: Op, name: str, args: tuple, params: dict, function: Any) -> Op:
    """Another operation for the same line; its outputs are yet to come."""
    return Op(name, args, params, several=op.several, line=op.line, forward=op.forward, function=function)


def pure(op: Op) -> bool:
    """True for our own primitives; what users register may do anything."""
    prim = PRIMITIVES.get(op.name)
    return prim is not None and prim.impls[numpy.ndarray] is op.function
