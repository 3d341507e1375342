"""New arrays, by NumPy's names, each with `dtype` and `device`. Values may be Tensors: then the array depends on them."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from gpugrad.arrays import Device, default_device, module_of, move, new_array
from gpugrad.errors import ArgumentError, DtypeError
from gpugrad.graph.layers import Layered
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.graph.views import as_made
from gpugrad.numpy._arguments import (
    as_dtype,
    as_inexact,
    as_int,
    as_shape,
    as_tensor,
    as_tensors,
    counted_beside,
    device_beside,
    holds_tensors,
    one_axis,
    to_dtype,
)
from gpugrad.numpy.shaping import broadcast_to

__all__ = ["arange", "array", "asarray", "ascontiguousarray", "astype", "copy", "empty", "empty_like", "eye", "from_dlpack",
           "fromfunction", "full", "full_like", "geomspace", "identity", "indices", "linspace", "logspace", "ones", "ones_like",
           "tri", "zeros", "zeros_like"]


def new(build: Callable, device: Device | str | None) -> Tensor:
    """build(xp) on a device, by default the default one."""
    chosen = default_device() if device is None else Device(device)
    with chosen:
        return as_made(Tensor(build(chosen.xp)))


# constants -------------------------------------------------------------------------------------------------------------

def zeros(shape: int | Sequence[int], dtype: Any = float, *, device: Device | str | None = None) -> Tensor:
    """An array of zeros."""
    lengths, dtype = as_shape("zeros", shape), as_dtype("zeros", dtype)
    return new(lambda xp: xp.zeros(lengths, dtype), device)


def ones(shape: int | Sequence[int], dtype: Any = None, *, device: Device | str | None = None) -> Tensor:
    """An array of ones."""
    lengths, dtype = as_shape("ones", shape), as_dtype("ones", dtype)
    return new(lambda xp: xp.ones(lengths, dtype), device)


def empty(shape: int | Sequence[int], dtype: Any = float, *, device: Device | str | None = None) -> Tensor:
    """An array of whatever was in memory: for out= and for assignment."""
    lengths, dtype = as_shape("empty", shape), as_dtype("empty", dtype)
    return new(lambda xp: xp.empty(lengths, dtype), device)


def full(shape: int | Sequence[int], fill_value: Any, dtype: Any = None, *, device: Device | str | None = None) -> Tensor:
    """An array of one value, or of values that broadcast to the shape; differentiable in them."""
    value = to_dtype("full", placed("full", fill_value, device), dtype)
    return copy(broadcast_to(value, as_shape("full", shape)))


def placed(op: str, x: Any, device: Device | str | None) -> Tensor:
    """x as a Tensor on a device; where none is named, on its own, or on the default one if it is a number or a list."""
    if isinstance(x, Tensor):
        return x if device is None else x.to(device)
    return as_tensor(op, x if device is None else new_array(x, device=device, copy=False))


def like(op: str, a: Any, shape: Any, dtype: Any, device: Any, value: int) -> Tensor:
    x = as_tensor(op, a)
    lengths = x.shape if shape is None else as_shape(op, shape)
    dtype = x.dtype if dtype is None else as_dtype(op, dtype)
    return new(lambda xp: xp.full(lengths, value, dtype), device_beside(x) if device is None else device)


def zeros_like(a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *,
               device: Device | str | None = None) -> Tensor:
    """Zeros of the shape, dtype and device of `a`, but for what is given."""
    return like("zeros_like", a, shape, dtype, device, 0)


def ones_like(a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *,
              device: Device | str | None = None) -> Tensor:
    """Ones of the shape, dtype and device of `a`, but for what is given."""
    return like("ones_like", a, shape, dtype, device, 1)


def empty_like(prototype: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *,
               device: Device | str | None = None) -> Tensor:
    """An array to be written to, of the shape, dtype and device of `prototype`, but for what is given."""
    return like("empty_like", prototype, shape, dtype, device, 0)


def full_like(a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *,
              device: Device | str | None = None) -> Tensor:
    """One value in the shape, dtype and on the device of `a`, but for what is given; differentiable in the value."""
    x = as_tensor("full_like", a)
    return full(x.shape if shape is None else shape, fill_value, x.dtype if dtype is None else dtype,
                device=device_beside(x) if device is None else device)


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = float, *, device: Device | str | None = None) -> Tensor:
    """Ones on the k-th diagonal of N rows and M columns (N where not given), zeros elsewhere."""
    n, k, dtype = as_int("eye", "N", N), as_int("eye", "k", k), as_dtype("eye", dtype)
    m = n if M is None else as_int("eye", "M", M)
    return new(lambda xp: xp.eye(n, m, k, dtype), device)


def identity(n: int, dtype: Any = float, *, device: Device | str | None = None) -> Tensor:
    """The square identity matrix."""
    return eye(n, dtype=dtype, device=device)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = float, *, device: Device | str | None = None) -> Tensor:
    """Ones on and below the k-th diagonal of N rows and M columns (N where not given), zeros above."""
    n, k, dtype = as_int("tri", "N", N), as_int("tri", "k", k), as_dtype("tri", dtype)
    m = n if M is None else as_int("tri", "M", M)
    return new(lambda xp: xp.tri(n, m, k, dtype), device)


# sequences -------------------------------------------------------------------------------------------------------------

def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None, *,
           device: Device | str | None = None) -> Tensor:
    """start, start + step, ... short of stop; arange(n) is 0, 1, ... n-1. Differentiable in start and step; how many there are
    has no derivative.
    """
    bounds = [b.item() if isinstance(b, Tensor) else b for b in (start, stop, step)]
    if bounds[1] is None:
        bounds[:2] = [0, bounds[0]]
    if not bounds[2]:
        raise ArgumentError(f"arange: expected a step other than 0, got {step}. Use full for a constant.")
    dtype = None if dtype is None else as_dtype("arange", dtype)
    values = new(lambda xp: xp.arange(*bounds, dtype=dtype), device)
    first: Any = start if stop is not None else 0
    if not any(isinstance(b, Tensor) and (b._node is not None or isinstance(b, Layered)) for b in (first, step)):
        return values
    counted = Tensor(module_of(values._data).arange(values.size))
    return to_dtype("arange", first + step * counted, values.dtype)


def linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None,
             axis: int = 0, *, device: Device | str | None = None) -> Any:
    """num values from start to stop, evenly spaced along a new axis; differentiable in both.

    endpoint  whether stop is the last of them
    retstep   also return the distance
    """
    num = as_int("linspace", "num", num)
    if num < 0:
        raise ArgumentError(f"linspace: expected num of at least 0, got {num}. It is how many values there are.")
    a, b = [as_inexact(placed("linspace", x, device)) for x in beside_each_other(start, stop)]
    rank = max(a.ndim, b.ndim)
    gaps = num - 1 if endpoint else num
    t = T.reshape(counted_beside(num, a), shape=(num, *(1,) * rank)) / float(max(gaps, 1))
    t = to_dtype("linspace", t, T.real(a + b).dtype)
    y = a * (1 - t) + b * t if endpoint else a + (b - a) * t
    y = T.moveaxis(y, source=0, destination=one_axis("linspace", axis, y.ndim))
    if dtype is not None and as_dtype("linspace", dtype).kind in "iu":
        y = T.floor(y)
    y = to_dtype("linspace", y, dtype)
    return (y, (b - a) / gaps if gaps > 0 else (b - a) * math.nan) if retstep else y


def beside_each_other(start: Any, stop: Any) -> list:
    """Two values; a number takes the precision and device of the Tensor beside it."""
    if isinstance(start, Tensor) == isinstance(stop, Tensor):
        return as_tensors("linspace", start, stop)
    x = start if isinstance(start, Tensor) else stop
    dtype = x.dtype if x.dtype.kind in "fc" else None
    return [v if isinstance(v, Tensor) else Tensor(new_array(v, dtype, device_beside(x))) if isinstance(v, int | float)
            else as_tensor("linspace", v, x) for v in (start, stop)]


def logspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None, axis: int = 0, *,
             device: Device | str | None = None) -> Tensor:
    """base ** linspace(start, stop); differentiable in all three."""
    y = linspace(start, stop, num, endpoint, axis=axis, device=device)
    return to_dtype("logspace", T.power(base if isinstance(base, int | float) else as_tensor("logspace", base, y), y), dtype)


def geomspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0, *,
              device: Device | str | None = None) -> Tensor:
    """num values from start to stop with equal ratios, along a new axis; differentiable in both.

    Both must be nonzero, and of one sign where they are real.
    """
    a, b = [as_inexact(placed("geomspace", x, device)) for x in beside_each_other(start, stop)]
    ratio = T.log(b / a)
    y = a * T.exp(linspace(T.zeros_as(ratio, shape=ratio.shape), ratio, num, endpoint, axis=axis))
    return to_dtype("geomspace", y, dtype)


def fromfunction(function: Callable, shape: int | Sequence[int], *, dtype: Any = float, device: Device | str | None = None,
                 **kwargs: Any) -> Any:
    """function(i, j, ...) of the indices of every element, as arrays of the shape."""
    return function(*indices(as_shape("fromfunction", shape), dtype, device=device), **kwargs)


def indices(dimensions: Sequence[int], dtype: Any = int, sparse: bool = False, *, device: Device | str | None = None) -> Any:
    """The index of every element along each axis: one array, or a tuple of arrays with one long axis each where sparse."""
    lengths, dtype = as_shape("indices", dimensions), as_dtype("indices", dtype)
    rank = len(lengths)
    lines = [T.reshape(arange(n, dtype=dtype, device=device), shape=tuple([n if i == axis else 1 for i in range(rank)]))
             for axis, n in enumerate(lengths)]
    if sparse:
        return tuple(lines)
    return T.stack(*[broadcast_to(line, lengths) for line in lines], axis=0) if lines else zeros((0,), dtype, device=device)


# from what is there ----------------------------------------------------------------------------------------------------

def array(object: Any, dtype: Any = None, *, copy: bool | None = True, order: str = "K", subok: bool = False, ndmin: int = 0,
          device: Device | str | None = None) -> Tensor:
    """A Tensor from numbers, arrays, Tensors, and nested lists of them. Tensors in it keep their graph.

    copy   True: memory of its own; None or False: that of an array or Tensor of the right dtype, where possible
    ndmin  at least so many axes
    """
    x = object
    if isinstance(x, list | tuple) and holds_tensors(x):
        x, copy = as_tensor("array", x), False
    if isinstance(x, Tensor):
        x = x if device is None else x.to(device)
        y = to_dtype("array", x, dtype)
        y = T.astype(y, dtype=y.dtype) if copy and y is x else y
    else:
        dtype = None if dtype is None else as_dtype("array", dtype)
        data = new_array(x, dtype, device, copy=bool(copy))
        y = as_made(Tensor(data))
    return T.reshape(y, shape=(1,) * (ndmin - y.ndim) + y.shape) if y.ndim < ndmin else y


def asarray(a: Any, dtype: Any = None, order: str | None = None, *, device: Device | str | None = None,
            copy: bool | None = None) -> Tensor:
    """A Tensor from numbers, arrays, Tensors, and nested lists of them, without a copy where possible."""
    return array(a, dtype, copy=bool(copy), device=device)


def ascontiguousarray(a: Any, dtype: Any = None) -> Tensor:
    """A Tensor with at least one axis, whose elements follow each other in memory."""
    x = array(a, dtype, copy=False, ndmin=1)
    if in_order(x):
        return x
    flat = T.reshape(x, shape=(x.size,))                  # a copy unless its elements are evenly apart, and then so is a copy
    return T.reshape(flat, shape=x.shape) if in_order(flat) else copy(x)


def in_order(x: Tensor) -> bool:
    return getattr(getattr(x._data, "flags", None), "c_contiguous", True)


def copy(a: Any, order: str = "K", subok: bool = False) -> Tensor:
    """The same values in memory of their own; a Tensor keeps its graph."""
    x = as_tensor("copy", a)
    return T.astype(x, dtype=x.dtype) if x.dtype.kind in "fc" else T.discretise(x, dtype=x.dtype)


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Device | str | None = None) -> Tensor:
    """The values as another dtype: differentiable between floats and complex numbers, a constant as integers or bools."""
    return array(as_tensor("astype", x), dtype, copy=copy, device=device)


def from_dlpack(x: Any, /, *, device: Device | str | None = None, copy: bool | None = None) -> Tensor:
    """A Tensor that shares memory with an array of another library, through the DLPack protocol."""
    if not hasattr(x, "__dlpack__"):
        raise DtypeError(f"from_dlpack: expected an array with __dlpack__, got {type(x).__name__}. Use asarray.")
    kind = int(x.__dlpack_device__()[0])
    xp = numpy if kind == 1 else Device("cuda").xp
    data = xp.from_dlpack(x)
    if copy:
        data = data.copy()
    return Tensor(data if device is None else move(data, Device(device)))
