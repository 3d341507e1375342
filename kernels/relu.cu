// relu.cu: ReLU and its pullback; bias + ReLU with a bit mask; the masked pullback with the bias gradient in the same pass
//
// Formula    y = max(x, 0), dx = g [y > 0];   with bias: y[r,c] = max(x[r,c] + b[c], 0), dx[r,c] = g[r,c] [y[r,c] > 0],
//            db[c] = sum_r dx[r,c]
// Arrays     x, y, g, dx: (n,) or (R, C), row-major, contiguous, T = float, double, half or bfloat16. b, db: (C,)
//            mask: (R, ceil(C / 32)) of 32 bits; bit c % 32 of word c / 32 is y[r,c] > 0; the bits behind C are zero.
//            y may be x, dx may be g. partial: (slices, V, 32 tiles) and ticket: zeros, where slices > 1:
//            sum_slices of device.cuh
// Mapping    relu, relu_pull: a pack a thread, blocks of 256, grid.x = ceil((n / V + n % V) / 256)
//            bias_relu: blocks (32, 8): a warp takes 32 V columns of one row; grid.x = ceil(R / 8) * tiles,
//            tiles = ceil(C / (32 V)).  bias_relu_pull: blocks (32, 8), a tile of columns by a slice of rows;
//            grid = (tiles, slices). V = 16 / sizeof(T) needs C % V = 0 and 16-byte addresses; V = 1 takes any.
// Traffic    relu 2 n e, relu_pull 3 n e bytes, e = sizeof(T); bias_relu and bias_relu_pull (2 e + 1/8) R C,
//            the latter with 8 slices C sizeof(acc_t) more
// Floor      R = 256, C = 1024, float: 2.1 MB, 0.64 us at 3.35 TB/s (H100 SXM, advertised), and the same back
// Numerics   NaN goes through as in numpy.maximum; its slope is 0, as at 0, as the NumPy twin's. dx is a choice, not a product:
//            an infinite g behind a closed gate gives 0. db is summed in acc_t, rows of a slice, then slices, in fixed order.
// Source     the mask from the output: Chainer's relu; one pass for dx and db: apex's biasAddRelu_bprop

#include "device.cuh"

constexpr int ROWS = 8;  // warps a block, each on a row of its own

template <typename A> __device__ A rectified(A x) { return x <= A(0) ? A(0) : x; }

template <typename T, int V>
__global__ void __launch_bounds__(256) relu(const T* x, T* y, long long n) {
  for_each_pack<V>(n, [=](long long i, auto width) {
    using P = Pack<T, decltype(width)::value>;
    P p = P::load(x + i);
#pragma unroll
    for (T& e : p.at) e = T(rectified(acc_t<T>(e)));
    p.store(y + i);
  });
}

template <typename T, int V>
__global__ void __launch_bounds__(256) relu_pull(const T* g, const T* y, T* dx, long long n) {
  for_each_pack<V>(n, [=](long long i, auto width) {
    using P = Pack<T, decltype(width)::value>;
    P slope = P::load(g + i);
    const P out = P::load(y + i);
#pragma unroll
    for (int v = 0; v < decltype(width)::value; ++v) {
      if (!(acc_t<T>(out.at[v]) > 0)) slope.at[v] = T(0.f);
    }
    slope.store(dx + i);
  });
}

// The mask word that holds this lane's columns, from V bits of each of its 32 / V lanes. All lanes of the warp must call.
template <int V> __device__ unsigned word_of(unsigned bits) {
  if constexpr (V == 1) return __ballot_sync(ALL_LANES, bits);
  constexpr int LANES = WARP / V;
  bits <<= threadIdx.x % LANES * V;
#pragma unroll
  for (int step = LANES / 2; step; step /= 2) bits |= __shfl_xor_sync(ALL_LANES, bits, step);
  return bits;
}

template <typename T, int V>
__global__ void __launch_bounds__(WARP * ROWS)
    bias_relu(const T* x, const T* b /* or null */, T* y, unsigned* mask, long long R, int C) {
  using P = Pack<T, V>;
  constexpr int LANES = WARP / V;                             // lanes that share a word of the mask
  const int words = (C + 31) / 32;
  const unsigned tiles = (C + WARP * V - 1) / (WARP * V);
  const long long r = static_cast<long long>(blockIdx.x / tiles) * ROWS + threadIdx.y;
  const int c = (blockIdx.x % tiles * WARP + threadIdx.x) * V;  // [0, C) or idle
  if (r >= R) return;                                         // the whole warp: no lane is missing below
  unsigned bits = 0;
  if (c < C) {
    P p = P::load(x + r * C + c);
    P shift{};
    if (b) shift = P::load(b + c);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const acc_t<T> sum = acc_t<T>(p.at[v]) + acc_t<T>(shift.at[v]);
      p.at[v] = T(rectified(sum));
      bits |= unsigned(acc_t<T>(p.at[v]) > 0) << v;           // of the rounded result: the gate is what y says
    }
    p.store(y + r * C + c);
  }
  bits = word_of<V>(bits);
  if (threadIdx.x % LANES == 0 && c < C) mask[r * words + c / 32] = bits;
}

template <typename T, int V>
__global__ void __launch_bounds__(WARP * ROWS, 4)
    bias_relu_pull(const T* g, const unsigned* mask, T* dx, T* db /* or null */, acc_t<T>* partial /* null for one slice */,
                   unsigned* ticket /* null for one slice */, long long R, int C, long long slice_rows, bool accumulate) {
  using P = Pack<T, V>;
  using A = acc_t<T>;
  __shared__ A room[SIDE * WARP * ROWS];
  const int words = (C + 31) / 32;
  const int c = (blockIdx.x * WARP + threadIdx.x) * V;
  const long long first = blockIdx.y * slice_rows;
  const long long stop = min(first + slice_rows, R);
  A sums[V] = {};
  if (c < C) {
    for (long long r = first + threadIdx.y; r < stop; r += ROWS) {
      P p = P::load(g + r * C + c);
      const unsigned bits = mask[r * words + c / 32] >> c % 32;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        if (!(bits >> v & 1)) p.at[v] = T(0.f);
        sums[v] += A(p.at[v]);
      }
      p.store(dx + r * C + c);
    }
  }
  if (!db) return;
  column_sums(sums, room);
  if (!sum_slices(sums, partial, ticket, room) || c >= C) return;
  P total{};
  if (accumulate) total = P::load(db + c);
#pragma unroll
  for (int v = 0; v < V; ++v) total.at[v] = T(A(total.at[v]) + sums[v]);
  total.store(db + c);
}
