"""The error function, which NumPy lacks, to the precision of its dtype.

erf(x)     = x A(x^2)                                              for |x| <= 1
erf(x)     = sign(x) (1 - exp(-z^2) B((z - 2) / (z + 2)) / (z + 2))   for z = |x| > 1; 1 from where the rest is no digit

A and B are Chebyshev interpolants of degree 12 and 15 (6 and 6 in float32), computed with 60 digits; their relative errors
are 2e-19 and 2e-17 (2e-9 and 9e-9). The result is within 3 units in the last place.
"""
from __future__ import annotations

import math

import numpy

from gpugrad.kernels.blocks import blockwise
from gpugrad.kernels.elementwise import generated

SMALL = 200                # below this many elements, libm's own erf one by one is sooner done

NEAR = {
    "f": (7.875875e-05, -0.0008016864, 0.0051890874, -0.026854212, 0.11283594715, -0.376126266667, 1.1283791658),
    "d": (5.957176147748911e-11, -1.1372848856791674e-09, 1.4659775274047436e-08, -1.6350312701054695e-07,
          1.6461000484121368e-06, -1.4925595266831182e-05, 0.0001205533111164271, -0.000854832698083379,
          0.0052239776248180145, -0.026866170645076792, 0.11283791670954879, -0.3761263890318375, 1.1283791670955126),
}
FAR = {
    "f": (0.0029655107428, 0.0063174124976, -0.0215037751156, -0.0364332621514, 0.2794719971986, -0.6871608089036,
          1.0215827052420),
    "d": (5.127540347756448e-06, -8.179282853698761e-07, -1.6690978636810987e-05, -2.1636133850813653e-05,
          3.423360798367434e-05, 0.00014445202089678473, 3.4365322122850224e-05, -0.0006630716756367664,
          -0.0008372958440063437, 0.003090611975945019, 0.006479185064304484, -0.02151066188773439, -0.03644223150686364,
          0.27947209255604094, -0.6871606844138106, 1.021582705242023),
}
ONE_FROM = {"f": 4.0, "d": 6.0}


def erf_into(xp, x, y):
    """y = erf(x) for float32 or float64; y may not be x."""
    if xp is numpy and x.size <= SMALL:
        y[...] = numpy.reshape([math.erf(v) for v in x.ravel().tolist()], x.shape)
        return
    kind = x.dtype.char
    z = xp.abs(x)
    s = xp.minimum(z, 1)
    s *= s
    horner(xp, NEAR[kind], s, y)
    y *= x
    if xp is numpy:
        far = z > 1
        if far.any():
            y[far] = numpy.copysign(tail(xp, z[far], kind), x[far])
    else:
        xp.copyto(y, xp.copysign(tail(xp, xp.maximum(z, 1), kind), x), where=z > 1)


def tail(xp, z, kind):
    """erf(z) for z >= 1."""
    z = xp.minimum(z, ONE_FROM[kind])
    below = z + 2
    t = z - 2
    t /= below
    b = horner(xp, FAR[kind], t, xp.empty_like(t))
    b /= below
    z *= z
    xp.negative(z, out=z)
    b *= xp.exp(z, out=z)
    return xp.subtract(1, b, out=b)


def horner(xp, coefficients, x, y):
    """The polynomial with these coefficients, highest first, into y."""
    xp.multiply(x, coefficients[0], out=y)
    for c in coefficients[1:-1]:
        y += c
        y *= x
    y += coefficients[-1]
    return y


erf = generated("erf", blockwise(erf_into))
