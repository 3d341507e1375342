"""Sums and means over axes by reduce.cu: neighbouring axes that are summed, or kept, become one axis, and each run of summed
axes is a launch.

`sums(xp)` is the function on arrays of xp; on NumPy it is the array's method. float16 is added up in float32 on both. An
array that is dense in another order of its axes is summed in that order; what reduce.cu does not take (integers, other
strides, nothing to sum) the array module sums.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from gpugrad.arrays import has_kernels
from gpugrad.kernels.geometry import BLOCKS, lanes_for, pack_width, ticket_count, tickets
from gpugrad.kernels.instances import INSTANCES
from gpugrad.kernels.launch import launch
from gpugrad.kernels.load import Source

REDUCE = Source("reduce.cu", INSTANCES["reduce.cu"])
WARP_ROWS = 1024                  # up to here a row is summed by a warp
SLICE = 4096                      # elements a thread block should have at least before a row is shared


def sums(xp: Any) -> Callable:
    """run(x, axis, keepdims): the sum over a tuple of axes. With kernels also run(x, axis, keepdims, scale): scale times it."""
    if not has_kernels(xp):
        def summed(x, axis, keepdims):
            if x.dtype.char == "e":                        # NumPy adds rows in float16: of 5000 ones they make 2048
                return x.astype("f").sum(axis=axis, keepdims=keepdims).astype("e")
            return x.sum(axis=axis, keepdims=keepdims)
        return summed

    def run(x, axis, keepdims, scale=1):
        plan = plan_for(x, axis) if x.dtype.char in "efdFD" and x.size else None
        if plan is None:
            y = x.sum(axis=axis, keepdims=keepdims)
            return y if scale == 1 else y * x.real.dtype.type(scale)
        order, groups = plan
        kept = [a for a in order if a not in axis]
        y = xp.empty([x.shape[a] for a in kept], x.dtype)
        last = x.dtype.kind == "c"
        source, target = (a.view(a.real.dtype) if last else a for a in (x.transpose(order), y.reshape(-1)))
        run_plan(xp, source, target, groups + [(False, 2)] * last, scale)
        ascending = sorted(kept)
        if kept != ascending:
            y = y.transpose([kept.index(a) for a in ascending])
        return y.reshape([1 if a in axis else n for a, n in enumerate(x.shape)]) if keepdims else y
    return run


def means(xp: Any) -> Callable:
    """run(x, axis, keepdims): the mean over a tuple of axes."""
    if has_kernels(xp):
        total = sums(xp)

        def scaled(x, axis, keepdims):
            n = math.prod([x.shape[a] for a in axis])
            if n and x.dtype.char in "efdFD":
                return total(x, axis, keepdims, 1 / n)
            return x.mean(axis=axis, keepdims=keepdims)
        return scaled

    def run(x, axis, keepdims):
        if x.dtype.char in "fdFD":                         # NumPy's own is three times slower on small arrays
            n = 1
            for a in axis:
                n *= x.shape[a]
            return x.sum(axis=axis, keepdims=keepdims) / n
        return x.mean(axis=axis, keepdims=keepdims)
    return run


def plan_for(x: Any, axis: Sequence[int]) -> tuple[list[int], list[tuple[bool, int]]] | None:
    """(the axes from the longest stride to the shortest, groups (summed, size) of neighbours); None where reduce.cu won't do.

    x must be dense in some order of its axes, and something must be summed.
    """
    order = sorted(range(x.ndim), key=lambda a: (-x.strides[a] if x.shape[a] > 1 else -x.nbytes, a))
    step = x.dtype.itemsize
    for a in reversed(order):
        if x.shape[a] > 1 and x.strides[a] != step:
            return None
        step *= x.shape[a]
    groups = joined([(a in axis, x.shape[a]) for a in order if x.shape[a] > 1])
    passes = sum(summed for summed, _ in groups)
    if not passes or passes > 1 and x.dtype.char == "e":          # half precision would round between the passes
        return None
    return order, groups


def joined(groups: Sequence[tuple[bool, int]]) -> list[tuple[bool, int]]:
    """Neighbours of one kind as one group."""
    result: list[tuple[bool, int]] = []
    for summed, size in groups:
        if result and result[-1][0] == summed:
            result[-1] = (summed, result[-1][1] * size)
        else:
            result.append((summed, size))
    return result


def run_plan(xp: Any, x: Any, y: Any, groups: list[tuple[bool, int]], scale: float) -> None:
    """Sum the groups of x from the innermost out; the last pass writes y and scales."""
    groups = joined(groups)
    while True:
        inner = max(k for k, (summed, _) in enumerate(groups) if summed)
        outer, length, behind = (math.prod(size for _, size in part) for part in
                                 (groups[:inner], groups[inner:inner + 1], groups[inner + 1:]))
        groups = joined(groups[:inner] + groups[inner + 1:])
        done = not any(summed for summed, _ in groups)
        out = y if done else xp.empty(outer * behind, x.dtype)
        sum_group(xp, x, out, outer, length, behind, scale if done else 1.0)
        if done:
            return
        x = out


def sum_group(xp: Any, x: Any, y: Any, outer: int, length: int, inner: int, scale: float = 1.0, accumulate: bool = False) -> None:
    """y = scale times x summed over the middle axis of (outer, length, inner), plus y where it accumulates."""
    accumulator = "float64" if x.dtype.char == "d" else "float32"
    if inner == 1:
        width = pack_width(x, length=None if outer == 1 else length)
        if length <= WARP_ROWS:
            grid, block, slice_size, slices = (-(-outer // 8), 1), (32, 8), length, 1
        else:
            slice_size, slices = slices_of(length, BLOCKS // outer, SLICE, width)
            grid, block = (outer, slices), (256, 1)
        partial = xp.empty(outer * slices, accumulator) if slices > 1 else None
        ticket = tickets(xp, outer) if slices > 1 else None
        launch(REDUCE, "sum_last", (x.dtype, width), grid, block,
               (x, y, partial, ticket, outer, length, slice_size, scale, accumulate), reads=[x.nbytes], flops=x.size)
        return
    width = pack_width(x, y, length=inner)
    lanes = lanes_for(inner, width)
    tiles = -(-inner // (lanes * width))
    rows = 256 // lanes
    slice_size, slices = slices_of(length, BLOCKS // (outer * tiles), 8 * rows, 1)
    partial = xp.empty(slices * width * outer * tiles * lanes, accumulator) if slices > 1 else None
    ticket = tickets(xp, ticket_count(slices, outer * tiles)) if slices > 1 else None
    launch(REDUCE, "sum_middle", (x.dtype, width), (outer * tiles, slices), (lanes, rows),
           (x, y, partial, ticket, length, inner, slice_size, tiles, scale, accumulate), reads=[x.nbytes], flops=x.size)


def slices_of(length: int, wanted: int, least: int, multiple: int) -> tuple[int, int]:
    """(slice size, slices): about `wanted` slices of at least `least` elements, each a multiple of `multiple`."""
    slices = max(1, min(wanted, length // least, 65535))
    size = length if slices == 1 else -(-length // (slices * multiple)) * multiple
    return size, -(-length // size)
