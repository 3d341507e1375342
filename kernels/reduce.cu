// reduce.cu: sums over the last or the middle axis; with axes coalesced, every sum and every unbroadcast is one or two of them
//
// Formula    sum_last    y[o]   = scale sum_k x[o,k]           (+ y[o]   where accumulate)
//            sum_middle  y[o,i] = scale sum_k x[o,k,i]         (+ y[o,i] where accumulate)
// Arrays     x: (O, K) or (O, K, I), y: (O,) or (O, I), row-major, contiguous, T = float, double, half or bfloat16.
//            Neighbouring axes of one kind (kept, summed) are one axis first; [summed, kept] is O = 1; a sum over several
//            separated axes is sum_last for the innermost, then sum_middle. K = 0 gives scale 0, so y is always written.
//            Where gridDim.y = slices > 1, ticket is zeros, and partial (any contents):
//            sum_last (O, slices), ticket (O,);  sum_middle (slices, V, O tiles blockDim.x), ticket as
//            sum_slices of device.cuh has it
// Mapping    sum_last: block (32, 8), a row a warp, grid.x = ceil(O / 8), for K <= 1024; or block (256, 1), a row of
//            slice_size elements a block, grid = (O, ceil(K / slice_size))
//            sum_middle: block (W, 256 / W), W a power of two, at most 32 and no more than needed for W V >= I;
//            grid = (O tiles, ceil(K / slice_size)), tiles = ceil(I / (W V))
//            V = 16 / sizeof(T) needs 16-byte addresses and I % V = 0, or K % V = 0 in sum_last unless O = 1; V = 1 takes any.
//            slice_size: a multiple of V that brings about 264 blocks, two a multiprocessor of an H100
// Traffic    (O K I + O I) sizeof(T) bytes, and 2 slices O I sizeof(acc_t) for the partial sums
// Floor      sum_middle K = 256, I = 1024, float: 1.05 MB, 0.31 us at 3.35 TB/s (H100 SXM, advertised)
// Numerics   acc_t sums: in a thread one after another (V of them side by side), then over the threads of a column, then the
//            slices; the order depends on shape and launch only. NaN and inf spread as in NumPy.
// Source     llm.c's matmul_backward_bias (columns by warps); apex's biasAddRelu_bprop (the last block adds the slices)

#include "device.cuh"

constexpr int THREADS = 256;

// One result, with scale and what was there before.
template <typename T> __device__ T finished(acc_t<T> sum, T before, double scale, bool accumulate) {
  sum *= acc_t<T>(scale);
  return T(accumulate ? acc_t<T>(before) + sum : sum);
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
    sum_last(const T* __restrict__ x, T* __restrict__ y, acc_t<T>* partial /* null for one slice */,
             unsigned* ticket /* null for one slice */, long long O, long long K, long long slice_size, double scale,
             bool accumulate) {
  using A = acc_t<T>;
  __shared__ A room[WARP];
  const long long o = static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (o >= O) return;                                         // whole warps, and only where a row is a warp
  const long long first = blockIdx.y * slice_size;
  const long long stop = min(first + slice_size, K);
  const T* row = x + o * K;                                   // (K,)
  A sums[V] = {};
  long long k = first + static_cast<long long>(threadIdx.x) * V;
#pragma unroll 4
  for (; k + V <= stop; k += static_cast<long long>(blockDim.x) * V) {
    const Pack<T, V> p = Pack<T, V>::load(row + k);
#pragma unroll
    for (int v = 0; v < V; ++v) sums[v] += A(p.at[v]);
  }
  for (; k < stop; ++k) sums[0] += A(row[k]);                 // the tail lies in one thread's last pack
  A sum = sums[0];
#pragma unroll
  for (int v = 1; v < V; ++v) sum += sums[v];
  sum = row_sum(sum, room);
  const unsigned slices = gridDim.y;
  if (slices > 1) {
    A* parts = partial + o * slices;                          // (slices,)
    if (threadIdx.x == 0) parts[blockIdx.y] = sum;
    if (!last_block(ticket + o, slices)) return;
    sum = 0;
    for (unsigned s = threadIdx.x; s < slices; s += blockDim.x) sum += read_through(parts + s);
    sum = row_sum(sum, room);
  }
  if (threadIdx.x == 0) y[o] = finished(sum, accumulate ? y[o] : T(0.f), scale, accumulate);
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 4)
    sum_middle(const T* __restrict__ x, T* __restrict__ y, acc_t<T>* partial /* null for one slice */,
               unsigned* ticket /* null for one slice */, long long K, long long I, long long slice_size, int tiles,
               double scale, bool accumulate) {
  using A = acc_t<T>;
  using P = Pack<T, V>;
  __shared__ A room[SIDE * THREADS];
  const long long o = blockIdx.x / tiles;
  const long long i = (static_cast<long long>(blockIdx.x % tiles) * blockDim.x + threadIdx.x) * V;  // [0, I) or idle
  const long long stop = min((blockIdx.y + 1) * slice_size, K);
  const T* column = x + o * K * I + i;                        // (K, V), I apart
  A sums[V] = {};
  if (i < I) {
#pragma unroll 4
    for (long long k = blockIdx.y * slice_size + threadIdx.y; k < stop; k += blockDim.y) {
      const P p = P::load(column + k * I);
#pragma unroll
      for (int v = 0; v < V; ++v) sums[v] += A(p.at[v]);
    }
  }
  column_sums(sums, room);
  if (!sum_slices(sums, partial, ticket, room) || i >= I) return;
  P total{};
  if (accumulate) total = P::load(y + o * I + i);
#pragma unroll
  for (int v = 0; v < V; ++v) total.at[v] = finished(sums[v], total.at[v], scale, accumulate);
  total.store(y + o * I + i);
}
