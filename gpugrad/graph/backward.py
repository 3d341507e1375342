"""`Tensor.backward`: the reverse sweep to every leaf, accumulating into `.grad`."""
from __future__ import annotations

import operator
from typing import Any

import numpy

from gpugrad.arrays import at_home, copied, device_of, exclusive, has_kernels, is_array, module_of, one, short
from gpugrad.errors import DeviceError, DtypeError, GraphError, ShapeError
from gpugrad.graph.layers import array_under
from gpugrad.graph.lent import NOTHING, lend
from gpugrad.graph.namespace import RAW
from gpugrad.graph.node import Leaf
from gpugrad.graph.plan import Plan
from gpugrad.graph.sweep import bare_array, pullback
from gpugrad.graph.tensor import Tensor


def backward(self: Tensor, gradient: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
    """Add the gradient of this Tensor with respect to every leaf that needs one to that leaf's `.grad`.

    gradient      the cotangent of this Tensor, of its shape; may be left out for a single real element, where it is 1
    retain_graph  keep what the graph saved, so that backward can run again; by default it is let go
    create_graph  record the sweep itself, so that the gradients can be differentiated

    Raises GraphError where no gradient is needed or the graph was freed, ShapeError for a gradient of another shape.
    """
    if self._node is None:
        raise GraphError("backward: expected a Tensor that needs a gradient, got one computed from none. "
                         "Make an input with requires_grad=True.")
    g = seed(self) if gradient is None else cotangent("backward", gradient, self)
    plan = Plan([self._node], None)
    lent = NOTHING if create_graph else lend(plan.order, bare_array(g))
    try:
        found = pullback([(self._node, g)], create_graph=create_graph, retain_graph=retain_graph, plan=plan, lent=lent)
    except BaseException:
        lent.give_up()
        raise
    if lent.tensors:
        lent.give_back({node: take(found, node) for node in lent.tensors.keys() - lent.nodes})
    for node in tuple(found):
        leaf = node.tensor() if type(node) is Leaf and node not in lent.tensors else None
        if leaf is not None:
            if getattr(leaf, "_grad", None) is None:
                leaf._grad = take(found, node)
            else:
                accumulate(leaf, found, node)


setattr(Tensor, "backward", backward)  # noqa: B010 - tensor.py may not import the sweep


def seed(y: Tensor) -> Any:
    """The cotangent 1 of a single real output."""
    if y.size != 1:
        raise ShapeError(f"backward: expected one element, got shape {y.shape}. Sum it first, or pass gradient= of that shape.")
    if y.dtype.kind == "c":
        raise DtypeError(f"backward: expected a real output, got {y.dtype}. Take its real part first, or pass gradient=.")
    return filled_like(y, 1)


def filled_like(y: Any, value: float, beside: Any = None) -> Any:
    """An array of the shape and dtype of y, where the array under `beside` lies; y may be `Shaped`, which lies nowhere."""
    data, array = bare_array(y), array_under(y if beside is None else beside)
    xp = module_of(array) if is_array(array) else numpy
    return at_home(filled, xp)(array, xp, data.shape, data.dtype, value)


def filled(array: Any, xp: Any, shape: tuple[int, ...], dtype: Any, value: float) -> Any:
    if value == 1 and not shape and (xp is numpy or has_kernels(xp)):
        return one(xp, dtype)
    if xp is not numpy:
        return xp.full(shape, value, dtype=dtype)
    y = numpy.empty(shape, dtype)                         # NumPy's full takes 1 us more
    y.fill(value)
    return y


def cotangent(op: str, g: Any, y: Tensor) -> Any:
    """A given cotangent, checked against the output it belongs to: an array or a Tensor of y's shape and dtype."""
    value = g
    if not isinstance(g, Tensor):
        if not is_array(y._data):
            return g
        xp = module_of(y._data)
        if is_array(g) and device_of(g) != y.device:
            raise DeviceError(f"{op}: expected a gradient on {y.device}, got one on {Tensor(g).device}. Use .to(device).")
        try:
            value = g = g if type(g) is xp.ndarray else xp.asarray(g)
        except (ValueError, TypeError) as error:
            raise DtypeError(f"{op}: expected a gradient of shape {y.shape}, got {short(g)} ({error}). Pass an array.") from error
    elif is_array(g._data) and is_array(y._data) and g.device != y.device:
        raise DeviceError(f"{op}: expected a gradient on {y.device}, got one on {g.device}. Use .to(device).")
    if value.shape != y.shape:
        raise ShapeError(f"{op}: expected a gradient of shape {y.shape}, got {value.shape}. A cotangent has its output's shape.")
    if value.dtype != y.dtype:
        if value.dtype.kind not in "biufc" or (value.dtype.kind == "c" and y.dtype.kind != "c"):
            raise DtypeError(f"{op}: expected a gradient of dtype {y.dtype}, got {value.dtype}. Use .astype({y.dtype}).")
        g = g.astype(y.dtype)
    return g


def accumulate(leaf: Tensor, found: dict, node: Any) -> None:
    """leaf.grad += found[node], in the buffer that is there where nobody else can see it."""
    old: Any = leaf.grad
    g, data = found.pop(node), old._data
    if not isinstance(g, Tensor) and old._node is None and data.dtype == g.dtype and exclusive(data, 2):
        RAW[type(data)].at_home(operator.iadd)(data, g)
    else:
        leaf._grad = old + (g if isinstance(g, Tensor) else Tensor(g))


def take(found: dict, node: Any, fortran: bool = False) -> Tensor:
    """The gradient of a node, taken out of a sweep's results. A view, or an array that others hold too, is copied.

    fortran   a NumPy array may stay in Fortran's order, as the gradient to w of x @ w.T comes
    """
    g = found.pop(node)
    if isinstance(g, Tensor):
        return g
    if type(g) is not numpy.ndarray and type(g) is not module_of(g).ndarray:
        return Tensor(module_of(g).asarray(g))
    dense = g.flags.c_contiguous or (fortran and g.flags.f_contiguous and type(g) is numpy.ndarray)      # a name would hold g
    return Tensor(g if dense and exclusive(g) else copied(g))
