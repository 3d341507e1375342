"""malloc, free, new and delete in kernels, and what is said of their misuse."""

import numpy as np
import pytest

from gpugrad.cudasim import MemoryFault, OutOfBounds, Uninitialised, heap

T = np.arange(64)

KERNELS = {
    "a buffer of its own for each thread": ("""
      extern "C" __global__ void k(int* u) {
        int n = threadIdx.x % 5 + 1, *p = (int*)malloc(n * sizeof(int)), sum = 0;
        for (int i = 0; i < n; ++i) p[i] = threadIdx.x + i;
        for (int i = 0; i < n; ++i) sum += p[i];
        u[threadIdx.x] = sum; free(p);
      }""", (T % 5 + 1) * T + (T % 5 + 1) * (T % 5) // 2),
    "a list built by one thread and read by all": ("""
      struct Node { int value; Node* next; };
      extern "C" __global__ void k(int* u) {
        __shared__ Node* head;
        if (threadIdx.x == 0) { head = nullptr; for (int i = 0; i < 9; ++i) head = new Node{i, head}; }
        __syncthreads();
        int sum = 0; for (Node* n = head; n; n = n->next) sum = 2 * sum + n->value;
        u[threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.x == 0) for (Node *n = head, *next; n; n = next) { next = n->next; delete n; }
      }""", 0 * T + sum(i << i for i in range(9))),
    "objects with virtual destructors": ("""
      struct B { int* to; __device__ B(int* to) : to(to) {} __device__ virtual ~B() { *to += 1; } };
      struct C : B {
        int* more; __device__ C(int* to) : B(to), more(new int[3]) {}
        __device__ ~C() override { *to += 10; delete[] more; }
      };
      extern "C" __global__ void k(int* u) {
        u[threadIdx.x] = 0; B* b = threadIdx.x & 1 ? new C(u + threadIdx.x) : new B(u + threadIdx.x); delete b;
      }""", 1 + T % 2 * 10),
    "a block handed from thread to thread": ("""
      extern "C" __global__ void k(int* u) {
        __shared__ int* p[64]; int t = threadIdx.x;
        p[t] = (int*)malloc(4); *p[t] = t; __syncthreads(); u[t] = *p[63 - t]; free(p[63 - t]);
      }""", 63 - T),
    "null where there is no room, and nothing to free": ("""
      extern "C" __global__ void k(int* u) { void* p = malloc(1 << 30); u[threadIdx.x] = p == nullptr; free(p); }""", 0 * T + 1),
}


@pytest.fixture
def dead_blocks():
    """Every test leaves the heap as it found it."""
    before = int(heap.heap().live.sum())
    yield
    assert int(heap.heap().live.sum()) == before


@pytest.mark.parametrize("name", KERNELS)
def test_heap_of_the_device(module, arch, name, dead_blocks):
    source, expected = KERNELS[name]
    u = np.zeros(64, np.int32)
    module(source, arch)["k"].launch(1, 64, (u,))
    np.testing.assert_array_equal(u, expected)


def test_blocks_outlive_their_launch(module, dead_blocks):
    source = """
    extern "C" __global__ void make(int** p) { p[threadIdx.x] = new int(3 * threadIdx.x); }
    extern "C" __global__ void take(int** p, int* u) { u[threadIdx.x] = *p[threadIdx.x]; delete p[threadIdx.x]; }"""
    pointers, u = np.zeros(64, np.uint64), np.zeros(64, np.int32)
    module(source)["make"].launch(1, 64, (pointers,))
    module(source)["take"].launch(1, 64, (pointers, u))
    np.testing.assert_array_equal(u, 3 * T)


def test_memory_that_was_freed_is_used_again_when_the_rest_is_used_up(module, dead_blocks):
    source = """
    extern "C" __global__ void k(int* u) {
      char* p = (char*)malloc(1 << 20); u[0] = p != nullptr;
      if (p) { p[0] = p[(1 << 20) - 1] = 1; u[1] = p[0]; } free(p);
    }"""
    for _ in range(20):
        u = np.zeros(2, np.int32)
        module(source)["k"].launch(1, 1, (u,))
        assert u.tolist() == [1, 1]


@pytest.mark.parametrize(("body", "error", "words"), [
    ("int* p = (int*)malloc(12); p[3] = 1; u[0] = p[0];", OutOfBounds, "0 bytes past the end of 12 bytes from malloc"),
    ("int* p = (int*)malloc(8); p[0] = 1; free(p); u[0] = *(volatile int*)p;", OutOfBounds, "which have been freed"),
    ("int* p = (int*)malloc(8); u[0] = p[1];", Uninitialised, "that nobody wrote"),
    ("int* p = (int*)malloc(8); u[2] = (long long)p; free(p); free(p);", MemoryFault, "free must get a pointer"),
    ("free(u);", MemoryFault, "free must get a pointer"),
])
def test_misuse_of_the_heap_is_found(module, body, error, words):
    with pytest.raises(error, match=words) as found:
        module(f'extern "C" __global__ void k(int* u) {{ {body} }}')["k"].launch(1, 1, (np.zeros(4, np.int32),))
    assert found.value.line == 1
