"""Tiles on all cores. NumPy releases the interpreter while it works on an array, so plain threads do."""
from __future__ import annotations

import contextvars
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy

from gpugrad.machine import cores

#: Threads that work on tiles, the caller's own included.
WORKERS = min(cores(), 16)
#: Elements of NumPy's buffers in a tile. What is broadcast along rows that are shorter than a buffer is copied there first, which
#: takes as long as the sum itself; of buffers below a few hundred, filling them would count.
BUFFER = 512


@functools.cache
def pool(process: int) -> ThreadPoolExecutor:
    """The other threads of this process: a fork has none of its parent's."""
    return ThreadPoolExecutor(max(1, WORKERS - 1), "gpugrad")


def in_tiles(tile: Callable, rows: int, step: int, scratch: Sequence[tuple]) -> None:
    """tile(i, j, *arrays) for rows i to j, `step` at a time; scratch holds each thread's arrays."""
    starts, lock = iter(range(0, rows, step)), Lock()

    def work(arrays: tuple) -> None:
        while True:
            with lock:
                i = next(starts, rows)
            if i >= rows:
                return
            tile(i, min(i + step, rows), *arrays)

    usual = numpy.setbufsize(BUFFER)                      # in this thread's context, which the others copy
    others = [pool(os.getpid()).submit(contextvars.copy_context().run, work, arrays) for arrays in scratch[1:]]
    try:
        work(scratch[0])
    finally:
        for other in others:
            other.cancel() or other.result()
        numpy.setbufsize(usual)
