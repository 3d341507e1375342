"""y = x w' + b: rows times the transpose of a weight (out, in), as PyTorch stores it, plus a bias (out,) or None.

x (..., in) is one matrix of rows, so that a batch of any rank is one product. The bias is added in the product's array.
"""
from __future__ import annotations

from gpugrad.errors import ShapeError
from gpugrad.kernels import matmul


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


def linear_error(x, w, b):
    bias = "" if b is None else f", bias {b.shape}"
    return ShapeError(f"linear: expected x (..., in), weight (out, in) and bias (out,), got x {x.shape}, weight {w.shape}{bias}. "
                      "Transpose the weight, or check the layer's width.")
