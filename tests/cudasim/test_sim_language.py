"""Corners of CUDA C++ that other people's kernels use: every kernel on each dialect of PTX, against NumPy."""

import numpy as np
import pytest

from gpugrad.cudasim import CompileError, PtxError, compile_cuda

T = np.arange(64)

# source of a kernel over y[64] = 0, 1, 2, ...: what it leaves there
KERNELS = {
    "shared array read backwards": ("""
      extern "C" __global__ void k(float* y) {
        __shared__ unsigned char s[64]; int t = threadIdx.x;
        s[t] = t; __syncthreads(); y[t] = s[63 - t];
      }""", 63 - T),
    "shared structs read backwards": ("""
      struct P { float x; int i; char c; };
      extern "C" __global__ void k(float* y) {
        __shared__ P p[64]; int t = threadIdx.x;
        p[t].x = t; p[t].i = 2 * t; p[t].c = t & 7; __syncthreads();
        y[t] = p[63 - t].x + p[63 - t].i + p[63 - t].c;
      }""", 3 * (63 - T) + (63 - T) % 8),
    "shared halves of odd pitch": ("""
      #include <cuda_fp16.h>
      extern "C" __global__ void k(float* y) {
        __shared__ __half s[64][33]; int t = threadIdx.x;
        for (int i = 0; i < 33; ++i) s[t][i] = __float2half(t + i);
        __syncthreads(); y[t] = __half2float(s[(t + 1) % 64][t % 33]);
      }""", (T + 1) % 64 + T % 33),
    "template over extern shared memory": ("""
      template <class E> __device__ E* shared() {
        extern __shared__ __align__(16) unsigned char bytes[]; return reinterpret_cast<E*>(bytes); }
      extern "C" __global__ void k(float* y) {
        float* s = shared<float>(); int t = threadIdx.x; s[t] = t; __syncthreads(); y[t] = s[63 - t];
      }""", 63 - T),
    "volatile warp-synchronous sum": ("""
      extern "C" __global__ void k(float* y) {
        __shared__ volatile float s[64]; int t = threadIdx.x; s[t] = t; __syncthreads();
        if (t < 32) {
          s[t] += s[t + 32]; __syncwarp();
          for (int n = 16; n; n >>= 1) { float v = t < n ? s[t + n] : 0.f; __syncwarp(); s[t] += v; __syncwarp(); }
        }
        __syncthreads(); y[t] = s[0];
      }""", 0 * T + 2016),
    "pointer that is global or shared lane by lane": ("""
      extern "C" __global__ void k(float* y) {
        __shared__ float s[64]; int t = threadIdx.x; s[t] = -1; __syncthreads();
        float* p = t & 1 ? s + t : y + t; *p += 3; y[t] += s[t];
      }""", T + np.where(T % 2, 2, 2)),
    "flag that many warps set to one value": ("""
      extern "C" __global__ void k(float* y) {
        __shared__ bool found; if (threadIdx.x == 0) found = false;
        __syncthreads(); if (y[threadIdx.x] > 3) found = true;
        __syncthreads(); y[threadIdx.x] = found;
      }""", 0 * T + 1),
    "function pointers": ("""
      typedef float (*F)(float);
      __device__ float up(float x) { return x + 1; }
      __device__ float twice(float x) { return 2 * x; }
      extern "C" __global__ void k(float* y) { F f[2] = {up, twice}; y[threadIdx.x] = f[threadIdx.x & 1](y[threadIdx.x]); }
      """, np.where(T % 2, 2 * T, T + 1)),
    "virtual functions": ("""
      struct B { __device__ virtual float f(float x) = 0; };
      struct C : B { __device__ float f(float x) override { return x + 1; } };
      struct D : B { __device__ float f(float x) override { return 2 * x; } };
      extern "C" __global__ void k(float* y) {
        C c; D d; B* b = threadIdx.x & 1 ? (B*)&c : (B*)&d; y[threadIdx.x] = b->f(y[threadIdx.x]);
      }""", np.where(T % 2, T + 1, 2 * T)),
    "memset and memcpy of structs": ("""
      struct S { float a[6]; };
      extern "C" __global__ void k(float* y) {
        S s, t; memset(&s, 0, sizeof s); s.a[threadIdx.x % 6] = threadIdx.x; memcpy(&t, &s, sizeof s);
        y[threadIdx.x] = t.a[threadIdx.x % 6] + t.a[(threadIdx.x + 1) % 6];
      }""", T),
    "cache hints": ("""
      extern "C" __global__ void k(float* y) {
        int t = threadIdx.x; float v = __ldcs(y + t); __stcs(y + t, v + 1); v = __ldcg(y + t); __stwt(y + t, v + __ldcv(y + t));
      }""", 2 * (T + 1)),
    "clocks and fences": ("""
      extern "C" __global__ void k(float* y) {
        long long a = clock64(); __threadfence_system(); __threadfence_block(); __nanosleep(20);
        y[threadIdx.x] = clock64() >= a && clock() + 1 > 0;
      }""", 0 * T + 1),
    "vectors of small integers": ("""
      extern "C" __global__ void k(float* y) {
        int t = threadIdx.x; uchar4 c = reinterpret_cast<uchar4*>(y)[t]; short2 s = reinterpret_cast<short2*>(y)[t];
        __syncthreads(); y[t] = c.x + c.y + c.z + c.w + 0 * s.x - 0 * s.y;
      }""", np.arange(64, dtype=np.float32).view(np.uint8).reshape(64, 4).sum(axis=1)),
    "packed halves through shuffles": ("""
      #include <cuda_fp16.h>
      extern "C" __global__ void k(float* y) {
        __half2 h = __floats2half2_rn(1, threadIdx.x & 1);
        for (int n = 16; n; n >>= 1) h = __hadd2(h, __shfl_xor_sync(~0u, h, n));
        y[threadIdx.x] = __low2float(h) + 100 * __high2float(h);
      }""", 0 * T + 32 + 1600),
}


@pytest.mark.parametrize("name", KERNELS)
def test_corner_of_the_language(module, arch, name):
    source, expected = KERNELS[name]
    y = np.arange(64, dtype=np.float32)
    module(source, arch)["k"].launch(1, 64, (y,), shared=256)
    np.testing.assert_array_equal(y, expected)


def test_textures_are_refused_by_name(module):
    source = """extern "C" __global__ void k(float* y, cudaTextureObject_t t) { y[0] = tex1Dfetch<float>(t, threadIdx.x); }"""
    with pytest.raises(PtxError, match="textures and surfaces are not simulated"):
        module(source)["k"]


def test_launches_by_kernels_are_refused_by_name():
    source = """__global__ void child(int* u) { u[0] = 1; }
    extern "C" __global__ void k(int* u) { child<<<1, 1>>>(u); }"""
    with pytest.raises(PtxError, match="k: kernels must be launched by the host"):
        compile_cuda(source, options=("-rdc=true",))["k"]


def test_a_missing_header_says_which_wheel_has_it(module):
    with pytest.raises(CompileError, match="pip install nvidia-cuda-cccl"):
        module('#include <cub/there_is_no_such_header.cuh>\n__global__ void k() {}')


def test_headers_of_the_c_library_are_supplied_and_named(module):
    source = r"""
    #include <stdio.h>
    #include <cstdint>
    #include <cmath>
    #include <assert.h>
    #include <float.h>
    #include <limits.h>
    #include <stddef.h>
    struct Pair { char first; double second; };
    extern "C" __global__ void k(double* y, const uint8_t* x, int64_t n) {
      int64_t i = threadIdx.x;
      assert(i < n);
      y[i] = std::sqrt((float)x[i]) + M_PI + (x[i] > INT8_MAX ? INT_MAX : 0) + offsetof(Pair, second) + isinf(INFINITY) - FLT_MIN;
      if (i == 0) printf("%d\n", (int)sizeof(std::uint16_t));
    }"""
    y, x = np.zeros(200), np.arange(200, dtype=np.uint8)
    loaded = module(source)
    counters = loaded["k"].launch(1, 200, (y, x, np.int64(200)))
    np.testing.assert_allclose(y, np.sqrt(np.arange(200)) + np.pi + np.where(x > 127, 2**31 - 1, 0) + 9, rtol=1e-6)
    assert counters.printed == ["2\n"]
    assert "<cstdint> is no header of NVRTC" in loaded.compiled.log


def test_headers_of_the_cpp_library_name_their_replacement():
    with pytest.raises(CompileError, match=r"include <cuda/std/limits> of nvidia-cuda-cccl"):
        compile_cuda("#include <limits>\n__global__ void k() {}")
    with pytest.raises(CompileError, match="Correct the source"):
        compile_cuda("#include <vector>\n__global__ void k() {}")
