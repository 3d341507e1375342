"""Recording: run a primitive on the arrays and, where a gradient is needed, make its node.

`record` handles every case; recorders.py has the commonest ones unrolled.
"""
from __future__ import annotations

import linecache
import sys
import weakref
from collections.abc import Sequence
from typing import Any

import numpy

from gpugrad.arrays import copied, device_of, is_array, module_of
from gpugrad.errors import (
    AnomalyError,
    ArgumentError,
    AxisError,
    DeviceError,
    DtypeError,
    GpugradError,
    IndexingError,
    ShapeError,
)
from gpugrad.graph.layers import OPEN, Layered, outlived, snapshot, top_layer
from gpugrad.graph.namespace import RAW
from gpugrad.graph.node import Node, Shaped, level_of
from gpugrad.graph.state import LEVELS, RECORD, Mode, clock, current, effective
from gpugrad.graph.tensor import Borrowed, Tensor, borrowed

SCALARS = frozenset({float, int, complex, bool, type(None)})

#: The user's line that made a node, kept while `detect_anomaly` is on.
LINES: weakref.WeakKeyDictionary[Node, str] = weakref.WeakKeyDictionary()


class Item(Node):
    """One output of an operation with several. Its parent collects a list of cotangents."""

    __slots__ = ("index",)

    def __init__(self, parent: Node, index: int):
        self.prim = self.y = self.params = None
        self.parents = (parent,)
        self.xs = ()
        self.seq = clock()
        self.index = index


def record(prim: Any, xs: tuple, params: dict) -> Any:
    """prim(*xs, **params) on Tensors, arrays, lists and numbers, as a Tensor or a tuple of them."""
    mode = current()
    if mode is RECORD or mode is LEVELS:                  # the commonest case first: Tensors and numbers, nothing special
        values: list = []
        parents: list = []
        graph = False
        for x in xs:
            if type(x) is Tensor:
                values.append(x._data)
                parents.append(x._node)
                graph = graph or x._node is not None
            elif type(x) in SCALARS:
                values.append(x)
                parents.append(None)
            else:
                break
        else:
            y = run(prim, values, params)
            if not graph or prim.vjp is None:
                return wrap(y)
            return attach(y, make_node(prim, tuple(parents), values, xs, y, params, mode))
    mode = effective(mode)
    inputs = [x if isinstance(x, Tensor) or type(x) in SCALARS else constant(prim, x, xs) for x in xs]
    layered = top_layer(inputs)
    if layered is not None and layered._layer[0] not in OPEN:
        inputs = [outlived(prim.name, x) for x in inputs]
        layered = top_layer(inputs)
    if layered is not None:
        level = layered._layer[0]
        y = layered.apply(prim, inputs, params, level)
        keeps_graph = mode.record and inside_sweep(inputs, level)
        values = [x._data if isinstance(x, Tensor) and not isinstance(x, Layered) else snapshot(x)
                  for x in inputs] if keeps_graph else []
    else:
        values = [x._data if isinstance(x, Tensor) else x for x in inputs]
        y = run(prim, values, params)
        keeps_graph = mode.record and any(isinstance(x, Tensor) and x._node is not None for x in inputs)
        if type(inputs[0]) is Borrowed and not keeps_graph and sees(y, values[0]):
            return Borrowed(y)
    if not keeps_graph or prim.vjp is None:
        result = y if isinstance(y, Tensor) else wrap(y)
    else:
        nodes = tuple([x._node if isinstance(x, Tensor) else None for x in inputs])
        node = make_node(prim, nodes, values, inputs, y, params, mode)
        result = attach(y, node)
    if mode.anomaly:
        check_finite(prim, xs, result)
    return result


def inside_sweep(inputs: list, level: int) -> bool:
    """True where an input belongs to a reverse sweep that was begun inside the jvp or vmap of that level."""
    for x in inputs:
        if isinstance(x, Tensor):
            node = x._node
            if node is not None and node.seq > level and level_of(node) > level:
                return True
    return False


def constant(prim: Any, x: Any, xs: tuple) -> Any:
    """A bare array stays outside the graph; lists become arrays on the device of the Tensors beside them."""
    if is_array(x):
        return x if isinstance(x, numpy.generic) else borrowed(prim.name, x)
    like = next((t._data for t in xs if isinstance(t, Tensor)), None)
    xp = module_of(like) if is_array(like) else numpy
    try:
        array = xp.asarray(x)
    except (ValueError, TypeError) as error:
        raise DtypeError(f"{prim.name}: expected arrays or numbers, got {type(x).__name__} ({error}). "
                         "Use gpugrad.asarray(x).") from error
    if array.dtype.kind not in "biufc":
        raise DtypeError(f"{prim.name}: expected arrays or numbers, got {type(x).__name__}. Use gpugrad.asarray(x).")
    return Tensor(array)


def run(prim: Any, values: list, params: dict) -> Any:
    """The raw function of the arrays' device on the arrays. NumPy scalars become 0-d arrays."""
    for v in values:
        if type(v) is numpy.ndarray:
            xp = numpy
            break
    else:
        xp = RAW[next((type(v) for v in values if is_array(v) and not isinstance(v, numpy.generic)), numpy.ndarray)].xp
    try:
        y = prim.impls[xp.ndarray](*values, **params)
    except Exception as error:
        raise explained(error, prim, values, params) from error
    if prim.outputs == 1:
        return y if type(y) is xp.ndarray else settled(xp, y)
    return tuple([v if type(v) is xp.ndarray else settled(xp, v) for v in y])


def settled(xp: Any, y: Any) -> Any:
    """A raw result as an array: a scalar of NumPy's becomes one; an array of another module, where it was moved, stays."""
    return y if is_array(y) and not isinstance(y, numpy.generic) else xp.asarray(y)


def make_node(prim: Any, parents: tuple, values: list, inputs: Sequence, y: Any, params: dict, mode: Mode) -> Node:
    """A node that keeps what the rule reads for the inputs that need a gradient, and the shapes of the rest."""
    keep_y, kept = prim.kept(parents)
    xs: tuple[Any, ...] = tuple([v if v is None else save(v, x) if i in kept else shape_only(v)
                for i, (v, x) in enumerate(zip(values, inputs, strict=True))])
    saved = y if keep_y else shape_only(y)
    if prim.fits and any(x.dtype != y.dtype or (p is not None and x.shape != y.shape)
                         for x, p in zip(xs, parents, strict=True) if hasattr(x, "dtype")):
        params = {**params, "likes": tuple(map(shape_only, xs))}
    node = Node(prim, parents, xs, saved, params)
    if mode.anomaly:
        LINES[node] = user_line()
    return node


def sees(y: Any, x: Any) -> bool:
    """Whether y is the array x or a view of it, so that who writes to x writes to y."""
    return y is x or (type(y) is not tuple and getattr(y, "base", None) is not None
                      and (type(y) is not numpy.ndarray or numpy.may_share_memory(y, x)))


def save(value: Any, x: Any) -> Any:
    """What a node keeps of an input. A borrowed array is copied: its owner may write to it before the backward sweep."""
    if type(x) is not Borrowed:
        return value
    return copied(value)


def shape_only(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(map(shape_only, value))
    return Shaped(value.shape, value.dtype) if hasattr(value, "shape") else value


def wrap(y: Any) -> Any:
    return Tensor(y) if type(y) is not tuple else tuple([v if isinstance(v, Tensor) else Tensor(v) for v in y])


def attach(y: Any, node: Node) -> Any:
    """Name `node` as the maker of y; but integers and bools, which do not move, stay outside the graph."""
    if type(y) is tuple:
        return tuple([attach(v, Item(node, i)) for i, v in enumerate(y)])
    if y.dtype.kind not in "fc":
        return y if isinstance(y, Tensor) else Tensor(y)
    if isinstance(y, Layered):                  # the node may hold y itself: no cycle
        return snapshot(y, node)
    return y if isinstance(y, Tensor) else Tensor(y, node)


def explained(error: Exception, prim: Any, values: list, params: dict) -> Exception:
    """The same error as one of ours, with the live shapes and dtypes."""
    if isinstance(error, GpugradError):
        return error
    got = ", ".join(describe(v) for v in values)
    options = "".join(f", {k}={v!r}" for k, v in (params or {}).items())
    devices = {str(device_of(v)) for v in values if is_array(v) and not isinstance(v, numpy.generic)}
    text = " ".join(str(error).split())
    if len(devices) > 1:
        return DeviceError(f"{prim.name}: expected inputs on one device, got {got} on {', '.join(sorted(devices))}. "
                           "Use .to(device).")
    if isinstance(error, numpy.exceptions.AxisError):
        return AxisError(f"{prim.name}: expected an axis of the input, got {got}{options}: {text}. Check the axis.")
    if isinstance(error, numpy.linalg.LinAlgError):
        return error
    if isinstance(error, ValueError):
        return ShapeError(f"{prim.name}: expected shapes that fit, got {got}{options}: {text}. Check the shapes.")
    if isinstance(error, TypeError):
        return DtypeError(f"{prim.name}: expected dtypes that NumPy accepts here, got {got}{options}: {text}. Use .astype.")
    if isinstance(error, OverflowError):
        return ArgumentError(f"{prim.name}: expected numbers within the dtype, got {got}{options}: {text}. Use .astype first.")
    if isinstance(error, IndexError):
        return IndexingError(f"{prim.name}: expected valid indices, got {got}{options}: {text}. Check the index.")
    return error


def describe(v: Any) -> str:
    return f"{v.shape} {v.dtype}" if hasattr(v, "shape") else repr(v)


def check_finite(prim: Any, xs: tuple, y: Any) -> None:
    """Anomaly mode: raise where an operation made a NaN out of inputs that had none."""
    def has_nan(t: Any) -> bool:
        array = t._data if isinstance(t, Tensor) else t
        return is_array(array) and array.dtype.kind in "fc" and bool((array != array).any())
    if any(map(has_nan, y if type(y) is tuple else (y,))) and not any(map(has_nan, xs)):
        raise AnomalyError(f"{prim.name}: expected no NaN, got one from {', '.join(describe(x) for x in xs)} at {user_line()}. "
                           "Look at the inputs of that line.")


def user_line() -> str:
    """file:line and text of the innermost frame outside gpugrad, whose own `with` statements go through contextlib."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("gpugrad.", "contextlib")):
        frame = frame.f_back
    name, number = frame.f_code.co_filename, frame.f_lineno
    return f"{name}:{number}: {linecache.getline(name, number).strip()}"
