"""What C++ leaves undefined and a device lets pass: divisors of zero, stores to constants, barriers that await half a warp."""

import numpy as np
import pytest

from gpugrad import cudasim
from gpugrad.cudasim import ArgumentError, BarrierDivergence, Checks, DivisionByZero

DIVIDE = """
extern "C" __global__ void share(int* y, const int* x, const int* n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = x[i] OP n[i];
}"""


@pytest.mark.parametrize("op", ["/", "%"])
def test_a_divisor_of_zero_is_found_with_its_thread_and_line(module, op):
    x, n, y = np.arange(128, dtype=np.int32), np.full(128, 3, np.int32), np.zeros(128, np.int32)
    kernel = module(DIVIDE.replace("OP", op))["share"]
    kernel.launch(2, 64, (y, x, n))
    np.testing.assert_array_equal(y, x // 3 if op == "/" else x % 3)
    n[70] = n[99] = 0
    with pytest.raises(DivisionByZero) as caught:
        kernel.launch(2, 64, (y, x, n))
    error = caught.value
    assert error.line == 4 and (error.block, error.thread) == ((1, 0, 0), (6, 0, 0))
    assert f"got 70 {op} 0" in str(error) and "1 more threads alike" in str(error)
    kernel.launch(2, 64, (y, x, n), checks=Checks(division=False))
    np.testing.assert_array_equal(y[:70], x[:70] // 3 if op == "/" else x[:70] % 3)


def test_a_guarded_division_is_none(module):
    x, n, y = np.arange(64, dtype=np.int32), np.zeros(64, np.int32), np.zeros(64, np.int32)
    module(DIVIDE.replace("x[i] OP n[i]", "n[i] ? x[i] / n[i] : -1"))["share"].launch(1, 64, (y, x, n))
    assert (y == -1).all()


def test_a_barrier_of_half_a_warp_is_refused(module):
    source = 'extern "C" __global__ void half(int* y) { asm volatile("bar.sync 1, 16;"); y[threadIdx.x] = 1; }'
    with pytest.raises(BarrierDivergence, match=r"whole warps of its block, got barrier 1 for 16 threads in a block of 64"):
        module(source)["half"].launch(1, 64, (np.zeros(64, np.int32),))


def test_static_shared_memory_has_its_own_limit(module):
    source = """extern "C" __global__ void wide(int* y) {
      __shared__ int s[13000];
      s[threadIdx.x] = y[threadIdx.x];
      __syncthreads();
      y[threadIdx.x] = s[63 - threadIdx.x];
    }"""
    with pytest.raises(ArgumentError, match="at most 49152 bytes in all, got 52000"):
        module(source)["wide"].launch(1, 64, (np.zeros(64, np.int32),))


def test_a_store_to_a_constant_says_who_may(module):
    source = """__constant__ float table[32];
    extern "C" __global__ void spoil(float* y, const float* t) {
      float* p = y ? const_cast<float*>(t ? t : table) : y;
      p[threadIdx.x] = 1;
    }"""
    other = np.zeros(32, np.float32)
    module(source)["spoil"].launch(1, 32, (other, other))
    with pytest.raises(cudasim.ReadOnly, match=r"`table`.*Only the host may write there"):
        module(source)["spoil"].launch(1, 32, (other, None))
