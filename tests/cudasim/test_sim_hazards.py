"""Threads of one warp, and threads of a whole grid, that touch one place with nothing between them; and their right twins."""

import numpy as np
import pytest

from gpugrad.cudasim import Checks, Race, Uninitialised

ON = Checks(hazards=True)
X, Y = np.arange(1024, dtype=np.int32), np.zeros(1024, np.int32)

# name: (body of a kernel of (int* x, int* y), grid, block, words of the diagnosis, what makes it right)
RACES = {
    "a stencil in place": (
        "int i = blockIdx.x * blockDim.x + threadIdx.x;\nif (i > 0 && i < 1023) x[i] = x[i - 1] + x[i + 1];", 8, 128,
        "read it in this launch", ("x[i] =", "y[i] =")),
    "different values at one place": (
        "x[0] = threadIdx.x;", 1, 32, "another thread stores a different value", ("threadIdx.x", "7")),
    "every block writes": (
        "if (threadIdx.x == 0) x[0] = blockIdx.x;", 4, 32, "another thread stores", ("x[0] = blockIdx.x", "x[blockIdx.x] = 1")),
    "an increment without an atomic": (
        "x[0] += 1;", 2, 64, "read it in this launch", ("x[0] += 1", "atomicAdd(x, 1)")),
    "an exchange through global memory": (
        "x[threadIdx.x] = threadIdx.x;\n/**/y[threadIdx.x] = x[127 - threadIdx.x];", 1, 128, "wrote it in this launch",
        ("/**/", "__syncthreads();")),
    "blocks that do not know of each other": (
        "x[128 * blockIdx.x + threadIdx.x] = 1;\n__syncthreads();\ny[threadIdx.x] = x[255 - threadIdx.x];", 2, 128,
        "of block", ("255 - threadIdx.x", "128 * blockIdx.x + 127 - threadIdx.x")),
    "an atomic and a store": (
        "if (threadIdx.x == 5) x[0] = 3;\natomicAdd(x, 1);", 1, 64, "thread", ("x[0] = 3", "atomicExch(x, 3)")),
    "lanes that exchange without __syncwarp": (
        "__shared__ int s[32];\ns[threadIdx.x] = threadIdx.x;\n/**/y[threadIdx.x] = s[31 - threadIdx.x];", 1, 32,
        "Put __syncwarp", ("/**/", "__syncwarp();")),
    "a warp that adds halves in place": (
        "__shared__ int s[32];\nint t = threadIdx.x;\ns[t] = x[t];\n__syncwarp();\n"
        "if (t < N) { s[t] += s[t + 8 & 31];\n__syncwarp(N == 32 ? ~0u : 0xff);\ny[t] = s[t]; }".replace("N", "32"), 1, 32,
        "lanes of a warp", ("t < 32", "t < 8")),
}


def kernel_of(module, body):
    return module('extern "C" __global__ void k(int* x, int* y) {\n' + body + "\n}")["k"]


@pytest.mark.parametrize("name", RACES)
def test_race_is_caught_and_its_right_twin_is_not(module, name):
    body, grid, block, words, (wrong, right) = RACES[name]
    with pytest.raises(Race, match=words) as caught:
        kernel_of(module, body).launch(grid, block, (X.copy(), Y.copy()), checks=ON)
    assert caught.value.kernel == "k" and caught.value.line >= 2 and caught.value.thread is not None
    assert f"`{'s' if 'shared' in body else 'x'}`" in str(caught.value)
    body = body.replace(wrong, right).replace("32 == 32 ? ~0u : 0xff", "0xff" if right == "t < 8" else "~0u")
    kernel_of(module, body).launch(grid, block, (X.copy(), Y.copy()), checks=ON)


RIGHT = {
    "in place, each its own": "int i = blockIdx.x * blockDim.x + threadIdx.x; x[i] = 2 * x[i];",
    "one value from all": "x[0] = 7; y[threadIdx.x & 1] = 1;",
    "volatile halves": """__shared__ int buffer[96]; volatile int* s = buffer; int t = threadIdx.x; s[t] = x[t]; s[t + 32] = 0;
        __syncthreads(); if (t < 32) { s[t] += s[t + 16]; s[t] += s[t + 8]; s[t] += s[t + 4]; }
        y[t] = s[t];""",
    "compare and swap": """int old = *x, seen; do { seen = old; old = atomicCAS(x, seen, max(seen, y[threadIdx.x])); }
        while (old != seen); if (x[1] > (int)threadIdx.x) atomicMin(x + 1, threadIdx.x);""",
    "the last block resets the ticket": """__shared__ bool last; if (threadIdx.x == 0) { y[blockIdx.x] = 1; __threadfence();
        last = atomicInc((unsigned*)x + 1, gridDim.x) == gridDim.x - 1; } __syncthreads();
        if (last && threadIdx.x == 0) { x[1] = 0; int sum = 0; for (int i = 0; i < gridDim.x; i++) sum += y[i]; x[2] = sum; }""",
    "a lock": """if (threadIdx.x) return; while (atomicCAS(x, 0, 1)) { }
        __threadfence(); y[0] += 1; __threadfence(); atomicExch(x, 0);""",
    "bytes side by side": "((char*)x)[blockIdx.x * blockDim.x + threadIdx.x] = 1;",
}


@pytest.mark.parametrize("name", RIGHT)
def test_no_false_alarm(module, name):
    kernel_of(module, RIGHT[name]).launch(4, 32, (np.zeros(1024, np.int32), np.zeros(1024, np.int32)), checks=ON)


def test_races_are_not_looked_for_where_nobody_asked(module):
    kernel_of(module, "x[0] += threadIdx.x;").launch(2, 64, (X.copy(), Y.copy()))


COPY = """#include <cuda_pipeline_primitives.h>
extern "C" __global__ void staged(float* y, const float* x, int rounds) {
  __shared__ float s[2][64];
  int t = threadIdx.x;
  float sum = 0;
  __pipeline_memcpy_async(&s[0][t], x + t, 4);
  __pipeline_commit();
  for (int i = 0; i < rounds; i++) {
    if (i + 1 < rounds) __pipeline_memcpy_async(&s[(i + 1) & 1][t], x + 64 * (i + 1) + t, 4);
    __pipeline_commit();
    __pipeline_wait_prior(1);
    __syncthreads();
    sum += s[i & 1][63 - t];
    __syncthreads();
  }
  y[t] = sum;
}"""


def test_asynchronous_copies_must_be_waited_for(module):
    x, y = np.arange(256, dtype=np.float32), np.zeros(64, np.float32)
    module(COPY)["staged"].launch(1, 64, (y, x, np.int32(4)))
    assert (y == x.reshape(4, 64).sum(axis=0)[::-1]).all()
    with pytest.raises(Uninitialised, match=r"shared `s`.*that an asynchronous copy may not have reached") as caught:
        module(COPY.replace("wait_prior(1)", "wait_prior(2)"))["staged"].launch(1, 64, (y, x, np.int32(4)))
    assert caught.value.line == 13
