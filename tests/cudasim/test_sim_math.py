"""Every function of CUDA's math library, within the error that the CUDA C++ Programming Guide documents."""

import mpmath
import numpy as np
import pytest

mp = mpmath.mp.clone()
mp.prec = 120

# function: range of x, ulp documented for float and for double ("Mathematical Functions", tables 1 and 2), reference
UNARY = {
    "acos": ((-1, 1), 2, 2, mp.acos), "acosh": ((1, 1e4), 4, 3, mp.acosh), "asin": ((-1, 1), 2, 2, mp.asin),
    "asinh": ((-1e4, 1e4), 3, 3, mp.asinh), "atan": ((-50, 50), 2, 2, mp.atan), "atanh": ((-1, 1), 3, 2, mp.atanh),
    "cbrt": ((-1e5, 1e5), 1, 1, lambda x: mp.sign(x) * mp.cbrt(abs(x))),
    "rcbrt": ((-1e5, 1e5), 1, 1, lambda x: mp.sign(x) / mp.cbrt(abs(x))),
    "cos": ((-1e5, 1e5), 2, 2, mp.cos), "cosh": ((-40, 40), 2, 2, mp.cosh), "cospi": ((-40, 40), 1, 2, mp.cospi),
    "sin": ((-1e5, 1e5), 2, 2, mp.sin), "sinh": ((-40, 40), 3, 2, mp.sinh), "sinpi": ((-40, 40), 1, 2, mp.sinpi),
    "tan": ((-1e4, 1e4), 4, 2, mp.tan), "tanh": ((-9, 9), 2, 2, mp.tanh),
    "exp": ((-80, 80), 2, 1, mp.exp), "exp2": ((-100, 100), 2, 1, lambda x: mp.power(2, x)),
    "exp10": ((-30, 30), 2, 1, lambda x: mp.power(10, x)), "expm1": ((-10, 10), 1, 1, mp.expm1),
    "log": ((0, 1e5), 1, 1, mp.log), "log2": ((0, 1e5), 1, 1, lambda x: mp.log(x) / mp.log(2)),
    "log10": ((0, 1e5), 2, 1, mp.log10), "log1p": ((-1, 10), 1, 1, mp.log1p),
    "sqrt": ((0, 1e9), 0, 0, mp.sqrt), "rsqrt": ((0, 1e9), 2, 1, lambda x: 1 / mp.sqrt(x)),
    "erf": ((-5, 5), 2, 2, mp.erf), "erfc": ((-5, 5), 4, 5, mp.erfc), "erfinv": ((-1, 1), 2, 5, mp.erfinv),
    "erfcinv": ((0.01, 2), 4, 6, lambda x: mp.erfinv(1 - x)), "erfcx": ((-5, 20), 4, 4, lambda x: mp.exp(x * x) * mp.erfc(x)),
    "normcdf": ((-6, 6), 5, 5, mp.ncdf),
    "normcdfinv": ((0.01, 0.99), 5, 8, lambda x: mp.sqrt(2) * mp.erfinv(2 * x - 1)),
    "lgamma": ((0.1, 60), 6, 4, mp.loggamma), "tgamma": ((0.1, 30), 11, 10, mp.gamma),
    "j0": ((-8, 8), 9, 7, lambda x: mp.besselj(0, x)), "j1": ((-8, 8), 9, 7, lambda x: mp.besselj(1, x)),
    "y0": ((0.1, 8), 9, 7, lambda x: mp.bessely(0, x)), "y1": ((0.1, 8), 9, 7, lambda x: mp.bessely(1, x)),
    "cyl_bessel_i0": ((-20, 20), 6, 6, lambda x: mp.besseli(0, x)),
    "cyl_bessel_i1": ((-20, 20), 6, 6, lambda x: mp.besseli(1, x)),
    "ceil": ((-9, 9), 0, 0, mp.ceil), "floor": ((-9, 9), 0, 0, mp.floor), "fabs": ((-9, 9), 0, 0, abs),
    "trunc": ((-9, 9), 0, 0, lambda x: mp.mpf(int(x))), "rint": ((-9, 9), 0, 0, mp.nint),
    "round": ((-9, 9), 0, 0, lambda x: mp.sign(x) * mp.floor(abs(x) + mp.mpf("0.5"))),
}

BINARY = {  # ranges of a and b
    "pow": ((0, 20), (-9, 9), 4, 2, mp.power), "atan2": ((-9, 9), (-9, 9), 3, 2, mp.atan2),
    "hypot": ((-1e5, 1e5), (-1e5, 1e5), 3, 2, mp.hypot), "rhypot": ((-9, 9), (-9, 9), 2, 2, lambda a, b: 1 / mp.hypot(a, b)),
    "fmod": ((-1e6, 1e6), (-9, 9), 0, 0, lambda a, b: a - b * mp.mpf(int(a / b))),
    "remainder": ((-1e6, 1e6), (-9, 9), 0, 0, lambda a, b: a - b * mp.nint(a / b)),
    "fdim": ((-9, 9), (-9, 9), 0, 0, lambda a, b: max(a - b, mp.mpf(0))),
    "copysign": ((-9, 9), (-9, 9), 0, 0, lambda a, b: abs(a) * mp.sign(b)),
    "fmin": ((-9, 9), (-9, 9), 0, 0, min), "fmax": ((-9, 9), (-9, 9), 0, 0, max),
    "ldexp": ((-9, 9), (-9, 9), 0, 0, lambda a, b: a * mp.power(2, int(b))),
}
COUNT = 96


def ulps(got, exact, dtype):
    """The distance of each result from the exact value, in units of the last place of the value."""
    near = np.array([float(v) for v in exact], dtype)
    unit = np.spacing(np.maximum(np.abs(near), np.finfo(dtype).tiny)).astype(dtype)
    return np.array([float(abs(mp.mpf(float(g)) - v) / mp.mpf(float(u))) for g, v, u in zip(got, exact, unit, strict=True)])


TYPES = pytest.mark.parametrize(("ctype", "dtype", "column"), [("float", np.float32, 0), ("double", np.float64, 1)])


@TYPES
def test_functions_of_one_number(module, rng, ctype, dtype, column):
    suffix = "f" if ctype == "float" else ""
    body = "\n".join(f"case {k}: y[at] = {name}{suffix}(x[at]); break;" for k, name in enumerate(UNARY))
    source = f"""extern "C" __global__ void k({ctype}* y, const {ctype}* x) {{
      int at = blockIdx.x * blockDim.x + threadIdx.x; switch (blockIdx.x) {{ {body} }} }}"""
    x = np.stack([rng.uniform(*spec[0], COUNT) for spec in UNARY.values()]).astype(dtype)
    y = np.zeros_like(x)
    module(source)["k"].launch(len(UNARY), COUNT, (y, x))
    wrong = {}
    for (name, spec), got, at in zip(UNARY.items(), y, x, strict=True):
        worst = ulps(got, [spec[3](mp.mpf(float(v))) for v in at], dtype).max()
        if not worst <= spec[1 + column] + (0.5 if spec[1 + column] else 0.501):
            wrong[name] = worst
    assert not wrong


@TYPES
def test_functions_of_two_numbers(module, rng, ctype, dtype, column):
    suffix = "f" if ctype == "float" else ""
    body = "\n".join(f"case {k}: y[at] = {name}{suffix}(a[at], b[at]); break;" for k, name in enumerate(BINARY))
    source = f"""extern "C" __global__ void k({ctype}* y, const {ctype}* a, const {ctype}* b) {{
      int at = blockIdx.x * blockDim.x + threadIdx.x; switch (blockIdx.x) {{ {body} }} }}"""
    a, b = (np.stack([rng.uniform(*spec[side], COUNT) for spec in BINARY.values()]).astype(dtype) for side in (0, 1))
    y = np.zeros_like(a)
    module(source)["k"].launch(len(BINARY), COUNT, (y, a, b))
    wrong = {}
    for (name, spec), got, *pair in zip(BINARY.items(), y, a, b, strict=True):
        exact = [spec[4](mp.mpf(float(p)), mp.mpf(float(q))) for p, q in zip(*pair, strict=True)]
        worst = ulps(got, exact, dtype).max()
        if not worst <= spec[2 + column] + (0.5 if spec[2 + column] else 0.501):
            wrong[name] = worst
    assert not wrong


HALF = {  # function: range, reference
    "hsin": ((-9, 9), mp.sin), "hcos": ((-9, 9), mp.cos), "hexp": ((-9, 9), mp.exp), "hexp2": ((-9, 9), lambda x: mp.power(2, x)),
    "hexp10": ((-4, 4), lambda x: mp.power(10, x)), "hlog": ((0.1, 99), mp.log),
    "hlog2": ((0.1, 99), lambda x: mp.log(x) / mp.log(2)), "hlog10": ((0.1, 99), mp.log10), "hsqrt": ((0, 99), mp.sqrt),
    "hrsqrt": ((0.1, 99), lambda x: 1 / mp.sqrt(x)), "hrcp": ((0.1, 99), lambda x: 1 / x), "hfloor": ((-9, 9), mp.floor),
    "hceil": ((-9, 9), mp.ceil), "htrunc": ((-9, 9), lambda x: mp.mpf(int(x))), "hrint": ((-9, 9), mp.nint),
    "htanh": ((-4, 4), mp.tanh), "__hneg": ((-9, 9), lambda x: -x), "__habs": ((-9, 9), abs),
}


@pytest.mark.parametrize(("ctype", "bits"), [("__half", 11), ("__nv_bfloat16", 8)])
@pytest.mark.parametrize("packed", [False, True])
def test_functions_of_halves(module, rng, ctype, bits, packed):
    kind = {"__half": "__half2", "__nv_bfloat16": "__nv_bfloat162"}[ctype] if packed else ctype
    names = [name.replace("h", "h2", 1) if packed and name[0] == "h" else f"{name}2" if packed else name for name in HALF]
    body = "\n".join(f"case {k}: y[at] = {name}(x[at]); break;" for k, name in enumerate(names))
    source = f"""#include <cuda_fp16.h>
    #include <cuda_bf16.h>
    extern "C" __global__ void k({kind}* y, const {kind}* x) {{
      int at = blockIdx.x * blockDim.x + threadIdx.x; switch (blockIdx.x) {{ {body} }} }}"""
    wide = np.stack([rng.uniform(*spec[0], COUNT) for spec in HALF.values()]).astype(np.float32)
    if ctype == "__half":
        x = wide.astype(np.float16)
        read = (lambda v: v.astype(np.float64))
    else:
        x = (wide.view(np.uint32) >> 16).astype(np.uint16)
        read = (lambda v: (v.astype(np.uint32) << 16).view(np.float32).astype(np.float64))
    y = np.zeros_like(x)
    module(source)["k"].launch(len(HALF), COUNT // (2 if packed else 1), (y, x))
    wrong = {}
    for (name, spec), got, at in zip(HALF.items(), read(y), read(x), strict=True):
        exact = np.array([float(spec[1](mp.mpf(float(v)))) for v in at])
        unit = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(exact), 2.0**-14))) - (bits - 1))
        worst = (np.abs(got - exact) / unit).max()
        if not worst <= 1:  # the float functions below them are rounded once more
            wrong[name] = worst
    assert not wrong
