"""Activations whose kernels are generated (expression.py), and their NumPy twins: passes over blocks that stay in the cache.

Each takes the array module and returns the function on its arrays. None overflows, and NaN goes through.
"""
from __future__ import annotations

from functools import partial

from gpugrad.kernels.blocks import blockwise
from gpugrad.kernels.elementwise import generated


def sigmoid_into(xp, x, y):
    """1 / (1 + e) for x >= 0 and e / (1 + e) for x < 0, with e = exp(-|x|) at most 1: full precision on both sides."""
    xp.abs(x, out=y)
    xp.negative(y, out=y)
    xp.exp(y, out=y)
    below = 1 + y
    xp.minimum(x, 0, out=y)                               # exp(min(x, 0)) is the numerator of either side
    xp.exp(y, out=y)
    y /= below


sigmoid = generated("sigmoid", blockwise(sigmoid_into))


@partial(generated, "softplus")
@blockwise
def softplus(xp, x, y):
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    xp.abs(x, out=y)
    xp.negative(y, out=y)
    xp.exp(y, out=y)
    xp.log1p(y, out=y)
    y += xp.maximum(x, 0)


@partial(generated, "silu")
@blockwise
def silu(xp, x, y):
    """x sigmoid(x)."""
    sigmoid_into(xp, x, y)
    y *= x


@partial(generated, "silu_slope")
@blockwise
def silu_slope(xp, x, y):
    """s (1 + x (1 - s)) with s = sigmoid(x)."""
    sigmoid_into(xp, x, y)
    rest = 1 - y
    rest *= x
    rest += 1
    y *= rest


@partial(generated, "leaky_relu")
def leaky_relu(xp):
    """x where x > 0, else a x."""
    def run(x, a):
        if type(a) is float and 0 <= a <= 1:
            return xp.maximum(x, x * a)
        return xp.maximum(x, 0) + xp.minimum(x, 0) * a
    return run


@partial(generated, "elu")
def elu(xp):
    """x where x > 0, else a (exp(x) - 1)."""
    def run(x, a):
        y = xp.expm1(xp.minimum(x, 0)) * a
        y += xp.maximum(x, 0)
        return y
    return run
