// device.cuh: what several kernels share
//
// acc_t<T>      the type sums are kept in: double for double, float for everything narrower
// Pack<T, V>    V neighbours of an array, moved by one instruction: 128 bits when V = 16 / sizeof(T), one element when V = 1
// row_sum ...   sums and maxima over the threads of a row, always in the same order
// last_block    which of several blocks finished last: it may read what the others wrote
//
// Sums are taken in an order fixed by the launch shape, so a kernel gives the same bits at each run.
#pragma once

#if __has_include(<cuda_bf16.h>)  // float and double need no CUDA headers
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

template <typename T> struct Accumulator { using type = float; };
template <> struct Accumulator<double> { using type = double; };
template <typename T> using acc_t = typename Accumulator<T>::type;

// N words among the arguments of a launch: declare it `const __grid_constant__`, so that an index into it is no copy.
template <int N> struct Words { unsigned long long at[N]; };

template <typename A> __device__ A infinity() { return A(__longlong_as_double(0x7ff0000000000000ll)); }
template <typename A> __device__ A not_a_number() { return A(__longlong_as_double(0x7ff8000000000000ll)); }

// ---- 128-bit access --------------------------------------------------------------------------------------------------

template <typename T, int V> struct alignas(V == 1 ? alignof(T) : 16) Pack {
  static_assert(V == 1 || V * sizeof(T) == 16, "a pack is one element or 128 bits");
  T at[V];

  static __device__ Pack load(const T* p) {
    if constexpr (V == 1) {
      return {{*p}};
    } else {
      const uint4 bits = *reinterpret_cast<const uint4*>(p);
      return __builtin_bit_cast(Pack, bits);
    }
  }

  __device__ void store(T* p) const {
    if constexpr (V == 1) {
      *p = at[0];
    } else {
      *reinterpret_cast<uint4*>(p) = __builtin_bit_cast(uint4, *this);
    }
  }
};

// A flat array of n elements as n / V packs and a tail: calls body(i, pack_width_constant) for this thread's pack, or for its
// one element of the tail. The threads behind the last pack take the tail, so no second launch and no idle loop.
template <int V> struct Width { static constexpr int value = V; };

template <int V, typename Body> __device__ void for_each_pack(long long n, Body body) {
  const long long k = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  const long long packs = n / V;
  if (k < packs) {
    body(k * V, Width<V>{});
  } else if (V > 1) {
    const long long i = packs * V + (k - packs);
    if (i < n) body(i, Width<1>{});
  }
}

// A row of C elements in the registers of the blockDim.x threads that share it: thread t holds packs t, t + blockDim.x, ...,
// N of them, so C <= blockDim.x N V. Elements behind C are `fill` and are never stored.
template <typename T, int V, int N> struct RowPart {
  acc_t<T> at[N * V];

  __device__ static int column(int k) { return (k / V * blockDim.x + threadIdx.x) * V + k % V; }

  __device__ static RowPart load(const T* row, int C, acc_t<T> fill) {
    RowPart part;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const int c = column(n * V);
      Pack<T, V> p;
      if (c < C) p = Pack<T, V>::load(row + c);
#pragma unroll
      for (int v = 0; v < V; ++v) part.at[n * V + v] = c < C ? acc_t<T>(p.at[v]) : fill;
    }
    return part;
  }

  __device__ void store(T* row, int C) const {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const int c = column(n * V);
      Pack<T, V> p;
#pragma unroll
      for (int v = 0; v < V; ++v) p.at[v] = T(at[n * V + v]);
      if (c < C) p.store(row + c);
    }
  }
};

// Calls body(c, pack) for each pack of a row of any length that falls to this thread.
template <typename T, int V, typename Body> __device__ void for_row(const T* row, long long C, Body body) {
  for (long long c = static_cast<long long>(threadIdx.x) * V; c < C; c += static_cast<long long>(blockDim.x) * V) {
    body(c, Pack<T, V>::load(row + c));
  }
}

// ---- sums and maxima in a fixed order --------------------------------------------------------------------------------

struct Add {
  template <typename A> __device__ A operator()(A a, A b) const { return a + b; }
};
struct Larger {  // drops NaN, as fmax does: the exponentials that follow bring it back
  template <typename A> __device__ A operator()(A a, A b) const { return fmax(a, b); }
};

// Every lane of the warp gets the result.
template <typename A, typename Op> __device__ A warp_fold(A a, Op op) {
#pragma unroll
  for (int step = WARP / 2; step; step /= 2) a = op(a, __shfl_xor_sync(ALL_LANES, a, step));
  return a;
}

// K folds at once over the threads that share threadIdx.y: a warp, or several (blockDim.x a multiple of 32). Every thread gets
// the results. Rows wider than a warp meet two barriers: all threads of the block must call, and `room`, K values for each
// warp of the block, may be used again at once.
template <int K, typename A, typename Op> __device__ void row_folds(A (&a)[K], Op op, A* room) {
#pragma unroll
  for (A& each : a) each = warp_fold(each, op);
  if (blockDim.x == WARP) return;
  const int warps = blockDim.x / WARP;
  room += threadIdx.y * warps * K;                            // (warps, K)
  if (threadIdx.x % WARP == 0) {
#pragma unroll
    for (int k = 0; k < K; ++k) room[threadIdx.x / WARP * K + k] = a[k];
  }
  __syncthreads();  // room is written before it is read
#pragma unroll
  for (int k = 0; k < K; ++k) {
    a[k] = room[k];
    for (int w = 1; w < warps; ++w) a[k] = op(a[k], room[w * K + k]);
  }
  __syncthreads();  // room is read before anyone writes it again
}

template <typename A, typename Op> __device__ A row_fold(A a, Op op, A* room) {
  A one[1] = {a};
  row_folds(one, op, room);
  return one[0];
}

template <typename A> __device__ A row_sum(A a, A* room) { return row_fold(a, Add{}, room); }
template <typename A> __device__ A row_max(A a, A* room) { return row_fold(a, Larger{}, room); }

// The largest value seen and the sum of exp(x - largest), in one pass (Milakov & Gimelshein 2018, arXiv:1805.02867).
// -inf adds nothing, also where nothing larger was seen yet; NaN and +inf make the sum NaN.
template <typename A> struct OnlineSum {
  A largest = -infinity<A>(), sum = 0;

  __device__ static A factor(A from, A to) { return from == to ? A(1) : exp(from - to); }

  template <typename T, int V> __device__ void add(const Pack<T, V>& p) {
    A next = largest;
#pragma unroll
    for (int v = 0; v < V; ++v) next = fmax(next, A(p.at[v]));
    sum *= factor(largest, next);
#pragma unroll
    for (int v = 0; v < V; ++v) sum += A(p.at[v]) == -infinity<A>() ? A(0) : exp(A(p.at[v]) - next);
    largest = next;
  }

  __device__ OnlineSum over_row(A* room) const {
    const A most = row_max(largest, room);
    OnlineSum whole;
    whole.largest = most;
    whole.sum = row_sum(sum * factor(largest, most), room);
    return whole;
  }
};

// Over all threads of the block. Every thread gets the result; two barriers.
template <typename A> __device__ A block_sum(A a, A* room) {
  a = warp_fold(a, Add{});
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
  if (thread % WARP == 0) room[thread / WARP] = a;
  __syncthreads();  // room is written before it is read
  a = room[0];
  for (int w = 1; w < int(blockDim.x * blockDim.y / WARP); ++w) a += room[w];
  __syncthreads();  // room is read before anyone writes it again
  return a;
}

// K sums over the threads of a column, which share threadIdx.x; blockDim.y is a power of two. The threads of threadIdx.y = 0 get
// the results. Down to FEW_ROWS by halves, then row after row, which only the first threads do: fewer instructions than halving
// to the end. `room`, SIDE values a thread, may be used again at once.
constexpr int SIDE = 4;      // sums that go through `room` together
constexpr int FEW_ROWS = 8;

template <int K, typename A> __device__ void column_sums(A (&sums)[K], A* room) {
  const int threads = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x;
#pragma unroll
  for (int first = 0; first < K; first += SIDE) {
#pragma unroll
    for (int k = first; k < K && k < first + SIDE; ++k) room[(k - first) * threads + thread] = sums[k];
    __syncthreads();  // room is written before it is read
    int rows = blockDim.y;
    while (rows > FEW_ROWS) {
      rows /= 2;
      if (threadIdx.y < rows) {
#pragma unroll
        for (int k = first; k < K && k < first + SIDE; ++k) {
          sums[k] += room[(k - first) * threads + rows * blockDim.x + thread];
          room[(k - first) * threads + thread] = sums[k];
        }
      }
      __syncthreads();  // the lower half is written before it is read
    }
    if (threadIdx.y == 0) {
#pragma unroll 1  // unrolled it takes a third more registers, for a few additions at the end
      for (int row = 1; row < rows; ++row) {
#pragma unroll
        for (int k = first; k < K && k < first + SIDE; ++k) sums[k] += room[(k - first) * threads + row * blockDim.x + thread];
      }
    }
    __syncthreads();  // room is read before the next sums, or the next call, write it
  }
}

// ---- the last block --------------------------------------------------------------------------------------------------

// True in every thread of the block that arrives last of `blocks`; that block sees all that the others wrote before they
// called. `ticket` is zero before the launch, and zero again after it. Integers only: the order of arrival moves no bit.
__device__ inline bool last_block(unsigned* ticket, unsigned blocks) {
  __shared__ bool last;
  __threadfence();  // what this thread wrote is visible before its block counts as arrived
  __syncthreads();  // all threads of the block have written
  if (threadIdx.x == 0 && threadIdx.y == 0) last = atomicInc(ticket, blocks - 1) == blocks - 1;
  __syncthreads();  // `last` is written before it is read
  if (last) __threadfence();  // reads below come after the other blocks' writes
  return last;
}

// What another block wrote, past this multiprocessor's own cache.
template <typename A> __device__ A read_through(const A* p) { return __ldcg(p); }

// ---- sums over slices ------------------------------------------------------------------------------------------------

constexpr unsigned FAN = 32;  // slices that one block adds up: few enough that it is done in about a microsecond

// The second stage of a sum over rows that gridDim.y blocks shared, each a slice: of FAN neighbours the block that arrives last
// adds them up, then takes its place among the last ones of other FANs, until one total is left. On entry threads of
// threadIdx.y = 0 hold this slice's K sums; true in the threads that hold the totals on return. All threads of the block call.
// The order of the additions is that of the slices; which block makes them is not fixed, and does not matter.
// partial: (slices, K, tiles * blockDim.x), any contents; ticket: (ceil(slices / FAN) + ceil(slices / FAN^2) + ... + 1, tiles),
// zeros before and after; tiles = gridDim.x. Neither is touched when there is one slice. room: as column_sums has it.
template <int K, typename A> __device__ bool sum_slices(A (&sums)[K], A* partial, unsigned* ticket, A* room) {
  const long long width = static_cast<long long>(gridDim.x) * blockDim.x;
  A* column = partial + static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;  // (slices, K), width apart
  long long apart = 1;                                        // slices that one place at this level stands for
  unsigned place = blockIdx.y;
  for (unsigned places = gridDim.y; places > 1; places = (places + FAN - 1) / FAN) {
    if (threadIdx.y == 0) {
#pragma unroll
      for (int k = 0; k < K; ++k) column[(place * apart * K + k) * width] = sums[k];
    }
    const unsigned group = place / FAN, first = group * FAN, members = min(FAN, places - first);
    if (!last_block(ticket + static_cast<long long>(group) * gridDim.x + blockIdx.x, members)) return false;
#pragma unroll
    for (int k = 0; k < K; ++k) sums[k] = 0;
    for (unsigned m = threadIdx.y; m < members; m += blockDim.y) {
#pragma unroll
      for (int k = 0; k < K; ++k) sums[k] += read_through(column + ((first + m) * apart * K + k) * width);
    }
    column_sums(sums, room);
    ticket += static_cast<long long>((places + FAN - 1) / FAN) * gridDim.x;
    place = group;
    apart *= FAN;
  }
  return threadIdx.y == 0;
}
