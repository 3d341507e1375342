"""Clusters of blocks, shared memory of other blocks, and copies that an mbarrier is told of."""

import numpy as np
import pytest

from gpugrad.cudasim import ArgumentError, BarrierDivergence, Misaligned, OutOfBounds, PtxError, Timeout

HEAD = r"""
__device__ unsigned rank() { unsigned r; asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
__device__ void meet() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
template <typename T> __device__ T* of_block(T* p, unsigned rank) {
  unsigned long long q; asm("mapa.u64 %0, %1, %2;" : "=l"(q) : "l"(p), "r"(rank)); return (T*)q;
}
"""


def test_blocks_of_a_cluster_read_each_other(module):
    source = HEAD + r"""
    extern "C" __global__ void __cluster_dims__(4, 1, 1) k(int* y) {
      __shared__ int s[32]; int t = threadIdx.x;
      s[t] = 100 * blockIdx.x + t; meet();
      y[blockIdx.x * 32 + t] = of_block(s, (rank() + 1) % 4)[31 - t]; meet();
    }"""
    y = np.zeros((8, 32), np.int32)
    module(source)["k"].launch(8, 32, (y,))
    neighbours = np.arange(8) // 4 * 4 + (np.arange(8) + 1) % 4
    np.testing.assert_array_equal(y, 100 * neighbours[:, None] + 31 - np.arange(32))


def test_blocks_of_a_cluster_add_up_in_the_first(module):
    source = HEAD + r"""
    extern "C" __global__ void __cluster_dims__(2, 1, 1) k(int* y, unsigned* who) {
      __shared__ int total; if (threadIdx.x == 0) total = 0;
      meet(); atomicAdd(of_block(&total, 0), threadIdx.x + 1); meet();
      if (threadIdx.x == 0) y[blockIdx.x] = total;
      unsigned id, count, each, all;
      asm("mov.u32 %0, %%clusterid.x;" : "=r"(id)); asm("mov.u32 %0, %%nclusterid.x;" : "=r"(count));
      asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(each)); asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(all));
      if (threadIdx.x == 0) who[blockIdx.x] = 1000 * id + 100 * count + 10 * each + all;
    }"""
    y, who = np.zeros(6, np.int32), np.zeros(6, np.uint32)
    module(source)["k"].launch(6, 64, (y, who))
    assert y.tolist() == [2 * 65 * 32, 0] * 3
    assert who.tolist() == [1000 * (b // 2) + 322 for b in range(6)]


def test_a_kernel_without_clusters_is_a_cluster_of_one_block(module):
    source = HEAD + r"""
    extern "C" __global__ void k(int* y) {
      __shared__ int s[64]; s[threadIdx.x] = threadIdx.x; meet();
      y[64 * blockIdx.x + threadIdx.x] = of_block(s, 0)[63 - threadIdx.x] + rank();
    }"""
    y = np.zeros((3, 64), np.int32)
    module(source)["k"].launch(3, 64, (y,))
    np.testing.assert_array_equal(y, [63 - np.arange(64)] * 3)


@pytest.mark.parametrize(("dims", "grid", "body", "error", "words"), [
    ("2, 1, 1", 3, "meet();", ArgumentError, "whole clusters of 2 blocks"),
    ("1, 2, 1", 2, "meet();", PtxError, "clusters must lie along x"),
    ("2, 1, 1", 2, "__shared__ int s; s = 1; meet(); y[0] = *of_block(&s, 2);", OutOfBounds, "must lie inside a shared variable"),
    ("2, 1, 1", 2, "if (rank() == 1) for (;;) __syncthreads(); meet();", Timeout, "one day|basic blocks|nobody will change"),
    ("2, 1, 1", 2, "if (rank() && threadIdx.x > 31) __syncthreads(); else meet();", BarrierDivergence, "threads of a cluster"),
])
def test_misuse_of_clusters_is_refused(module, dims, grid, body, error, words):
    source = HEAD + f'extern "C" __global__ void __cluster_dims__({dims}) k(int* y) {{ {body} }}'
    with pytest.raises(error, match=words):
        module(source)["k"].launch(grid, 64, (np.zeros(4, np.int32),))


BULK = r"""
__device__ unsigned place(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
extern "C" __global__ void k(float* y, const float* x, int n, int expected) {
  __shared__ __align__(16) float s[1024]; __shared__ unsigned long long bar; int t = threadIdx.x;
  x += n * blockIdx.x; y += n * blockIdx.x;
  if (t == 0) asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" :: "r"(place(&bar)));
  __syncthreads();
  if (t == 0) {
    unsigned long long state;
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 %0, [%1], %2;" : "=l"(state) : "r"(place(&bar)), "r"(expected));
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                 :: "r"(place(s)), "l"(x), "r"(n * 4), "r"(place(&bar)) : "memory");
  }
  asm volatile("{ .reg .pred p; WAIT: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], 0; @!p bra WAIT; }"
               :: "r"(place(&bar)) : "memory");
  for (int i = t; i < n; i += blockDim.x) s[i] *= 2;
  asm volatile("fence.proxy.async.shared::cta;"); __syncthreads();
  if (t == 0) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" :: "l"(y), "r"(place(s)), "r"(n * 4) : "memory");
    asm volatile("cp.async.bulk.commit_group;"); asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
  }
}"""


def test_bulk_copies_bring_bytes_that_an_mbarrier_awaits(module):
    x = np.arange(2 * 520, dtype=np.float32)
    y = np.zeros_like(x)
    module(BULK)["k"].launch(2, 128, (y, x, np.int32(520), np.int32(2080)))
    np.testing.assert_array_equal(y, 2 * x)


def test_an_mbarrier_that_awaits_more_bytes_than_come_is_never_passed(module):
    x = np.zeros(64, np.float32)
    with pytest.raises(Timeout, match="a thread that waits must be set free by another"):
        module(BULK)["k"].launch(1, 32, (x.copy(), x, np.int32(64), np.int32(272)))


def test_bulk_copies_are_of_whole_16_bytes_within_their_arrays(module):
    x = np.zeros(64, np.float32)
    with pytest.raises(Misaligned, match="needs the size as a multiple of 16"):
        module(BULK)["k"].launch(1, 32, (x.copy(), x, np.int32(63), np.int32(252)))
    with pytest.raises(OutOfBounds, match="argument 1 `x`"):
        module(BULK)["k"].launch(1, 32, (x.copy(), x, np.int32(128), np.int32(512)))
