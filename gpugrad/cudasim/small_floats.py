"""Floating point in 8, 6 and 4 bits: e4m3, e5m2, e3m2, e2m3 and e2m1 (exponent and mantissa bits), by their tables."""

import functools

import numpy as np

FORMATS = {"e4m3": (4, 3), "e5m2": (5, 2), "e3m2": (3, 2), "e2m3": (2, 3), "e2m1": (2, 1)}
PAIRS = tuple(f"{kind}x2" for kind in FORMATS)
BITS = {kind: 1 + exponent + mantissa for kind, (exponent, mantissa) in FORMATS.items()}


@functools.cache
def table(kind):
    """The value of every code, as float64. e5m2 has infinities as IEEE has them, e4m3 a NaN alone, the others neither."""
    exponents, mantissas = FORMATS[kind]
    codes = np.arange(1 << BITS[kind])
    mantissa, exponent = codes & (1 << mantissas) - 1, codes >> mantissas & (1 << exponents) - 1
    bias = (1 << exponents - 1) - 1
    normal = exponent > 0
    value = np.ldexp(np.where(normal, 1 << mantissas, 0) + mantissa, np.where(normal, exponent, 1) - bias - mantissas)
    if kind == "e5m2":
        value = np.where(exponent == 31, np.where(mantissa == 0, np.inf, np.nan), value)
    if kind == "e4m3":
        value = np.where((exponent == 15) & (mantissa == 7), np.nan, value)
    return np.where(codes >> exponents + mantissas, -value, value)


def decoded(codes, kind):
    """Codes as float64; bits above the format's are ignored."""
    return table(kind)[codes & codes.dtype.type((1 << BITS[kind]) - 1)]


def encoded(x, kind):
    """float64 to the nearest code, ties to even; what is too large becomes the largest finite number, NaN stays NaN.

    The formats without NaN have the largest number for it.
    """
    values = table(kind)[: 1 << BITS[kind] - 1]
    finite = values[np.isfinite(values)]
    middles = (finite[1:] + finite[:-1]) / 2
    size = np.abs(x)
    code = np.searchsorted(middles, size, side="left")
    tie = code < middles.size
    tie &= middles[np.minimum(code, middles.size - 1)] == size
    code = np.where(tie, code + code % 2, code)
    nan = 0x7F if kind in ("e4m3", "e5m2") else finite.size - 1
    sign = np.where(np.signbit(x), 1 << BITS[kind] - 1, 0)
    return np.where(np.isnan(x), nan, code | sign).astype(np.uint8)
