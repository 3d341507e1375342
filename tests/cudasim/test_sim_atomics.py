"""Atomics: exact where the operation commutes, in an order shuffled by seed where it does not."""

import numpy as np
import pytest

from gpugrad.cudasim import Checks, Trap

HISTOGRAM = r"""
extern "C" __global__ void histogram(unsigned* bins, const unsigned char* x, int n) {
  __shared__ unsigned local[256];
  for (int k = threadIdx.x; k < 256; k += blockDim.x) local[k] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&local[x[i]], 1u);
  __syncthreads();
  for (int k = threadIdx.x; k < 256; k += blockDim.x) if (local[k]) atomicAdd(&bins[k], local[k]);
}"""


def test_histogram_in_shared_memory(module, rng, arch):
    x = rng.integers(0, 200, 20_000).astype(np.uint8)
    bins = np.zeros(256, np.uint32)
    counters = module(HISTOGRAM, arch)["histogram"].launch(6, 96, (bins, x, np.int32(x.size)))
    counts = np.bincount(x, minlength=256)
    np.testing.assert_array_equal(bins, counts)
    assert counters.atomics >= x.size + 200


@pytest.mark.parametrize(("call", "dtype", "function"), [
    ("atomicAdd(y + k, v)", np.int32, np.add), ("atomicSub(y + k, v)", np.int32, np.subtract),
    ("atomicMax(y + k, v)", np.int32, np.maximum), ("atomicMin(y + k, v)", np.int32, np.minimum),
    ("atomicAnd(y + k, v)", np.uint32, np.bitwise_and), ("atomicOr(y + k, v)", np.uint32, np.bitwise_or),
    ("atomicXor(y + k, v)", np.uint32, np.bitwise_xor), ("atomicAdd(y + k, v)", np.uint64, np.add),
    ("atomicMax(y + k, v)", np.uint64, np.maximum), ("atomicMin(y + k, v)", np.int64, np.minimum),
])
@pytest.mark.parametrize("returns", [False, True])
def test_integer_atomics_equal_numpys_unbuffered_operations(module, rng, call, dtype, function, returns):
    ctype = {np.int32: "int", np.uint32: "unsigned", np.uint64: "unsigned long long", np.int64: "long long"}[dtype]
    source = f"""extern "C" __global__ void update({ctype}* y, {ctype}* old, const int* where, const {ctype}* x) {{
      int i = blockIdx.x * blockDim.x + threadIdx.x, k = where[i]; {ctype} v = x[i];
      {'old[i] = ' if returns else ''}{call};
    }}"""
    x = rng.integers(0, 1 << 30, 512).astype(dtype)
    where = rng.integers(0, 20, 512).astype(np.int32)
    y = rng.integers(0, 1 << 30, 20).astype(dtype)
    old, start = np.zeros(512, dtype), y.copy()
    expected = y.copy()
    function.at(expected, where, x)
    module(source)["update"].launch(4, 128, (y, old, where, x))
    np.testing.assert_array_equal(y, expected)
    if returns:
        # What the lanes of one cell found is the chain of values between the first and the last.
        for cell in range(20):
            found = old[where == cell]
            results = function(found, x[where == cell])
            chain = sorted([*found.tolist(), int(expected[cell])])
            assert chain == sorted([int(start[cell]), *results.tolist()])


def test_tickets_are_all_different(module):
    source = r"""
    extern "C" __global__ void tickets(int* seen, int* counter, unsigned* ring) {
      int t = atomicAdd(counter, 1);
      seen[t] = blockIdx.x * blockDim.x + threadIdx.x;
      atomicInc(ring, 6u);
    }"""
    seen, counter, ring = np.full(640, -1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.uint32)
    module(source)["tickets"].launch(10, 64, (seen, counter, ring))
    assert sorted(seen) == list(range(640))
    assert not (seen == np.arange(640)).all()
    assert counter[0] == 640
    assert ring[0] == 640 % 7


@pytest.mark.parametrize(("ctype", "dtype"), [("float", np.float32), ("double", np.float64)])
def test_float_sums_depend_on_the_seed_and_repeat_with_it(module, rng, ctype, dtype):
    source = r"""
    template <typename T> __global__ void total(T* y, const T* x) {
      atomicAdd(y, x[blockIdx.x * blockDim.x + threadIdx.x]);
    }"""
    x = (rng.standard_normal(2048) * 10.0 ** rng.integers(-4, 5, 2048)).astype(dtype)
    kernel = module(source, names=(f"total<{ctype}>",))[f"total<{ctype}>"]
    def total(seed):
        y = np.zeros(1, dtype)
        kernel.launch(16, 128, (y, x), checks=Checks(seed=seed))
        return y[0]
    sums = [total(seed) for seed in range(8)]
    assert len(set(sums)) > 1
    assert total(3) == sums[3]
    np.testing.assert_allclose(sums, np.sum(x.astype(np.float64)), rtol=1e-3)


def test_float_atomic_returns_what_it_found(module):
    source = r"""
    extern "C" __global__ void prefix(float* found, float* total) { found[threadIdx.x] = atomicAdd(total, 1.f); }"""
    found, total = np.zeros(100, np.float32), np.zeros(1, np.float32)
    module(source)["prefix"].launch(1, 100, (found, total))
    assert sorted(found) == list(range(100))
    assert total[0] == 100


def test_maximum_of_floats_by_compare_and_swap(module, rng):
    source = r"""
    extern "C" __global__ void top(float* y, const float* x, int groups) {
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      int* cell = (int*)(y + i % groups); int old = *cell, seen;
      do { seen = old; old = atomicCAS(cell, seen, __float_as_int(fmaxf(x[i], __int_as_float(seen)))); } while (old != seen);
    }"""
    x, y = rng.standard_normal(600).astype(np.float32), np.full(7, -np.inf, np.float32)
    module(source)["top"].launch(6, 100, (y, x, np.int32(7)))
    np.testing.assert_array_equal(y, [x[k::7].max() for k in range(7)])


def test_spin_lock_lets_every_thread_in_once(module):
    source = r"""
    extern "C" __global__ void locked(int* lock, volatile int* value) {
      bool done = false;
      while (!done) {
        if (atomicCAS(lock, 0, 1) == 0) { *value = *value * 3 + 1; __threadfence(); atomicExch(lock, 0); done = true; }
      }
    }"""
    lock, value = np.zeros(1, np.int32), np.zeros(1, np.int32)
    module(source)["locked"].launch(2, 5, (lock, value))
    expected = 0
    for _ in range(10):
        expected = expected * 3 + 1
    assert value[0] == expected
    assert lock[0] == 0


def test_last_block_finishes_the_sum(module, rng):
    source = r"""
    __device__ unsigned arrived;
    extern "C" __global__ void total(double* y, double* parts, const double* x) {
      __shared__ double s[64]; __shared__ bool last;
      s[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
      __syncthreads();
      for (int k = 32; k; k >>= 1) { if (threadIdx.x < k) s[threadIdx.x] += s[threadIdx.x + k]; __syncthreads(); }
      if (threadIdx.x == 0) {
        parts[blockIdx.x] = s[0];
        __threadfence();
        last = atomicInc(&arrived, gridDim.x - 1) == gridDim.x - 1;
      }
      __syncthreads();
      if (last && threadIdx.x == 0) { double t = 0; for (int k = 0; k < gridDim.x; ++k) t += parts[k]; *y = t; }
    }"""
    x = rng.integers(-100, 100, 64 * 30).astype(np.float64)
    y, parts, loaded = np.zeros(1), np.zeros(30), module(source)
    for _ in range(2):
        y[0] = np.nan
        loaded["total"].launch(30, 64, (y, parts, x))
        assert y[0] == x.sum()


def test_half_precision_atomics(module):
    source = r"""
    #include <cuda_fp16.h>
    #include <cuda_bf16.h>
    extern "C" __global__ void totals(__half* h, __half2* h2, __nv_bfloat16* b) {
      atomicAdd(h, __float2half(1.f)); atomicAdd(h2, __floats2half2_rn(1.f, 2.f)); atomicAdd(b, __float2bfloat16(1.f));
    }"""
    h, h2, b = np.zeros(2, np.float16), np.zeros(2, np.float16), np.zeros(2, np.uint16)
    module(source)["totals"].launch(1, 100, (h, h2, b))
    assert h[0] == 100
    assert h2.tolist() == [100, 200]
    assert (b.astype(np.uint32) << 16).view(np.float32)[0] == 100


def test_printf_and_trap(module, capsys):
    source = r"""
    extern "C" __global__ void chatty(int n) {
      int t = threadIdx.x;
      if (t < 2) printf("thread %d of %u: %5.2f %s %lld%%\n", t, blockDim.x, 1.5 * t, "ok", 1ll << 40);
      if (threadIdx.x == n) __trap();
    }"""
    kernel = module(source)["chatty"]
    counters = kernel.launch(1, 4, (np.int32(9),))
    lines = ["thread 0 of 4:  0.00 ok 1099511627776%\n", "thread 1 of 4:  1.50 ok 1099511627776%\n"]
    assert counters.printed == lines
    assert capsys.readouterr().out == "".join(lines)
    with pytest.raises(Trap, match=r"chatty: .*thread \(3, 0, 0\) of block \(0, 0, 0\), at kernel.cu:5"):
        kernel.launch(1, 4, (np.int32(3),))


def test_device_assert_names_its_condition(module):
    source = r"""
    extern "C" __global__ void careful(const int* x) { assert(x[threadIdx.x] > 0); }"""
    with pytest.raises(Trap, match=r"assert\(x\[threadIdx.x\] > 0\) must hold, line 2, got it false in thread \(2, 0, 0\)"):
        module(source)["careful"].launch(1, 4, (np.array([1, 1, -1, 1], np.int32),))


def test_vector_atomics_of_sm_90_add_element_by_element(module):
    source = r"""
    extern "C" __global__ void sums(float2* y, float4* z, float4* found) {
      int t = threadIdx.x;
      atomicAdd(y + (t & 1), make_float2(1, t));
      found[t] = atomicAdd(z, make_float4(1, 2, 3, 4));
    }"""
    y, z, found = np.zeros((2, 2), np.float32), np.zeros(4, np.float32), np.zeros((64, 4), np.float32)
    counters = module(source)["sums"].launch(1, 64, (y, z, found))
    assert y.tolist() == [[32, 32 * 31], [32, 32 * 32]]
    assert z.tolist() == [64, 128, 192, 256]
    for column in range(4):
        assert sorted(found[:, column]) == [(column + 1) * k for k in range(64)]
    assert counters.atomics == 64 * 6


def test_printf_takes_widths_from_its_arguments(module):
    source = """extern "C" __global__ void wide(int n) { printf("%*d|%.*f|%%", n, 7, 2, 1.5); }"""
    assert module(source)["wide"].launch(1, 1, (np.int32(4),)).printed == ["   7|1.50|%"]


def test_printf_writes_what_c_writes(module):
    arguments = ["5", '"abc"', "1.5f", "65", "2.0", "-7ll", "300", "4.0", "300", "(size_t)6", '"abcdef"', "4000000000u", "8", "8",
                 "255", "3", "-4", "42", "255", "0.0001", "1e20", "1.0", "-0.15625", "-5l", "(short)-3", "-9",
                 "0xffffffffffull", "'x'"]
    pattern = "%d %s %f %c %8.3f %lld %-8x| %e %hhd %zu %.3s %u %o %#o %X %+d % d %05d %#x %g %G %a %A %ld %hd %i %llx %3c %%"
    source = f"""extern "C" __global__ void k(int* n, const char* none) {{
      n[0] = printf("{pattern}", {", ".join(arguments)}); n[1] = printf("%s\\n", none); n[2] = printf("plain\\n"); }}"""
    n = np.full(3, -1, np.int32)
    printed = module(source)["k"].launch(1, 1, (n, None)).printed
    assert printed == [
        "5 abc 1.500000 A    2.000 -7 12c     | 4.000000e+00 44 6 abc 4000000000 10 010 FF +3 -4 00042 0xff 0.0001 1E+20 "
        "0x1p+0 -0X1.4P-3 -5 -3 -9 ffffffffff   x %", "(null)\n", "plain\n"]
    assert n.tolist() == [28, 1, 0]


def test_atomics_of_128_bits(module):
    source = """
    struct alignas(16) Wide { unsigned long long a, b; };
    extern "C" __global__ void count(Wide* w) {  // both halves move together, whoever comes first
      Wide seen = *w, before;
      do { before = seen; seen = atomicCAS(w, before, Wide{before.a + 1, before.b - 2}); }
      while (seen.a != before.a || seen.b != before.b);
    }
    extern "C" __global__ void chain(Wide* w, unsigned long long* y) {
      int t = threadIdx.x; Wide old = atomicExch(w, Wide{t + 1ull, ~0ull << t}); y[t] = old.a; y[64 + t] = old.b;
    }"""
    w = np.array([5, 1000], np.uint64)
    module(source)["count"].launch(2, 64, (w,))
    assert w.tolist() == [5 + 128, 1000 - 256]
    y = np.zeros((2, 64), np.uint64)
    module(source)["chain"].launch(1, 64, (w, y))
    assert sorted([*y[0].tolist(), int(w[0])]) == sorted([133, *range(1, 65)])
    whole = {(133, 1000 - 256)} | {(t + 1, (1 << 64) - (1 << t)) for t in range(64)}
    assert {(int(a), int(b)) for a, b in y.T} <= whole
