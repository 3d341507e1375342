"""softmax and log_softmax over any axes, and their pullbacks from the output.

y = exp(x - max x) / sum exp(x - max x), so exp never overflows. A slice of all -inf is NaN; a NaN spreads over its slice.
Each function takes the array module and returns the function on its arrays; `axis` is a tuple.
"""
from __future__ import annotations


def softmax(xp):
    def run(x, axis):
        y = x - x.max(axis=axis, keepdims=True)
        xp.exp(y, out=y)
        y /= y.sum(axis=axis, keepdims=True)
        return y
    return run


def softmax_pull(xp):
    """y (g - sum g y): two passes over g, two over the result."""
    def run(g, y, axis):
        out = g * y
        total = out.sum(axis=axis, keepdims=True)
        xp.subtract(g, total, out=out)
        out *= y
        return out
    return run


def log_softmax(xp):
    def run(x, axis):
        y = x - x.max(axis=axis, keepdims=True)
        y -= xp.log(xp.exp(y).sum(axis=axis, keepdims=True))
        return y
    return run


def log_softmax_pull(xp):
    """g - exp(y) sum g."""
    def run(g, y, axis):
        out = xp.exp(y)
        out *= g.sum(axis=axis, keepdims=True)
        xp.subtract(g, out, out=out)
        return out
    return run
