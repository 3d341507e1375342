"""Floating point: correct rounding, fused sums, half precisions, conversions, and the functions of CUDA's libm."""

import math
from fractions import Fraction

import numpy as np
import pytest

from gpugrad.cudasim import Checks

EDGES32 = np.array([
    0, -0.0, 1, -1, 1.5, 2.0**-149, -(2.0**-149), 2.0**-126, 1.1754942e-38, 3.4028235e38, -3.4028235e38, np.inf, -np.inf, np.nan,
    1 + 2.0**-23, 1 - 2.0**-24, 0.1, 1 / 3, 16777217, 2.0**100, -(2.0**-100)], np.float32)


def values(rng, n, dtype):
    """Numbers of every size, with the edges among them."""
    limit = 300 if dtype == np.float64 else 37
    x = rng.standard_normal(n) * 10.0 ** rng.integers(-limit, limit, n)
    x[: EDGES32.size] = rng.permutation(EDGES32)
    x[EDGES32.size: 2 * EDGES32.size] = EDGES32
    return x.astype(dtype)


def nearest(exact, dtype):
    """A Fraction as the nearest float of a dtype, ties to even; infinite where that overflows."""
    try:
        wide = float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf
    if dtype == np.float64 or exact == 0:
        return wide
    unit = Fraction(2) ** max(math.frexp(wide)[1] - 24, -149)
    with np.errstate(over="ignore"):
        return np.float32(float(round(exact / unit) * unit))


BINARY = r"""
template <typename T> __global__ void binary(T* y, const T* a, const T* b, const T* c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;
  OPS
}"""


def directed_reference(exact, near, dtype, mode):
    """The float of a dtype that a directed rounding picks for an exact value, near being its rounding to nearest."""
    if not np.isfinite(near):
        return near
    with np.errstate(over="ignore"):
        up, down = np.nextafter(near, dtype(np.inf)), np.nextafter(near, dtype(-np.inf))
    value = Fraction(float(near))
    towards_zero = {"rz": "rm" if exact > 0 else "rp"}.get(mode, mode)
    if towards_zero == "rm":
        return down if value > exact else near
    return up if value < exact else near


@pytest.mark.parametrize("mode", ["rn", "rz", "ru", "rd"])
@pytest.mark.parametrize(("ctype", "dtype", "prefix"), [("float", np.float32, "f"), ("double", np.float64, "d")])
def test_arithmetic_in_every_rounding_mode_is_exact(module, rng, mode, ctype, dtype, prefix):
    add = f"__{'f' if prefix == 'f' else 'd'}add_{mode}"
    mul, div, root = (f"__{prefix}{name}_{mode}" for name in ("mul", "div", "sqrt"))
    fma = f"__fma{'f' if prefix == 'f' else ''}_{mode}"
    ops = f"""y[i] = {add}(a[i], b[i]); y[n + i] = {mul}(a[i], b[i]); y[2 * n + i] = {div}(a[i], b[i]);
              y[3 * n + i] = {root}(a[i]); y[4 * n + i] = {fma}(a[i], b[i], c[i]);"""
    n = 600
    a, b, c = (values(rng, n, dtype) for _ in range(3))
    a[300:450] = rng.standard_normal(150)
    b[300:450] = rng.standard_normal(150)
    with np.errstate(all="ignore"):
        c[300:375] = -(a[300:375] * b[300:375])
    y = np.zeros((5, n), dtype)
    name = f"binary<{ctype}>"
    module(BINARY.replace("OPS", ops), names=(name,))[name].launch(5, 128, (y, a, b, c, np.int32(n)))
    ptx_mode = {"ru": "rp", "rd": "rm"}.get(mode, mode)
    checked = 0
    for i in range(n):
        if not (np.isfinite(a[i]) and np.isfinite(b[i]) and np.isfinite(c[i])):
            continue
        fa, fb, fc = (Fraction(float(v[i])) for v in (a, b, c))
        exact = [fa + fb, fa * fb, fa / fb if fb else None, None, fa * fb + fc]
        for row, value in enumerate(exact):
            if value is None or value == 0:
                continue
            near = dtype(nearest(value, dtype))
            if np.isinf(near):
                continue
            want = near if ptx_mode == "rn" else directed_reference(value, near, dtype, ptx_mode)
            assert y[row, i] == want, (row, i, a[i], b[i], c[i], y[row, i], want)
            checked += 1
        if a[i] > 0:
            root = Fraction(float(y[3, i]))
            below, above = (Fraction(float(np.nextafter(y[3, i], dtype(s)))) for s in (-np.inf, np.inf))
            if ptx_mode in ("rm", "rz"):
                assert root**2 <= fa < above**2
            elif ptx_mode == "rp":
                assert below**2 < fa <= root**2
            else:
                assert ((below + root) / 2) ** 2 <= fa <= ((above + root) / 2) ** 2
            checked += 1
    assert checked > 1000


def test_fused_multiply_add_rounds_once_where_float64_would_round_twice(module):
    source = r"""
    extern "C" __global__ void fused(float* y, const float* a, const float* b, const float* c) {
      int i = threadIdx.x; y[i] = fmaf(a[i], b[i], c[i]);
    }"""
    # a * b ends in a tie of float32 plus a bit that float64 cannot hold beside it.
    a = np.array([1 + 2.0**-12, 1 + 2.0**-12, 2.0**-75], np.float32)
    b = np.array([1 + 2.0**-12, 1 + 2.0**-12, 2.0**-75 * 1.5], np.float32)
    c = np.array([2.0**-60, -(2.0**-60), 0], np.float32)
    exact = [Fraction(float(p)) * Fraction(float(q)) + Fraction(float(r)) for p, q, r in zip(a, b, c, strict=True)]
    y = np.zeros(3, np.float32)
    module(source)["fused"].launch(1, 3, (y, a, b, c))
    assert y.tolist() == [nearest(e, np.float32) for e in exact]
    assert y[0] != y[1]


def test_denormals_are_kept_and_flushed_on_request(module):
    source = r"""
    extern "C" __global__ void flush(float* y, const float* x) {
      float kept = x[0] * 0.5f, gone;
      asm("mul.ftz.f32 %0, %1, 0f3F000000;" : "=f"(gone) : "f"(x[0]));
      y[0] = kept; y[1] = gone;
    }"""
    x, y = np.array([2.0**-126], np.float32), np.ones(2, np.float32)
    module(source)["flush"].launch(1, 1, (y, x))
    assert y.tolist() == [2.0**-127, 0.0]


HALF = r"""
#include <cuda_fp16.h>
#include <cuda_bf16.h>
template <typename T> __global__ void half_ops(T* y, const T* a, const T* b, const T* c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;
  y[i] = a[i] + b[i]; y[n + i] = a[i] - b[i]; y[2 * n + i] = a[i] * b[i]; y[3 * n + i] = __hfma(a[i], b[i], c[i]);
  y[4 * n + i] = a[i] < b[i] ? a[i] : b[i]; y[5 * n + i] = __hmax(a[i], b[i]); y[6 * n + i] = -a[i];
  y[7 * n + i] = T((float)a[i] / (float)b[i]); y[8 * n + i] = __habs(a[i]);
}"""


def bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bf16(x):
    """float64 to the nearest bfloat16, ties to even, as float32."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(mantissa, 8)), exponent - 8).astype(np.float32)


@pytest.mark.parametrize("kind", ["__half", "__nv_bfloat16"])
def test_half_precision_arithmetic_rounds_once(module, rng, arch, kind):
    if kind == "__nv_bfloat16" and arch == "sm_75":
        arch = "sm_80"  # bfloat16 instructions begin with sm_80
    n = 500
    x = rng.standard_normal((3, n)).astype(np.float32)
    if kind == "__half":
        a, b, c = x.astype(np.float16)
        read, near = (lambda bits: bits.astype(np.float64)), (lambda v: v.astype(np.float16).astype(np.float64))
    else:
        a, b, c = (x.view(np.uint32) >> 16).astype(np.uint16)
        read, near = (lambda bits: bf16(bits).astype(np.float64)), (lambda v: to_bf16(v).astype(np.float64))
    y = np.zeros((9, n), a.dtype)
    name = f"half_ops<{kind}>"
    module(HALF, arch, (name,))[name].launch(4, 128, (y, a, b, c, np.int32(n)))
    wa, wb, wc = read(a), read(b), read(c)
    expected = [near(wa + wb), near(wa - wb), near(wa * wb), near(wa * wb + wc), np.minimum(wa, wb), np.maximum(wa, wb), -wa,
                near((wa.astype(np.float32) / wb.astype(np.float32)).astype(np.float64)), np.abs(wa)]
    np.testing.assert_array_equal(read(y), expected)


def test_packed_halves_and_their_conversions(module, rng):
    source = r"""
    #include <cuda_fp16.h>
    extern "C" __global__ void packed(__half2* y, float2* z, const __half2* a, const __half2* b) {
      int i = threadIdx.x;
      y[3 * i] = __hfma2(a[i], b[i], a[i]);
      y[3 * i + 1] = __hmul2(__hadd2(a[i], b[i]), __float2half2_rn(0.5f));
      y[3 * i + 2] = __floats2half2_rn(__low2float(a[i]) + 1, __high2float(b[i]));
      z[i] = __half22float2(__lowhigh2highlow(a[i]));
    }"""
    a, b = rng.standard_normal((2, 64, 2)).astype(np.float16)
    y, z = np.zeros((64, 3, 2), np.float16), np.zeros((64, 2), np.float32)
    module(source)["packed"].launch(1, 64, (y, z, a, b))
    wide = a.astype(np.float64)
    np.testing.assert_array_equal(y[:, 0], (wide * b + wide).astype(np.float16))
    np.testing.assert_array_equal(y[:, 1], ((a + b) * np.float16(0.5)))
    np.testing.assert_array_equal(y[:, 2], np.stack([a[:, 0].astype(np.float32) + 1, b[:, 1]], axis=1).astype(np.float16))
    np.testing.assert_array_equal(z, a[:, ::-1].astype(np.float32))


def test_conversions_between_all_numbers(module, rng):
    source = r"""
    extern "C" __global__ void convert(int* i32, unsigned* u32, long long* i64, unsigned char* u8, float* f, double* d,
                                       const float* x, const double* z, const long long* k, int n) {
      int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;
      i32[i] = __float2int_rz(x[i]); i32[n + i] = __float2int_rn(x[i]); i32[2 * n + i] = __float2int_ru(x[i]);
      i32[3 * n + i] = __double2int_rd(z[i]); u32[i] = __float2uint_rz(x[i]); i64[i] = __double2ll_rz(z[i]);
      u8[i] = (unsigned char)(int)x[i]; f[i] = (float)k[i]; f[n + i] = __double2float_rz(z[i]);
      f[2 * n + i] = __ll2float_rd(k[i]); d[i] = (double)k[i]; d[n + i] = __ll2double_ru(k[i]);
    }"""
    n = 200
    x = (rng.standard_normal(n) * 10.0 ** rng.integers(-2, 12, n)).astype(np.float32)
    x[:4] = [2.5, -2.5, np.nan, 1e20]
    z = rng.standard_normal(n) * 10.0 ** rng.integers(-2, 9, n)
    k = rng.integers(-(1 << 62), 1 << 62, n)
    i32, u32 = np.zeros((4, n), np.int32), np.zeros(n, np.uint32)
    i64, u8, f, d = np.zeros(n, np.int64), np.zeros(n, np.uint8), np.zeros((3, n), np.float32), np.zeros((2, n))
    module(source)["convert"].launch(2, 128, (i32, u32, i64, u8, f, d, x, z, k, np.int32(n)))
    def clamp(v, dtype):
        info = np.iinfo(dtype)
        return np.where(np.isnan(v), 0, np.clip(v, info.min, info.max)).astype(dtype)
    w = x.astype(np.float64)
    for row, function in enumerate((np.trunc, np.rint, np.ceil)):
        np.testing.assert_array_equal(i32[row], clamp(function(w), np.int32))
    np.testing.assert_array_equal(i32[3], clamp(np.floor(z), np.int32))
    np.testing.assert_array_equal(u32, clamp(np.trunc(w), np.uint32))
    np.testing.assert_array_equal(i64, np.trunc(z).astype(np.int64))
    np.testing.assert_array_equal(u8, clamp(np.trunc(w), np.int32).astype(np.uint8))
    np.testing.assert_array_equal(f[0], k.astype(np.float32))
    assert (np.abs(f[1].astype(np.float64)) <= np.abs(z)).all()
    assert (np.abs(z) < np.abs(np.nextafter(f[1], np.copysign(np.float32(np.inf), f[1])))).all()
    assert all(int(f[2, i]) <= int(k[i]) < int(np.nextafter(f[2, i], np.float32(np.inf))) for i in range(n))
    np.testing.assert_array_equal(d[0], k.astype(np.float64))
    assert all(int(np.nextafter(d[1, i], -np.inf)) < int(k[i]) <= int(d[1, i]) for i in range(n))


# function: (range, ulp documented in the CUDA C++ Programming Guide for float, for double)
LIBM = {
    "exp": ((-80, 80), 2, 1), "log": ((1e-6, 1e6), 1, 1), "sin": ((-30, 30), 2, 2), "cos": ((-1e6, 1e6), 2, 2),
    "tanh": ((-5, 5), 2, 2), "erf": ((-4, 4), 2, 2), "sqrt": ((0, 1e9), 0, 0), "rsqrt": ((1e-6, 1e6), 2, 1),
    "log1p": ((-0.9, 10), 1, 1), "expm1": ((-5, 5), 1, 1), "exp2": ((-100, 100), 2, 1), "log2": ((1e-5, 1e5), 1, 1),
    "atan": ((-50, 50), 2, 2), "asin": ((-1, 1), 2, 2), "sinh": ((-10, 10), 3, 2), "cbrt": ((-100, 100), 1, 1),
    "floor": ((-9, 9), 0, 0), "trunc": ((-9, 9), 0, 0), "rint": ((-9, 9), 0, 0),
}
REFERENCE = {"erf": np.vectorize(math.erf), "rsqrt": lambda x: 1 / np.sqrt(x), "atan": np.arctan, "asin": np.arcsin}


@pytest.mark.parametrize(("ctype", "dtype", "column"), [("float", np.float32, 1), ("double", np.float64, 2)])
def test_math_library_keeps_its_documented_error(module, rng, arch, ctype, dtype, column):
    suffix = "f" if ctype == "float" else ""
    body = "\n".join(f"y[{k} * n + i] = {name}{suffix}(x[{k} * n + i]);" for k, name in enumerate(LIBM))
    source = f"""extern "C" __global__ void libm({ctype}* y, const {ctype}* x, int n) {{
      int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;
      {body} }}"""
    n = 1000
    x = np.stack([rng.uniform(*spec[0], n) for spec in LIBM.values()]).astype(dtype)
    y = np.zeros_like(x)
    module(source, arch)["libm"].launch(8, 128, (y, x, np.int32(n)))
    for name, got, at in zip(LIBM, y, x, strict=True):
        exact = REFERENCE.get(name, getattr(np, name, None))(at.astype(np.longdouble if name != "erf" else np.float64))
        ulps = np.abs(got - exact) / np.spacing(np.abs(exact.astype(dtype)))
        # Half an ulp for the reference's own rounding.
        assert not (ulps > LIBM[name][column] + 0.5).any(), f"{name}: {float(ulps.max()):.2f} ulp"


def test_large_arguments_of_sine_take_the_slow_path(module):
    source = r"""
    extern "C" __global__ void wave(float* y, const float* x) { y[threadIdx.x] = sinf(x[threadIdx.x]); }"""
    x = np.array([1e5, 3e7, 1e20, 2.0**127, -1e30, 0.5, np.inf, -0.0], np.float32)
    y = np.zeros_like(x)
    counters = module(source)["wave"].launch(1, 8, (y, x))
    exact = [math.sin(float(v)) for v in x[:6]]
    assert (np.abs(y[:6] - exact) <= 2 * np.spacing(np.abs(np.float32(exact)))).all()
    assert np.isnan(y[6])
    assert np.signbit(y[7])
    assert counters.local_bytes > 0


def test_approximations_are_as_rough_as_documented_and_exact_on_request(module, rng):
    source = r"""
    extern "C" __global__ void rough(float* y, const float* x, int n) {
      int i = threadIdx.x; float t;
      asm("tanh.approx.f32 %0, %1;" : "=f"(t) : "f"(x[i]));
      y[i] = t; y[n + i] = __sinf(x[i]); y[2 * n + i] = __fdividef(x[i], 3.f); y[3 * n + i] = __log2f(x[i] + 4);
    }"""
    x = rng.uniform(-3, 3, 512).astype(np.float32)
    kernel, rough, exact = module(source)["rough"], np.zeros((4, 512), np.float32), np.zeros((4, 512), np.float32)
    kernel.launch(1, 512, (rough, x, np.int32(512)))
    kernel.launch(1, 512, (exact, x, np.int32(512)), checks=Checks(exact=True))
    wide = x.astype(np.float64)
    true = np.stack([np.tanh(wide), np.sin(wide), wide / 3, np.log2((x + np.float32(4)).astype(np.float64))])
    np.testing.assert_allclose(exact, true, rtol=1e-7)
    relative = np.abs(rough - true) / np.abs(true)
    assert 2.0**-13 < relative[0].max() <= 2.0**-11
    assert 2.0**-23 < np.abs(rough[1] - true[1]).max() <= 2.0**-20.5
    assert 2.0**-24 < relative[2].max() <= 2.0**-22
    assert np.abs(rough[3] - true[3]).max() <= 2.0**-22 * np.maximum(1, np.abs(true[3])).max()


def test_minimum_and_maximum_ignore_nan_and_order_signed_zeros(module):
    source = r"""
    extern "C" __global__ void extremes(float* y, const float* a, const float* b) {
      int i = threadIdx.x; y[2 * i] = fminf(a[i], b[i]); y[2 * i + 1] = fmaxf(a[i], b[i]);
    }"""
    a, b = np.array([np.nan, 1, 0.0, -0.0], np.float32), np.array([2, np.nan, -0.0, 0.0], np.float32)
    y = np.zeros((4, 2), np.float32)
    module(source)["extremes"].launch(1, 4, (y, a, b))
    assert y.tolist() == [[2, 2], [1, 1], [0, 0], [0, 0]]
    assert np.signbit(y[2:, 0]).all()
    assert not np.signbit(y[2:, 1]).any()
