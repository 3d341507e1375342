"""Choosing between arrays by a mask. NumPy's `where` branches on each element, which random masks make five times slower
than arithmetic; so on NumPy the bits are chosen by integer arithmetic, through which no NaN can leak.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

#: Integers as wide as a number of that dtype, to do arithmetic on its bits.
BITS = {numpy.dtype(f): numpy.dtype(i) for f, i in (("f2", "i2"), ("f4", "i4"), ("f8", "i8"), ("c8", "i8"))}

#: From this many elements a mispredicted branch costs more than the extra passes.
LARGE = 4096


def where(xp: Any) -> Callable:
    """a where c, b elsewhere."""
    if xp is not numpy:
        return xp.where

    def run(c, a, b):
        bits = BITS.get(a.dtype) if type(a) is type(b) is numpy.ndarray and a.size >= LARGE else None
        if bits is None or a.dtype != b.dtype or not a.shape == b.shape == numpy.shape(c) or c.dtype != bool:
            return numpy.where(c, a, b)
        b = b.view(bits)
        y = a.view(bits) - b
        y *= c
        y += b
        return y.view(a.dtype)
    return run


def masked(xp: Any) -> Callable:
    """x where c, 0 elsewhere. Infinity and NaN elsewhere do not get through, as they would from x * c."""
    if xp is not numpy:
        return lambda x, c: xp.where(c, x, 0)

    def run(x, c):
        bits = BITS.get(x.dtype)
        return numpy.where(c, x, 0) if bits is None else (x.view(bits) * c).view(x.dtype)
    return run


def logical(name: str) -> Callable:
    """The function of truth values by that name. CuPy's know no complex numbers."""
    def impl(xp):
        function = getattr(xp, name)
        return function if xp is numpy else lambda *xs: function(*[x != 0 if numpy.iscomplexobj(x) else x for x in xs])
    return impl


def of_reals(name: str) -> Callable:
    """The function of real numbers by that name. CuPy's takes complex ones, and then fails to compile."""
    def impl(xp):
        function = getattr(xp, name)
        if xp is numpy:
            return function

        def run(*xs):
            if any(numpy.iscomplexobj(x) for x in xs):
                raise TypeError(f"{name} is not defined for complex numbers")
            return function(*xs)
        return run
    return impl


def sign(xp: Any) -> Callable:
    """The sign; of bools there is none. CuPy's takes them for integers."""
    if xp is numpy:
        return xp.sign

    def run(x):
        if x.dtype.kind == "b":
            raise TypeError("sign is not defined for bools")
        return xp.sign(x)
    return run


def ahead(xp: Any) -> Callable:
    """1 where a > b, 0 where a < b or either is NaN, and 1/2 where they are equal, in the dtype of a and b."""
    def run(a, b):
        y = xp.asarray(a > b).astype(xp.result_type(a, b))         # NumPy compares 0-d arrays to scalars
        xp.copyto(y, 0.5, where=a == b)
        return y
    return run


def clip(xp: Any) -> Callable:
    """min(max(x, low), high); None for a bound that is not there."""
    def run(x, low, high):
        if low is not None:
            x = xp.maximum(x, low)
        return x if high is None else xp.minimum(x, high)
    return run


def spacing(xp: Any) -> Callable:
    """The distance to the next number away from 0. CuPy has no function for it."""
    if hasattr(xp, "spacing"):
        return xp.spacing

    nextafter, copysign = of_reals("nextafter")(xp), of_reals("copysign")(xp)

    def run(x):
        x = x.astype(numpy.result_type(x.dtype, "e"), copy=False)          # as NumPy has it of bools and integers
        return nextafter(x, copysign(x.dtype.type(math.inf), x)) - x
    return run


def logcumsumexp(xp: Any) -> Callable:
    """log(sum(exp(x))) of the elements up to each one. CuPy's logaddexp does not accumulate, so it goes by doubling there."""
    if xp is numpy:
        return lambda x, axis: numpy.logaddexp.accumulate(x, axis=axis)

    def run(x, axis):
        y, step = x.copy(), 1
        while step < y.shape[axis]:
            late, early = [(slice(None),) * axis + (part,) for part in (slice(step, None), slice(None, -step))]
            y[late] = xp.logaddexp(y[late], y[early])
            step *= 2
        return y
    return run
