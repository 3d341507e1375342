"""Comparing, choosing and rounding: what is constant between its jumps, and what takes one of its inputs."""
import math

from gpugrad.arrays import choose
from gpugrad.graph.primitive import Primitive, aligned, constant, elementwise

# constants -------------------------------------------------------------------------------------------------------------

for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
             "bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift", "bitwise_count", "gcd", "lcm",
             "isfinite", "isinf", "isnan", "isneginf", "isposinf", "iscomplex", "isreal", "isclose", "signbit",
             "floor", "ceil", "trunc", "rint", "floor_divide"):
    constant(name)
for name in ("logical_and", "logical_or", "logical_xor", "logical_not"):
    constant(name, impl=choose.logical(name))
constant("round", impl=lambda xp: lambda x, decimals: x.round(decimals))
constant("spacing", impl=choose.spacing)
constant("ahead", impl=choose.ahead)             # 1 where a > b, 1/2 where they are equal, else 0

# choosing --------------------------------------------------------------------------------------------------------------
# Equal inputs share the slope of maximum and minimum. A clipped value has the slope of the inside at both bounds.

elementwise("maximum", lambda m, y, a, b: m.ahead(a, b), lambda m, y, a, b: m.ahead(b, a))
elementwise("minimum", lambda m, y, a, b: m.ahead(b, a), lambda m, y, a, b: m.ahead(a, b))


def instead_of_nan(m, x, value):
    return m.where(x == x, x, value) if hasattr(x, "dtype") else x if x == x else value


elementwise("fmax", lambda m, y, a, b: m.ahead(a, instead_of_nan(m, b, -math.inf)),
            lambda m, y, a, b: m.ahead(b, instead_of_nan(m, a, -math.inf)))
elementwise("fmin", lambda m, y, a, b: m.ahead(instead_of_nan(m, b, math.inf), a),
            lambda m, y, a, b: m.ahead(instead_of_nan(m, a, math.inf), b))


def within(x, low, high):
    if low is None or high is None:
        return x >= low if high is None else x <= high
    return (x >= low) & (x <= high)


elementwise("clip", lambda m, y, x, low, high: within(x, low, high),
            lambda m, y, x, low, high: x < low if high is None else (x < low) & (low <= high),
            lambda m, y, x, low, high: x > high if low is None else (x > high) | (low > high), impl=choose.clip)
elementwise("heaviside", None, lambda m, y, x, half: x == 0)


def where_vjp(m, g, want, y, c, a, b):
    return (None,
            m.fit(m.masked(g, c), a) if want[1] is not None else None,
            m.fit(m.masked(g, m.logical_not(c)), b) if want[2] is not None else None)


def where_jvp(m, ts, y, c, a, b):
    _, ta, tb = ts
    if ta is None or tb is None:
        t = m.masked(tb, m.logical_not(c)) if ta is None else m.masked(ta, c)
    else:
        t = m.where(c, ta, tb)
    return m.like(t, y)


Primitive("where", where_vjp, where_jvp, impl=choose.where, keep="c", batch=aligned("where"))
Primitive("masked", lambda m, g, want, y, x, c: (m.fit(m.masked(g, c), x), None),
          jvp=lambda m, ts, y, x, c: m.masked(ts[0], c), impl=choose.masked, keep="c", batch=aligned("masked"))


def nan_to_num(xp):
    return lambda x, nan, posinf, neginf: xp.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


Primitive("nan_to_num", lambda m, g, want, y, x, **fill: (m.masked(g, m.isfinite(x)),),
          jvp=lambda m, ts, y, x, **fill: m.masked(ts[0], m.isfinite(x)), impl=nan_to_num, keep="x", batch=aligned("nan_to_num"))


def next_axis(m, size, batched, x, axis, **how):
    return m.unwrap(x, axis=axis + 1, **how)


Primitive("unwrap", lambda m, g, want, y, x, axis, **how: (g,),                        # x plus whole periods
          jvp=lambda m, ts, y, x, axis, **how: ts[0], batch=next_axis,
          impl=lambda xp: lambda x, axis, discont, period: xp.unwrap(x, discont=discont, axis=axis, period=period))
