"""Layer norm and RMS norm over the last axes with weight and bias, and the pullback with all its gradients (layer_norm.cu).

y  = n w + b,  n = (x - mean) r,  r = (mean((x - mean)^2) + eps)^(-1/2);  without centring the mean is 0 (RMS norm)
dx = r (h - mean h - n mean(h n)),  h = g w;   dw = sum over rows of g n,  db = sum over rows of g
u  = x + residual, where one is given, stands for x in all of this

x, y, g, dx of one shape; w, b, dw, db of the shape of its last `axes` axes, w and b may be None; mean and r keep those axes with
length 1. On a GPU forward is one launch, and so is the pullback of rows that fit into registers; longer ones take two.
"""
from __future__ import annotations

import math
from typing import Any

from gpugrad.arrays import has_kernels
from gpugrad.kernels.geometry import BLOCKS, LONG, WARP, pack_width, partial_room, row_plan, row_slices
from gpugrad.kernels.launch import launch
from gpugrad.kernels.standardize import LAYER_NORM, pull_plan, standardize, standardize_pull

WIDE = "fd"                       # half precision goes through `standardize`, which keeps n: x and a rounded mean would not do
COLUMN_ROWS = 8                   # rows side by side in a block of layer_norm_columns


def takes(x: Any, axes: int, *others: Any) -> bool:
    """Whether the kernels take x over its last axes, with a weight or bias, or None, of its dtype."""
    length = math.prod(x.shape[x.ndim - axes:])
    return (x.dtype.char in WIDE and 0 < length < 1 << 31 and x.size > 0
            and all(a is None or (a.dtype == x.dtype and a.shape == x.shape[x.ndim - axes:]) for a in others))


def trailing(x: Any, axes: int) -> tuple[int, ...]:
    return tuple(range(x.ndim - axes, x.ndim))


def layer_norm(xp):
    """(y, mean, r)."""
    on_gpu, passes = has_kernels(xp), standardize(xp)

    def run(x, w=None, b=None, axes=1, eps=1e-5, centre=True):
        if on_gpu and takes(x, axes, w, b):
            return launched(xp, x, w, b, axes, eps, centre)
        y, r, mean = passes(x, trailing(x, axes), eps, centre)
        if w is not None:
            y *= w
        if b is not None:
            y += b
        return y, mean, r
    return run


def add_layer_norm(xp):
    """(y, u, mean, r) of u = x + residual."""
    on_gpu, plain = has_kernels(xp), layer_norm(xp)

    def run(x, residual, w=None, b=None, axes=1, eps=1e-5, centre=True):
        if on_gpu and takes(x, axes, w, b) and residual.dtype == x.dtype and residual.shape == x.shape:
            return launched(xp, x, w, b, axes, eps, centre, residual)
        u = x + residual
        y, mean, r = plain(u, w, b, axes, eps, centre)
        return y, u, mean, r
    return run


def layer_norm_pull(xp):
    """(dx, dw, db)."""
    on_gpu, pull = has_kernels(xp), standardize_pull(xp)

    def run(g, x, w, mean, r, axes=1, centre=True):
        if on_gpu and takes(x, axes, w) and g.dtype == x.dtype and g.shape == x.shape:
            return launched_pull(xp, g, x, w, mean, r, axes, centre)
        n = x - mean
        n *= r
        front = tuple(range(x.ndim - axes))
        dw, db = (g * n).sum(axis=front), g.sum(axis=front)
        return pull(g if w is None else g * w, n, r, trailing(x, axes), centre), dw, db
    return run


def launched(xp: Any, x: Any, w: Any, b: Any, axes: int, eps: float, centre: bool, residual: Any = None) -> tuple:
    """(y, mean, r), or with a residual (y, u, mean, r), by one launch."""
    x, residual, w, b = (None if a is None else xp.ascontiguousarray(a) for a in (x, residual, w, b))
    kept = x.shape[:x.ndim - axes] + (1,) * axes
    y, mean, r = xp.empty(x.shape, x.dtype), xp.empty(kept, x.dtype), xp.empty(kept, x.dtype)
    u = None if residual is None else xp.empty(x.shape, x.dtype)
    length, rows = x.size // r.size, r.size
    width = pack_width(x, residual, w, b, y, u, length=length)
    plan = row_plan(length, width, x.dtype)
    arrays, how = (x, residual, w, b, y, u, mean, r), (float(eps), centre)
    found = (y, mean, r) if u is None else (y, u, mean, r)
    if plan is None:
        launch(LAYER_NORM, "layer_norm_long", (x.dtype, width), rows, LONG, (*arrays, length, *how), writes=found,
               flops=10 * x.size)
    else:
        packs, block, each = plan
        launch(LAYER_NORM, "layer_norm_row", (x.dtype, width, packs), -(-rows // each), block, (*arrays, rows, length, *how),
               writes=found, flops=10 * x.size)
    return found


def launched_pull(xp: Any, g: Any, x: Any, w: Any, mean: Any, r: Any, axes: int, centre: bool,
                  totals: tuple = (None, None, None), more: Any = None) -> tuple[Any, Any, Any]:
    """(dx, dw, db), each added in place to what is given in `totals`; dw and db are added only where both are given.

    more   what dx is added to, and which stays as it is
    """
    g, x, w, more = (None if a is None else xp.ascontiguousarray(a) for a in (g, x, w, more))
    inner = x.shape[x.ndim - axes:]
    dx, more = (xp.empty(x.shape, x.dtype), more) if totals[0] is None else (totals[0], totals[0])
    accumulate = totals[1] is not None and totals[2] is not None
    dw, db = totals[1:] if accumulate else (xp.empty(inner, x.dtype), xp.empty(inner, x.dtype))
    length, rows = x.size // r.size, r.size
    width = pack_width(g, x, w, dx, dw, db, length=length)
    plan = pull_plan(length, width, x.dtype)
    reads, writes = [a for a in (g, x, w, mean, r, more) if a is not None], (dx, dw, db)
    if plan is not None:
        packs, lanes, side = plan
        slices, size = row_slices(rows, side, BLOCKS)
        partial, ticket = partial_room(xp, x.dtype, slices, 2 * packs * width * lanes, 1)
        launch(LAYER_NORM, "layer_norm_row_pull", (x.dtype, width, packs), (1, slices), (lanes, side),
               (g, x, w, mean, r, more, dx, dw, db, partial, ticket, rows, length, size, centre, accumulate),
               reads=[*reads, partial], writes=[*writes, partial], flops=12 * x.size)
        return dx, dw, db
    launch(LAYER_NORM, "layer_norm_long_pull", (x.dtype, width), rows, LONG, (g, x, w, mean, r, more, dx, length, centre),
           reads=reads, writes=(dx,), flops=8 * x.size)
    tiles = -(-length // (WARP * width))
    slices, size = row_slices(rows, COLUMN_ROWS, max(1, BLOCKS // tiles))
    partial, ticket = partial_room(xp, x.dtype, slices, 2 * width * tiles * WARP, tiles)
    launch(LAYER_NORM, "layer_norm_columns", (x.dtype, width), (tiles, slices), (WARP, COLUMN_ROWS),
           (g, x, mean, r, dw, db, partial, ticket, rows, length, size, accumulate), reads=(g, x, mean, r, partial),
           writes=(dw, db, partial), flops=4 * x.size)
    return dx, dw, db
