"""Attention whose heads lie beside each other, as a projection leaves them: nothing is copied before the launch or behind it.

q, k, v (batch, heads, L, E) are views of one layout, each row of E together; o is a view of (batch, L, heads, E), and the
gradients are views of one array (batch, L, 3, heads, E). The formulas are attention.py's.
"""
from __future__ import annotations

import math
from typing import Any

from gpugrad.arrays import module_of
from gpugrad.kernels.attention import ATTENTION, plan
from gpugrad.kernels.geometry import pack_width
from gpugrad.kernels.launch import launch


def side_by_side(*arrays: Any) -> bool:
    """Whether these are (batch, heads, rows, E) of one dtype, shape and layout, for which the kernels need no copy."""
    first = arrays[0]
    return (first.ndim == 4 and first.size > 0 and first.shape[-1] <= 128 and first.dtype.char in "efd"
            and first.strides[-1] == first.dtype.itemsize
            and all(a.shape == first.shape and a.dtype == first.dtype and strides(a) == strides(first) for a in arrays))


def strides(x: Any) -> tuple[int, ...]:
    """Those of the axes along which there are steps to make."""
    return tuple([s for s, n in zip(x.strides, x.shape) if n > 1])


def steps(x: Any) -> tuple[int, int, int]:
    """From batch to batch, head to head and row to row, in elements."""
    batch, head, row = (s // x.dtype.itemsize for s in x.strides[:3])
    return batch, head, row


def width(*arrays: Any) -> int:
    """Elements a pack: every row begins at a multiple of it."""
    return pack_width(*arrays, length=math.gcd(arrays[0].shape[-1], *(s for a in arrays for s in steps(a))))


def attention_heads(q: Any, k: Any, v: Any, scale: float, causal: bool = False) -> tuple[Any, Any]:
    """(o, lse) for q, k, v that lie side by side."""
    xp, (batch, heads, length, across) = module_of(q), q.shape
    o = xp.empty((batch, length, heads, across), q.dtype).transpose(0, 2, 1, 3)
    lse = xp.empty((batch, heads, length), "float64" if q.dtype.char == "d" else "float32")
    columns, block, tiles = plan(q, v, back=False)
    launch(ATTENTION, "attention", (q.dtype, width(q, k, v, o), columns), batch * heads * tiles(length), block,
           (q, k, v, o, lse, length, length, across, across, float(scale), causal, heads, *steps(q), *steps(o)),
           strided=("q", "k", "v", "o"), flops=4 * lse.size * length * across // (2 if causal else 1))
    return o, lse


def attention_heads_pull(g: Any, q: Any, k: Any, v: Any, o: Any, lse: Any, scale: float,
                         causal: bool = False) -> tuple[Any, Any, Any, Any]:
    """(dq, dk, dv, the array (batch, L, 3, heads, E) that they are views of). g lies like o; q, k and v like such views."""
    xp, (batch, heads, length, across) = module_of(q), q.shape
    joint = xp.empty((batch, length, 3, heads, across), q.dtype)
    grads = tuple([joint[:, :, i].transpose(0, 2, 1, 3) for i in range(3)])
    columns, block, tiles = plan(q, v, back=True)
    launch(ATTENTION, "attention_pull", (q.dtype, width(q, k, v, o, g, *grads), columns),
           batch * heads * 2 * tiles(length), block,
           (q, k, v, o, g, lse, *grads, batch * heads, length, length, across, across, float(scale), causal, heads, *steps(q),
            *steps(o)), strided=("q", "k", "v", "o", "g", "dq", "dk", "dv"),
           flops=14 * lse.size * length * across // (2 if causal else 1))
    return (*grads, joint)
