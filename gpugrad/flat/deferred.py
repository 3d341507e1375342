"""Elementwise results that a trace needs the shape of, and hardly ever the numbers: they are computed if somebody asks."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy


class Deferred:
    """function(*args), not computed yet.

    like   an array of the result's shape and dtype
    args   arrays, numbers, and what is deferred itself; let go once the result is there
    """

    __slots__ = ("like", "function", "args", "result")

    def __init__(self, like: numpy.ndarray, function: numpy.ufunc, args: Sequence):
        self.like, self.function, self.args = like, function, args
        self.result: Any = None

    def array(self) -> numpy.ndarray:
        """The result. What it waits for is computed first, without recursion."""
        todo = [self]
        while todo:
            last = todo[-1]
            waits = [x for x in last.args if type(x) is Deferred and x.result is None]
            if waits:
                todo += waits
                continue
            todo.pop()
            if last.result is None:
                last.result = numpy.asarray(last.function(*[x.result if type(x) is Deferred else x for x in last.args]))
                last.args = ()
        return self.result


def deferred(function: Callable, args: Sequence, least: int) -> Deferred | None:
    """An elementwise operation, deferred, where one of its arguments has its shape and dtype and so many bytes; else None."""
    if not isinstance(function, numpy.ufunc) or function.nout != 1:
        return None
    likes = [x.like if type(x) is Deferred else x for x in args]
    arrays = [x for x in likes if type(x) is numpy.ndarray]
    if all(x.nbytes < least for x in arrays):
        return None
    shape = numpy.broadcast_shapes(*[x.shape for x in arrays])
    with numpy.errstate(all="ignore"):
        dtype = function(*[x[(slice(0, 1),) * x.ndim] if type(x) is numpy.ndarray else x for x in likes]).dtype
    like = next((x for x in arrays if x.ndim and x.shape == shape and x.dtype == dtype), None)
    return None if like is None else Deferred(like, function, args)
