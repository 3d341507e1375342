"""The .approx functions, as inaccurate as NVIDIA documents them.

A result is moved away from the true value by up to the documented error; how far and in which direction follows from a
hash of the operand's bits, so results repeat. Zeros, infinities and NaN stay exact. Bounds: PTX ISA, "Floating Point
Instructions", in the tables of each instruction, and where an instruction is a function of the CUDA math library by itself
(exp2f), the tighter one of the CUDA C++ Programming Guide, "Mathematical Functions".
"""

import numpy as np

HALF_ULP = 2.0**-24  # the final rounding to float32 takes its share of the bound

RELATIVE = {
    "rsqrt": 2.0**-22.9, "sqrt": 2.0**-23, "rcp": 2.0**-23, "div": 2.0**-22, "div.full": 2.0**-22,
    "tanh": 2.0**-11,
}


def noise(operand):
    """A number in [-1, 1] per element that depends on nothing but the element's bits."""
    bits = operand.view({2: np.uint16, 4: np.uint32, 8: np.uint64}[operand.dtype.itemsize]).astype(np.uint64)
    mixed = bits * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0


def relative(name, result, operand, exact):
    """A float64 result moved by the documented relative error and rounded to float32."""
    if exact:
        return result.astype(np.float32)
    return (result * (1.0 + noise(operand) * (RELATIVE[name] - HALF_ULP))).astype(np.float32)


def ex2(x, exact):
    """Within 2 ulp, half of which is left to the functions built on it (expf, 2 ulp).

    Exact for whole x: NVIDIA's float64 tanh and erf rely on it.
    """
    out = np.exp2(x.astype(np.float64))
    near = out.astype(np.float32)
    if exact:
        return near
    moved = (out + noise(x) * np.spacing(np.where(np.isfinite(near), near, np.float32(0)))).astype(np.float32)
    return np.where(np.rint(x) == x, near, moved)


def lg2(x, exact):
    """Absolute error 2**-22 for x in (0.5, 2), relative error 2**-22 elsewhere."""
    out = np.log2(x.astype(np.float64))
    if exact:
        return out.astype(np.float32)
    near = (x > 0.5) & (x < 2)
    bound = np.where(near, 1.0, np.abs(out)) * (2.0**-22 - HALF_ULP)
    moved = out + np.where(np.isfinite(out), noise(x) * bound, 0.0)
    return np.where(x == 1, np.float32(0), moved.astype(np.float32))


def rcp(x, exact):
    return relative("rcp", 1.0 / x.astype(np.float64), x, exact)


def sqrt(x, exact):
    return relative("sqrt", np.sqrt(x.astype(np.float64)), x, exact)


def rsqrt(x, exact):
    return relative("rsqrt", 1.0 / np.sqrt(x.astype(np.float64)), x, exact)


def tanh(x, exact):
    return np.clip(relative("tanh", np.tanh(x.astype(np.float64)), x, exact), np.float32(-1), np.float32(1))


def sine(x, exact, function=np.sin):
    """Absolute error 2**-20.5 within [-2 pi, 2 pi], growing with |x| beyond."""
    out = function(x.astype(np.float64))
    if exact:
        return out.astype(np.float32)
    bound = 2.0**-20.5 * np.maximum(1.0, np.abs(x.astype(np.float64)) / (2 * np.pi))
    moved = out + noise(x) * np.where(np.isfinite(bound), bound - HALF_ULP, 0.0)
    # A zero operand is exact: sin(0) = 0 and cos(0) = 1.
    return np.where(x == 0, function(x), np.clip(moved, -1, 1).astype(np.float32))


def cosine(x, exact):
    return sine(x, exact, np.cos)


def divide(a, b, exact, full):
    """a / b within 2 ulp; the fast form gives 0 where |b| exceeds 2**126, as documented."""
    out = relative("div.full" if full else "div", a.astype(np.float64) / b, np.asarray(a * np.float32(1)) + b, exact)
    if full:
        return out
    huge = np.abs(b) > np.float32(2.0**126)
    return np.where(huge & np.isfinite(b) & np.isfinite(a), np.copysign(np.float32(0), out), out)


def rcp64(x, exact):
    """rcp.approx.ftz.f64 reads the high 32 bits of its operand and is good to about 2**-20; libm refines it."""
    return approximate64(lambda y: 1.0 / y, x, exact)


def rsqrt64(x, exact, truncated):
    """rsqrt.approx.f64 is libm's rsqrt, good to 1 ulp, as its two roundings are; rsqrt.approx.ftz.f64 is as rough as rcp64."""
    return approximate64(lambda y: 1.0 / np.sqrt(y), x, exact) if truncated else 1.0 / np.sqrt(x)


def approximate64(function, x, exact):
    top = (x.view(np.uint64) & np.uint64(0xFFFFFFFF00000000)).view(np.float64)
    out = function(top)
    if not exact:
        out = out * (1.0 + noise(x) * 2.0**-23)
    return (out.view(np.uint64) & np.uint64(0xFFFFFFFF00000000)).view(np.float64)
