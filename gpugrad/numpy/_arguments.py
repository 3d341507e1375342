"""What the public functions do to their arguments before a primitive sees them: everything becomes normal or an error."""
from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy

from gpugrad.arrays import CPU, Device, device_of, is_array, move, new_array, short
from gpugrad.arrays.levelled import ARRAY
from gpugrad.errors import ArgumentError, AxisError, ConversionError, DtypeError, ShapeError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor, borrowed


def as_tensor(op: str, x: Any, beside: Any = None) -> Tensor:
    """x as a Tensor: a Tensor as it is, an array without a copy, numbers and (nested) lists of numbers and Tensors.

    Numbers, NumPy's scalars too, and lists go to the device of the Tensor or array `beside` them, else to the default device.
    """
    if isinstance(x, Tensor):
        return x
    if is_array(x):
        return moved_beside(numpy.asarray(x), beside) if isinstance(x, numpy.generic) else borrowed(op, x)
    if isinstance(x, list | tuple) and holds_tensors(x):
        return T.stack(*as_tensors(op, *x), axis=0)
    if not isinstance(x, list | tuple | float | int | complex | range) and not hasattr(x, "__array__"):
        raise DtypeError(f"{op}: expected an array or numbers, got {short(x)}. Use gpugrad.asarray(x).")
    try:
        return Tensor(new_array(x, device=device_beside(beside), copy=False))
    except ArgumentError as error:
        raise DtypeError(str(error).replace("tensor", op, 1)) from error


def as_tensors(op: str, *xs: Any) -> list[Tensor]:
    """Several arguments of one operation, numbers and lists on the device of the arrays among them."""
    beside = array_among(xs)
    return [as_tensor(op, x, beside) for x in xs]


def array_among(xs: Sequence) -> Any:
    """The first Tensor or array, beside which numbers go. NumPy's scalars are numbers."""
    return next((x for x in xs if isinstance(x, Tensor) or (is_array(x) and not isinstance(x, numpy.generic))), None)


def device_beside(x: Any) -> Device | None:
    """The device of an array or Tensor, also inside vmap; None for anything else, which lies nowhere."""
    return x.device if isinstance(x, Tensor) else device_of(x) if is_array(x) else None


def moved_beside(array: numpy.ndarray, x: Any) -> Tensor:
    """An array of the host as a Tensor on the device of x; where it is for no x."""
    return Tensor(move(array, device_beside(x) or CPU))


def counted_beside(n: int, x: Any) -> Tensor:
    """0, 1, ... n - 1, made on the device of x."""
    device = device_beside(x) or CPU
    with device:
        return Tensor(device.xp.arange(n, dtype="int64"))


def holds_tensors(x: Any) -> bool:
    """True for a list that has a Tensor at any depth, or arrays of another device than the host's."""
    return any(isinstance(v, Tensor) or (is_array(v) and not isinstance(v, numpy.ndarray | numpy.generic))
               or (isinstance(v, list | tuple) and holds_tensors(v)) for v in x)


def normalize_axis(op: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """None (all axes), an int or a sequence of ints, as a tuple of different axes from 0 to ndim - 1."""
    if axis is None:
        return tuple(range(ndim))
    axes = tuple([one_axis(op, a, ndim) for a in (axis if isinstance(axis, Sequence) else (axis,))])
    if len(set(axes)) != len(axes):
        raise AxisError(f"{op}: expected different axes, got {axis!r} for {ndim} axes. Name each axis once.")
    return axes


def one_axis(op: str, axis: Any, ndim: int) -> int:
    """An axis from -ndim to ndim - 1, counted from 0."""
    try:
        a = index(axis)
    except TypeError as error:
        raise DtypeError(f"{op}: expected an int as axis, got {short(axis)}. Pass an int or a tuple of ints.") from error
    if not -ndim <= a < ndim:
        where = f"{-ndim} to {ndim - 1}" if ndim else "none, for an array of shape ()"
        raise AxisError(f"{op}: expected an axis from {where}, got {a}. Check the axis against the shape.")
    return a % ndim


def as_shape(op: str, shape: Any) -> tuple[int, ...]:
    """An int or a sequence of ints as a tuple of lengths."""
    try:
        lengths = tuple([index(n) for n in shape]) if isinstance(shape, Sequence | numpy.ndarray) else (index(shape),)
    except TypeError as error:
        raise DtypeError(f"{op}: expected an int or a sequence of ints as shape, got {short(shape)}. "
                         "Pass lengths of axes.") from error
    if any(n < 0 for n in lengths):
        raise ShapeError(f"{op}: expected lengths of at least 0, got shape {lengths}. Check the shape.")
    return lengths


def as_int(op: str, name: str, value: Any) -> int:
    try:
        return index(value)
    except TypeError as error:
        raise DtypeError(f"{op}: expected an int as {name}, got {short(value)}. Pass an int.") from error


def as_dtype(op: str, dtype: Any) -> numpy.dtype:
    """A numeric dtype by any of NumPy's names."""
    try:
        found = numpy.dtype(dtype)
    except TypeError as error:
        raise DtypeError(f"{op}: expected a dtype, got {short(dtype)}. Use numpy.float32 or 'float32'.") from error
    if found.kind not in "biufc":
        raise DtypeError(f"{op}: expected a numeric dtype, got {found}. Use a bool, int, float or complex dtype.")
    return found


def to_dtype(op: str, x: Tensor, dtype: Any) -> Tensor:
    """x as another dtype: differentiable between floats and complex, a constant as integers or bools."""
    if dtype is None or x.dtype == (dtype := as_dtype(op, dtype)):
        return x
    return T.astype(x, dtype=dtype) if dtype.kind in "fc" else T.discretise(x, dtype=dtype)


def as_inexact(x: Tensor) -> Tensor:
    """Integers and bools as float64, as NumPy's means and quotients have them."""
    return x if x.dtype.kind in "fc" else T.astype(x, dtype=numpy.dtype(float))


def write_out(op: str, out: Any, result: Tensor) -> Tensor:
    """The result; assigned to `out` first, where one is given. The graph stays whole."""
    if out is None:
        return result
    if isinstance(out, tuple) and len(out) == 1:
        out = out[0]
    if not isinstance(out, Tensor):
        raise ConversionError(f"{op}: expected a Tensor as out, got {short(out)}, which would drop the graph. "
                              "Start from gpugrad.empty(shape).")
    from gpugrad.methods import assign  # a floor above: it adds the methods that call this function
    return assign(op, out, result)


def pick(x: Tensor, places: Any, axis: int) -> Tensor:
    """x at places along one axis, given as an array on the host or a Tensor. Places may be there more than once."""
    item: list = [slice(None)] * x.ndim
    item[axis] = ARRAY
    at = places if isinstance(places, Tensor) else new_array(places, device=device_beside(x))
    return T.gather(x, at, index=tuple(item))
