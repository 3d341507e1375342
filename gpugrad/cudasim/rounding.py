"""Arithmetic in the rounding modes that PTX asks for, exactly.

NumPy rounds to nearest. The other modes need the sign of the rounding error, which error-free transformations give
(Dekker 1971; Knuth, TAOCP 2, 4.2.2). A fused multiply-add rounds once: float32 goes through float64, float64 through sums
rounded to odd (Boldo & Melquiond, IEEE Trans. Comput. 57 (2008) 462).
"""

from fractions import Fraction

import numpy as np

SPLIT = np.float64(134217729.0)  # 2**27 + 1
SAFE_HIGH, SAFE_LOW = 2.0**480, 2.0**-400


def two_sum(a, b):
    """(s, e) with s = fl(a + b) and a + b = s + e exactly."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def split(a):
    c = SPLIT * a
    high = c - (c - a)
    return high, a - high


def two_product(a, b):
    """(p, e) with p = fl(a * b) and a * b = p + e exactly, for float64 without overflow or underflow."""
    p = a * b
    ah, al = split(a)
    bh, bl = split(b)
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def odd_sum(a, b):
    """a + b in float64, rounded to odd: truncated, with the last bit set where the sum was inexact."""
    s, e = two_sum(a, b)
    if not np.any(e):
        return s
    bits = np.asarray(s).view(np.int64)
    inexact = (e != 0) & np.isfinite(s) & (bits & 1 == 0)
    # One step towards e: up in size where e has the sign of s, else down.
    return (bits + inexact * (1 - 2 * ((e > 0) != (s > 0)))).view(np.float64)


def nudge(nearest, error, mode):
    """The directed rounding of nearest + error, where nearest is its rounding to nearest and error has the right sign."""
    up, down = (np.nextafter(nearest, nearest.dtype.type(s)) for s in (np.inf, -np.inf))
    if mode == "rm":
        return np.where(error < 0, down, nearest)
    if mode == "rp":
        return np.where(error > 0, up, nearest)
    inwards = np.where(nearest > 0, error < 0, (nearest < 0) & (error > 0))
    return np.where(inwards, np.where(nearest > 0, down, up), nearest)


def round_to(dtype, value, error=0.0, mode="rn"):
    """float64 value + error, |error| below half an ulp of value, in a narrower dtype, rounded once."""
    nearest = value.astype(dtype)
    if mode in (None, "rn"):
        return nearest
    big = np.isinf(nearest) & np.isfinite(value)
    largest = np.copysign(np.finfo(dtype).max, value).astype(dtype)
    residue = (value - np.where(big, largest, nearest).astype(np.float64)) + error
    out = nudge(np.where(big, largest, nearest).astype(dtype), residue, mode)
    return np.where(np.isfinite(value) & (residue != 0), out, nearest)


# --- float32 ---------------------------------------------------------------------------------------------------------


def add32(a, b, mode):
    s, e = two_sum(a.astype(np.float64), b.astype(np.float64))
    return round_to(np.float32, s, e, mode)


def mul32(a, b, mode):
    return round_to(np.float32, a.astype(np.float64) * b.astype(np.float64), mode=mode)


def fma32(a, b, c, mode="rn"):
    """a * b + c rounded once. The product is exact in float64; only sums that fall on a tie need a second look."""
    p, c = a.astype(np.float64) * b, c.astype(np.float64)
    if mode != "rn":
        s, e = two_sum(p, c)
        return round_to(np.float32, s, np.where(np.isfinite(e), e, 0.0), mode)
    s = p + c
    out = s.astype(np.float32)
    # A double rounding errs only where float64 itself rounded onto the middle between two float32 values. For normal
    # results that middle shows in the last 29 bits; below 2**-126 the middle moves, so all of those are looked at.
    bits = s.view(np.int64)
    tie = bits & 0x1FFFFFFF == 0x10000000
    small = np.abs(out) < np.float32(1.1754944e-38)
    if small.any():
        tie = tie | (small & (s != 0))
    if tie.any():
        if out.ndim == 0:
            return odd_sum(p, c).astype(np.float32)
        at = np.flatnonzero(tie)
        out[at] = odd_sum(*(x if x.ndim == 0 else x[at] for x in (p, c))).astype(np.float32)
    return out


def div32(a, b, mode):
    q = (a.astype(np.float64) / b.astype(np.float64)).astype(np.float32)
    rest = (a.astype(np.float64) - q.astype(np.float64) * b) * np.sign(b)
    return np.where(np.isfinite(q) & np.isfinite(rest), nudge(q, rest, mode), q)


def sqrt32(a, mode):
    r = np.sqrt(a)
    rest = a.astype(np.float64) - r.astype(np.float64) * r
    return np.where(np.isfinite(r), nudge(r, rest, mode), r)


# --- float64 ---------------------------------------------------------------------------------------------------------


def add64(a, b, mode):
    s, e = two_sum(a, b)
    return np.where(np.isfinite(s), nudge(s, np.where(np.isfinite(e), e, 0.0), mode), s)


def mul64(a, b, mode):
    return fma64(a, b, np.float64(0), mode)


def fma64(a, b, c, mode="rn"):
    """a * b + c rounded once; operands near the ends of the exponent range take an exact slow path."""
    p, pe = two_product(a, b)
    s, se = two_sum(p, c)
    out = s + odd_sum(se, pe)
    # s + se + pe is exact; its rounding error is what is left after `out`, by a second sum rounded to odd.
    if mode != "rn":
        _, rest = two_sum(s, odd_sum(se, pe))
        out = nudge(out, rest, mode)
    size = np.abs(p)
    high = np.maximum(np.maximum(np.abs(a), np.abs(b)), np.maximum(np.abs(c), size))
    # Mostly nothing is extreme: not huge, not infinite, not NaN, no product so small that its error underflows, no zero.
    if high.max(initial=0) <= SAFE_HIGH and size.min(initial=1) >= SAFE_LOW and out.all():
        return out
    a, b, c, p, out, high = np.broadcast_arrays(a, b, c, p, out, high)
    plain = a * b + c
    extreme = np.isfinite(a) & np.isfinite(b) & np.isfinite(c) & (
        (high > SAFE_HIGH) | ((a != 0) & (b != 0) & (np.abs(p) < SAFE_LOW)))
    out = np.where(np.isfinite(out) & (high <= SAFE_HIGH), out, plain)
    zero = out == 0
    out = np.where(zero, plain, out) if np.any(zero) else out
    return exactly(out, extreme, lambda x, y, z: Fraction(x) * Fraction(y) + Fraction(z), (a, b, c), mode)


def exactly(out, where, formula, operands, mode):
    """`out` with the lanes `where` replaced by the exact rounding of a formula over Fractions; zeros stay as they are."""
    if not np.any(where):
        return out
    flat, columns = np.atleast_1d(out).copy(), [np.atleast_1d(x) for x in np.broadcast_arrays(*operands)]
    for k in np.flatnonzero(where):
        total = formula(*(float(column[k]) for column in columns))
        if total:
            flat[k] = round_fraction(total, mode)
    return flat.reshape(np.shape(out))


def round_fraction(total, mode):
    """A Fraction as a float64 in a rounding mode."""
    try:
        nearest = total.numerator / total.denominator
    except OverflowError:
        nearest = np.inf if total > 0 else -np.inf
    if mode in (None, "rn"):
        return nearest
    start = np.clip(np.float64(nearest), -np.finfo(np.float64).max, np.finfo(np.float64).max)
    rest = total - Fraction(float(start))
    return nudge(start, np.float64((rest > 0) - (rest < 0)), mode)


def div64(a, b, mode):
    a, b = np.broadcast_arrays(a, b)
    q = a / b
    (ma, _), (mb, _) = np.frexp(a), np.frexp(b)
    near = ma / mb
    p, e = two_product(near, mb)
    rest = ((ma - p) - e) * np.sign(mb)
    regular = np.isfinite(q) & np.isfinite(rest)
    small = np.isfinite(a) & np.isfinite(b) & (a != 0) & (b != 0) & ((np.abs(q) < 2.0**-1021) | np.isinf(q))
    return exactly(np.where(regular, nudge(q, rest, mode), q), small, lambda x, y: Fraction(x) / Fraction(y), (a, b), mode)


def sqrt64(a, mode):
    r = np.sqrt(a)
    m, exponent = np.frexp(a)
    m = np.where(exponent & 1, 2 * m, m)
    near = np.sqrt(m)
    p, e = two_product(near, near)
    rest = (m - p) - e
    return np.where(np.isfinite(r) & np.isfinite(rest), nudge(r, rest, mode), r)
