"""Standardisation over any axes: the core of layer, batch, group, instance and RMS norm.

n = (x - mean) r,  r = (mean((x - mean)^2) + eps)^(-1/2);  without centring the mean is left out (RMS norm)
dx = r (g - mean g - n mean(g n)),  linear and symmetric in g

x, n, g, dx of one shape; mean and r keep the reduced axes with length 1. `axis` is a tuple.
"""
from __future__ import annotations

from functools import partial

from gpugrad.arrays import has_kernels
from gpugrad.kernels.blocks import stored
from gpugrad.kernels.elementwise import generated
from gpugrad.kernels.geometry import BLOCKS, LONG, WARP, pack_width, row_plan, taken
from gpugrad.kernels.instances import INSTANCES
from gpugrad.kernels.launch import launch
from gpugrad.kernels.load import Source

LAYER_NORM = Source("layer_norm.cu", INSTANCES["layer_norm.cu"])


def standardize(xp):
    """(n, r, mean). On the host n is made in `out`, where that is given; it may not share memory with x."""
    on_gpu = has_kernels(xp)

    def run(x, axis, eps, centre=True, out=None):
        length = reduced_size(x, axis)
        if on_gpu and by_rows(x, axis, length):
            return launched(xp, x, axis, length, eps, centre)
        if x.dtype.char == "e":                           # in float32: the square of 256 is no float16
            n, r, mean = run(x.astype("f"), axis, eps, centre)
            return stored(n.astype("e"), out), r.astype("e"), mean.astype("e")
        if centre:
            mean = x.sum(axis=axis, keepdims=True)
            mean /= length
            n = xp.subtract(x, mean, out=out)
            square = n * n
        else:
            square = n = xp.multiply(x, x, out=out)
            mean = xp.zeros(tuple([1 if i in axis else k for i, k in enumerate(x.shape)]), x.dtype)
        r = square.sum(axis=axis, keepdims=True)
        r /= length
        r += eps
        xp.sqrt(r, out=r)
        xp.divide(1, r, out=r)
        if centre:
            n *= r
        else:
            xp.multiply(x, r, out=n)
        return n, r, mean
    return run


def standardize_pull(xp):
    """dx. On the host it is made in `out`, where that is given; it may share memory with none of the rest."""
    on_gpu = has_kernels(xp)

    def run(g, n, r, axis, centre=True, out=None):
        length = reduced_size(n, axis)
        if on_gpu and g.dtype == n.dtype and g.shape == n.shape and by_rows(n, axis, length):
            return launched_pull(xp, g, n, r, length, centre)
        if n.dtype.char == "e":
            return stored(run(g.astype("f"), n.astype("f"), r.astype("f"), axis, centre).astype("e"), out)
        out = xp.multiply(g, n, out=out)
        slope = out.sum(axis=axis, keepdims=True)
        slope /= -length
        xp.multiply(n, slope, out=out)
        out += g
        if centre:
            mean = g.sum(axis=axis, keepdims=True)
            mean /= length
            out -= mean
        out *= r
        return out
    return run


def by_rows(x, axis, length):
    """Whether layer_norm.cu takes it: the last axes, of an array of ours."""
    return taken(x) and tuple(sorted(axis)) == tuple(range(x.ndim - len(axis), x.ndim)) and 0 < length < 1 << 31


def launched(xp, x, axis, length, eps, centre):
    """(n, r, mean) by one launch."""
    kept = tuple([1 if i in axis else k for i, k in enumerate(x.shape)])
    wide = "float64" if x.dtype == "float64" else "float32"
    n, r = xp.empty(x.shape, x.dtype), xp.empty(kept, wide)
    mean = xp.empty(kept, wide) if centre else xp.zeros(kept, wide)
    x = xp.ascontiguousarray(x)
    width, rows = pack_width(x, n, length=length), r.size
    plan = row_plan(length, width, x.dtype)
    arrays = (x, None, None, None, n, None, mean if centre else None, r)
    if plan is None:
        launch(LAYER_NORM, "layer_norm_long", (x.dtype, width), max(1, rows), LONG, (*arrays, length, float(eps), centre),
               flops=8 * x.size)
    else:
        packs, block, each = plan
        launch(LAYER_NORM, "layer_norm_row", (x.dtype, width, packs), max(1, -(-rows // each)), block,
               (*arrays, rows, length, float(eps), centre), flops=8 * x.size)
    return n, r.astype(x.dtype, copy=False), mean.astype(x.dtype, copy=False)


def launched_pull(xp, g, n, r, length, centre):
    """r (g - mean g - n mean(g n)) by one launch: rows in registers, or long ones a block each."""
    out = xp.empty(n.shape, n.dtype)
    g, n = xp.ascontiguousarray(g), xp.ascontiguousarray(n)
    r = xp.ascontiguousarray(r.astype("float64" if n.dtype == "float64" else "float32", copy=False))
    width, rows = pack_width(g, n, out, length=length), r.size
    plan = pull_plan(length, width, n.dtype)
    if plan is None:
        launch(LAYER_NORM, "layer_norm_long_pull", (n.dtype, width), max(1, rows), LONG,
               (g, n, None, None, r, None, out, length, centre), flops=8 * n.size)
    else:
        packs, lanes, side = plan
        slice_rows = max(side, -(-rows // BLOCKS))
        launch(LAYER_NORM, "layer_norm_row_pull", (n.dtype, width, packs), (1, max(1, -(-rows // slice_rows))), (lanes, side),
               (g, n, None, None, r, None, out, None, None, None, None, rows, length, slice_rows, centre, False), writes=(out,),
               flops=8 * n.size)
    return out


def pull_plan(columns, width, dtype):
    """(N, threads a row, rows at a time) of layer_norm_row_pull; None where a row does not fit into registers."""
    for most in (4, 8) if dtype == "float64" else (8,):
        packs = max(1, most // width)
        lanes = -(-columns // (width * packs * WARP)) * WARP
        if lanes <= LONG:
            rows = 1
            while 2 * rows * lanes <= 256:
                rows *= 2
            return packs, lanes, rows
    return None


@partial(generated, "scale_shift")
def scale_shift(xp):
    """n scale + shift with broadcasting, in one new array, or in `out`, which may not share memory with shift."""
    def run(n, scale, shift, out=None):
        if out is not None:
            return xp.add(xp.multiply(n, scale, out=out), shift, out=out)
        y = n * scale
        if spreads_to(shift.shape, y.shape) and y.dtype == shift.dtype:
            y += shift
            return y
        return y + shift
    return run


def spreads_to(short, shape):
    """Whether an array of shape `short` broadcasts to `shape` itself."""
    padded = (1,) * (len(shape) - len(short)) + short
    return len(padded) == len(shape) and all(n in (1, k) for n, k in zip(padded, shape))


def reduced_size(x, axis):
    n = 1
    for a in axis:
        n *= x.shape[a]
    return n
