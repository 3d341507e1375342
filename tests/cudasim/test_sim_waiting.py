"""Threads that wait for each other: across blocks and batches, with locks, with the clock, and for ever."""

import numpy as np
import pytest

from gpugrad.cudasim import Race, Timeout


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


def test_the_workspace_of_a_grid_wide_barrier_is_where_cooperative_groups_look(module):
    source = r"""
    extern "C" __global__ void both(int* y) {
      unsigned high, low, old = 0, now;
      asm("mov.u32 %0, %%envreg1; mov.u32 %1, %%envreg2;" : "=r"(high), "=r"(low));
      unsigned* arrived = (unsigned*)((unsigned long long)high << 32 | low) + 1;
      y[blockIdx.x] = 1 + blockIdx.x;
      unsigned add = blockIdx.x ? 1 : 0x80000000 - (gridDim.x - 1);
      asm volatile("atom.add.release.gpu.u32 %0, [%1], %2;" : "=r"(old) : "l"(arrived), "r"(add) : "memory");
      do asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(now) : "l"(arrived) : "memory");
      while (!((old ^ now) & 0x80000000));
      y[gridDim.x + blockIdx.x] = y[gridDim.x - 1 - blockIdx.x];
    }"""
    y = zeros(400)
    module(source)["both"].launch(200, 1, (y,))
    assert (y[200:] == np.arange(1, 201)[::-1]).all()


MBARRIER = r"""
#include <cuda_awbarrier_primitives.h>
extern "C" __global__ void turn(int* y, const int* x, int rounds) {
  __shared__ __mbarrier_t filled, emptied;
  __shared__ int s[64];
  int t = threadIdx.x;
  if (t == 0) { __mbarrier_init(&filled, 64); __mbarrier_init(&emptied, 64); }
  __syncthreads();
  for (int round = 0; round < rounds; round++) {
    if (t < 64) {                       // two warps fill the buffer, two empty it
      if (round) while (!__mbarrier_test_wait_parity(&emptied, (round - 1) & 1)) { }
      s[t] = x[64 * round + t];
      __mbarrier_arrive(&filled);
    } else {
      while (!__mbarrier_test_wait_parity(&filled, round & 1)) { }
      y[64 * round + t - 64] = s[127 - t];
      __mbarrier_arrive(&emptied);
    }
  }
}"""


@pytest.mark.parametrize("arch", ["sm_90", "sm_120"])
def test_mbarriers_hand_a_buffer_between_warps(module, arch):
    x = np.arange(256, dtype=np.int32)
    y = zeros(256)
    module(MBARRIER, arch)["turn"].launch(2, 128, (y, x, np.int32(4)))
    assert (y.reshape(4, 64) == x.reshape(4, 64)[:, ::-1]).all()


def test_whoever_does_not_wait_for_an_mbarrier_runs_a_phase_ahead(module):
    source = MBARRIER.replace("if (round) while (!__mbarrier_test_wait_parity(&emptied, (round - 1) & 1)) { }", "")
    with pytest.raises(Timeout, match="64 threads that wait"):
        module(source, "sm_90")["turn"].launch(1, 128, (zeros(256), np.arange(256, dtype=np.int32), np.int32(4)))


FLAG = r"""
extern "C" __global__ void hand_over(int* y) {
  __shared__ int data[32];
  __shared__ volatile int ready;
  if (threadIdx.x == 0) ready = 0;
  __syncthreads();
  if (threadIdx.x < 32) {
    data[threadIdx.x] = threadIdx.x * 3;
    __syncwarp();
    __threadfence_block();
    if (threadIdx.x == 0) ready = 1;
  } else {
    while (!ready) { }
    y[threadIdx.x - 32] = data[63 - threadIdx.x];
  }
}"""


def test_a_flag_behind_a_fence_orders_what_was_written_before_it(module):
    y = zeros(32)
    module(FLAG)["hand_over"].launch(1, 64, (y,))
    assert (y == 3 * np.arange(32)[::-1]).all()
    with pytest.raises(Race, match="data"):
        module(FLAG.replace("__threadfence_block();", ""))["hand_over"].launch(1, 64, (y,))


RETURNING = {
    "a halving that stays at zero": "for (int k = 32; k >= 0; k >>= 1) { __syncthreads(); if (t < k) x[t] += x[t + k]; }",
    "a stride of zero": "for (int i = t; i < 64; i += n) x[i] = 2;",
    "a value that only goes to and fro": "volatile int* v = x; while (v[0] >= 0) v[1] = v[1] ^ 1;",
    "half of the threads": "if (t & 1) for (int i = t; i < 64; i += n) x[i] = i;",
}


@pytest.mark.parametrize("name", RETURNING)
def test_a_state_that_returns_ends_the_launch_at_once(module, name):
    source = f'extern "C" __global__ void k(int* x, int n) {{ int t = threadIdx.x; {RETURNING[name]} }}'
    with pytest.raises(Timeout, match=r"in a state that all threads were in [1-9]|which nobody will change") as found:
        module(source)["k"].launch(2, 64, (np.zeros(128, np.int32), np.int32(0)))
    assert found.value.line == 1
    assert found.value.kernel == "k"


def test_a_long_loop_in_which_only_memory_changes_is_none_of_them(module):
    source = """extern "C" __global__ void k(volatile int* x, int n) { while (x[0] < n) { x[0] = x[0] + 1; x[1] = x[1] ^ 1; } }"""
    x = np.zeros(2, np.int32)
    module(source)["k"].launch(1, 1, (x, np.int32(20001)))
    assert x.tolist() == [20001, 1]


def test_a_loop_over_the_clock_is_none_of_them(module):
    source = """extern "C" __global__ void k(int* x) {
      long long begun = clock64(); while (clock64() - begun < 30000) if (threadIdx.x == 77) x[0] = 1; x[1] = 1; }"""
    x = np.zeros(2, np.int32)
    module(source)["k"].launch(1, 32, (x,))
    assert x.tolist() == [0, 1]
