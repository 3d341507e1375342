"""Scans: running sums and products along one axis, and the linear recurrence that differentiates them.

Dividing by x would give the derivative of a running product, were it not for zeros. The recurrence needs no division, and
its own derivatives are recurrences again, so every order is exact.
"""
import math

from gpugrad.arrays import choose
from gpugrad.arrays.half import in_float32
from gpugrad.graph.primitive import Primitive, linear
from gpugrad.rules.elementwise import surplus
from gpugrad.rules.shape import all_batched, along


def shift(m, x, axis, by, fill=0):
    """x moved one place along an axis, `by` = 1 or -1, with `fill` where nothing arrives."""
    if x.shape[axis] == 0:
        return x
    part = m.getitem(x, index=along(axis, slice(None, -1) if by == 1 else slice(1, None)))
    width = [(0, 0)] * x.ndim
    width[axis] = (1, 0) if by == 1 else (0, 1)
    return m.pad(part, pad_width=tuple(width), value=fill)


def conj(m, x):
    return m.conj(x) if x.dtype.kind == "c" else x


def cumsum_transpose(m, g, x, axis):
    return m.flip(m.cumsum(m.flip(g, axis=(axis,)), axis=axis), axis=(axis,))


linear("cumsum", cumsum_transpose, impl=lambda xp: in_float32(lambda x, axis: x.cumsum(axis=axis)),
       batch=lambda m, size, batched, x, axis: m.cumsum(x, axis=axis + 1))


# s[i] = b[i] + a[i] * s[i-1], or s[i+1] in reverse ---------------------------------------------------------------------

def recurrence(xp):
    """By doubling: after step k each element knows its 2^k predecessors. log2(n) passes, no division, no loop over n."""
    def run(a, b, axis, reverse=False):
        if reverse:
            back = along(axis, slice(None, None, -1))
            return run(a[back], b[back], axis)[back]
        a, s, step = a.copy(), b.copy(), 1
        while step < s.shape[axis]:
            late, early = along(axis, slice(step, None)), along(axis, slice(None, -step))
            s[late] = s[late] + a[late] * s[early]
            a[late] = a[late] * a[early]
            step *= 2
        return s
    return run


def recurrence_vjp(m, g, want, y, a, b, axis, reverse=False):
    by = -1 if reverse else 1
    gb = m.recurrence(shift(m, conj(m, a), axis, -by), g, axis=axis, reverse=not reverse)
    return (gb * conj(m, shift(m, y, axis, by)) if want[0] else None), gb


def recurrence_jvp(m, ts, y, a, b, axis, reverse=False):
    ta, tb = ts
    if ta is not None:
        moved = ta * shift(m, y, axis, -1 if reverse else 1)
        tb = moved if tb is None else tb + moved
    return m.recurrence(a, tb, axis=axis, reverse=reverse)


def recurrence_batch(m, size, batched, a, b, axis, reverse=False):
    return m.recurrence(*all_batched(m, size, batched, (a, b)), axis=axis + 1, reverse=reverse)


Primitive("recurrence", recurrence_vjp, recurrence_jvp, impl=recurrence, keep=("y a", "a"), batch=recurrence_batch)


def cumprod_vjp(m, g, want, y, x, axis):
    """g of what comes later flows back through the factors between."""
    later = m.recurrence(shift(m, conj(m, x), axis, -1), g, axis=axis, reverse=True)
    return (later * conj(m, shift(m, y, axis, 1, fill=1)),)


def cumprod_jvp(m, ts, y, x, axis):
    return m.recurrence(x, ts[0] * shift(m, y, axis, 1, fill=1), axis=axis)


Primitive("cumprod", cumprod_vjp, cumprod_jvp, impl=lambda xp: lambda x, axis: x.cumprod(axis=axis), keep="y x",
          batch=lambda m, size, batched, x, axis: m.cumprod(x, axis=axis + 1))


# y[i] = log(exp(y[i-1]) + exp(x[i])): slopes below 1 from each to the next, so nothing overflows ------------------------------

def carried(m, y, axis):
    """The slope of each y by the one before it."""
    return m.exp(surplus(m, shift(m, y, axis, 1, fill=-math.inf), y))


def logcumsumexp_vjp(m, g, want, y, x, axis):
    return (m.exp(surplus(m, x, y)) * m.recurrence(shift(m, carried(m, y, axis), axis, -1), g, axis=axis, reverse=True),)


def logcumsumexp_jvp(m, ts, y, x, axis):
    return m.recurrence(carried(m, y, axis), m.exp(surplus(m, x, y)) * ts[0], axis=axis)


Primitive("logcumsumexp", logcumsumexp_vjp, logcumsumexp_jvp, impl=choose.logcumsumexp, keep="y x",
          batch=lambda m, size, batched, x, axis: m.logcumsumexp(x, axis=axis + 1))
