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
