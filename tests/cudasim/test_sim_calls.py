"""Functions that call themselves, and what stands on the stack of a thread, against the same functions in Python."""

import functools

import numpy as np
import pytest

from gpugrad.cudasim import StackOverflow

T = np.arange(64)


@functools.cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@functools.cache
def ackermann(m, n):
    if m == 0:
        return n + 1
    return ackermann(m - 1, ackermann(m, n - 1) if n else 1)


def collatz(n):
    """(steps, largest number on the way)"""
    steps, largest = 0, n
    while n != 1:
        n = 3 * n + 1 if n % 2 else n // 2
        steps, largest = steps + 1, max(largest, n)
    return steps + 1000 * largest


# kernel over u[64]: what it leaves there
KERNELS = {
    "fibonacci": ("""
      __device__ __noinline__ int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
      extern "C" __global__ void k(int* u) { u[threadIdx.x] = fib(threadIdx.x % 11); }""", lambda t: fibonacci(t % 11)),
    "calls within the arguments of calls": ("""
      __device__ int ack(int m, int n) { return m == 0 ? n + 1 : n == 0 ? ack(m - 1, 1) : ack(m - 1, ack(m, n - 1)); }
      extern "C" __global__ void k(int* u) { u[threadIdx.x] = ack(2, threadIdx.x % 4); }""", lambda t: ackermann(2, t % 4)),
    "two functions that call each other": ("""
      __device__ int odd(int n);
      __device__ __noinline__ int even(int n) { return n == 0 ? 1 : odd(n - 1); }
      __device__ __noinline__ int odd(int n) { return n == 0 ? 0 : even(n - 1); }
      extern "C" __global__ void k(int* u) { u[threadIdx.x] = even(threadIdx.x); }""", lambda t: 1 - t % 2),
    "a struct passed and returned, two results by pointer": ("""
      struct Walk { int steps; long long largest; };
      __device__ __noinline__ Walk walk(long long n, Walk w) {
        if (n > w.largest) w.largest = n;
        if (n == 1) return w;
        Walk rest = walk(n % 2 ? 3 * n + 1 : n / 2, w);
        rest.steps += 1;
        return rest;
      }
      extern "C" __global__ void k(int* u) {
        Walk w = walk(threadIdx.x % 20 + 1, Walk{0, 0}); u[threadIdx.x] = w.steps + 1000 * w.largest;
      }""", lambda t: collatz(t % 20 + 1)),
    "a pointer to an array of the caller": ("""
      __device__ __noinline__ int sum(int n, const int* above) {
        int mine[4];
        for (int i = 0; i < 4; ++i) mine[i] = n * i;
        if (n == 0) return above[3];
        int below = sum(n - 1, mine);
        return below + mine[n % 4] + above[n % 4];
      }
      extern "C" __global__ void k(int* u) { int first[4] = {1, 1, 1, 1}; u[threadIdx.x] = sum(threadIdx.x % 7, first); }
      """, lambda t: python_sum(t % 7, [1] * 4)),
    "virtual functions that call their like": ("""
      struct Node { __device__ virtual int value() const = 0; };
      struct Leaf : Node { int v; __device__ Leaf(int v) : v(v) {} __device__ int value() const override { return v; } };
      struct Sum : Node {
        const Node *a, *b; __device__ Sum(const Node* a, const Node* b) : a(a), b(b) {}
        __device__ int value() const override { return a->value() + b->value(); }
      };
      extern "C" __global__ void k(int* u) {
        Leaf one(1), t(threadIdx.x); Sum x(&one, &t), y(&x, &x); const Node* p = threadIdx.x & 1 ? (Node*)&y : (Node*)&t;
        u[threadIdx.x] = p->value();
      }""", lambda t: 2 * (t + 1) if t % 2 else t),
    "barriers and atomics on the way down": ("""
      __shared__ int total;
      __device__ __noinline__ void down(int n) {
        if (n == 0) return;
        atomicAdd(&total, n); __syncthreads(); down(n - 1);
      }
      extern "C" __global__ void k(int* u) {
        if (threadIdx.x == 0) total = 0;
        __syncthreads(); down(5); __syncthreads(); u[threadIdx.x] = total;
      }""", lambda t: 64 * 15),
}


def python_sum(n, above):
    mine = [n * i for i in range(4)]
    return above[3] if n == 0 else python_sum(n - 1, mine) + mine[n % 4] + above[n % 4]


@pytest.mark.parametrize("name", KERNELS)
def test_recursion_gives_what_python_gives(module, arch, name):
    source, function = KERNELS[name]
    u = np.zeros(64, np.int32)
    module(source, arch)["k"].launch(1, 64, (u,))
    assert u.tolist() == [function(int(t)) for t in T]


def test_every_thread_sorts_its_own_piece_by_recursion(module, rng):
    source = """
    __device__ void sort(int* a, int l, int r) {
      if (l >= r) return;
      int pivot = a[(l + r) / 2], i = l, j = r;
      while (i <= j) {
        while (a[i] < pivot) i++;
        while (a[j] > pivot) j--;
        if (i <= j) { int x = a[i]; a[i] = a[j]; a[j] = x; i++; j--; }
      }
      sort(a, l, j); sort(a, i, r);
    }
    extern "C" __global__ void k(int* a, int n) { sort(a + n * (blockIdx.x * blockDim.x + threadIdx.x), 0, n - 1); }"""
    a = rng.integers(0, 50, (96, 17)).astype(np.int32)
    expected = np.sort(a, axis=1)
    module(source)["k"].launch(2, 48, (a, np.int32(17)))
    np.testing.assert_array_equal(a, expected)


def test_recursion_without_an_end_overflows_the_stack_and_says_where(module):
    source = """
    __device__ __noinline__ int f(int n, const int* p) {
      return n == 1 << 30 ? p[0] : f(n + 1, p) * p[n & 1] + 1;
    }
    extern "C" __global__ void k(int* u) { u[threadIdx.x] = f(threadIdx.x, u); }"""
    with pytest.raises(StackOverflow, match="the frames of a thread must fit into 16384 bytes") as found:
        module(source)["k"].launch(1, 32, (np.zeros(32, np.int32),))
    assert found.value.line == 3
    assert found.value.thread == (0, 0, 0)
