"""Running sums and products, differences and their inverses, by NumPy's names."""
from __future__ import annotations

from typing import Any

from gpugrad.arrays import short
from gpugrad.errors import ArgumentError, DtypeError, ShapeError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.numpy._arguments import (
    as_inexact,
    as_int,
    as_tensor,
    as_tensors,
    normalize_axis,
    one_axis,
    to_dtype,
    write_out,
)

__all__ = ["cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "diff", "ediff1d", "gradient", "logcumsumexp", "trapezoid"]


def cumsum(a: Any, axis: int | None = None, dtype: Any = None, out: Tensor | None = None) -> Tensor:
    """Sums of the elements up to each one, along an axis; None flattens first."""
    return write_out("cumsum", out, scan("cumsum", a, axis, dtype))


def cumprod(a: Any, axis: int | None = None, dtype: Any = None, out: Tensor | None = None) -> Tensor:
    """Products of the elements up to each one; derivatives of all orders are exact where some are zero."""
    return write_out("cumprod", out, scan("cumprod", a, axis, dtype))


def logcumsumexp(a: Any, axis: int | None = None) -> Tensor:
    """log(sum(exp(a))) of the elements up to each one, along an axis, without overflow; None flattens first. Real elements."""
    x = as_inexact(as_tensor("logcumsumexp", a))
    if x.dtype.kind == "c":
        raise DtypeError(f"logcumsumexp: expected real elements, got {x.dtype}. Use log(cumsum(exp(a))).")
    return scan("logcumsumexp", x, axis, None)


def scan(op: str, a: Any, axis: int | None, dtype: Any) -> Tensor:
    x = to_dtype(op, as_tensor(op, a), dtype)
    if axis is None:
        x, axis = T.reshape(x, shape=(x.size,)), 0
    return to_dtype(op, getattr(T, op)(x, axis=one_axis(op, axis, x.ndim)), dtype)


def cumulative_sum(x: Any, /, *, axis: int | None = None, dtype: Any = None, out: Tensor | None = None,
                   include_initial: bool = False) -> Tensor:
    """`cumsum`, from a first 0 on with include_initial. Without axis, x must have one."""
    return write_out("cumulative_sum", out, cumulative("cumulative_sum", "cumsum", x, axis, dtype, include_initial, 0))


def cumulative_prod(x: Any, /, *, axis: int | None = None, dtype: Any = None, out: Tensor | None = None,
                    include_initial: bool = False) -> Tensor:
    """`cumprod`, from a first 1 on with include_initial. Without axis, x must have one."""
    return write_out("cumulative_prod", out, cumulative("cumulative_prod", "cumprod", x, axis, dtype, include_initial, 1))


def cumulative(op: str, primitive: str, x: Any, axis: int | None, dtype: Any, include_initial: bool, first: int) -> Tensor:
    x = as_tensor(op, x)
    if axis is None and x.ndim != 1:
        raise ArgumentError(f"{op}: expected axis= for an array of {x.ndim} axes, got None. Name the axis.")
    axis = one_axis(op, 0 if axis is None else axis, x.ndim)
    y = scan(primitive, x, axis, dtype)
    if include_initial:
        width = [(0, 0)] * x.ndim
        width[axis] = (1, 0)
        y = T.pad(y, pad_width=tuple(width), value=first)
    return y


def part(x: Tensor, axis: int, start: int | None, stop: int | None) -> Tensor:
    return T.getitem(x, index=(slice(None),) * axis + (slice(start, stop),))


def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    """a[i+1] - a[i] along an axis, n times over; of bools, whether they differ.

    prepend, append  values put before and after `a` first: numbers, or arrays of a's shape but for that axis
    """
    x = as_tensor("diff", a)
    if not x.ndim:
        raise ShapeError("diff: expected at least one axis, got shape (). Pass an array.")
    axis, n = one_axis("diff", axis, x.ndim), as_int("diff", "n", n)
    if n < 0:
        raise ArgumentError(f"diff: expected n of at least 0, got {n}. Use cumsum for the inverse.")
    ends = []
    for end in (prepend, append):
        if end is not None:
            end = as_tensor("diff", end, x)
            ends.append(end if end.ndim else T.spread(end, shape=(*x.shape[:axis], 1, *x.shape[axis + 1:])))
        else:
            ends.append(None)
    parts = [e for e in (ends[0], x, ends[1]) if e is not None]
    if n and len(parts) > 1:
        x = T.concatenate(*parts, axis=axis)
    for _ in range(n):
        later, earlier = part(x, axis, 1, None), part(x, axis, None, -1)
        x = T.not_equal(later, earlier) if x.dtype.kind == "b" else later - earlier
    return x


def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Tensor:
    """The differences of neighbours in the flattened array, with given values before and after them."""
    x = as_tensor("ediff1d", ary)
    x = T.reshape(x, shape=(x.size,))
    y = part(x, 0, 1, None) - part(x, 0, None, -1)
    ends = [None if e is None else to_dtype("ediff1d", as_tensor("ediff1d", e, x), x.dtype) for e in (to_begin, to_end)]
    flat = [None if e is None else T.reshape(e, shape=(e.size,)) for e in ends]
    parts = [e for e in (flat[0], y, flat[1]) if e is not None]
    return T.concatenate(*parts, axis=0) if len(parts) > 1 else y


# derivative and integral of samples ------------------------------------------------------------------------------------

def gradient(f: Any, *varargs: Any, axis: int | tuple[int, ...] | None = None, edge_order: int = 1) -> Any:
    """The derivative of samples along each axis: central differences of second order inside, one-sided at the ends.

    varargs     nothing for distance 1; one distance for all axes; or for each axis a distance or the samples' coordinates
    edge_order  1 or 2: the order of the differences at the ends
    return      one Tensor for one axis, else a tuple

    Differentiable in the samples and in the distances. Raises ShapeError for an axis with fewer than edge_order + 1 samples.
    """
    x = as_inexact(as_tensor("gradient", f))
    axes = normalize_axis("gradient", axis, x.ndim)
    if len(varargs) not in (0, 1, len(axes)):
        raise ArgumentError(f"gradient: expected no distance, one, or {len(axes)}, got {len(varargs)}. Pass one for each axis.")
    if edge_order not in (1, 2):
        raise ArgumentError(f"gradient: expected edge_order 1 or 2, got {edge_order!r}. Choose one of them.")
    spacings = varargs * len(axes) if len(varargs) == 1 else varargs or (1,) * len(axes)
    if len(varargs) == 1 and len(axes) > 1 and as_tensor("gradient", varargs[0]).ndim:
        raise ArgumentError(f"gradient: expected coordinates for each of {len(axes)} axes, got one array. Pass all.")
    slopes = [slope(x, a, h, edge_order) for a, h in zip(axes, spacings, strict=True)]
    return slopes[0] if len(slopes) == 1 else tuple(slopes)


def slope(x: Tensor, axis: int, spacing: Any, edge_order: int) -> Tensor:
    n = x.shape[axis]
    if n < edge_order + 1:
        raise ShapeError(f"gradient: expected at least {edge_order + 1} samples along axis {axis}, got shape {x.shape}. "
                         "Use a lower edge_order, or more samples.")
    h = spacing if isinstance(spacing, int | float) else as_tensor("gradient", spacing, x)
    if isinstance(h, Tensor) and h.ndim:
        if h.shape != (n,):
            raise ShapeError(f"gradient: expected {n} coordinates along axis {axis}, got shape {h.shape}. "
                             "Pass one for each sample.")
        shape = tuple([n - 1 if i == axis else 1 for i in range(x.ndim)])
        h = T.reshape(part(h, 0, 1, None) - part(h, 0, None, -1), shape=shape)
    first, last = end_slope(x, axis, h, edge_order, 1), end_slope(x, axis, h, edge_order, -1)
    if n == 2:
        return T.concatenate(first, last, axis=axis)
    before, here, after = part(x, axis, None, -2), part(x, axis, 1, -1), part(x, axis, 2, None)
    if isinstance(h, Tensor) and h.ndim:
        left, right = part(h, axis, None, -1), part(h, axis, 1, None)
        inner = (left / right * (after - here) + right / left * (here - before)) / (left + right)
    else:
        inner = (after - before) / (2 * h)
    return T.concatenate(first, inner, last, axis=axis)


def end_slope(x: Tensor, axis: int, h: Any, edge_order: int, way: int) -> Tensor:
    """The slope at the first sample (way 1) or the last (way -1), seen from there."""
    def sample(y: Tensor, i: int) -> Tensor:
        return part(y, axis, i, i + 1) if way == 1 else part(y, axis, y.shape[axis] - 1 - i, y.shape[axis] - i)
    spaced = isinstance(h, Tensor) and h.ndim
    near = sample(h, 0) if spaced else h
    rise = (sample(x, 1) - sample(x, 0)) * way
    if edge_order == 1:
        return rise / near
    far = sample(h, 1) if spaced else h
    second = (sample(x, 2) - sample(x, 1)) * way
    return ((2 * near + far) / near * rise - near / far * second) / (near + far)


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Tensor:
    """The integral of samples by the trapezoidal rule, along an axis.

    x   the samples' coordinates: one axis, or y's shape; without them the distance is dx
    """
    y, *given = as_tensors("trapezoid", y, dx if x is None else x)
    axis = one_axis("trapezoid", axis, y.ndim)
    width: Any = dx
    if x is not None:
        at = given[0]
        if at.ndim == 1:
            at = T.reshape(at, shape=tuple([at.size if i == axis else 1 for i in range(y.ndim)]))
        if at.ndim != y.ndim or at.shape[axis] != y.shape[axis]:
            raise ShapeError(f"trapezoid: expected coordinates for samples of shape {y.shape}, got {short(given[0].shape)}. "
                             "Pass one axis, or y's shape.")
        width = part(at, axis, 1, None) - part(at, axis, None, -1)
    elif given[0].ndim:
        raise ShapeError(f"trapezoid: expected a number as dx, got shape {given[0].shape}. Pass coordinates as x=.")
    heights = part(y, axis, 1, None) + part(y, axis, None, -1)
    return T.sum(width * heights / 2, axis=(axis,), keepdims=False)
