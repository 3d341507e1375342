"""Kernels with one planted bug each, and the diagnosis that each must get: class, thread, line, words."""

import numpy as np
import pytest

from gpugrad import cudasim
from gpugrad.cudasim import (
    BarrierDivergence,
    Checks,
    MemoryFault,
    Misaligned,
    OutOfBounds,
    Race,
    ReadOnly,
    Timeout,
    Uninitialised,
    WarpDivergence,
)

FLOATS = np.arange(1024, dtype=np.float32)


def zeros(n=1024, dtype=np.float32):
    return np.zeros(n, dtype)


def diagnosis(module, source, name, grid, block, args, shared=0, checks=None):
    """The error that a launch raises."""
    with pytest.raises(cudasim.SimError) as caught:
        module(source)[name].launch(grid, block, args, shared=shared, checks=checks)
    return caught.value


def test_guard_that_lets_one_thread_too_many_through(module):
    source = r"""
    extern "C" __global__ void scale(float* y, const float* x, int n) {
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      if (i <= n)
        y[i] = 2 * x[i];
    }"""
    error = diagnosis(module, source, "scale", 5, 256, (zeros(1000), FLOATS[:1000].copy(), np.int32(1000)))
    assert isinstance(error, OutOfBounds)
    assert (error.block, error.thread, error.line) == ((3, 0, 0), (232, 0, 0), 5)
    assert error.source == "y[i] = 2 * x[i];"
    assert "a load of 4 bytes must lie inside an array" in str(error)
    assert "0 bytes past the end of argument 1 `x` (float32[1000])" in str(error)


def test_missing_guard_runs_over_the_end(module):
    source = r"""
    extern "C" __global__ void fill(float* y) {
      y[blockIdx.x * blockDim.x + threadIdx.x] = 1.f;
    }"""
    error = diagnosis(module, source, "fill", 4, 256, (zeros(1000),))
    assert isinstance(error, OutOfBounds)
    assert (error.block, error.thread, error.line) == ((3, 0, 0), (232, 0, 0), 3)
    assert "(23 more threads alike)" in str(error)


def test_stride_in_bytes_instead_of_elements(module):
    source = r"""
    extern "C" __global__ void rows(float* y, const float* x, int pitch, int cols) {
      int r = blockIdx.x, c = threadIdx.x;
      if (c < cols) y[r * cols + c] = x[r * pitch + c];
    }"""
    y, x = zeros((8, 32)), FLOATS[:256].reshape(8, 32).copy()
    error = diagnosis(module, source, "rows", 8, 32, (y, x, np.int32(x.strides[0]), np.int32(32)))
    assert isinstance(error, OutOfBounds)
    assert error.block == (2, 0, 0)
    assert error.line == 4


def test_negative_index(module):
    source = r"""
    extern "C" __global__ void shift(float* y, const float* x) {
      int i = threadIdx.x;
      y[i] = x[i - 1];
    }"""
    error = diagnosis(module, source, "shift", 1, 64, (zeros(64), FLOATS[:64].copy()))
    assert isinstance(error, OutOfBounds)
    assert error.thread == (0, 0, 0)
    assert "4 bytes before the start of argument 1 `x`" in str(error)


def test_index_that_overflows_32_bits(module):
    source = r"""
    extern "C" __global__ void pick(float* y, const float* x, int row, int cols) {
      y[threadIdx.x] = x[row * cols + threadIdx.x];
    }"""
    error = diagnosis(module, source, "pick", 1, 32, (zeros(32), FLOATS, np.int32(70_000), np.int32(32_768)))
    assert isinstance(error, OutOfBounds)
    assert error.line == 3
    assert "overflowed 32 bits" in str(error)


def test_null_pointer(module):
    source = r"""extern "C" __global__ void touch(float* y) { if (threadIdx.x == 3) y[threadIdx.x] = 1; }"""
    error = diagnosis(module, source, "touch", 1, 32, (None,))
    assert isinstance(error, OutOfBounds)
    assert error.thread == (3, 0, 0)
    assert "null pointer" in str(error)


def test_pointer_to_an_array_that_died(module):
    source = r"""extern "C" __global__ void follow(float* const* p) { p[0][threadIdx.x] = 1; }"""
    dead = zeros(64)
    pointers = np.array([cudasim.address(dead)], np.uint64)
    module(source)["follow"].launch(1, 64, (pointers,))
    del dead
    error = diagnosis(module, source, "follow", 1, 64, (pointers,))
    assert isinstance(error, OutOfBounds)
    assert "inside float32[64], which has been freed" in str(error)


def test_misaligned_float4(module):
    source = r"""
    extern "C" __global__ void copy4(float4* y, const float4* x) {
      y[threadIdx.x] = x[threadIdx.x];
    }"""
    error = diagnosis(module, source, "copy4", 1, 32, (zeros(128), FLOATS[1:129]))
    assert isinstance(error, Misaligned)
    assert (error.thread, error.line) == ((0, 0, 0), 3)
    assert "a load of 16 bytes must start at a multiple of 16" in str(error)


def test_store_through_a_read_only_array(module):
    source = r"""extern "C" __global__ void spoil(float* x) { x[threadIdx.x] = 0; }"""
    x = FLOATS.copy()
    x.flags.writeable = False
    error = diagnosis(module, source, "spoil", 1, 32, (x,))
    assert isinstance(error, ReadOnly)


def test_an_array_becomes_read_only_and_writable_again_between_launches(module):
    source = r"""extern "C" __global__ void spoil(float* x) { x[threadIdx.x] = 0; }"""
    x = FLOATS.copy()
    run = module(source)["spoil"].launch
    run(1, 32, (x,))
    x.flags.writeable = False
    assert isinstance(diagnosis(module, source, "spoil", 1, 32, (x,)), ReadOnly)
    x.flags.writeable = True
    run(1, 32, (x,))


def test_tail_that_nobody_wrote(module):
    source = r"""
    extern "C" __global__ void first(float* t, int n) { int i = threadIdx.x; if (i < n / 4 * 4) t[i] = i; }
    extern "C" __global__ void second(float* y, const float* t, int n) {
      int i = threadIdx.x;
      if (i < n) y[i] = t[i];
    }"""
    t = cudasim.empty(62, np.float32)
    module(source)["first"].launch(1, 64, (t, np.int32(62)))
    error = diagnosis(module, source, "second", 1, 64, (zeros(62), t, np.int32(62)))
    assert isinstance(error, Uninitialised)
    assert (error.thread, error.line) == ((60, 0, 0), 5)
    assert "argument 1 `t` (float32[62]) from byte 240 that nobody wrote (1 more threads alike)" in " ".join(
        str(error).replace(", from thread (60, 0, 0) of block (0, 0, 0)", "").split())
    t[60:] = 0  # the host writes count
    module(source)["second"].launch(1, 64, (zeros(62), t, np.int32(62)))


def test_shared_memory_that_nobody_wrote(module):
    source = r"""
    extern "C" __global__ void sum(float* y, const float* x, int n) {
      __shared__ float s[64];
      int t = threadIdx.x;
      if (t < n) s[t] = x[t];
      __syncthreads();
      for (int k = 32; k; k >>= 1) {
        if (t < k) s[t] += s[t + k];
        __syncthreads();
      }
      if (t == 0) *y = s[0];
    }"""
    error = diagnosis(module, source, "sum", 1, 64, (zeros(1), FLOATS, np.int32(50)))
    assert isinstance(error, Uninitialised)
    assert (error.thread, error.line) == ((18, 0, 0), 8)
    assert "shared `s` from byte 200" in str(error)


def test_local_array_that_nobody_wrote(module):
    source = r"""
    extern "C" __global__ void pick(int* y, const int* x) {
      int a[8];
      for (int k = 0; k < x[0]; ++k) a[k] = k;
      y[threadIdx.x] = a[x[threadIdx.x]];
    }"""
    error = diagnosis(module, source, "pick", 1, 8, (zeros(8, np.int32), np.full(8, 5, np.int32)))
    assert isinstance(error, Uninitialised)
    assert error.line == 5


REDUCTION = r"""
extern "C" __global__ void sum(float* y, const float* x) {
  __shared__ float s[128];
  int t = threadIdx.x;
  s[t] = x[t];
  __syncthreads();
  for (int k = 64; k; k >>= 1) {
    if (t < k) s[t] += s[t + k];
    __syncthreads();
  }
  if (t == 0) *y = s[0];
}"""


def test_missing_barrier_after_the_stores(module):
    source = REDUCTION.replace("s[t] = x[t];\n  __syncthreads();", "s[t] = x[t];\n")
    error = diagnosis(module, source, "sum", 1, 128, (zeros(1), FLOATS))
    assert isinstance(error, Race)
    assert error.array == "s"
    assert error.line == 8
    assert "wrote it since the last barrier" in str(error)


def test_missing_barrier_inside_the_loop(module):
    source = REDUCTION.replace("s[t] += s[t + k];\n    __syncthreads();", "s[t] += s[t + k];\n")
    error = diagnosis(module, source, "sum", 1, 128, (zeros(1), FLOATS))
    assert isinstance(error, Race)
    assert error.line == 8


def test_overwriting_what_others_still_read(module):
    source = r"""
    extern "C" __global__ void rotate(float* y, const float* x, int rounds) {
      __shared__ float s[64];
      int t = threadIdx.x;
      float v = x[t];
      for (int r = 0; r < rounds; ++r) {
        s[t] = v;
        __syncthreads();
        v = s[(t + 33) % 64];
      }
      y[t] = v;
    }"""
    error = diagnosis(module, source, "rotate", 1, 64, (zeros(64), FLOATS, np.int32(3)))
    assert isinstance(error, Race)
    assert error.line == 7
    assert "read it since the last barrier" in str(error)


def test_two_threads_store_different_values_at_one_place(module):
    source = r"""
    extern "C" __global__ void clash(int* y) {
      __shared__ int s[32];
      s[threadIdx.x / 2] = threadIdx.x;
      __syncthreads();
      y[threadIdx.x] = s[threadIdx.x / 2];
    }"""
    error = diagnosis(module, source, "clash", 1, 32, (zeros(32, np.int32),))
    assert isinstance(error, Race)
    assert (error.line, error.array) == (4, "s")
    assert "a different value in the same instruction" in str(error)


def test_atomics_and_plain_stores_race(module):
    source = r"""
    extern "C" __global__ void count(int* y) {
      __shared__ int n;
      if (threadIdx.x == 0) n = 0;
      atomicAdd(&n, 1);
      __syncthreads();
      *y = n;
    }"""
    error = diagnosis(module, source, "count", 1, 64, (zeros(1, np.int32),))
    assert isinstance(error, Race)
    assert error.line == 5


def test_shared_overrun_into_the_next_variable(module):
    source = r"""
    extern "C" __global__ void halo(float* y, const float* x) {
      __shared__ float a[64], b[64];
      int t = threadIdx.x;
      a[t] = x[t]; b[t] = -x[t];
      __syncthreads();
      y[t] = a[t] + a[t + 1] + b[t];
    }"""
    error = diagnosis(module, source, "halo", 1, 64, (zeros(64), FLOATS))
    assert isinstance(error, OutOfBounds)
    assert (error.thread, error.line) == ((63, 0, 0), 7)
    assert "must lie inside a shared variable" in str(error)
    assert "past the end of `a` (256 bytes)" in str(error)


def test_too_little_dynamic_shared_memory(module):
    source = r"""
    extern "C" __global__ void stage(float* y, const float* x) {
      extern __shared__ float s[];
      s[threadIdx.x] = x[threadIdx.x];
      __syncthreads();
      y[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
    }"""
    error = diagnosis(module, source, "stage", 1, 128, (zeros(128), FLOATS), shared=256)
    assert isinstance(error, OutOfBounds)
    assert (error.thread, error.line) == ((64, 0, 0), 4)
    assert "shared= bytes of the launch" in str(error)


def test_barrier_in_a_branch_that_part_of_a_warp_takes(module):
    source = r"""
    extern "C" __global__ void half(float* y) {
      __shared__ float s[64];
      s[threadIdx.x] = threadIdx.x;
      if (threadIdx.x < 16)
        __syncthreads();
      y[threadIdx.x] = s[threadIdx.x];
    }"""
    error = diagnosis(module, source, "half", 3, 64, (zeros(64),))
    assert isinstance(error, BarrierDivergence)
    assert error.line == 6
    assert "all 64 threads of a block must reach the same barrier" in str(error)
    assert "threads 0-15 at kernel.cu:6" in str(error)
    assert "threads 16-63 already returned" in str(error)


def test_barriers_on_both_sides_of_a_branch(module):
    source = r"""
    extern "C" __global__ void sides(float* y, int n) {
      __shared__ float s[64];
      if (threadIdx.x < n) {
        s[threadIdx.x] = 1;
        __syncthreads();
        y[threadIdx.x] = s[0];
      } else {
        s[threadIdx.x] = 2;
        __syncthreads();
        y[threadIdx.x] = s[63];
      }
    }"""
    error = diagnosis(module, source, "sides", 1, 64, (zeros(64), np.int32(32)))
    assert isinstance(error, BarrierDivergence)
    assert "threads 0-31 at kernel.cu:6" in str(error)
    assert "threads 32-63 at kernel.cu:10" in str(error)


EARLY = r"""
extern "C" __global__ void tail(float* y, const float* x, int n) {
  __shared__ float s[64];
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  s[threadIdx.x] = x[i];
  __syncthreads();
  y[i] = s[threadIdx.x ^ 1];
}"""


def test_threads_that_return_before_a_barrier_are_missed_unless_allowed(module):
    error = diagnosis(module, EARLY, "tail", 2, 64, (zeros(100), FLOATS, np.int32(100)))
    assert isinstance(error, BarrierDivergence)
    assert error.block == (1, 0, 0)
    y = zeros(100)
    module(EARLY)["tail"].launch(2, 64, (y, FLOATS, np.int32(100)), checks=Checks(early_exit=True))
    np.testing.assert_array_equal(y, FLOATS[np.arange(100) ^ 1])


def test_shuffle_mask_that_names_half_the_warp(module):
    source = r"""
    extern "C" __global__ void sum(float* y, const float* x) {
      float v = x[threadIdx.x];
      for (int k = 16; k; k >>= 1)
        v += __shfl_xor_sync(0x0000ffffu, v, k);
      y[threadIdx.x] = v;
    }"""
    error = diagnosis(module, source, "sum", 1, 32, (zeros(32), FLOATS))
    assert isinstance(error, WarpDivergence)
    assert (error.thread, error.line) == ((16, 0, 0), 5)
    assert "lane 16 outside of mask 0x0000ffff" in str(error)


def test_full_mask_in_a_branch_that_half_the_warp_takes(module):
    source = r"""
    extern "C" __global__ void sum(float* y, const float* x) {
      float v = x[threadIdx.x];
      if (threadIdx.x < 16)
        v += __shfl_xor_sync(0xffffffffu, v, 8);
      y[threadIdx.x] = v;
    }"""
    error = diagnosis(module, source, "sum", 1, 32, (zeros(32), FLOATS))
    assert isinstance(error, WarpDivergence)
    assert error.line == 5
    assert "no lane 16 (missing 0xffff0000)" in str(error)


def test_shuffle_from_a_lane_that_has_returned(module):
    source = r"""
    extern "C" __global__ void neighbour(float* y, const float* x, int n) {
      int i = threadIdx.x;
      if (i >= n) return;
      y[i] = __shfl_down_sync(0xffffffffu, x[i], 1);
    }"""
    error = diagnosis(module, source, "neighbour", 1, 64, (zeros(64), FLOATS, np.int32(50)))
    assert isinstance(error, WarpDivergence)
    assert error.thread == (49, 0, 0)
    assert "lane 17 reading lane 18, which is not active" in str(error)


def test_ballot_under_a_narrow_mask(module):
    source = r"""
    extern "C" __global__ void votes(unsigned* y) { y[threadIdx.x] = __ballot_sync(0xffu, threadIdx.x & 1); }"""
    error = diagnosis(module, source, "votes", 1, 32, (zeros(32, np.uint32),))
    assert isinstance(error, WarpDivergence)
    assert error.thread == (8, 0, 0)


def test_endless_loop(module):
    source = r"""
    extern "C" __global__ void wait(volatile int* flag) {
      while (*flag == 0) { }
    }"""
    error = diagnosis(module, source, "wait", 1, 32, (zeros(1, np.int32),), checks=Checks(step_limit=1000))
    assert isinstance(error, Timeout)
    assert error.line == 3


def test_bytes_of_a_row_that_overlap_the_next_array(module):
    """Neighbours in one NumPy buffer are one allocation; separate arrays never touch."""
    source = r"""extern "C" __global__ void fill(int* y, int n) { if (threadIdx.x < n) y[threadIdx.x] = 1; }"""
    both = zeros((2, 16), np.int32)
    module(source)["fill"].launch(1, 32, (both[0], np.int32(20)))
    assert both[1, :4].tolist() == [1] * 4
    error = diagnosis(module, source, "fill", 1, 32, (both[1], np.int32(20)))
    assert isinstance(error, MemoryFault)


def test_correct_twins_of_the_planted_bugs_pass(module):
    module(REDUCTION)["sum"].launch(1, 128, (zeros(1), FLOATS))
    module(EARLY)["tail"].launch(2, 64, (zeros(128), FLOATS, np.int32(128)))
