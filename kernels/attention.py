"""softmax(scale q k') v without the matrix of scores, and its pullback, which makes the scores again.

o = p v,  p = exp(scale q k' - lse),  lse = log(sum exp(scale q k')) over the keys; causal: query i sees keys 0 to i
back, with d = sum g o over the width and u = scale p (g v' - d):  dq = u k,  dk = u' q,  dv = p' g

q (..., L, E), k (..., S, E), v (..., S, F) of one dtype and the same axes in front; o and g (..., L, F); lse (..., L), which is
float32 at least. Each function takes the array module. On a GPU attention.cu takes E and F up to 128; elsewhere, and for what it
does not take, queries go in chunks, so that memory grows with L alone. Without keys o is 0 and lse -inf.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy

from gpugrad.arrays import has_kernels
from gpugrad.kernels.geometry import pack_width, taken
from gpugrad.kernels.instances import INSTANCES
from gpugrad.kernels.launch import launch
from gpugrad.kernels.load import Source

ATTENTION = Source("attention.cu", INSTANCES["attention.cu"])
LANES = 8                                                 # that share a row: TX of attention.cu
SCORES = 1 << 18                                          # of a chunk on the host
CAUSAL_ROWS = 256                                         # of a chunk, at most: what is behind its last query is left out


def attention(xp: Any) -> Any:
    """(o, lse)."""
    on_gpu = has_kernels(xp)

    def run(q: Any, k: Any, v: Any, scale: float, causal: bool = False) -> tuple[Any, Any]:
        (*lead, length, _), (keys, width) = q.shape, v.shape[-2:]
        o, lse = xp.empty((*lead, length, width), q.dtype), xp.empty((*lead, length), wide(q))
        if on_gpu and fits(q, k, v):
            q, k, v = (xp.ascontiguousarray(x) for x in (q, k, v))
            columns, block, tiles = plan(q, v, back=False)
            launch(ATTENTION, "attention", (q.dtype, pack(q, k, v, o), columns), math.prod(lead) * tiles(length), block,
                   (q, k, v, o, lse, length, keys, q.shape[-1], width, float(scale), causal),
                   flops=2 * lse.size * keys * (q.shape[-1] + width) // (2 if causal else 1))
            return o, lse
        if not keys:
            o.fill(0)
            lse.fill(-math.inf)
            return o, lse
        q, k, v, o_parts, lse_parts = (x.reshape(math.prod(lead), *x.shape[len(lead):]) for x in (q, k, v, o, lse))
        with numpy.errstate(divide="ignore", invalid="ignore"):           # of rows that see nothing but -inf
            for some, rows, seen in chunks(q, keys, causal):
                p = scores(xp, q[some, rows], k[some, :seen], scale, rows, causal)
                top = p.max(axis=-1, keepdims=True)
                top[xp.isneginf(top)] = 0
                p -= top
                xp.exp(p, out=p)
                total = p.sum(axis=-1, keepdims=True)
                lse_parts[some, rows] = (top + xp.log(total))[..., 0]
                p /= total
                o_parts[some, rows] = xp.matmul(p, v[some, :seen].astype(p.dtype, copy=False))
        return o, lse
    return run


def attention_pull(xp: Any) -> Any:
    """(dq, dk, dv)."""
    on_gpu = has_kernels(xp)

    def run(g: Any, q: Any, k: Any, v: Any, o: Any, lse: Any, scale: float, causal: bool = False) -> tuple[Any, Any, Any]:
        (*lead, length, _), (keys, width) = q.shape, v.shape[-2:]
        if on_gpu and fits(q, k, v, o, g) and lse.dtype == wide(q):
            q, k, v, o, g, lse = (xp.ascontiguousarray(x) for x in (q, k, v, o, g, lse))
            grads = tuple([xp.empty(x.shape, x.dtype) for x in (q, k, v)])
            columns, block, tiles = plan(q, v, back=True)
            launch(ATTENTION, "attention_pull", (q.dtype, pack(q, k, v, o, g, *grads), columns),
                   math.prod(lead) * (tiles(keys) + tiles(length)), block,
                   (q, k, v, o, g, lse, *grads, math.prod(lead), length, keys, q.shape[-1], width, float(scale), causal),
                   flops=2 * lse.size * keys * (4 * q.shape[-1] + 3 * width) // (2 if causal else 1))
            return grads
        exact = wide(q)
        dq = xp.empty(q.shape, q.dtype)
        sums = [xp.zeros(x.shape, exact) for x in (k, v)]
        g, q, k, v, o, lse, dq_parts, dk, dv = (x.reshape(math.prod(lead), *x.shape[len(lead):])
                                                for x in (g, q, k, v, o, lse, dq, *sums))
        with numpy.errstate(over="ignore", invalid="ignore"):
            for some, rows, seen in chunks(q, keys, causal):
                mine, queries, theirs = (x.astype(exact, copy=False) for x in (g[some, rows], q[some, rows], k[some, :seen]))
                p = scores(xp, queries, theirs, scale, rows, causal)
                p -= lse[some, rows, None]
                xp.exp(p, out=p)
                dv[some, :seen] += xp.matmul(turned(p), mine)
                u = xp.matmul(mine, turned(v[some, :seen].astype(exact, copy=False)))
                u -= (mine * o[some, rows]).sum(axis=-1, keepdims=True)
                u *= p
                u *= scale
                dq_parts[some, rows] = xp.matmul(u, theirs)
                dk[some, :seen] += xp.matmul(turned(u), queries)
        return dq, *(x.astype(q.dtype, copy=False) for x in sums)
    return run


def causal_mask(xp: Any) -> Any:
    """True where a query may look at a key, in the shape of the scores (..., L, S)."""
    return lambda scores: xp.broadcast_to(xp.tril(xp.ones(scores.shape[-2:], bool)), scores.shape)


# on the host ----------------------------------------------------------------------------------------------------------------


def chunks(q: Any, keys: int, causal: bool) -> Iterator[tuple[slice, slice, int]]:
    """(sequences, queries, how many keys those see at most): about SCORES scores at once."""
    count, length = q.shape[:2]
    rows = max(1, min(length, SCORES // max(1, keys), CAUSAL_ROWS if causal else length))
    many = max(1, SCORES // (rows * max(1, keys)))
    for first in range(0, length, rows):
        for some in range(0, count, many):
            yield slice(some, some + many), slice(first, first + rows), min(keys, first + rows) if causal else keys


def scores(xp: Any, q: Any, k: Any, scale: float, rows: slice, causal: bool) -> Any:
    """scale q k' of some queries, -inf where causal hides a key."""
    s = xp.matmul(q.astype(wide(q), copy=False), turned(k).astype(wide(q), copy=False))
    s *= scale
    if causal:
        hidden = xp.arange(s.shape[-1]) > xp.arange(rows.start, rows.start + s.shape[-2])[:, None]
        xp.copyto(s, -math.inf, where=hidden)
    return s


def turned(x: Any) -> Any:
    return x.swapaxes(-1, -2)


def wide(x: Any) -> str:
    """The dtype of sums."""
    return "float64" if x.dtype == "float64" else "float32"


# on a GPU -------------------------------------------------------------------------------------------------------------------


def fits(*arrays: Any) -> bool:
    """Whether attention.cu takes q, k, v and what else there is."""
    return taken(*arrays) and all(x.size and max(x.shape[-2], x.ndim) < 1 << 31 and x.shape[-1] <= 128 for x in arrays)


def pack(*arrays: Any) -> int:
    """V: the widths of all rows must be multiples of it."""
    return pack_width(*arrays, length=math.gcd(*(x.shape[-1] for x in arrays)))


def plan(q: Any, v: Any, back: bool) -> tuple[int, int, Any]:
    """(D, threads a block, rows -> how many tiles keep them): N of Forward and Backward in attention.cu."""
    columns = next(d for d in (32, 64, 128) if max(q.shape[-1], v.shape[-1]) <= d)
    double = q.dtype == "float64"
    if back:
        kept = 32 // ((4 if columns == 128 else 2) if double else 1)
    else:
        kept = (32 if columns == 128 else 64) // (2 if double else 1)
    return columns, LANES * min(16, kept), lambda rows: -(-rows // kept)
