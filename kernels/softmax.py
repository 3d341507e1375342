"""softmax and log_softmax over any axes, and their pullbacks from the output.

y = exp(x - max x) / sum exp(x - max x), so exp never overflows. A slice of all -inf is NaN; a NaN spreads over its slice.
Each function takes the array module and returns the function on its arrays; `axis` is a tuple. On a GPU softmax.cu takes
the last axis in one launch, and other axes are turned to be the last.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from gpugrad.arrays import has_kernels
from gpugrad.arrays.half import in_float32
from gpugrad.kernels.geometry import LONG, pack_width, row_plan, taken
from gpugrad.kernels.instances import INSTANCES
from gpugrad.kernels.launch import launch
from gpugrad.kernels.load import Source

SOFTMAX = Source("softmax.cu", INSTANCES["softmax.cu"])


def launched(kernel: str, log: bool, passes: Callable) -> Callable:
    """xp -> the kernel of rows, where xp compiles kernels; else, and for what it does not take, what `passes(xp)` makes."""
    def on(xp: Any) -> Callable:
        composed = in_float32(passes(xp))
        if not has_kernels(xp):
            return composed

        def run(*arrays: Any, axis: tuple[int, ...]) -> Any:
            x = arrays[0]
            columns = math.prod([x.shape[a] for a in axis])
            if not taken(*arrays) or any(a.shape != x.shape for a in arrays) or not 0 < columns < 1 << 31:
                return composed(*arrays, axis=axis)
            order = [a for a in range(x.ndim) if a not in axis] + list(axis)
            if order == list(range(x.ndim)):
                return rows(xp, kernel, log, arrays, columns)
            y = run(*[a.transpose(order) for a in arrays], axis=tuple(range(x.ndim - len(axis), x.ndim)))
            return y.transpose([order.index(a) for a in range(x.ndim)])
        return run
    return on


def rows(xp: Any, kernel: str, log: bool, arrays: tuple, columns: int) -> Any:
    """The launch over contiguous rows of so many columns."""
    y = xp.empty(arrays[0].shape, arrays[0].dtype)
    arrays = tuple([xp.ascontiguousarray(a) for a in arrays])
    count = y.size // columns
    width = pack_width(*arrays, y, length=columns)
    plan = row_plan(columns, width, y.dtype)
    if plan is None:
        launch(SOFTMAX, f"softmax_long{kernel}", (y.dtype, width, log), max(1, count), LONG, (*arrays, y, columns),
               flops=5 * y.size)
    else:
        packs, block, each = plan
        launch(SOFTMAX, f"softmax_row{kernel}", (y.dtype, width, packs, log), max(1, -(-count // each)), block,
               (*arrays, y, count, columns), flops=5 * y.size)
    return y


@partial(launched, "", False)
def softmax(xp):
    def run(x, axis):
        y = x - x.max(axis=axis, keepdims=True)
        xp.exp(y, out=y)
        y /= y.sum(axis=axis, keepdims=True)
        return y
    return run


@partial(launched, "_pull", False)
def softmax_pull(xp):
    """y (g - sum g y): two passes over g, two over the result."""
    def run(g, y, axis):
        out = g * y
        total = out.sum(axis=axis, keepdims=True)
        xp.subtract(g, total, out=out)
        out *= y
        return out
    return run


@partial(launched, "", True)
def log_softmax(xp):
    def run(x, axis):
        y = x - x.max(axis=axis, keepdims=True)
        y -= xp.log(xp.exp(y).sum(axis=axis, keepdims=True))
        return y
    return run


@partial(launched, "_pull", True)
def log_softmax_pull(xp):
    """g - exp(y) sum g."""
    def run(g, y, axis):
        out = xp.exp(y)
        out *= g.sum(axis=axis, keepdims=True)
        xp.subtract(g, out, out=out)
        return out
    return run
