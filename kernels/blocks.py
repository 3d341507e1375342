"""Elementwise work in blocks that stay in the cache: each further pass over a block costs no trip to memory."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

BLOCK = 1 << 15            # elements: input, output and two temporaries of float32 fill half a megabyte of cache
PIECE = 1 << 17            # elements given with a place for the result: threads that take turns lose by shorter passes


def blockwise(body: Callable[[Any, Any, Any], None]) -> Callable[[Any], Callable[[Any], Any]]:
    """xp -> function of x that returns y as body(xp, x, y) fills it; large NumPy arrays go block by block.

    out     an array of x's shape and dtype that shares no memory with x: y is made there
    float16 is computed in float32: the steps between would lose what the result can hold.
    """
    def on(xp):
        def run(x, out=None):
            if x.dtype.char == "e":
                return stored(run(x.astype("f")), out) if out is not None else run(x.astype("f")).astype("e")
            if not x.ndim:                                # NumPy's sums of 0-d arrays are scalars, which nothing can fill
                return stored(run(x.reshape(1)).reshape(()), out)
            y = xp.empty(x.shape, x.dtype) if out is None else out
            block = BLOCK if out is None else PIECE
            if xp is not numpy or x.size <= block or not y.flags.c_contiguous:
                body(xp, x, y)
                return y
            flat, flat_y = x.reshape(-1), y.reshape(-1)
            for start in range(0, x.size, block):
                body(xp, flat[start:start + block], flat_y[start:start + block])
            return y
        return run
    return on


def stored(y: Any, out: Any) -> Any:
    """y, or where out is given: out, which then holds it."""
    if out is None:
        return y
    out[...] = y
    return out


def in_blocks(xp: Any, body: Callable) -> Callable:
    """run(arrays, *numbers): body(scratch, *arrays, *numbers) on arrays of one shape (or None), in place.

    Each thread keeps its scratch, so a step allocates nothing. Arrays that do not lie in C order go in one piece.
    """
    from threading import local  # which takes longer to import than this module
    kept = local()

    def run(arrays, *numbers):
        first = arrays[0]
        size = first.size
        if xp is not numpy or (size > BLOCK and not all(a is None or a.flags.c_contiguous for a in arrays)):
            body(xp.empty(first.shape, first.dtype), *arrays, *numbers)
        elif size <= BLOCK:
            body(scratch_like(kept, first), *arrays, *numbers)
        else:
            scratch = scratch_block(kept, first.dtype)
            flat = [None if a is None else a.reshape(-1) for a in arrays]
            for start in range(0, size, BLOCK):
                parts = [None if a is None else a[start:start + BLOCK] for a in flat]
                body(scratch[:size - start], *parts, *numbers)
    return run


def scratch_block(kept: Any, dtype: Any) -> numpy.ndarray:
    """This thread's block of that dtype."""
    try:
        return getattr(kept, dtype.char)
    except AttributeError:
        setattr(kept, dtype.char, numpy.empty(BLOCK, dtype))
        return getattr(kept, dtype.char)


def scratch_like(kept: Any, array: numpy.ndarray) -> numpy.ndarray:
    """The start of a block as an array of that shape and dtype. Its views are kept, too: there are as many as shapes."""
    key = array.shape, array.dtype
    try:
        return kept.views[key]
    except AttributeError:
        kept.views = {}
    except KeyError:
        pass
    kept.views[key] = scratch_block(kept, array.dtype)[:array.size].reshape(array.shape)
    return kept.views[key]
