"""relu(x w' + b) with a mask of one bit an element, and its pullback, which finds the bias gradient in the same pass.

y = max(x w' + b, 0);   bit c % 32 of mask[r, c / 32] is y[r,c] > 0;   dz = g where y > 0, else 0;   db = sum of dz over its rows

x (..., in), w (out, in), b (out,) or None, y, g, dz (..., out), mask (rows, ceil(out / 32)) of uint32. On a GPU the product is
followed by one launch of relu.cu. Inside `relu_epilogue` (matmul.py) cuBLASLt applies the ReLU in the product, where it can; the
mask is then Lt's own, of uint8, and serves the product of the gradient that comes back (`through_gate`), which finds db too.
"""
from __future__ import annotations

from typing import Any

import numpy

from gpugrad.arrays import has_kernels, module_of
from gpugrad.kernels import matmul
from gpugrad.kernels.geometry import BLOCKS, ROWS, WARP, pack_width, partial_room, row_slices, taken
from gpugrad.kernels.launch import launch
from gpugrad.kernels.linear import linear
from gpugrad.kernels.relu import RELU, relu


def linear_relu(xp):
    """(y, mask)."""
    on_gpu, product, rectify = has_kernels(xp), linear(xp), relu(xp)

    def run(x, w, b=None, gate=None):
        arrays = [a for a in (x, w, b) if a is not None]
        if not on_gpu or not taken(*arrays) or 0 in (*x.shape, *w.shape):
            y = rectify(product(x, w, b))
            return y, bits(xp, y)
        if matmul.relu_in_epilogue() and x.shape[-1:] == w.shape[1:] and (b is None or b.shape == w.shape[:1]):
            found = by_epilogue(xp, x, w, b)
            if found is not None:
                return found
        y = product(x, w, None)
        return y, bias_relu(xp, y, b)
    return run


def by_epilogue(xp: Any, x: Any, w: Any, b: Any) -> tuple[Any, Any] | None:
    """(y, Lt's mask) by one product; None where cuBLASLt has no way."""
    lt, rows = matmul.lt(), x.reshape(-1, x.shape[-1])
    y = xp.empty((len(rows), len(w)), x.dtype)
    aux = xp.empty(lt.aux_shape("relu_aux", *y.shape), "uint8")
    try:
        lt.matmul(rows, w.T, y, epilogue="relu_aux" if b is None else "relu_aux_bias", vector=b, aux=aux, nan_to_zero=True,
                  compute=matmul.precision(x))
    except lt.LtUnsupportedError:
        return None
    return y.reshape(*x.shape[:-1], len(w)), aux


def through_gate(g: Any, w: Any, mask: Any) -> tuple[Any, Any] | None:
    """(g w where Lt's mask is open, else 0; the sum of that over its rows) by one product; None where cuBLASLt has no way."""
    lt, xp = matmul.lt(), module_of(g)
    dx, sums = xp.empty((len(g), w.shape[1]), g.dtype), xp.empty(w.shape[1:], g.dtype)
    try:
        lt.matmul(g, w, dx, epilogue="drelu_bgrad", vector=sums, aux=mask, compute=matmul.precision(g))
    except lt.LtUnsupportedError:
        return None
    return dx, sums


def bias_relu(xp: Any, y: Any, b: Any) -> Any:
    """y = max(y + b, 0) in place, by one launch; returns the mask."""
    columns = y.shape[-1]
    rows, b = y.size // columns, None if b is None else xp.ascontiguousarray(b)
    mask = xp.empty((rows, -(-columns // 32)), "uint32")
    width = pack_width(y, b, length=columns)
    launch(RELU, "bias_relu", (y.dtype, width), -(-rows // ROWS) * -(-columns // (WARP * width)), (WARP, ROWS),
           (y, b, y, mask, rows, columns), flops=2 * y.size)
    return mask


def bias_relu_pull(g: Any, mask: Any, sums: bool = True) -> tuple[Any, Any]:
    """(dz, db) by one launch, from a mask of `bias_relu`; without `sums` db is None."""
    xp, columns = module_of(g), g.shape[-1]
    g, rows = xp.ascontiguousarray(g), g.size // columns
    dz, db = xp.empty(g.shape, g.dtype), xp.empty(columns, g.dtype) if sums else None
    width = pack_width(g, dz, db, length=columns)
    tiles = -(-columns // (WARP * width))
    slices, size = row_slices(rows, ROWS, max(1, BLOCKS // tiles))
    partial, ticket = partial_room(xp, g.dtype, slices, width * tiles * WARP, tiles) if sums else (None, None)
    launch(RELU, "bias_relu_pull", (g.dtype, width), (tiles, slices), (WARP, ROWS),
           (g, mask, dz, db, partial, ticket, rows, columns, size, False), flops=(1 + sums) * g.size)
    return dz, db


def bits(xp: Any, y: Any) -> Any:
    """The mask of y, as relu.cu writes it."""
    rows, columns = y.size // max(1, y.shape[-1]), y.shape[-1]
    words = -(-columns // 32)
    opened = numpy.zeros((rows, 32 * words), bool) if xp is numpy else xp.zeros((rows, 32 * words), bool)
    opened[:, :columns] = y.reshape(rows, columns) > 0
    weights = 1 << xp.arange(32, dtype="uint64")
    return (opened.reshape(rows, words, 32) * weights).sum(axis=-1).astype("uint32")
