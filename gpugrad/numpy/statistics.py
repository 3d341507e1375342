"""Order statistics and covariances, by NumPy's names. A quantile is made of two elements, and its gradient goes to them."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.arrays import new_array, short
from gpugrad.arrays.levelled import ARRAY
from gpugrad.errors import ArgumentError, ShapeError
from gpugrad.graph.layers import Layered
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.numpy._arguments import as_inexact, as_tensor, counted_beside, device_beside, normalize_axis, to_dtype, write_out
from gpugrad.numpy.reduce import Axis, average, mean
from gpugrad.numpy.shaping import one_of

__all__ = ["corrcoef", "cov", "median", "nanmedian", "nanpercentile", "nanquantile", "percentile", "quantile"]


def median(a: Any, axis: Axis = None, out: Tensor | None = None, overwrite_input: bool = False, keepdims: bool = False) -> Tensor:
    """The middle element, or the mean of the two in the middle. A NaN in a slice makes its median NaN; of no elements it is NaN.

    Complex numbers are ordered by their real parts, equal ones by their imaginary parts.
    """
    return write_out("median", out, quantiles("median", a, 0.5, axis, "linear", keepdims, skip_nan=False))


def nanmedian(a: Any, axis: Axis = None, out: Tensor | None = None, overwrite_input: bool = False,
              keepdims: bool = False) -> Tensor:
    """The median of the elements that are numbers."""
    return write_out("nanmedian", out, quantiles("nanmedian", a, 0.5, axis, "linear", keepdims, skip_nan=True))


def quantile(a: Any, q: Any, axis: Axis = None, out: Tensor | None = None, overwrite_input: bool = False, method: str = "linear",
             keepdims: bool = False) -> Tensor:
    """The value below which a fraction q of the elements lies, q from 0 to 1. The axes of q come first in the result.

    method   how to choose between two elements, by NumPy's thirteen names; those that choose one keep integers what they are

    Differentiable in a, and in q where a method goes from one element to the next; such a q is not looked at on a GPU, where
    that would wait: outside 0 to 1 it gives the outermost element. A NaN in a slice makes its quantiles NaN.
    """
    return write_out("quantile", out, quantiles("quantile", a, q, axis, method, keepdims, skip_nan=False))


def percentile(a: Any, q: Any, axis: Axis = None, out: Tensor | None = None, overwrite_input: bool = False,
               method: str = "linear", keepdims: bool = False) -> Tensor:
    """`quantile` at q / 100."""
    return write_out("percentile", out, quantiles("percentile", a, q, axis, method, keepdims, skip_nan=False))


def nanquantile(a: Any, q: Any, axis: Axis = None, out: Tensor | None = None, overwrite_input: bool = False,
                method: str = "linear", keepdims: bool = False) -> Tensor:
    """`quantile` of the elements that are numbers."""
    return write_out("nanquantile", out, quantiles("nanquantile", a, q, axis, method, keepdims, skip_nan=True))


def nanpercentile(a: Any, q: Any, axis: Axis = None, out: Tensor | None = None, overwrite_input: bool = False,
                  method: str = "linear", keepdims: bool = False) -> Tensor:
    """`percentile` of the elements that are numbers."""
    return write_out("nanpercentile", out, quantiles("nanpercentile", a, q, axis, method, keepdims, skip_nan=True))


# how many elements lie before the quantile, and the weight of the next ----------------------------------------------------

def between(alpha: float, beta: float) -> Callable:
    """The continuous methods of Hyndman & Fan, The American Statistician 50 (1996) 361."""
    return lambda n, q: (n * q + (alpha + q * (1 - alpha - beta)) - 1, None)


def nearest_observation(n: Any, q: Any) -> tuple:
    place = n * q - 1.5
    before = T.floor(place)
    stays = T.logical_and(T.equal(place, before), T.equal(before % 2, 1))
    return T.where(stays, before, before + 1), None


def middle(n: Any, q: Any) -> tuple:
    place = (n - 1) * q
    return place, T.where(T.equal(place, T.floor(place)), 0.0, 0.5)


METHODS: dict[str, Callable] = {
    "inverted_cdf": lambda n, q: (T.ceil(n * q - 1), None),
    "averaged_inverted_cdf": lambda n, q: (n * q - 1, T.where(T.equal(n * q - 1, T.floor(n * q - 1)), 0.5, 1.0)),
    "closest_observation": nearest_observation,
    "interpolated_inverted_cdf": between(0, 1),
    "hazen": between(0.5, 0.5),
    "weibull": between(0, 0),
    "linear": lambda n, q: ((n - 1) * q, None),
    "median_unbiased": between(1 / 3, 1 / 3),
    "normal_unbiased": between(3 / 8, 3 / 8),
    "lower": lambda n, q: (T.floor((n - 1) * q), None),
    "higher": lambda n, q: (T.ceil((n - 1) * q), None),
    "midpoint": middle,
    "nearest": lambda n, q: (T.rint((n - 1) * q), None),
}
#: The methods that take one element as it is.
DISCRETE = ("inverted_cdf", "closest_observation", "lower", "higher", "nearest")


def quantiles(op: str, a: Any, q: Any, axis: Axis, method: str, keepdims: bool, skip_nan: bool) -> Tensor:
    x = as_tensor(op, a)
    one_of(op, "method", method, tuple(METHODS))
    if method not in DISCRETE:
        x = as_inexact(x)
    if x.dtype.kind == "c" and "median" not in op:
        raise ArgumentError(f"{op}: expected real elements, got {x.dtype}. Take the real part or abs.")
    moving = isinstance(q, Layered) or (isinstance(q, Tensor) and q.requires_grad)
    fractions: Any = to_dtype(op, q.to(x.device), numpy.dtype(float)) if moving else numpy.asarray(q, dtype=float)
    fractions = fractions / (100 if "percent" in op else 1)
    known: Any = fractions._data if moving else fractions
    on_host: bool = isinstance(known, numpy.ndarray | numpy.generic)
    if on_host and not ((known >= 0) & (known <= 1)).all():
        raise ArgumentError(f"{op}: expected q from 0 to {100 if 'percent' in op else 1}, got {short(q)}. Check its scale.")
    axes = normalize_axis(op, axis, x.ndim)
    rest = tuple([i for i in range(x.ndim) if i not in axes])
    lengths = tuple([x.shape[i] for i in rest])
    n = math.prod([x.shape[i] for i in axes])
    if not n and "median" in op:
        return mean(x, axis, keepdims=keepdims)
    if not n:
        raise ShapeError(f"{op}: expected at least one element along each axis, got shape {x.shape}. Check the array.")
    rows = T.sort(T.reshape(T.transpose(x, axes=rest + axes), shape=(math.prod(lengths), n)), axis=1)      # NaN goes last
    if not moving:
        fractions = Tensor(new_array(fractions, device=device_beside(x)))
    y = in_rows(rows, T.reshape(fractions, shape=(fractions.size,)), method, skip_nan)
    kept = tuple([1 if i in axes else m for i, m in enumerate(x.shape)]) if keepdims else lengths
    return T.reshape(T.swapaxes(y, axis1=0, axis2=1), shape=fractions.shape + kept)


def in_rows(rows: Tensor, fractions: Tensor, method: str, skip_nan: bool) -> Tensor:
    """The quantiles of each sorted row, as columns."""
    count, n = rows.shape
    numbers = T.equal(rows, rows)
    present: Any = T.sum(numbers, axis=(1,), keepdims=True) if skip_nan else n
    place, weight = METHODS[method](present, T.expand_dims(fractions, axis=(0,)))
    last = T.maximum(present - 1, 0) if skip_nan else n - 1
    number = T.expand_dims(counted_beside(count, rows), axis=(1,))

    def element(i: Tensor) -> Tensor:
        i = T.discretise(T.minimum(T.maximum(i, 0), last), dtype=numpy.dtype(int))
        return T.gather(rows, number, i, index=(ARRAY, ARRAY))
    if method in DISCRETE:
        y = element(place)
    else:
        before = T.floor(place)
        low, high = element(before), element(before + 1)
        weight = to_dtype("quantile", place - before if weight is None else weight, rows.dtype)
        stays = T.logical_and(T.equal(weight, 0), T.isinf(high))                                          # inf * 0 is no number
        stays = T.logical_or(stays, T.logical_and(T.isinf(low), T.not_equal(low, -high)))                 # nor is inf - inf
        y = low + (T.where(stays, 0, high) - T.where(stays, 0, low)) * weight
        y = T.where(T.equal(weight, 1), high, y)
    if skip_nan or rows.dtype.kind not in "fc":
        return y
    whole = T.getitem(numbers, index=(slice(None), slice(n - 1, n)))
    return T.where(whole, y, float("nan"))


# covariances -----------------------------------------------------------------------------------------------------------

def cov(m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None, fweights: Any = None,
        aweights: Any = None, *, dtype: Any = None) -> Tensor:
    """The covariance matrix of variables, each a row of m (a column where not rowvar), over their observations.

    y         more variables, in m's layout
    bias      divide by n instead of n - 1; ddof sets n - ddof
    fweights  how often each observation was made; aweights, how much it counts

    Raises ArgumentError, where weights lie on the host, for negative ones and for broken fweights.
    """
    x = variables(m, rowvar)
    if y is not None:
        x = T.concatenate(x, variables(y, rowvar), axis=0)
    x = as_inexact(to_dtype("cov", x, dtype))
    ddof = (0 if bias else 1) if ddof is None else ddof
    weights = [to_dtype("cov", checked_weights(name, w, x), x.dtype)
               for name, w in (("fweights", fweights), ("aweights", aweights)) if w is not None]
    total: Any
    if not weights:
        centred = x - T.mean(x, axis=(1,), keepdims=True)
        weighted, total = centred, x.shape[1] - ddof
    else:
        w = weights[0] if len(weights) == 1 else weights[0] * weights[1]
        mean, sums = average(x, 1, w, returned=True, keepdims=True)
        n = T.getitem(sums, index=(0, 0))
        centred = x - mean
        weighted = centred * w
        total = n - ddof * T.sum(w * weights[-1], axis=(0,), keepdims=False) / n if aweights is not None else n - ddof
    product = T.matmul(centred, T.swapaxes(T.conj(weighted) if x.dtype.kind == "c" else weighted, axis1=0, axis2=1))
    c = product / (T.maximum(total, 0) if isinstance(total, Tensor) else max(total, 0))
    return T.reshape(c, shape=()) if c.size == 1 else c


def checked_weights(name: str, weights: Any, x: Tensor) -> Tensor:
    w = as_tensor("cov", weights, x)
    if w.shape != x.shape[1:]:
        raise ShapeError(f"cov: expected a weight for each of {x.shape[1]} observations, got shape {w.shape}. Check them.")
    if isinstance(w._data, numpy.ndarray):                 # on a GPU, looking would wait for the device
        if (w._data < 0).any():
            raise ArgumentError(f"cov: expected {name} of at least 0, got {short(weights)}. Correct them.")
        if name == "fweights" and (w._data % 1).any():
            raise ArgumentError(f"cov: expected whole numbers as fweights, got {short(weights)}. Pass them as aweights.")
    return w


def variables(m: Any, rowvar: bool) -> Tensor:
    x = as_tensor("cov", m)
    if x.ndim > 2:
        raise ShapeError(f"cov: expected at most two axes, got shape {x.shape}. Reshape to (variables, observations).")
    if x.ndim < 2:
        return T.reshape(x, shape=(1, x.size))
    return x if rowvar else T.swapaxes(x, axis1=0, axis2=1)


def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Tensor:
    """The correlation coefficients of variables: their covariances over their standard deviations."""
    c = cov(x, y, rowvar, dtype=dtype)
    if not c.ndim:
        return c / c
    variance = diagonal_of(c)
    deviation = T.sqrt(T.real(variance) if c.dtype.kind == "c" else variance)
    return c / T.expand_dims(deviation, axis=(1,)) / T.expand_dims(deviation, axis=(0,))


def diagonal_of(c: Tensor) -> Tensor:
    number = counted_beside(c.shape[0], c)
    return T.gather(c, number, number, index=(ARRAY, ARRAY))
