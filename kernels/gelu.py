"""GELU in its exact and its tanh form, with the slopes. All elementwise.

gelu(x)      = x P(x),  P(x) = (1 + erf(x / sqrt 2)) / 2;               slope P(x) + x exp(-x^2 / 2) / sqrt(2 pi)
gelu_tanh(x) = x (1 + t) / 2,  t = tanh(u),  u = k (x + c x^3);         slope (1 + t) (1 + (1 - t) x u') / 2
"""
from __future__ import annotations

import math
from functools import partial

from gpugrad.arrays import has_kernels
from gpugrad.kernels.blocks import blockwise
from gpugrad.kernels.erf import erf_into
from gpugrad.kernels.geometry import over_elements, taken
from gpugrad.kernels.instances import INSTANCES
from gpugrad.kernels.load import Source

GELU = Source("gelu.cu", INSTANCES["gelu.cu"])

K, C = math.sqrt(2 / math.pi), 0.044715
HALF_ROOT, DENSITY = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)
FAR = 40.0                        # beyond it both forms are x or 0, and their slopes 1 or 0, in every dtype


def launched(slope, tanh, passes):
    """xp -> the kernel where xp compiles kernels; else, and for what it does not take, what `passes(xp)` makes."""
    def on(xp):
        composed = passes(xp)
        if not has_kernels(xp):
            return composed

        def run(x):
            if not taken(x):
                return composed(x)
            given = (None, x) if slope else (x,)
            return over_elements(GELU, "gelu_pull" if slope else "gelu", (tanh,), *given, operations=8)
        return run
    return on


def pull(g, x, tanh):
    """g slope(x) on a GPU, in one launch; None where the kernel does not take them."""
    return over_elements(GELU, "gelu_pull", (tanh,), g, x, operations=9) if taken(x, g) and g.shape == x.shape else None


@partial(launched, False, False)
@blockwise
def gelu(xp, x, y):
    normal_cdf(xp, x, y)
    y *= xp.maximum(x, -FAR)                              # 0 at -inf


@partial(launched, True, False)
@blockwise
def gelu_slope(xp, x, y):
    x = xp.clip(x, -FAR, FAR)
    normal_cdf(xp, x, y)
    density = x * x
    density *= -0.5
    xp.exp(density, out=density)
    density *= DENSITY
    density *= x
    y += density


def normal_cdf(xp, x, y):
    erf_into(xp, x * HALF_ROOT, y)
    y += 1
    y *= 0.5


@partial(launched, False, True)
@blockwise
def gelu_tanh(xp, x, y):
    near = xp.clip(x, -FAR, FAR)
    tanh_part(xp, near, near * near, y)
    y += 1
    y *= xp.maximum(x, -FAR)
    y *= 0.5


@partial(launched, True, True)
@blockwise
def gelu_tanh_slope(xp, x, y):
    x = xp.clip(x, -FAR, FAR)
    s = x * x
    tanh_part(xp, x, s, y)
    s *= 3 * C * K
    s += K
    s *= x
    rest = 1 - y
    rest *= s
    rest += 1
    y += 1
    y *= rest
    y *= 0.5


def tanh_part(xp, x, square, y):
    """y = tanh(k x (1 + c x^2))."""
    xp.multiply(square, K * C, out=y)
    y += K
    y *= x
    xp.tanh(y, out=y)


# as formulas over a namespace m, for what writes loops and kernels of its own ----------------------------------------------

def distribution(m, x):
    """P(x)."""
    return (m.erf(x * HALF_ROOT) + 1.0) * 0.5


def not_below(m, x):
    """x where it is not far below zero: 0 times it is 0."""
    return m.maximum(x, -FAR)


def near(m, x):
    return m.minimum(m.maximum(x, -FAR), FAR)


def half(m, x):
    """h = (1 + t) / 2 of x that is near."""
    return (m.tanh((x * x * (K * C) + K) * x) + 1.0) * 0.5


def slope(m, x):
    x = near(m, x)
    return distribution(m, x) + m.exp(x * x * -0.5) * DENSITY * x


def tanh_slope(m, x):
    """h (1 + (1 - h) 2 x u'), in which h is that of the function."""
    x = near(m, x)
    h = half(m, x)
    return h * ((1.0 - h) * ((x * x * (6 * C * K) + 2 * K) * x) + 1.0)


#: primitive -> its formula
FORMULAS = {
    "gelu": lambda m, x: distribution(m, near(m, x)) * not_below(m, x),       # so that the slope has the same distribution
    "gelu_slope": slope,
    "gelu_tanh": lambda m, x: half(m, near(m, x)) * not_below(m, x),
    "gelu_tanh_slope": tanh_slope,
}
