"""Values that carry more than themselves: a Dual has a tangent, a Batch stands for many.

`jvp` and `vmap` each open a level, numbered by the clock, so that an inner one is always the higher. An operation on
several levels is taken apart from the highest down, which tells nested transforms apart (no perturbation confusion).

Reverse mode mixes in freely. A node may sit *on* a layered Tensor (reverse inside forward: its saved values are layered,
so the sweep computes layered gradients) or *inside* it (forward inside reverse: primal and tangent have nodes).
"""
from __future__ import annotations

from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy

from gpugrad.arrays import Device, device_of, is_array
from gpugrad.errors import GraphError
from gpugrad.graph.namespace import RAW, TRACED
from gpugrad.graph.node import Shaped
from gpugrad.graph.state import clock, switch
from gpugrad.graph.tensor import Borrowed, Tensor

PLAIN = (Tensor, Borrowed)

#: The levels of the jvps and vmaps that are running.
OPEN: set[int] = set()


class opened(switch):
    """A new level, for as long as the function of a jvp or vmap runs."""

    def __init__(self) -> None:
        super().__init__(levels=True)
        self.level = clock()

    def __enter__(self) -> int:
        OPEN.add(self.level)
        super().__enter__()
        return self.level

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        OPEN.discard(self.level)


class Map(NamedTuple):
    """A vmap that is running."""

    level: int
    size: int
    randomness: str


#: The vmaps that are running here, from the outermost in.
MAPS: ContextVar[tuple[Map, ...]] = ContextVar("gpugrad_maps", default=())


class Layered(Tensor):
    """What `_layer` holds is (level, content...). The array, or its shape and dtype, stays in `_data`."""

    __slots__ = ()

    @property
    def level(self) -> int:
        return self._layer[0]

    @property
    def device(self) -> Device:
        inner = self._layer[1]
        return inner.device if isinstance(inner, Tensor) else device_of(inner)

    @staticmethod
    def apply(prim: Any, xs: list, params: dict, level: int) -> Any:
        """prim(*xs) with the layered inputs of one level taken apart."""
        raise NotImplementedError


class Dual(Layered):
    """primal + epsilon * tangent, with epsilon of one level. Both are arrays, or Tensors where they carry more."""

    __slots__ = ()

    def __init__(self, level: int, primal: Any, tangent: Any):
        self._data = primal._data if isinstance(primal, Tensor) else as_array(primal)
        self._node = None
        self._layer = (level, primal, tangent)

    primal = property(lambda self: self._layer[1])
    tangent = property(lambda self: self._layer[2])

    @staticmethod
    def apply(prim: Any, xs: list, params: dict, level: int) -> Any:
        """y = prim(primals), dy = the rule's jvp: on bare arrays where nothing else is going on, else on Tensors."""
        primals, tangents = [], []
        for x in xs:
            if type(x) is Dual and x._layer[0] == level:
                primals.append(x._layer[1])
                tangents.append(x._layer[2])
            else:
                primals.append(lowered(x))
                tangents.append(None)
        m = namespace_for(primals)
        y = prim.on(m)(*primals, **params)
        m = m if m is TRACED else namespace_for(tangents, m)
        if m is TRACED:
            primals, tangents = list(map(lifted, primals)), list(map(lifted, tangents))
        dy = m.at_home(prim.jvp if m.pushes is None else m.pushes[prim])(m, tangents, y, *primals, **params)
        if prim.outputs == 1:
            return tensor_of(y) if dy is None else Dual(level, y, dy)
        return tuple(tensor_of(v) if dv is None else Dual(level, v, dv)
                     for v, dv in zip(y, [None] * len(y) if dy is None else dy, strict=True))


class Batch(Layered):
    """`size` values at once, stacked on axis 0 of an array or Tensor; to the program it looks like one of them."""

    __slots__ = ()

    def __init__(self, level: int, value: Any):
        self._data = Shaped(value.shape[1:], value.dtype)
        self._node = None
        self._layer = (level, value)

    value = property(lambda self: self._layer[1])

    @staticmethod
    def apply(prim: Any, xs: list, params: dict, level: int) -> Any:
        batched = [type(x) is Batch and x._layer[0] == level for x in xs]
        values = [x._layer[1] if b else lowered(x) for x, b in zip(xs, batched, strict=True)]
        size = next(v.shape[0] for v, b in zip(values, batched, strict=True) if b)
        m = namespace_for(values)
        if m is TRACED:
            values = list(map(lifted, values))
        y = m.at_home(prim.batch)(m, size, batched, *values, **params)
        return Batch(level, y) if prim.outputs == 1 else tuple(Batch(level, v) for v in y)


def top_layer(xs: list) -> Any:
    """The layered input of the highest level, which is taken apart first; None where there is none."""
    top = None
    for x in xs:
        if isinstance(x, Layered) and (top is None or x._layer[0] > top._layer[0]):
            top = x
    return top


def outlived(op: str, x: Any) -> Any:
    """x without the levels that are over: a Tensor kept from inside a jvp is its primal there, one from a vmap is nothing."""
    while isinstance(x, Layered) and x._layer[0] not in OPEN:
        if type(x) is not Dual:
            raise GraphError(f"{op}: expected a Tensor of a running vmap, got one kept from an earlier vmap, where it stood for "
                             "many. Return it from that function.")
        x = tensor_of(x._layer[1])
    return x


def snapshot(x: Any, node: Any = None) -> Any:
    """Another Tensor of the same value, so that rebinding the first does not change it; with `node` if one is given."""
    if not isinstance(x, Tensor):
        return x
    twin = Tensor(x._data, node or x._node)
    if isinstance(x, Layered):
        twin.__class__, twin._layer = type(x), x._layer
    return twin


def lowered(x: Any) -> Any:
    """A plain Tensor without a node is its array: the rule then runs at full speed."""
    return x._data if type(x) in PLAIN and x._node is None else x


def lifted(x: Any) -> Any:
    """An array as a Tensor, beside other Tensors: the operators of a rule then find the array's device."""
    return Tensor(x) if is_array(x) else x


def namespace_for(values: list, otherwise: Any = None) -> Any:
    """TRACED where any value is a Tensor, else `otherwise`, else the namespace of the arrays' own module."""
    array = None
    for x in values:
        if isinstance(x, Tensor):
            return TRACED
        if array is None and (type(x) is numpy.ndarray or is_array(x)):
            array = x
    return otherwise or RAW[type(array)]


def array_under(y: Any) -> Any:
    """What the Tensor and its levels come down to."""
    while isinstance(y, Tensor):
        y = y._layer[1] if isinstance(y, Layered) else y._data
    return y


def as_array(x: Any) -> Any:
    """A 0-d array where NumPy gave a scalar."""
    xp = RAW[type(x)].xp if is_array(x) else numpy
    return x if type(x) is xp.ndarray else xp.asarray(x)


def tensor_of(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(as_array(x))
