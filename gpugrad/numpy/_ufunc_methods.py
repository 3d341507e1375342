"""What NumPy's ufuncs can do beside being called: reduce, accumulate, reduceat, outer and at, of any function of two arrays."""
from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy

from gpugrad.errors import ArgumentError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor, bare
from gpugrad.numpy import reduce as reductions
from gpugrad.numpy import scan, without_nan
from gpugrad.numpy._arguments import as_tensor, as_tensors, normalize_axis, one_axis, to_dtype, write_out
from gpugrad.numpy.reduce import any_empty
from gpugrad.numpy.selection import integers

#: Reductions and scans that are functions of their own.
REDUCE: dict[str, Callable] = {
    "add": reductions.sum, "multiply": reductions.prod, "maximum": reductions.max, "minimum": reductions.min,
    "logical_and": reductions.all, "logical_or": reductions.any, "logaddexp": reductions.logsumexp,
    "fmax": without_nan.nanmax, "fmin": without_nan.nanmin}
ACCUMULATE: dict[str, Callable] = {"add": scan.cumsum, "multiply": scan.cumprod, "logaddexp": scan.logcumsumexp}
#: f(f(a, b), c) = f(a, f(b, c)): halves can be combined, in log2(n) steps. The others go from left to right.
ASSOCIATIVE = frozenset({"maximum", "minimum", "fmax", "fmin", "logaddexp", "logaddexp2", "hypot", "logical_and", "logical_or",
                         "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "gcd", "lcm"})


def reduce(ufunc: Any, f: Callable, a: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False,
           initial: Any = None, where: Any = True) -> Tensor:
    """f(... f(f(initial, a[0]), a[1]) ..., a[-1]) along the axes; where the mask is False an element is left out."""
    op = f"{ufunc.__name__}.reduce"
    x = operand(op, ufunc, a, dtype)
    axes = normalize_axis(op, axis, x.ndim)
    known, adds = REDUCE.get(ufunc.__name__), ufunc.__name__ in ("add", "multiply")
    if known and where is True and initial is None and axes and (adds or not any_empty(x, axes)):
        return write_out(op, out, known(x, axes, keepdims=keepdims, **({"dtype": dtype} if adds else {})))
    if len(axes) > 1 and ufunc.__name__ not in ASSOCIATIVE:
        raise ArgumentError(f"{op}: expected one axis, since the order counts, got {axes}. Reduce one after the other.")
    if initial is None:
        initial = ufunc.identity
        if initial is None and (where is not True or any_empty(x, axes)):
            raise ArgumentError(f"{op}: expected initial= beside where= or for no elements, got none. It is the result of none.")
    if adds and x.dtype.kind in "biu" and dtype is None:
        x = to_dtype(op, x, numpy.result_type(x.dtype, numpy.uint if x.dtype.kind == "u" else numpy.int_))
    if initial is not None:
        initial = to_dtype(op, as_tensor(op, initial, x), x.dtype)
    mask = None
    if where is not True:
        mask = T.spread(to_dtype(op, as_tensor(op, where, x), bool), shape=x.shape)
        if ufunc.__name__ in ASSOCIATIVE:
            neutral = initial if ufunc.identity is None else to_dtype(op, as_tensor(op, ufunc.identity, x), x.dtype)
            x, mask = T.where(mask, x, neutral), None
        else:
            mask = in_front(mask, axes)
    y = folded(ufunc, f, in_front(x, axes), initial, mask)
    return write_out(op, out, T.expand_dims(y, axis=tuple(sorted(axes))) if keepdims else y)


def operand(op: str, ufunc: Any, a: Any, dtype: Any) -> Tensor:
    return to_dtype(op, as_tensor(op, a), bool if ufunc.__name__.startswith("logical") else dtype)


def in_front(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The axes to reduce as one, the first."""
    rest = tuple([i for i in range(x.ndim) if i not in axes])
    n = math.prod([x.shape[i] for i in axes])
    return T.reshape(T.transpose(x, axes=axes + rest), shape=(n, *[x.shape[i] for i in rest]))


def folded(ufunc: Any, f: Callable, rows: Tensor, initial: Any, mask: Tensor | None) -> Tensor:
    n = rows.shape[0]
    if not n:
        return T.spread(initial, shape=rows.shape[1:])
    if ufunc.__name__ in ASSOCIATIVE:
        while rows.shape[0] > 1:
            half = rows.shape[0] // 2
            y = f(part(rows, slice(0, half)), part(rows, slice(half, 2 * half)))
            rows = T.concatenate(y, part(rows, slice(2 * half, None)), axis=0) if rows.shape[0] % 2 else y
        return part(rows, 0) if initial is None else f(initial, part(rows, 0))
    y = part(rows, 0) if initial is None else initial
    for i in range(initial is None, n):
        after = f(y, part(rows, i))
        y = after if mask is None else T.where(part(mask, i), after, y)
    return y


def part(x: Tensor, item: Any) -> Tensor:
    return T.getitem(x, index=(item,))


def accumulate(ufunc: Any, f: Callable, a: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Tensor:
    """What `reduce` gives for the elements up to each one, along an axis."""
    op = f"{ufunc.__name__}.accumulate"
    x = operand(op, ufunc, a, dtype)
    axis = one_axis(op, axis, x.ndim)
    if ufunc.__name__ in ACCUMULATE:
        more = {} if dtype is None or ufunc.__name__ == "logaddexp" else {"dtype": dtype}
        return write_out(op, out, ACCUMULATE[ufunc.__name__](x, axis, **more))
    n = x.shape[axis]

    def along(y: Tensor, item: Any) -> Tensor:
        return T.getitem(y, index=(slice(None),) * axis + (item,))
    if ufunc.__name__ in ASSOCIATIVE:
        step = 1
        while step < n:                                   # each element knows `step` of those up to it
            x = T.concatenate(along(x, slice(0, step)), f(along(x, slice(0, n - step)), along(x, slice(step, n))), axis=axis)
            step *= 2
        return write_out(op, out, x)
    rows = [along(x, 0)] if n else []
    for i in range(1, n):
        rows.append(f(rows[-1], along(x, i)))
    return write_out(op, out, T.stack(*[to_dtype(op, row, rows[-1].dtype) for row in rows], axis=axis) if n else x)


def reduceat(ufunc: Any, f: Callable, a: Any, indices: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Tensor:
    """The reduction from each index up to the next; where that is not behind it, the element at the index."""
    op = f"{ufunc.__name__}.reduceat"
    x = operand(op, ufunc, a, dtype)
    axis = one_axis(op, axis, x.ndim)
    places = integers(op, indices, x)
    found = bare(op, places).tolist()
    if places.ndim != 1 or not all(0 <= i < x.shape[axis] for i in found):
        raise ArgumentError(f"{op}: expected a vector of indices from 0 to {x.shape[axis] - 1}, got {found}. Check them.")
    front = (slice(None),) * axis
    runs = [T.getitem(x, index=(*front, slice(i, max(i + 1, j)))) for i, j in pairwise([*found, x.shape[axis]])]
    known = REDUCE.get(ufunc.__name__)
    pieces = [known(r, axis) if known else folded(ufunc, f, in_front(r, (axis,)), None, None) for r in runs]
    return write_out(op, out, T.stack(*pieces, axis=axis) if pieces else T.getitem(x, index=(*front, slice(0, 0))))


def outer(ufunc: Any, f: Callable, a: Any, b: Any, **kwargs: Any) -> Any:
    """f(a[i], b[j]) for all i and j."""
    a, b = as_tensors(f"{ufunc.__name__}.outer", a, b)
    return f(T.reshape(a, shape=a.shape + (1,) * b.ndim), b, **kwargs)
