"""What goes into a transform and what comes out: trees of arrays, Tensors and numbers, and the Tensors that stand for them."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from gpugrad.arrays import is_array, new_array, short
from gpugrad.errors import ArgumentError, DtypeError, ShapeError
from gpugrad.graph.backward import cotangent, filled_like, take
from gpugrad.graph.layers import Batch, Layered, lowered, outlived, snapshot, tensor_of
from gpugrad.graph.namespace import PRIMITIVES, TRACED
from gpugrad.graph.node import Node
from gpugrad.graph.plan import Plan
from gpugrad.graph.state import mode_now
from gpugrad.graph.sweep import pullback
from gpugrad.graph.tensor import Tensor, require_inexact
from gpugrad.trees import flatten, map_tree


class Inputs:
    """The arguments of a transform with a fresh root node for each leaf that is differentiated.

    A root is linked to the node of the value it stands for. That link is what tells nested sweeps apart: the inner sweep
    stops at its own roots, the outer one passes through them.
    """

    def __init__(self, op: str, args: tuple, argnums: int | Sequence[int]):
        self.numbers, self.several = numbered(op, args, argnums)
        self.leaves, self.build = flatten([args[i] for i in self.numbers])
        self.roots = [root(op, x) for x in self.leaves]
        self.nodes = [r._node for r in self.roots]        # the function may assign to its arguments: a root then has another
        full = list(args)
        for i, x in zip(self.numbers, self.build(self.roots), strict=True):
            full[i] = x
        self.args = full
        self.kind = kind_of(flatten(args)[0])
        self.outside = False
        self.planned: frozenset = frozenset()

    def gradients(self, outputs: list[tuple[Tensor, Any]], retain_graph: bool) -> Any:
        nodes = self.nodes
        plan = Plan([y._node for y, _ in outputs], nodes)
        self.planned = frozenset([y._node for y, _ in outputs])
        self.outside = plan.outside or any(isinstance(g, Tensor) and g._node is not None for _, g in outputs)
        found = pullback([(y._node, g) for y, g in outputs], nodes, plan=plan, retain_graph=retain_graph,
                         create_graph=self.outside and mode_now().record)
        results = []
        for node, r, x in zip(nodes, self.roots, self.leaves, strict=True):
            results.append(as_kind(take(found, node, fortran=True) if node in found else zeros_like(r), x))
        trees = self.build(results)
        return tuple(trees) if self.several else trees[0]

    def returned(self, y: Tensor) -> Any:
        """An output for the caller: attached to the graph outside where there is one."""
        if y._node is not None and not self.outside and y._node not in self.planned:
            self.outside = Plan([y._node], self.nodes).outside
        if not self.outside:
            y = snapshot(y)
            y._node = None
        return self.kind(y)

    def returned_aux(self, aux: Any) -> Any:
        """What the function returned beside its output, as the caller's kind; what is no Tensor stays as it is."""
        return map_tree(lambda x: self.returned(x) if isinstance(x, Tensor) else x, aux)


def root(op: str, x: Any) -> Tensor:
    """The value of x with a node of its own, whose parent is the node of x."""
    if not isinstance(x, Tensor):
        x = Tensor(new_array(x, copy=False))
    require_inexact(op, x.dtype)
    node = Node(PRIMITIVES["alias"], (x._node,), (None,), None, {})
    node.level = node.seq
    return snapshot(x, node)


def lock(leaves: Sequence) -> list[numpy.ndarray]:
    """Make the arrays that own their memory read-only; returns those that were not."""
    found = []
    for x in leaves:
        if type(x) is numpy.ndarray:
            flags = x.flags
            if flags.owndata and flags.writeable:
                flags.writeable = False
                found.append(x)
    return found


def numbered(op: str, args: tuple, argnums: int | Sequence[int]) -> tuple[list[int], bool]:
    """argnums as a list of valid argument numbers, and whether several were asked for."""
    several = not isinstance(argnums, int | numpy.integer)
    numbers: list[Any] = list(argnums) if isinstance(argnums, Sequence) else [argnums]
    for i in numbers:
        if not isinstance(i, int | numpy.integer) or not -len(args) <= i < len(args):
            raise ArgumentError(f"{op}: expected argnums within the {len(args)} positional arguments, got {argnums!r}. "
                                "Pass the differentiated arguments by position.")
    numbers = [int(i) % len(args) for i in numbers]
    if len(set(numbers)) < len(numbers):
        raise ArgumentError(f"{op}: expected different argnums, got {argnums!r}. Name each argument once.")
    return numbers, several


def split_aux(op: str, out: Any, has_aux: bool) -> tuple:
    if not has_aux:
        return out, None
    if not isinstance(out, tuple) or len(out) != 2:
        raise ArgumentError(f"{op}: expected (output, aux) with has_aux=True, got {short(out)}. Return a pair.")
    return out


def as_output(op: str, y: Any) -> Tensor:
    """A result of the user's function as a Tensor; constants are fine."""
    if isinstance(y, Tensor):
        return outlived(op, y)
    if not is_array(y) and not isinstance(y, int | float | complex):
        raise DtypeError(f"{op}: expected a function that returns arrays, got {short(y)}. Return a Tensor or a tree of them.")
    if getattr(y, "dtype", numpy.dtype(float)).kind not in "biufc":
        raise DtypeError(f"{op}: expected a function that returns numbers, got {y.dtype}. Return a Tensor or a tree of them.")
    return Tensor(new_array(y, copy=False))


def scalar_output(op: str, y: Any) -> Tensor:
    y = as_output(op, float(y) if type(y) is int else y)  # a constant int is meant as a float
    if y.size != 1:
        raise ShapeError(f"{op}: expected a function with one output element, got shape {y.shape}. "
                         "Sum it, or use jacobian or vjp.")
    if y.dtype.kind == "c":
        raise DtypeError(f"{op}: expected a real output, got {y.dtype}. Take its real part, or use vjp.")
    if y.dtype.kind != "f":
        raise DtypeError(f"{op}: expected a float output, got {y.dtype}, which has no gradient. Return a float.")
    return y


def direction(x: Any, v: Any) -> tuple:
    """A primal and its tangent, checked, as arrays where they are no more than that."""
    x = x if isinstance(x, Tensor) else Tensor(new_array(x, copy=False))
    require_inexact("jvp", x.dtype)
    v = v if isinstance(v, Tensor) else cotangent("jvp", v, x)
    v = v if isinstance(v, Tensor) else Tensor(v)
    v = cotangent("jvp", v, x)
    return lowered(x), lowered(v)


def kind_of(leaves: Sequence) -> Callable[[Any], Any]:
    """The function that gives results the caller's kind: Tensors to a caller of Tensors, arrays to one of arrays."""
    tensors = any(isinstance(x, Tensor) for x in leaves)

    def kind(y):
        y = tensor_of(y)
        if tensors or y._node is not None or isinstance(y, Layered):
            return y
        return y._data[()]                                # NumPy's own functions return scalars, not 0-d arrays
    return kind


def as_kind(g: Tensor, x: Any) -> Any:
    """A gradient as the kind of its input."""
    if isinstance(x, Tensor) or g._node is not None or isinstance(g, Layered):
        return g
    scalar = isinstance(x, numpy.generic) or getattr(x, "scalar", False) or not is_array(x)
    return g._data[()] if scalar else g._data


def zeros_like(y: Tensor) -> Tensor:
    return Tensor(filled_like(y, 0))


def stacked(level: int, x: Any, axis: int, sizes: set) -> Batch:
    """An argument of vmap with its mapped axis in front."""
    x = x if isinstance(x, Tensor) else Tensor(new_array(x, copy=False))
    if not x.ndim or not -x.ndim <= axis < x.ndim:
        raise ArgumentError(f"vmap: expected axis {axis} to map over, got shape {x.shape}. "
                            "Use in_axes=None for shared arguments.")
    sizes.add(x.shape[axis])
    if axis % x.ndim:
        x = moved(x, axis % x.ndim, 0)
    return Batch(level, lowered(x))


def unstacked(level: int, y: Any, axis: int | None, size: int) -> Tensor:
    """A result of vmap with its mapped axis in place; results that do not depend on it are repeated, unless axis is None."""
    y = as_output("vmap", y)
    if axis is None:
        if isinstance(y, Batch) and y.level == level:
            raise ArgumentError(f"vmap: expected a result that is the same for all where out_axes is None, got {size} of shape "
                                f"{y.shape}. Say where their axis is to be.")
        return y
    if isinstance(y, Batch) and y.level == level:
        y = tensor_of(y.value)
    else:
        y = TRACED.spread(y, shape=(size, *y.shape))
    if not -y.ndim <= axis < y.ndim:
        raise ArgumentError(f"vmap: expected out_axes from {-y.ndim} to {y.ndim - 1}, got {axis}. It counts the new axis, too.")
    return moved(y, 0, axis % y.ndim)


def moved(x: Tensor, source: int, destination: int) -> Tensor:
    """One axis elsewhere, the others in order."""
    if source == destination:
        return x
    axes = [i for i in range(x.ndim) if i != source]
    axes.insert(destination, source)
    return TRACED.transpose(x, axes=tuple(axes))


def count(leaves: Sequence) -> int:
    """How many elements the leaves have together."""
    return sum(int(numpy.prod(numpy.shape(x) if not isinstance(x, Tensor) else x.shape, dtype=numpy.int64)) for x in leaves)


def is_complex(x: Any) -> bool:
    return getattr(x, "dtype", numpy.dtype(type(x)) if isinstance(x, int | float | complex) else numpy.dtype("f8")).kind == "c"


def require_callable(op: str, f: Any) -> None:
    if not callable(f):
        raise DtypeError(f"{op}: expected a function, got {short(f)}. Pass the function itself, not its result.")
