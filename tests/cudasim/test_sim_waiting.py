"""Threads that wait for each other: across blocks and batches, with locks, with the clock, and for ever."""

import numpy as np
import pytest

from gpugrad.cudasim import Timeout


def zeros(n, dtype=np.int32):
    return np.zeros(n, dtype)


@pytest.mark.parametrize("blocks", [8, 600])
def test_all_blocks_of_a_grid_meet_at_a_barrier_in_global_memory(module, blocks):
    source = r"""
    __device__ unsigned count = 0;
    __device__ volatile unsigned round_number = 0;
    extern "C" __global__ void meet(int* a, int* b, int n) {
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      a[i] = i;
      __syncthreads();
      if (threadIdx.x == 0) {
        __threadfence();
        unsigned old = round_number;
        if (atomicAdd(&count, 1) == gridDim.x - 1) { count = 0; __threadfence(); round_number = old + 1; }
        else while (round_number == old) { }
        __threadfence();
      }
      __syncthreads();
      b[i] = ((volatile int*)a)[n - 1 - i];
    }"""
    n = blocks * 128
    b = zeros(n)
    module(source)["meet"].launch(blocks, 128, (zeros(n), b, np.int32(n)))
    assert (b == np.arange(n)[::-1]).all()


LOCKS = {
    "back off": "unsigned ns = 8; while (atomicCAS(lock, 0, 1)) { __nanosleep(ns); if (ns < 256) ns *= 2; } WORK; FREE;",
    "count": "int tries = 0; while (atomicCAS(lock, 0, 1)) tries++; WORK; FREE; atomicMax(value + 1, tries);",
    "flag": "bool done = false; while (!done) if (!atomicCAS(lock, 0, 1)) { WORK; FREE; done = true; }",
    "ticket": "int mine = atomicAdd(value + 1, 1); while (*(volatile int*)lock != mine) { } WORK; __threadfence(); "
              "*(volatile int*)lock = mine + 1;",
}


@pytest.mark.parametrize("name", LOCKS)
def test_locks_are_handed_on_also_within_a_warp(module, name):
    body = LOCKS[name].replace("WORK", "*(volatile int*)value += 1").replace("FREE", "__threadfence(); atomicExch(lock, 0)")
    value = zeros(2)
    module(f'extern "C" __global__ void locked(int* lock, int* value) {{ {body} }}')["locked"].launch(
        2, 40, (zeros(1), value))
    assert value[0] == 80


ENDLESS = {
    "flag": "while (((volatile int*)x)[0] == 0) { }",
    "lock": "while (atomicCAS(x, 0, 1)) { } x[1] = 1;",
    "two locks": """int a = blockIdx.x & 1; volatile int* taken = x + 4;
        while (atomicCAS(x + a, 0, 1)) { } __threadfence(); taken[a] = 1; while (taken[a ^ 1] == 0) { }
        while (atomicCAS(x + (a ^ 1), 0, 1)) { } taken[2] += 1; atomicExch(x + 1, 0); atomicExch(x, 0);""",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_deadlock_is_said_at_once(module, name):
    kernel = module(f'extern "C" __global__ void hang(int* x) {{\n{ENDLESS[name]}\n}}')["hang"]
    with pytest.raises(Timeout, match=r"threads that wait for memory which nobody will change.*thread \(.*kernel.cu:") as caught:
        kernel.launch(2, 1 if name == "two locks" else 32, (zeros(8),))
    assert caught.value.line >= 2


def test_time_passes_for_those_who_look_at_the_clock(module):
    source = r"""extern "C" __global__ void wait(long long* y, long long ticks) {
      long long start = clock64();
      while (clock64() - start < ticks) { }
      y[0] = clock64() - start;
    }"""
    y = zeros(1, np.int64)
    module(source)["wait"].launch(1, 32, (y, np.int64(10**9)))
    assert y[0] >= 10**9
