"""Conversions to and from 8-, 6- and 4-bit floats and tf32, against the definition of their formats."""

import functools

import numpy as np
import pytest

FORMATS = {"e4m3": (4, 3, 448), "e5m2": (5, 2, 57344), "e3m2": (3, 2, 28), "e2m3": (2, 3, 7.5), "e2m1": (2, 1, 6)}


@functools.cache
def value(code, kind):
    """What the bits of a small float mean."""
    exponents, mantissas, largest = FORMATS[kind]
    mantissa, exponent = code % (1 << mantissas), code >> mantissas & (1 << exponents) - 1
    bias = (1 << exponents - 1) - 1
    size = (mantissa + (exponent > 0) * (1 << mantissas)) * 2.0 ** (max(exponent, 1) - bias - mantissas)
    if size > largest:
        size = np.inf if kind == "e5m2" and mantissa == 0 else np.nan
    return -size if code >> exponents + mantissas & 1 else size


def nearest(x, kind):
    """The codes that x may become: the nearest one, of two equally near ones the even one."""
    bits = 1 + sum(FORMATS[kind][:2])
    if np.isnan(x):
        return {0x7F} if bits == 8 else {(1 << bits - 1) - 1}
    x = np.clip(x, -FORMATS[kind][2], FORMATS[kind][2])
    codes = np.arange(1 << bits - 1) + (np.signbit(x) << bits - 1)
    distance = np.abs(np.array([value(code, kind) for code in codes.tolist()]) - x)
    best = codes[distance == np.nanmin(distance)].tolist()
    return {code for code in best if code % 2 == 0} or set(best)


def convert(module, text, source, result, x):
    """One asm statement over two arrays of float, or one of unsigned short, into unsigned."""
    kernel = f"""extern "C" __global__ void k(unsigned* y, const {source}* x, int n) {{
      int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;
      unsigned r = 0; unsigned short h = 0; {text} y[i] = {result}; }}"""
    y = np.zeros(x.shape[0], np.uint32)
    module(kernel, "sm_90")["k"].launch(-(-y.size // 128), 128, (y, np.ascontiguousarray(x), np.int32(y.size)))
    return y


@pytest.mark.parametrize("kind", FORMATS)
def test_every_code_widens_to_its_value(module, kind):
    codes = np.arange(16 if kind == "e2m1" else 64 if kind in ("e3m2", "e2m3") else 256)
    low, high = codes, codes[::-1]
    if kind == "e2m1":
        asm = 'asm("{.reg .b8 s, u; mov.b16 {s, u}, %1; cvt.rn.f16x2.e2m1x2 %0, s;}" : "=r"(r) : "h"(x[i]));'
        words = high << 4 | low
    else:
        asm, words = f'asm("cvt.rn.f16x2.{kind}x2 %0, %1;" : "=r"(r) : "h"(x[i]));', high << 8 | low
    y = convert(module, asm, "unsigned short", "r", words.astype(np.uint16))
    halves = y.view(np.float16).reshape(-1, 2)
    expected = np.array([[value(int(a), kind), value(int(b), kind)] for a, b in zip(low, high, strict=True)])
    np.testing.assert_array_equal(halves, expected)
    assert (np.signbit(halves) == np.signbit(expected))[~np.isnan(expected)].all()


@pytest.mark.parametrize("relu", ["", ".relu"])
@pytest.mark.parametrize("kind", FORMATS)
def test_rounding_to_small_floats_is_to_nearest_even_and_saturates(module, rng, kind, relu):
    largest, grid = FORMATS[kind][2], np.array([value(c, kind) for c in range(1 << sum(FORMATS[kind][:2]))])
    grid = grid[np.isfinite(grid)]
    x = np.concatenate([grid, (grid[1:] + grid[:-1]) / 2, np.nextafter((grid[1:] + grid[:-1]) / 2, 9).astype(np.float32),
                        largest * rng.random(60), [0, np.inf, np.nan, 1e30, 1e-30, largest * 1.03, largest * 1.3]])
    x = np.stack([x, -x], axis=1).astype(np.float32)
    x = x.reshape(-1, 2)
    shift = 4 if kind == "e2m1" else 8
    text = f"cvt.rn.satfinite{relu}.{kind}x2.f32"
    asm = (f'asm("{{.reg .b8 s, u; mov.b16 {{s, u}}, 0; {text} s, %1, %2; mov.b16 %0, {{s, u}};}}"' if kind == "e2m1"
           else f'asm("{text} %0, %1, %2;"') + ' : "=h"(h) : "f"(x[2 * i]), "f"(x[2 * i + 1]));'
    y = convert(module, asm, "float", "h", x)
    for (first, second), word in zip(x, y, strict=True):
        for number, code in ((first, int(word) >> shift), (second, int(word) & (1 << shift) - 1)):
            number = 0.0 if relu and number <= 0 else number  # NaN stays
            assert code in nearest(float(number), kind), (number, code)


def test_fp8_classes_of_cuda_round_trip(module):
    source = """
    #include <cuda_fp8.h>
    extern "C" __global__ void k(float* y, const float* x) {
      int t = threadIdx.x; y[t] = float(__nv_fp8_e4m3(x[t])); y[64 + t] = float(__nv_fp8_e5m2(x[t]));
      __nv_fp8x4_e4m3 four(make_float4(x[t], -x[t], 1, 2)); float4 back = float4(four); y[128 + t] = back.y;
    }"""
    x = np.linspace(-500, 500, 64).astype(np.float32)
    for architecture in ("sm_80", "sm_90", "sm_120"):
        y = np.zeros((3, 64), np.float32)
        module(source, architecture)["k"].launch(1, 64, (y, x))
        for row, kind, sign in ((0, "e4m3", 1), (1, "e5m2", 1), (2, "e4m3", -1)):
            assert [value(min(nearest(float(sign * v), kind)), kind) for v in x] == y[row].tolist()


def test_extrema_of_magnitudes_and_of_three(module, rng):
    source = """
    extern "C" __global__ void k(float* y, const float* a, const float* b, const float* c) {
      int t = threadIdx.x; float r;
      asm("min.xorsign.abs.f32 %0, %1, %2;" : "=f"(r) : "f"(a[t]), "f"(b[t])); y[t] = r;
      asm("max.f32 %0, %1, %2, %3;" : "=f"(r) : "f"(a[t]), "f"(b[t]), "f"(c[t])); y[64 + t] = r;
      asm("min.abs.f32 %0, %1, %2, %3;" : "=f"(r) : "f"(a[t]), "f"(b[t]), "f"(c[t])); y[128 + t] = r;
      unsigned long long p, q, s; asm("mov.b64 %0, {%1, %2};" : "=l"(p) : "f"(a[t]), "f"(b[t]));
      asm("mov.b64 %0, {%1, %2};" : "=l"(q) : "f"(c[t]), "f"(a[t]));
      asm("fma.rn.f32x2 %0, %1, %2, %1;" : "=l"(s) : "l"(p), "l"(q));
      asm("mov.b64 {%0, %1}, %2;" : "=f"(y[192 + t]), "=f"(y[256 + t]) : "l"(s));
    }"""
    a, b, c = rng.standard_normal((3, 64)).astype(np.float32)
    y = np.zeros((5, 64), np.float32)
    module(source, "sm_100")["k"].launch(1, 64, (y, a, b, c))
    np.testing.assert_array_equal(y[0], np.minimum(abs(a), abs(b)) * np.sign(a) * np.sign(b))
    np.testing.assert_array_equal(y[1], np.maximum(np.maximum(a, b), c))
    np.testing.assert_array_equal(y[2], np.minimum(np.minimum(abs(a), abs(b)), abs(c)))
    wide = [v.astype(np.float64) for v in (a, b, c)]
    np.testing.assert_array_equal(y[3], (wide[0] * wide[2] + wide[0]).astype(np.float32))
    np.testing.assert_array_equal(y[4], (wide[1] * wide[0] + wide[1]).astype(np.float32))


@pytest.mark.parametrize(("kind", "bits", "lowest"), [("f16", 11, -14), ("bf16", 8, -126)])
def test_modifiers_of_half_arithmetic(module, rng, kind, bits, lowest):
    operations = {"add.sat": (2, "sat"), "mul.sat": (2, "sat"), "add.ftz": (2, "ftz"), "mul.ftz": (2, "ftz"),
                  "fma.rn.ftz": (3, "ftz"), "fma.rn.sat": (3, "sat"), "fma.rn.relu": (3, "relu"), "fma.rn": (3, ""),
                  "sub": (2, "")}
    places, inputs = ["%1", "%2", "%3"], ['"h"(a[t])', '"h"(b[t])', '"h"(c[t])']
    body = "".join(f'asm("{text}.{kind} %0, {", ".join(places[:count])};" : "=h"(r) : {", ".join(inputs[:count])}); '
                   f"y[{256 * k} + t] = r; " for k, (text, (count, _)) in enumerate(operations.items()))
    source = f"""extern "C" __global__ void k(unsigned short* y, const unsigned short* a, const unsigned short* b,
      const unsigned short* c) {{ int t = threadIdx.x; unsigned short r; {body} }}"""
    exponent = rng.integers(lowest - 6, 3, (3, 256))
    exponent[1:, 128:] = rng.integers(-2, 3, (2, 128))
    with np.errstate(under="ignore"):
        x = rng.choice([-1, 1], (3, 256)) * (1 + rng.integers(0, 1 << bits - 1, (3, 256)) * 2.0 ** (1 - bits)) * 2.0**exponent
        half, top = x.astype(np.float16).view(np.uint16), x.astype(np.float32).view(np.uint32) >> 16
        x = half if kind == "f16" else top.astype(np.uint16)
    y = np.zeros((len(operations), 256), np.uint16)
    module(source, "sm_90")["k"].launch(1, 256, (y, *x))

    def read(v):
        wide = v.view(np.float16) if kind == "f16" else (v.astype(np.uint32) << 16).view(np.float32)
        return wide.astype(np.float64)

    def near(v):
        unit = 2.0 ** (max(np.frexp(v)[1] - 1, lowest) - bits + 1)
        return np.rint(v / unit) * unit
    for got, (text, (_, modifier)) in zip(read(y), operations.items(), strict=True):
        for result, *numbers in zip(got, *read(x), strict=True):
            p, q, s = (0.0 if modifier == "ftz" and abs(v) < 2.0**lowest else v for v in numbers)
            exact = {"add": p + q, "sub": p - q, "mul": p * q, "fma": p * q + s}[text.split(".")[0]]
            want = near(exact)
            want = 0.0 if modifier == "ftz" and abs(want) < 2.0**lowest else want
            want = min(max(want, 0.0), 1.0) if modifier == "sat" else max(want, 0.0) if modifier == "relu" else want
            assert result == want, (text, numbers)


def test_reductions_of_floats_over_a_warp(module, rng):
    text = ["max.f32", "min.abs.f32", "max.NaN.f32"]
    body = "".join(f'asm("redux.sync.{name} %0, %1, %2;" : "=f"(r) : "f"(x[t]), "r"(m)); y[{64 * k} + t] = r; '
                   for k, name in enumerate(text))
    source = f"""extern "C" __global__ void k(float* y, const float* x) {{
      int t = threadIdx.x; unsigned m = t % 32 < 8 ? 0xff : 0xffffff00; float r;
      if (t % 32 < 8) {{ {body} }} else {{ {body} }} }}"""
    x = rng.standard_normal(64).astype(np.float32)
    x[3], x[40:64] = np.nan, np.nan
    y = np.zeros((3, 2, 32), np.float32)
    module(source, "sm_100")["k"].launch(1, 64, (y, x))
    for warp, part in ((0, slice(0, 8)), (0, slice(8, 32)), (1, slice(0, 8)), (1, slice(8, 32))):
        mine = x.reshape(2, 32)[warp, part]
        expected = [np.fmax.reduce(mine), np.fmin.reduce(abs(mine)), np.maximum.reduce(mine)]
        np.testing.assert_array_equal(y[:, warp, part], np.repeat(np.array(expected)[:, None], mine.size, axis=1))
