"""Functions whose derivatives need a power series: sinc, smooth at 0 to every order, and the Bessel functions I_n.

A derivative of any order is a primitive too, with the order as its parameter, so that no formula divides by 0.
"""
import math

from gpugrad.graph.primitive import Primitive, aligned, elementwise

SERIES_END = 30          # where I_n turns from its power series to its asymptotic one: both have full precision there


def sinc_slope(xp):
    """The derivative of sinc of that order, s(u) = sin(u) / u at u = pi * x times pi**order.

    Far from 0 by the recurrence u s[n] + n s[n-1] = sin(u + n pi / 2), which loses u**-n digits; near it by Taylor's series.
    """
    def run(x, order):
        u = math.pi * x
        reach = order + 2
        near = abs(u) < reach
        v = xp.where(near, 1, u)
        waves = xp.sin(v), xp.cos(v), -xp.sin(v), -xp.cos(v)
        far = waves[0] / v
        for n in range(1, order + 1):
            far = (waves[n % 4] - n * far) / v
        v = xp.where(near, u, 0)
        square = v * v
        term = v ** 0 if order % 2 == 0 else v           # v**j / j!, j = 2 k - order
        series = 0
        for j in range(order % 2, 3 * reach + 30, 2):
            k = (j + order) // 2
            series = series + (-1) ** k / (2 * k + 1) * term
            term = term * square / ((j + 1) * (j + 2))
        return math.pi ** order * xp.where(near, series, far)
    return run


elementwise("sinc", lambda m, y, x: m.sinc_slope(x, order=1))


def sinc_slope_vjp(m, g, want, y, x, order):
    slope = m.sinc_slope(x, order=order + 1)
    return ((m.conj(slope) if x.dtype.kind == "c" else slope) * g,)


Primitive("sinc_slope", sinc_slope_vjp, jvp=lambda m, ts, y, x, order: m.sinc_slope(x, order=order + 1) * ts[0],
          impl=sinc_slope, keep="x", batch=aligned("sinc_slope"))


def bessel_i(xp):
    """I_n(x) for whole n >= 0 and real x: its power series has only positive terms, so no digits are lost."""
    def run(x, n):
        size = abs(x)
        near = size < SERIES_END
        half = xp.where(near, size, 0) / 2
        square = half * half
        term = series = half ** n / math.factorial(n)
        for k in range(1, 52):
            term = term * square / (k * (k + n))
            series = series + term
        size = xp.where(near, SERIES_END, size)
        term = asymptotic = 1
        for k in range(1, 24 + 2 * n):
            term = term * ((2 * k - 1) ** 2 - 4 * n * n) / (8 * k) / size
            asymptotic = asymptotic + term
        root = xp.exp(size / 2)                          # its square overflows before I_n does
        y = xp.where(near, series, root * (root / (math.sqrt(2 * math.pi) * xp.sqrt(size))) * asymptotic)
        return y * xp.sign(x) if n % 2 else y
    return run


def bessel_slope(m, x, n):
    return m.bessel_i(x, n=1) if n == 0 else (m.bessel_i(x, n=n - 1) + m.bessel_i(x, n=n + 1)) / 2


elementwise("i0", lambda m, y, x: m.bessel_i(x, n=1))
Primitive("bessel_i", lambda m, g, want, y, x, n: (bessel_slope(m, x, n) * g,),
          jvp=lambda m, ts, y, x, n: bessel_slope(m, x, n) * ts[0], impl=bessel_i, keep="x", batch=aligned("bessel_i"))
