"""Dropout: y = x scale where kept, else 0. Linear in x, and its own transpose.

`dropout(x, kept, scale)` takes a mask of one byte an element. `random_dropout(x, call, p)` makes its mask as it goes, on a GPU in
the kernel (dropout.cu), and the pullback makes the same again: element i is kept where draw i of the stream `call` is at least
p 2^32. `stream_dropout(x, stream, p)` is the same with `stream` = [0, call] as uint64 in an array, for programs that draw anew
at each run. `keep(call, shape, p)` is that mask. The draws are NumPy's Philox of key 0 whose counter ends in (call, 0), as
uint32, in the order of dropout.cu: groups of (2, 32, 4) of them come as (32, 2, 4).
"""
from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy

from gpugrad.arrays import has_kernels
from gpugrad.kernels.geometry import pack_width, taken
from gpugrad.kernels.instances import INSTANCES
from gpugrad.kernels.launch import launch
from gpugrad.kernels.load import Source

DROPOUT = Source("dropout.cu", INSTANCES["dropout.cu"])
GROUP = 256                       # elements whose draws belong together


def dropout(xp):
    def run(x, kept, scale):
        y = x * kept
        y *= scale
        return y
    return run


def random_dropout(xp):
    on_gpu, masked = has_kernels(xp), dropout(xp)

    def run(x, call, p):
        scale = 1 / (1 - p) if p < 1 else 0.0
        if on_gpu and taken(x):
            return launched(xp, x, call, p, scale)
        return masked(x, xp.asarray(keep(call, x.shape, p)), scale)
    return run


def stream_dropout(xp):
    on_gpu, drawn = has_kernels(xp), random_dropout(xp)

    def run(x, stream, p):
        if on_gpu and taken(x):
            return launched(xp, x, 0, p, 1 / (1 - p) if p < 1 else 0.0, stream)
        return drawn(x, int(stream[1]), p)
    return run


def launched(xp: Any, x: Any, call: int, p: float, scale: float, stream: Any = None) -> Any:
    x, y = xp.ascontiguousarray(x), xp.empty(x.shape, x.dtype)
    width = pack_width(x, y, length=0)                    # the kernel takes a tail
    launch(DROPOUT, "dropout", (x.dtype, width), blocks(x.size, width), 256,
           (x, stream, y, call, threshold(p), scale, x.size), flops=x.size)
    return y


def blocks(n: int, width: int) -> int:
    """How many blocks of 256 threads the kernel takes."""
    groups = 0 if width == 1 else n // GROUP
    return max(1, -(-(groups * (GROUP // 2 // max(width, 4)) + n - groups * GROUP) // 256))


@cache
def per_thread() -> Any:
    """Where each thread keeps its `philox` and the `start` of its state."""
    from threading import local  # which takes longer to import than this module
    return local()


def words(call: int, count: int) -> numpy.ndarray:
    """The first draws of a stream, as uint64. A generator is set to it: to make one takes ten times as long."""
    mine = per_thread()
    if not hasattr(mine, "philox"):
        mine.philox = numpy.random.Philox(counter=0, key=0)
        mine.start = mine.philox.state
    mine.start["state"]["counter"][2] = call
    mine.philox.state = mine.start
    return mine.philox.random_raw(count)


def keep(call: int, shape: tuple[int, ...], p: float) -> numpy.ndarray:
    """What a probability p of dropping keeps, as bools: the same whatever the device."""
    n = math.prod(shape)
    groups = -(-n // GROUP)
    draws = words(call, groups * GROUP // 2).view(numpy.uint32)
    kept = (draws >= threshold(p)).reshape(groups, 32, 2, 4).transpose(0, 2, 1, 3)
    return kept.reshape(groups * GROUP)[:n].reshape(shape)


def threshold(p: float) -> int:
    return round(p * 2 ** 32)
