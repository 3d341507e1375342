"""Where the products of stacks in a program on a GPU write: straight into what is made of them.

    reshape(transpose(a b))               the product writes rows that lie as they are read
    concatenate of products, turned       each writes its part of one array, as the gradients of heads side by side

Our own kernel does both, since the stacks of its result may have two strides (kernels/gemm.cu).
"""
from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import numpy

from gpugrad.flat.cuda_gemm import empty, is_product
from gpugrad.flat.elements import ours
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.kernels import matmul
from gpugrad.kernels.geometry import FLOATS

TURNS = frozenset(("reshape", "transpose", "matrix_transpose"))


class Place(NamedTuple):
    """Memory for the result of a product.

    shape   of the whole array
    steps   views of it, each of the one before; the last is what the product fills
    joint   the concatenation of which this is a part, else None
    """

    shape: tuple[int, ...]
    steps: tuple[Callable, ...]
    joint: Op | None = None

    def part(self, whole: Any) -> Any:
        return reduce(lambda x, step: step(x), self.steps, whole)


def multiplies(op: Op) -> bool:
    """Whether the operation is a product of stacks, with a number or without."""
    return op.outputs[0].ndim > 2 and (op.name == "scaled_matmul" or is_product(op))


def takes(a: Any, b: Any, out: Any) -> bool:
    """Whether our kernel multiplies arrays that lie like these."""
    return matmul.small_product(*by_rows(a, b, out)) is not None


def by_rows(a: Any, b: Any, out: Any) -> tuple[Any, Any, Any]:
    """The product, or its transpose where that is what has rows."""
    if out.strides[-2] >= out.strides[-1]:
        return a, b, out
    return b.swapaxes(-1, -2), a.swapaxes(-1, -2), out.swapaxes(-1, -2)


def product_at(place: Place, alpha: float) -> Callable:
    """f(a, b, whole) -> (the product in its place, the whole); without a whole that is new memory."""
    def run(a: Any, b: Any, whole: Any = None) -> tuple[Any, Any]:
        whole = empty(a, place.shape) if whole is None else whole
        y = place.part(whole)
        left, right, out = by_rows(a, b, y)
        matmul.multiply(left, right, out, alpha=alpha)
        return y, whole
    return run


def places(graph: Graph) -> dict[Value, Place]:
    """The places of those products that need not write by themselves."""
    uses, outputs = graph.uses(), set(graph.outputs)
    maker = {y: op for op in graph.ops for y in op.outputs}

    def product_behind(x: Any) -> tuple[Value, tuple[Callable, ...]] | None:
        """(the result of a product, from x to it) where x is that, seen another way, and nothing else reads it."""
        steps: list[Callable] = []
        while isinstance(x, Value) and len(uses.get(x, ())) == 1 and x not in outputs and (op := maker.get(x)) is not None:
            if multiplies(op):
                return x, tuple(steps)
            back = undone(op) if op.name in TURNS and ours(op) else None
            if back is None:
                break
            steps.append(back)
            x = op.args[0]
        return None

    found: dict[Value, Place] = {}
    for op in graph.ops:
        if joinable(op):
            parts = [product_behind(x) for x in op.args]
            if None not in parts:
                axis, order = op.params["axis"] % op.args[0].ndim, order_read(op.outputs[0], uses, outputs)
                shape, size = tuple([op.outputs[0].shape[a] for a in order]), op.args[0].shape[axis]
                for k, (y, steps) in enumerate(part for part in parts if part is not None):
                    found[y] = Place(shape, (turned(numpy.argsort(order)), cut(axis, k * size, size), *steps), op)
        elif multiplies(op) and op.outputs[0] not in found:
            y = op.outputs[0]
            order = order_read(y, uses, outputs)
            if order != tuple(range(y.ndim)) and any(reader.name == "reshape" for reader in uses.get(uses[y][0].outputs[0], ())):
                found[y] = Place(tuple([y.shape[a] for a in order]), (turned(numpy.argsort(order)),))
    return found


def order_read(y: Value, uses: dict[Value, list[Op]], outputs: set[Value]) -> tuple[int, ...]:
    """The order of axes in which the one operation that reads a value does so."""
    readers = uses.get(y, [])
    if len(readers) == 1 and readers[0].name == "transpose" and ours(readers[0]) and y not in outputs:
        return tuple([a % y.ndim for a in readers[0].params["axes"]])
    return tuple(range(y.ndim))


def undone(op: Op) -> Callable | None:
    """From the result of a transpose, or of a reshape by axes of one, to its argument."""
    x, y = op.args[0], op.outputs[0]
    if op.name == "transpose":
        return turned(numpy.argsort([a % x.ndim for a in op.params["axes"]]))
    if op.name == "matrix_transpose":
        return lambda view: view.swapaxes(-1, -2)
    shape = x.shape
    return (lambda view: view.reshape(shape)) if [n for n in shape if n > 1] == [n for n in y.shape if n > 1] else None


def turned(axes: Any) -> Callable:
    order = tuple([int(a) for a in axes])
    return lambda view: view.transpose(order)


def cut(axis: int, start: int, size: int) -> Callable:
    index = (*[slice(None)] * axis, slice(start, start + size))
    return lambda view: view[index]


def joinable(op: Op) -> bool:
    """Whether the operation joins a few arrays of one shape."""
    if op.name != "concatenate" or not ours(op):
        return False
    xs = list(op.values)
    return (len(xs) == len(op.args) and 1 < len(xs) <= 8 and len({x.shape for x in xs}) == 1
            and {x.dtype for x in xs} == {op.outputs[0].dtype} and xs[0].dtype.char in FLOATS and xs[0].size > 0)
