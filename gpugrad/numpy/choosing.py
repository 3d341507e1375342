"""Functions that choose between values, or replace some: where, select, piecewise, clip, interp; and the parts of complex
numbers, which choose a part.
"""
from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy

from gpugrad.errors import ArgumentError, DtypeError, ShapeError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor, bare
from gpugrad.numpy._arguments import as_inexact, as_tensor, as_tensors, one_axis, to_dtype
from gpugrad.numpy._ufunc import NUMBERS, OPERANDS, call, operands
from gpugrad.numpy.index import getitem, setitem

__all__ = ["allclose", "angle", "array_equal", "array_equiv", "clip", "imag", "interp", "iscomplexobj", "isclose", "isrealobj",
           "nan_to_num", "piecewise", "real", "real_if_close", "select", "unwrap", "where"]


# by a condition --------------------------------------------------------------------------------------------------------

def where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    """x where the condition holds, y elsewhere, broadcast against each other. With the condition alone, nonzero(condition).

    The cotangent goes where the value came from; infinity and NaN on the other branch do not reach it.
    """
    if type(condition) is Tensor and condition.dtype.kind == "b" and type(x) in OPERANDS and type(y) in OPERANDS:
        return T.where(condition, x, y)
    if (x is None) != (y is None):
        raise ArgumentError("where: expected both x and y or neither, got one. Give both.")
    if x is None:
        from gpugrad.numpy.ordering import nonzero
        return nonzero(condition)
    beside = next((v for v in (x, y) if isinstance(v, Tensor)), None)
    c = as_mask(as_tensor("where", condition, beside))
    return T.where(c, *[v if type(v) in NUMBERS else as_tensor("where", v, c if beside is None else beside) for v in (x, y)])


def as_mask(c: Tensor) -> Tensor:
    return c if c.dtype.kind == "b" else T.not_equal(c, 0)


def select(condlist: Sequence, choicelist: Sequence, default: Any = 0) -> Tensor:
    """For each element the first choice whose condition holds, else the default. See `where`."""
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ArgumentError(f"select: expected as many choices as conditions, at least one, got {len(choicelist)} and "
                            f"{len(condlist)}. Give one choice for each condition.")
    conditions = as_tensors("select", *condlist)
    for c in conditions:
        if c.dtype.kind != "b":
            raise DtypeError(f"select: expected conditions of bools, got dtype {c.dtype}. Compare with != 0.")
    choices = operands("select", (*conditions, *choicelist, default))[len(conditions):]
    dtype = numpy.result_type(*[x if type(x) in NUMBERS else x.dtype for x in choices])
    y = to_dtype("select", as_tensor("select", choices.pop(), conditions[0]), dtype)
    for c, choice in zip(reversed(conditions), reversed(choices), strict=True):
        y = T.where(c, choice, y)
    return y


def piecewise(x: Any, condlist: Any, funclist: Sequence, *args: Any, **kwargs: Any) -> Tensor:
    """For each condition the function (or number) of that place, computed only on the elements where it holds.

    condlist  bool arrays of the shape of x; the last that holds decides
    funclist  one for each condition, and perhaps one more for the elements where none holds; else these are 0
    args      further arguments of the functions

    The result has the dtype of x. Raises ArgumentError where the lengths do not fit.
    """
    x = as_tensor("piecewise", x)
    if not isinstance(condlist, list | tuple) or (len(condlist) and not hasattr(condlist[0], "__len__") and x.ndim):
        condlist = [condlist]
    conditions = [as_mask(c) for c in as_tensors("piecewise", *condlist)]
    if len(funclist) not in (len(conditions), len(conditions) + 1):
        raise ArgumentError(f"piecewise: expected {len(conditions)} or {len(conditions) + 1} functions for {len(conditions)} "
                            f"conditions, got {len(funclist)}. Give one for each, and perhaps one for the rest.")
    if len(funclist) > len(conditions):
        covered = conditions[0]
        for c in conditions[1:]:
            covered = T.logical_or(covered, c)
        conditions.append(T.logical_not(covered))
    y = T.zeros_as(x, shape=x.shape)
    for c, f in zip(conditions, funclist, strict=True):
        if c.shape != x.shape:
            raise ShapeError(f"piecewise: expected conditions of shape {x.shape}, got {c.shape}. Compare x itself.")
        value = f(getitem(x, c), *args, **kwargs) if callable(f) else f
        y = setitem(y, c, to_dtype("piecewise", as_tensor("piecewise", value, x), x.dtype))
    return y


# by size ---------------------------------------------------------------------------------------------------------------

def clip(a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None,
         where: Any = True, dtype: Any = None, **options: Any) -> Tensor:
    """a between a_min and a_max (also called min and max); either may be None.

    The slope is that of the inside at both bounds; the bounds have slope 1 where they are the result.
    """
    if (a_min is not None and min is not None) or (a_max is not None and max is not None):
        raise ArgumentError("clip: expected each bound once, got a_min and min, or a_max and max. Give one name.")
    low, high = a_min if min is None else min, a_max if max is None else max
    if (type(a) is Tensor and out is None and where is True and dtype is None and not options and not low is high is None
            and (low is None or type(low) in OPERANDS) and (high is None or type(high) in OPERANDS)):
        return T.clip(a, low, high)
    given = [bound for bound in (low, high) if bound is not None]

    def op(x: Tensor, *bounds: Any) -> Tensor:
        rest = list(bounds)
        return T.clip(x, None if low is None else rest.pop(0), None if high is None else rest.pop(0)) if bounds else T.positive(x)
    return call("clip", op, (as_tensor("clip", a, next((b for b in given if isinstance(b, Tensor)), None)), *given),
                out, where, dtype, options)


def nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """x with numbers in place of NaN and the infinities, by default 0 and the largest of the dtype; slope 0 there.

    copy is accepted for NumPy's sake: the result is always a new Tensor. Complex numbers are treated part by part.
    """
    x = as_tensor("nan_to_num", x)
    if x.dtype.kind == "c":
        parts = [T.nan_to_num(part, nan=nan, posinf=posinf, neginf=neginf) for part in (T.real(x), T.imag(x))]
        return T.add(parts[0], T.multiply(parts[1], 1j))
    return T.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


# between knots ---------------------------------------------------------------------------------------------------------

def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: float | None = None) -> Tensor:
    """Straight lines through the points (xp, fp), at x. Differentiable in x, xp and fp; at a knot the slope is the right one.

    x       any shape
    xp, fp  (n,), n >= 1, xp increasing; fp may be complex
    left    the value for x < xp[0], by default fp[0];  right  for x > xp[-1], by default fp[-1]
    period  x and xp are taken modulo this, and xp may come in any order

    Raises ShapeError for shapes that do not fit, ArgumentError for period 0.
    """
    x, xp, fp = map(as_inexact, as_tensors("interp", x, xp, fp))
    if xp.ndim != 1 or fp.shape != xp.shape or not xp.size:
        raise ShapeError(f"interp: expected xp and fp of one shape (n,) with n >= 1, got {xp.shape} and {fp.shape}. "
                         "Call it once for each row.")
    if period is not None:
        x, xp, fp = wrapped(x, xp, fp, period)
        left = right = None
    if xp.size == 1:
        y = T.spread(fp, shape=x.shape) if x.ndim else T.reshape(fp, shape=())
    else:
        i = T.clip(T.subtract(T.searchsorted(xp, x, side="right"), 1), 0, xp.size - 2)
        after = T.add(i, 1)
        x0, x1, y0, y1 = getitem(xp, i), getitem(xp, after), getitem(fp, i), getitem(fp, after)
        y = y0 + (y1 - y0) / (x1 - x0) * (x - x0)
    y = T.where(x < xp[0], fp[0] if left is None else left, y)
    y = T.where(x >= xp[-1], fp[-1], y)
    return y if right is None else T.where(x > xp[-1], right, y)


def wrapped(x: Any, xp: Any, fp: Any, period: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same within one period, sorted, with one knot more at either end."""
    if period == 0:
        raise ArgumentError("interp: expected a period other than 0, got 0. Leave it out for data that does not repeat.")
    period = builtins.abs(period)
    x, xp = x % period, xp % period
    order = bare("interp", xp).argsort()
    xp, fp = getitem(xp, order), getitem(fp, order)
    return (x, T.concatenate(xp[-1:] - period, xp, xp[:1] + period, axis=0),
            T.concatenate(fp[-1:], fp, fp[:1], axis=0))


def unwrap(p: Any, discont: float | None = None, axis: int = -1, *, period: float = 2 * math.pi) -> Tensor:
    """p plus whole periods along an axis, so that neighbours differ by at most half a period; slope 1."""
    p = as_tensor("unwrap", p)
    return T.unwrap(p, axis=one_axis("unwrap", axis, p.ndim), discont=discont, period=period)


# parts of complex numbers ----------------------------------------------------------------------------------------------

def real(val: Any) -> Tensor:
    """The real part; of a real array the array itself."""
    x = as_tensor("real", val)
    return T.real(x) if x.dtype.kind == "c" else x


def imag(val: Any) -> Tensor:
    """The imaginary part; of a real array zeros."""
    return T.imag(as_tensor("imag", val))


def angle(z: Any, deg: bool = False) -> Tensor:
    """The argument of z in radians, or in degrees; slope 0 at 0."""
    z = as_tensor("angle", z)
    y = T.arctan2(T.imag(z), T.real(z))
    return T.rad2deg(y) if deg else y


def real_if_close(a: Any, tol: float = 100) -> Tensor:
    """The real part of a complex array whose imaginary parts are all below tol times the machine epsilon (or below tol, if
    tol <= 1); otherwise the array itself. Looks at the values, so it waits for a GPU.
    """
    x = as_tensor("real_if_close", a)
    if x.dtype.kind != "c":
        return x
    if tol > 1:
        tol = tol * float(numpy.finfo(x.dtype).eps)
    return T.real(x) if (builtins.abs(bare("real_if_close", x).imag) < tol).all() else x


def iscomplexobj(x: Any) -> bool:
    """True for a complex dtype."""
    return as_tensor("iscomplexobj", x).dtype.kind == "c"


def isrealobj(x: Any) -> bool:
    """False for a complex dtype."""
    return not iscomplexobj(x)


# equality --------------------------------------------------------------------------------------------------------------

def isclose(a: Any, b: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Tensor:
    """|a - b| <= atol + rtol * |b| by element, as bools; NaN equals NaN where equal_nan."""
    return T.isclose(*operands("isclose", (a, b)), rtol=rtol, atol=atol, equal_nan=equal_nan)


def allclose(a: Any, b: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all elements are close; see `isclose`. Waits for the device."""
    return bool(bare("allclose", isclose(a, b, rtol, atol, equal_nan)).all())


def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> bool:
    """Whether shapes and all elements are equal. Waits for the device."""
    a, b = as_tensors("array_equal", a1, a2)
    return a.shape == b.shape and equal_elements(a, b, equal_nan)


def array_equiv(a1: Any, a2: Any) -> bool:
    """Whether shapes broadcast and all elements are equal. Waits for the device."""
    a, b = as_tensors("array_equiv", a1, a2)
    try:
        numpy.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return False
    return equal_elements(a, b, False)


def equal_elements(a: Tensor, b: Tensor, equal_nan: bool) -> bool:
    same = T.equal(a, b)
    if equal_nan:
        same = T.logical_or(same, T.logical_and(T.not_equal(a, a), T.not_equal(b, b)))
    return bool(bare("array_equal", same).all())
