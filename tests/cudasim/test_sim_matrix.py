"""Tensor-core instructions against matrix products of NumPy."""

import numpy as np
import pytest

from gpugrad.cudasim import Race, WarpDivergence

MMA = r"""
#include <cuda_fp16.h>
// One warp: C (16, 8) = A (16, K) B (K, 8), 16-bit elements, K = 8 or 16, fragments loaded element by element.
template <int K> __global__ void product(float* c, const unsigned short* a, const unsigned short* b) {
  int lane = threadIdx.x & 31, g = lane / 4, t = lane % 4, w = threadIdx.x / 32;
  a += w * 16 * K; b += w * K * 8; c += w * 128;
  unsigned fa[K / 4], fb[K / 8]; float fc[4] = {1, 2, 3, 4};
  for (int part = 0; part < K / 8; ++part) {
    for (int row = 0; row < 2; ++row) {
      const unsigned short* p = a + (g + 8 * row) * K + 2 * t + 8 * part;
      fa[part * 2 + row] = p[0] | (unsigned)p[1] << 16;
    }
    const unsigned short* q = b + (2 * t + 8 * part) * 8 + g;
    fb[part] = q[0] | (unsigned)q[8] << 16;
  }
  if (K == 16) asm("mma.sync.aligned.m16n8k16.row.col.f32.KIND.KIND.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(fc[0]), "+f"(fc[1]), "+f"(fc[2]), "+f"(fc[3]) : "r"(fa[0]), "r"(fa[1]), "r"(fa[K / 4 - 2]), "r"(fa[K / 4 - 1]),
        "r"(fb[0]), "r"(fb[K / 8 - 1]));
  else asm("mma.sync.aligned.m16n8k8.row.col.f32.KIND.KIND.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(fc[0]), "+f"(fc[1]), "+f"(fc[2]), "+f"(fc[3]) : "r"(fa[0]), "r"(fa[1]), "r"(fb[0]));
  c[g * 8 + 2 * t] = fc[0]; c[g * 8 + 2 * t + 1] = fc[1]; c[(g + 8) * 8 + 2 * t] = fc[2]; c[(g + 8) * 8 + 2 * t + 1] = fc[3];
}"""
BIAS = np.where(np.arange(16)[:, None] < 8, [[1, 2] * 4], [[3, 4] * 4])


@pytest.mark.parametrize("kind", ["f16", "bf16"])
@pytest.mark.parametrize("k", [8, 16])
def test_product_of_16_bit_fragments(module, rng, kind, k):
    wa, wb = rng.standard_normal((2, 16, k)).astype(np.float32), rng.standard_normal((2, k, 8)).astype(np.float32)
    if kind == "f16":
        a, b = wa.astype(np.float16).view(np.uint16), wb.astype(np.float16).view(np.uint16)
        wa, wb = (v.view(np.float16).astype(np.float64) for v in (a, b))
    else:
        a, b = ((v.view(np.uint32) >> 16).astype(np.uint16) for v in (wa, wb))
        wa, wb = ((v.astype(np.uint32) << 16).view(np.float32).astype(np.float64) for v in (a, b))
    c = np.zeros((2, 16, 8), np.float32)
    counters = module(MMA.replace("KIND", kind), names=(f"product<{k}>",))[f"product<{k}>"].launch(1, 64, (c, a, b))
    np.testing.assert_allclose(c, wa @ wb + BIAS, rtol=1e-6, atol=1e-6)
    assert counters.warp_instructions["matrix"] == 2


def test_product_of_tf32_and_of_float64_fragments(module, rng):
    source = r"""
    extern "C" __global__ void tf32(float* c, const unsigned* a, const unsigned* b) {
      int lane = threadIdx.x, g = lane / 4, t = lane % 4; float d[4] = {};
      asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "r"(a[g * 8 + t]), "r"(a[(g + 8) * 8 + t]), "r"(a[g * 8 + t + 4]), "r"(a[(g + 8) * 8 + t + 4]),
            "r"(b[t * 8 + g]), "r"(b[(t + 4) * 8 + g]));
      for (int k = 0; k < 4; ++k) c[(g + 8 * (k / 2)) * 8 + 2 * t + k % 2] = d[k];
    }
    extern "C" __global__ void f64(double* c, const double* a, const double* b) {
      int lane = threadIdx.x, g = lane / 4, t = lane % 4; double d[2] = {};
      asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
          : "+d"(d[0]), "+d"(d[1]) : "d"(a[g * 4 + t]), "d"(b[t * 8 + g]));
      c[g * 8 + 2 * t] = d[0]; c[g * 8 + 2 * t + 1] = d[1];
    }"""
    a, b = rng.standard_normal((16, 8)).astype(np.float32), rng.standard_normal((8, 8)).astype(np.float32)
    c = np.zeros((16, 8), np.float32)
    module(source)["tf32"].launch(1, 32, (c, a, b))
    cut_a, cut_b = ((v.view(np.uint32) & 0xFFFFE000).view(np.float32).astype(np.float64) for v in (a, b))
    np.testing.assert_allclose(c, cut_a @ cut_b, rtol=1e-6, atol=1e-6)
    da, db, dc = rng.standard_normal((8, 4)), rng.standard_normal((4, 8)), np.zeros((8, 8))
    module(source)["f64"].launch(1, 32, (dc, da, db))
    np.testing.assert_allclose(dc, da @ db, rtol=1e-14, atol=1e-14)


LDMATRIX = r"""
extern "C" __global__ void load(unsigned* y, const unsigned short* x) {
  __shared__ __align__(16) unsigned short tile[32 * 8];
  int lane = threadIdx.x;
  for (int k = lane; k < 256; k += 32) tile[k] = x[k];
  __syncthreads();
  unsigned at = (unsigned)__cvta_generic_to_shared(tile + 8 * lane), r[4];
  asm volatile("ldmatrix.sync.aligned.m8n8.x4TRANS.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
  for (int j = 0; j < 4; ++j) y[j * 32 + lane] = r[j];
}"""


@pytest.mark.parametrize("trans", ["", ".trans"])
def test_ldmatrix_spreads_rows_over_the_lanes(module, trans):
    x, y = np.arange(256, dtype=np.uint16), np.zeros((4, 8, 4), np.uint32)
    counters = module(LDMATRIX.replace("TRANS", trans))["load"].launch(1, 32, (y, x))
    matrices = x.reshape(4, 8, 8)
    expected = matrices.transpose(0, 2, 1) if trans else matrices
    np.testing.assert_array_equal(y.view(np.uint16).reshape(4, 8, 8), expected)
    assert counters.bank_conflicts == 0


def test_matrix_product_needs_the_whole_warp(module):
    source = r"""
    extern "C" __global__ void part(double* c) {
      double d[2] = {};
      if (threadIdx.x < 16)
        asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
                     : "+d"(d[0]), "+d"(d[1]) : "d"(1.0), "d"(1.0));
      c[threadIdx.x] = d[0];
    }"""
    with pytest.raises(WarpDivergence, match=r"part: mma.sync: all 32 lanes of a warp must execute it, got 0x0000ffff"):
        module(source)["part"].launch(1, 32, (np.zeros(32),))


def test_ldmatrix_races_with_the_stores_of_other_warps(module):
    source = LDMATRIX.replace("__syncthreads();", "").replace("k += 32", "k += 64")
    with pytest.raises(Race):
        module(source.replace("TRANS", "").replace("at = (unsigned)__cvta_generic_to_shared(tile + 8 * lane)",
                                                   "at = (unsigned)__cvta_generic_to_shared(tile + 8 * (lane & 31))")
               )["load"].launch(1, 64, (np.zeros(256, np.uint32), np.arange(256, dtype=np.uint16)))


def fragments(rows, columns, bits, by_columns=False):
    """For an operand of mma with g = lane / 4 and t = lane % 4: index of (lane, register, element) in a row-major matrix."""
    per_word = 32 // bits
    index = np.zeros((32, rows * columns // (32 * per_word), per_word), int)
    for lane in range(32):
        g, t = lane // 4, lane % 4
        for word in range(index.shape[1]):
            part, half = (word, 0) if by_columns or rows == 8 else divmod(word, 2)
            for e in range(per_word):
                along = per_word * t + 4 * per_word * part + e
                row, column = (along, g) if by_columns else (g + 8 * half, along)
                index[lane, word, e] = row * columns + column
    return index


def packed(values, index, bits):
    """Small unsigned numbers as the 32-bit registers of a fragment: (registers, 32)."""
    chosen = values.ravel()[index].astype(np.uint64)
    words = np.zeros(chosen.shape[:2], np.uint64)
    for e in range(chosen.shape[2]):
        words |= chosen[:, :, e] << np.uint64(bits * e)
    return words.astype(np.uint32).T.copy()


def mma_source(shape, kinds, a_words, b_words, c_words, modifier="", operation=""):
    """A kernel of one mma that reads its registers one after the other: a[register][lane]."""
    m, n, k = shape
    d, a, b = kinds
    places = iter(range(99))
    text = ["{" + ",".join(f"%{next(places)}" for _ in range(count)) + "}" for count in (c_words, a_words, b_words)]
    inputs = ", ".join(f'"r"({name}[{32 * j} + lane])' for name, count in (("a", a_words), ("b", b_words)) for j in range(count))
    letter, ctype = ("f", "float") if d == "f32" else ("r", "int")
    return f"""
    extern "C" __global__ void k({ctype}* c, const unsigned* a, const unsigned* b) {{
      int lane = threadIdx.x; {ctype} r[{c_words}];
      for (int j = 0; j < {c_words}; ++j) r[j] = c[j * 32 + lane];
      asm("mma.sync.aligned.m{m}n{n}k{k}.row.col{modifier}.{d}.{a}.{b}.{d}{operation} {text[0]}, {text[1]}, {text[2]}, {text[0]};"
          : {', '.join(f'"+{letter}"(r[{j}])' for j in range(c_words))}
          : {inputs});
      for (int j = 0; j < {c_words}; ++j) c[j * 32 + lane] = r[j];
    }}"""


def number(codes, kind, bits):
    """What the bits of a small integer mean."""
    codes = codes.astype(np.int64)
    return np.where(codes >> bits - 1, codes - (1 << bits), codes) if kind[0] == "s" else codes


def accumulators(m):
    """(registers, 32): where in a row-major (m, 8) matrix each lane's accumulators stand."""
    lane = np.arange(32)
    return np.stack([(lane // 4 + 8 * half) * 8 + 2 * (lane % 4) + e for half in range(m // 8) for e in range(2)])


@pytest.mark.parametrize(("shape", "a_kind", "b_kind", "bits"), [
    ((8, 8, 16), "s8", "s8", 8), ((16, 8, 16), "u8", "s8", 8), ((16, 8, 32), "s8", "u8", 8), ((16, 8, 32), "u8", "u8", 8),
    ((8, 8, 32), "s4", "u4", 4), ((16, 8, 32), "u4", "u4", 4), ((16, 8, 64), "s4", "s4", 4)])
@pytest.mark.parametrize("saturating", [False, True])
def test_product_of_small_integers(module, rng, shape, a_kind, b_kind, bits, saturating):
    m, n, k = shape
    a, b = rng.integers(0, 1 << bits, (m, k)), rng.integers(0, 1 << bits, (k, n))
    c = rng.integers(-(1 << 31), 1 << 31, m * n).astype(np.int32)
    ia, ib, ic = fragments(m, k, bits), fragments(k, n, bits, True), accumulators(m)
    source = mma_source(shape, ("s32", a_kind, b_kind), ia.shape[1], ib.shape[1], len(ic), ".satfinite" if saturating else "")
    registers = c[ic]
    module(source, "sm_80")["k"].launch(1, 32, (registers, packed(a, ia, bits), packed(b, ib, bits)))
    exact = number(a, a_kind, bits) @ number(b, b_kind, bits) + c.reshape(m, n)
    expected = np.clip(exact, -(1 << 31), (1 << 31) - 1) if saturating else exact.astype(np.int32)
    got = np.zeros(m * n, np.int64)
    got[ic] = registers
    np.testing.assert_array_equal(got.reshape(m, n), expected)


@pytest.mark.parametrize("shape", [(8, 8, 128), (16, 8, 128), (16, 8, 256)])
@pytest.mark.parametrize("operation", ["xor", "and"])
def test_product_of_bits_counts_what_the_operation_leaves(module, rng, shape, operation):
    m, n, k = shape
    a, b, c = rng.integers(0, 2, (m, k)), rng.integers(0, 2, (k, n)), rng.integers(-9, 9, m * n).astype(np.int32)
    ia, ib, ic = fragments(m, k, 1), fragments(k, n, 1, True), accumulators(m)
    source = mma_source(shape, ("s32", "b1", "b1"), ia.shape[1], ib.shape[1], len(ic), operation=f".{operation}.popc")
    registers = c[ic]
    module(source, "sm_80")["k"].launch(1, 32, (registers, packed(a, ia, 1), packed(b, ib, 1)))
    function = {"xor": np.bitwise_xor, "and": np.bitwise_and}[operation]
    got = np.zeros(m * n, np.int64)
    got[ic] = registers
    np.testing.assert_array_equal(got.reshape(m, n), function(a[:, :, None], b[None]).sum(1) + c.reshape(m, n))


@pytest.mark.parametrize(("a_kind", "b_kind"), [("e4m3", "e5m2"), ("e4m3", "e4m3")])
@pytest.mark.parametrize("k", [16, 32])
def test_product_of_8_bit_floats(module, rng, a_kind, b_kind, k):
    # Normal numbers: 1.5 times a power of two as e4m3, powers of two as e5m2; and their codes.
    drawn = {"e4m3": lambda size: 1.5 * 2.0 ** rng.integers(-6, 8, size), "e5m2": lambda size: 2.0 ** rng.integers(-14, 15, size)}
    code = {"e4m3": lambda x: np.frexp(x)[1] + 6 << 3 | 4, "e5m2": lambda x: np.frexp(x)[1] + 14 << 2}
    a, b = drawn[a_kind]((16, k)), drawn[b_kind]((k, 8))
    ia, ib, ic = fragments(16, k, 8), fragments(k, 8, 8, True), accumulators(16)
    source = mma_source((16, 8, k), ("f32", a_kind, b_kind), ia.shape[1], ib.shape[1], 4)
    registers = np.ones((4, 32), np.float32)
    module(source, "sm_90")["k"].launch(1, 32, (registers, packed(code[a_kind](a), ia, 8), packed(code[b_kind](b), ib, 8)))
    got = np.zeros(128)
    got[ic] = registers
    np.testing.assert_allclose(got.reshape(16, 8), a @ b + 1, rtol=1e-6)


@pytest.mark.parametrize("k", [4, 8, 16])
def test_product_of_float64_fragments_of_16_rows(module, rng, k):
    words, halves = k // 2, k // 4
    places = [f"%{j}" for j in range(4 + words + halves)]
    source = f"""
    extern "C" __global__ void k(double* c, const double* a, const double* b) {{
      int lane = threadIdx.x, g = lane / 4, t = lane % 4; double d[4] = {{}};
      asm("mma.sync.aligned.m16n8k{k}.row.col.f64.f64.f64.f64 {{{','.join(places[:4])}}}, {{{','.join(places[4:4 + words])}}}, "
          "{{{','.join(places[4 + words:])}}}, {{{','.join(places[:4])}}};" : "+d"(d[0]), "+d"(d[1]), "+d"(d[2]), "+d"(d[3])
          : {', '.join([f'"d"(a[(g + {8 * (j % 2)}) * {k} + t + {j // 2 * 4}])' for j in range(words)]
                       + [f'"d"(b[(t + {4 * j}) * 8 + g])' for j in range(halves)])});
      for (int j = 0; j < 4; ++j) c[(g + 8 * (j / 2)) * 8 + 2 * t + j % 2] = d[j];
    }}"""
    a, b, c = rng.standard_normal((16, k)), rng.standard_normal((k, 8)), np.zeros((16, 8))
    module(source, "sm_90")["k"].launch(1, 32, (c, a, b))
    np.testing.assert_allclose(c, a @ b, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("trans", ["", ".trans"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_stmatrix_takes_back_what_ldmatrix_spread(module, trans, count):
    names = ", ".join(f"%{j + 1}" for j in range(count))
    source = f"""
    extern "C" __global__ void k(unsigned short* y, const unsigned* x) {{
      __shared__ __align__(16) unsigned short tile[{count} * 64];
      int lane = threadIdx.x; unsigned at = (unsigned)__cvta_generic_to_shared(tile + 8 * (lane % {8 * count}));
      asm volatile("stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%0], {{{names}}};" :: "r"(at),
                   {', '.join(f'"r"(x[{32 * j} + lane])' for j in range(count))} : "memory");
      __syncwarp();
      for (int k = lane; k < {64 * count}; k += 32) y[k] = tile[k];
    }}"""
    x, y = np.arange(64 * count, dtype=np.uint16), np.zeros((count, 8, 8), np.uint16)
    module(source)["k"].launch(1, 32, (y, x.view(np.uint32)))
    matrices = x.reshape(count, 8, 8)
    np.testing.assert_array_equal(y, matrices.transpose(0, 2, 1) if trans else matrices)


def test_movmatrix_transposes_within_the_warp(module):
    source = """
    extern "C" __global__ void k(unsigned* y) {
      unsigned r; asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(y[threadIdx.x])); y[threadIdx.x] = r;
    }"""
    y = np.arange(64, dtype=np.uint16).reshape(8, 8)
    expected = y.T.copy()
    module(source)["k"].launch(1, 32, (y.view(np.uint32),))
    np.testing.assert_array_equal(y, expected)
