"""y = x w' + b: rows times the transpose of a weight (out, in), as PyTorch stores it, plus a bias (out,) or None.

x (..., in) is one matrix of rows, so that a batch of any rank is one product. The bias is added in the product's array.
"""
from __future__ import annotations

import functools

import numpy

from gpugrad.errors import ShapeError
from gpugrad.kernels import matmul

SHORT = 4096              # rows: so long are the vectors of ones that are kept


def linear(xp):
    on_gpu = hasattr(xp, "cuda")

    def run(x, w, b=None):
        if x.ndim == 0 or w.ndim != 2 or x.shape[-1] != w.shape[1] or (b is not None and b.shape != w.shape[:1]):
            raise linear_error(x, w, b)
        rows = x if x.ndim == 2 else x.reshape(-1, w.shape[1])
        if on_gpu and x.dtype == w.dtype and x.dtype.char in matmul.DTYPES and (b is None or b.dtype == x.dtype):
            y = matmul.linear(rows, w, b)
            return y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[0])
        y = rows.dot(w.T)
        if b is not None:
            if b.dtype == y.dtype:
                y += b
            else:
                y = y + b
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[0])
    return run


def linear_pull(g, want, x, w, b=None):
    """(g w, gᵀ x, the sum of g over its rows), None for what is not wanted; or None altogether where these are not matrices of
    NumPy's of float32 or float64."""
    dtype = g.dtype
    if type(g) is not numpy.ndarray or g.ndim != 2 or dtype.char not in "fd" or x.dtype is not dtype or w.dtype is not dtype:
        return None
    return (None if want[0] is None else g.dot(w), None if want[1] is None else g.T.dot(x),
            None if b is None or want[2] is None else sum_of_rows(g, b.dtype))


def sum_of_rows(g, dtype):
    """Of a short matrix by BLAS, which is three times faster than a reduction."""
    total = ones(len(g), g.dtype).dot(g) if len(g) <= SHORT else g.sum(axis=0)
    return total if total.dtype is dtype else total.astype(dtype)


@functools.lru_cache(maxsize=64)
def ones(n, dtype):
    return numpy.ones(n, dtype)


def linear_error(x, w, b):
    bias = "" if b is None else f", bias {b.shape}"
    return ShapeError(f"linear: expected x (..., in), weight (out, in) and bias (out,), got x {x.shape}, weight {w.shape}{bias}. "
                      "Transpose the weight, or check the layer's width.")
