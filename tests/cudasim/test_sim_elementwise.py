"""Kernels without shared memory, against NumPy, with the sectors and branches that theory says."""

import numpy as np
import pytest

from gpugrad.cudasim import Checks

ADD = r"""
extern "C" __global__ void add(float* y, const float* a, const float* b, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a[i] + b[i];
}"""


@pytest.mark.parametrize("n", [1, 31, 32, 1000, 4096, 100_003])
def test_vector_add_with_an_early_return_in_the_last_block(module, rng, arch, n):
    a, b = rng.standard_normal((2, n), np.float32)
    y = np.zeros(n, np.float32)
    counters = module(ADD, arch)["add"].launch(-(-n // 256), 256, (y, a, b, np.int32(n)))
    np.testing.assert_array_equal(y, a + b)
    assert counters.bytes_read == 8 * n
    assert counters.bytes_written == 4 * n
    assert counters.unique_bytes_read == 8 * n
    assert counters.instructions["float32"] == n
    assert counters.divergent_branches == (n % 32 != 0)


def test_aligned_add_asks_for_no_needless_sector(module, rng):
    a, b = rng.standard_normal((2, 8192), np.float32)
    counters = module(ADD)["add"].launch(32, 256, (np.zeros_like(a), a, b, np.int32(8192)))
    assert counters.global_sectors == 3 * 8192 * 4 // 32
    assert counters.sector_efficiency == 1.0
    assert counters.global_requests == 3 * 8192 // 32


def test_add_of_shifted_views_asks_for_one_sector_more_in_each_warp(module, rng):
    a, b = rng.standard_normal((2, 8193), np.float32)
    y = np.zeros(8192, np.float32)
    counters = module(ADD)["add"].launch(32, 256, (y, a[1:], b[1:], np.int32(8192)))
    np.testing.assert_array_equal(y, a[1:] + b[1:])
    # `b` is the second row of one buffer, so that b[1:] starts 2 floats past a sector; both reads straddle.
    assert counters.global_sectors == (4 + 5 + 5) * 256
    assert counters.sectors_needed == 3 * 4 * 256


def test_strided_reads_ask_for_a_sector_each(module, rng):
    source = r"""
    extern "C" __global__ void strided(float* y, const float* x, int stride) {
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      y[i] = x[i * stride];
    }"""
    x, y = rng.standard_normal(1024 * 16, np.float32), np.zeros(1024, np.float32)
    counters = module(source)["strided"].launch(4, 256, (y, x, np.int32(16)))
    np.testing.assert_array_equal(y, x[::16])
    assert counters.global_sectors == 1024 + 128
    assert counters.sectors_needed == 128 + 128


def test_grid_stride_loop_with_64_bit_index(module, rng):
    source = r"""
    extern "C" __global__ void axpy(double* y, const double* x, double a, long long n) {
      long long step = (long long)gridDim.x * blockDim.x;
      for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += step) y[i] += a * x[i];
    }"""
    x, y = rng.standard_normal((2, 5000))
    expected = y + 2.5 * x
    counters = module(source)["axpy"].launch(3, 128, (y, x, 2.5, 5000))
    np.testing.assert_allclose(y, expected, rtol=1e-15, atol=1e-15)
    assert counters.unique_bytes_read == 2 * 8 * 5000
    assert counters.unique_bytes_written == 8 * 5000
    assert counters.threads == 384


def test_float4_loads_move_128_bits_per_lane(module, rng):
    source = r"""
    extern "C" __global__ void scale4(float4* y, const float4* __restrict__ x, float a, int n4) {
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      if (i >= n4) return;
      float4 v = x[i];
      v.x *= a; v.y *= a; v.z *= a; v.w *= a;
      y[i] = v;
    }"""
    x = rng.standard_normal(4 * 1000, np.float32)
    y = np.zeros_like(x)
    counters = module(source)["scale4"].launch(8, 128, (y, x, np.float32(3), np.int32(1000)))
    np.testing.assert_array_equal(y, x * np.float32(3))
    assert counters.instructions["global load"] == 1000
    assert counters.sector_efficiency == 1.0


@pytest.mark.parametrize(("name", "dtype"), [("square<float>", np.float32), ("square<double>", np.float64),
                                             ("square<int>", np.int32), ("square<unsigned char>", np.uint8),
                                             ("square<short>", np.int16), ("square<long long>", np.int64)])
def test_template_instantiations_by_name_expression(module, rng, name, dtype):
    source = r"""
    template <typename T> __global__ void square(T* y, const T* x, int n) {
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      if (i < n) y[i] = x[i] * x[i];
    }"""
    names = [f"square<{t}>" for t in ("float", "double", "int", "unsigned char", "short", "long long")]
    x = (rng.standard_normal(300) * 100).astype(np.int8).astype(dtype)
    y = np.zeros_like(x)
    module(source, names=names)[name].launch(2, 160, (y, x, np.int32(300)))
    np.testing.assert_array_equal(y, x * x)


def test_collatz_steps_diverge_and_reconverge(module, arch):
    source = r"""
    extern "C" __global__ void collatz(int* steps, int n) {
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      if (i >= n) return;
      long long v = i + 1; int count = 0;
      while (v != 1) { if (v & 1) v = 3 * v + 1; else v /= 2; ++count; }
      steps[i] = count;
    }"""
    def collatz(v):
        count = 0
        while v != 1:
            v, count = (3 * v + 1 if v & 1 else v // 2), count + 1
        return count
    steps = np.zeros(1000, np.int32)
    counters = module(source, arch)["collatz"].launch(4, 256, (steps, np.int32(1000)))
    np.testing.assert_array_equal(steps, [collatz(i + 1) for i in range(1000)])
    assert counters.divergent_branches > 100
    # Lanes that parted inside the loop meet again before its end: the store is one instruction for a whole warp.
    assert counters.warp_instructions["global store"] == 32


def test_break_and_continue_in_nested_loops(module):
    source = r"""
    extern "C" __global__ void search(int* y, const int* x, int rows, int cols) {
      int i = blockIdx.x * blockDim.x + threadIdx.x, found = -1;
      for (int r = 0; r < rows; ++r) {
        if (x[r * cols] < 0) continue;
        for (int c = 0; c < cols; ++c) {
          if (x[r * cols + c] == i) { found = r * cols + c; break; }
        }
        if (found >= 0) break;
      }
      y[i] = found;
    }"""
    x = np.array([[5, 1, 2], [-1, 7, 9], [7, 3, 0], [4, 6, 8]], np.int32)
    y = np.zeros(64, np.int32)
    module(source)["search"].launch(2, 32, (y, x, np.int32(4), np.int32(3)))
    rows = [r for r in range(4) if x[r, 0] >= 0]
    places = {int(x[r, c]): r * 3 + c for r in reversed(rows) for c in range(3)}
    np.testing.assert_array_equal(y, [places.get(i, -1) for i in range(64)])


def test_switch_with_a_jump_table(module, arch):
    source = r"""
    __device__ float call(int op, float a, float b) {
      switch (op) {
        case 0: return a + b; case 1: return a - b; case 2: return a * b; case 3: return a / b;
        case 4: return fminf(a, b); case 5: return fmaxf(a, b); case 6: return -a; case 7: return sqrtf(a);
        default: return 0.f;
      }
    }
    extern "C" __global__ void interpret(float* y, const int* op, const float* a, const float* b) {
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      y[i] = call(op[i], a[i], b[i]);
    }"""
    ops = np.arange(256, dtype=np.int32) % 10
    a, b = np.random.default_rng(3).uniform(0.5, 2, (2, 256)).astype(np.float32)
    y = np.zeros(256, np.float32)
    module(source, arch)["interpret"].launch(2, 128, (y, ops, a, b))
    results = [a + b, a - b, a * b, a / b, np.minimum(a, b), np.maximum(a, b), -a, np.sqrt(a), 0 * a, 0 * a]
    np.testing.assert_array_equal(y, np.choose(ops, results))


def test_brx_jump_table_written_as_ptx(module):
    source = r"""
    extern "C" __global__ void table(int* y) {
      int r;
      asm volatile("{ .reg .u32 t; and.b32 t, %1, 3;\n"
                   "ts: .branchtargets L0, L1, L2, L3;\n"
                   "brx.idx t, ts;\n"
                   "L0: mov.u32 %0, 10; bra DONE;\n L1: mov.u32 %0, 11; bra DONE;\n"
                   "L2: mov.u32 %0, 12; bra DONE;\n L3: mov.u32 %0, 13;\n DONE: }"
                   : "=r"(r) : "r"(threadIdx.x));
      y[threadIdx.x] = r;
    }"""
    y = np.zeros(64, np.int32)
    module(source)["table"].launch(1, 64, (y,))
    np.testing.assert_array_equal(y, 10 + np.arange(64) % 4)


def test_device_function_that_is_not_inlined(module, arch):
    source = r"""
    struct Line { float slope; int shift; float table[3]; };
    __device__ __noinline__ float at(Line line, float x, int k) { return line.slope * x + line.table[k % 3] + line.shift; }
    __device__ __noinline__ void both(float x, float* low, float* high) { *low = x - 1; *high = x + 1; }
    extern "C" __global__ void lines(float* y, const float* x, Line line) {
      int i = threadIdx.x; float low, high;
      both(at(line, x[i], i), &low, &high);
      y[2 * i] = low; y[2 * i + 1] = high;
    }"""
    layout = np.dtype([("slope", "f4"), ("shift", "i4"), ("table", "f4", 3)])
    line = np.array((2.0, 5, (10, 20, 30)), layout)[()]
    x, y = np.arange(64, dtype=np.float32), np.zeros(128, np.float32)
    module(source, arch)["lines"].launch(1, 64, (y, x, line))
    value = 2 * x + np.array([10, 20, 30], np.float32)[np.arange(64) % 3] + 5
    np.testing.assert_array_equal(y.reshape(64, 2), np.stack([value - 1, value + 1], axis=1))


def test_module_variables_keep_their_values_between_launches(module):
    source = r"""
    __constant__ float weights[4] = {1.f, 2.f, 4.f, 8.f};
    __device__ int launches = 7;
    extern "C" __global__ void weigh(float* y) {
      y[threadIdx.x] = weights[threadIdx.x & 3];
      if (threadIdx.x == 0) launches += 1;
    }"""
    loaded, y = module(source), np.zeros(8, np.float32)
    before = int(loaded.variable("launches", np.int32)[0])
    loaded["weigh"].launch(1, 8, (y,))
    np.testing.assert_array_equal(y, [1, 2, 4, 8] * 2)
    loaded.variable("weights", np.float32)[:] = [3, 5, 7, 9]
    loaded["weigh"].launch(1, 8, (y,))
    np.testing.assert_array_equal(y, [3, 5, 7, 9] * 2)
    assert int(loaded.variable("launches", np.int32)[0]) == before + 2


def test_array_of_pointers_reaches_many_arrays_in_one_launch(module, rng):
    from gpugrad import cudasim
    source = r"""
    extern "C" __global__ void fill(float* const* tensors, const int* sizes) {
      float* t = tensors[blockIdx.x];
      for (int i = threadIdx.x; i < sizes[blockIdx.x]; i += blockDim.x) t[i] = blockIdx.x * 1000 + i;
    }"""
    arrays = [np.zeros(n, np.float32) for n in (3, 100, 64, 257)]
    pointers = np.array([cudasim.address(a) for a in arrays], np.uint64)
    sizes = np.array([a.size for a in arrays], np.int32)
    module(source)["fill"].launch(4, 64, (pointers, sizes))
    for k, a in enumerate(arrays):
        np.testing.assert_array_equal(a, k * 1000 + np.arange(a.size))


def test_local_array_with_dynamic_index(module):
    source = r"""
    extern "C" __global__ void reverse_digits(unsigned* y, const unsigned* x) {
      unsigned digits[10], v = x[threadIdx.x], out = 0; int count = 0;
      do { digits[count++] = v % 10; v /= 10; } while (v);
      for (int k = 0; k < count; ++k) out = out * 10 + digits[k];
      y[threadIdx.x] = out;
    }"""
    x = np.random.default_rng(0).integers(0, 10**8, 96).astype(np.uint32)
    y = np.zeros(96, np.uint32)
    counters = module(source)["reverse_digits"].launch(1, 96, (y, x))
    np.testing.assert_array_equal(y, [int(str(v)[::-1]) for v in x])
    assert counters.local_bytes > 0


def test_three_dimensional_grid_and_block(module):
    source = r"""
    extern "C" __global__ void where(int* y) {
      int x = blockIdx.x * blockDim.x + threadIdx.x, w = gridDim.x * blockDim.x;
      int r = blockIdx.y * blockDim.y + threadIdx.y, h = gridDim.y * blockDim.y;
      int d = blockIdx.z * blockDim.z + threadIdx.z;
      y[(d * h + r) * w + x] = threadIdx.x + 10 * threadIdx.y + 100 * threadIdx.z
                             + 1000 * blockIdx.x + 10000 * blockIdx.y + 100000 * blockIdx.z;
    }"""
    y = np.zeros((4, 6, 10), np.int32)
    module(source)["where"].launch((2, 3, 2), (5, 2, 2), (y,))
    d, r, x = np.indices(y.shape)
    np.testing.assert_array_equal(
        y, x % 5 + 10 * (r % 2) + 100 * (d % 2) + 1000 * (x // 5) + 10000 * (r // 2) + 100000 * (d // 2))


def test_a_million_elements_take_well_under_a_second(module, rng):
    import time
    source = r"""
    extern "C" __global__ void relu_pull(float* dx, const float* g, const float* y, long long n) {
      long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
      if (i < n) dx[i] = y[i] > 0 ? g[i] : 0.f;
    }"""
    g, y = rng.standard_normal((2, 1 << 20), np.float32)
    dx = np.zeros_like(g)
    kernel = module(source)["relu_pull"]
    start = time.perf_counter()
    kernel.launch(4096, 256, (dx, g, y, 1 << 20))
    elapsed = time.perf_counter() - start
    np.testing.assert_array_equal(dx, np.where(y > 0, g, 0))
    assert elapsed < 5, f"{elapsed:.2f} s; a tenth of a second is usual"


def test_checks_can_be_switched_off(module, rng):
    a, b = rng.standard_normal((2, 256), np.float32)
    off = Checks(counters=False, races=False, uninitialised=False)
    counters = module(ADD)["add"].launch(1, 256, (np.zeros_like(a), a, b, np.int32(256)), checks=off)
    assert counters.global_sectors == 0
    assert counters.bytes_read == 2048
