// softmax.cu: softmax and log-softmax over the last axis, and their pullbacks
//
// Formula    z = x[r,c] - max_c x[r,:], s = sum_c exp z
//            softmax      y = exp(z) / s;      dx = y (g - sum_c g y)
//            log-softmax  y = z - log s;       dx = g - exp(y) sum_c g
// Arrays     x, y, g, dx: (R, C), row-major, contiguous, T = float, double, half or bfloat16. C >= 1.
//            y may be x; dx may be g or y.
// Mapping    softmax_row, softmax_row_pull: a row in the registers of a warp, block (32, 8), C <= 32 V N; or of a block (G, 1),
//            G a multiple of 32, at most 512, C <= G V N; grid.x = ceil(R / blockDim.y)
//            softmax_long, softmax_long_pull: a row a block of (512, 1), any C, read twice; grid.x = R
//            V = 16 / sizeof(T) needs 16-byte addresses and C % V = 0; V = 1 takes any
// Traffic    forward 2 R C sizeof(T) bytes, pullback 3 R C sizeof(T); the second reading of a long row hits the cache
// Floor      R = C = 4096, float: 134 MB, 40 us at 3.35 TB/s (H100 SXM, advertised); pullback 201 MB, 60 us
// Numerics   max subtracted, so exp never overflows; sums in acc_t in an order fixed by the launch. A row of all -inf, or with
//            NaN or +inf, is NaN, as in the NumPy twin
// Source     Milakov & Gimelshein 2018, arXiv:1805.02867, algorithm 3, for rows read twice

#include "device.cuh"

constexpr int MOST = 512;  // threads a block: 128 registers a thread, enough for N V <= 16 in float and 8 in double

template <typename T, int V, int N, bool LOG>
__global__ void __launch_bounds__(MOST, 1) softmax_row(const T* x, T* y, long long R, int C) {
  using A = acc_t<T>;
  __shared__ A room[WARP];
  const long long r = static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (r >= R) return;                                         // a whole warp, and only where rows are warps
  auto part = RowPart<T, V, N>::load(x + r * C, C, -infinity<A>());
  A most = part.at[0];
#pragma unroll
  for (int k = 1; k < N * V; ++k) most = fmax(most, part.at[k]);
  most = row_max(most, room);
  A sum = 0;
#pragma unroll
  for (A& e : part.at) {
    e -= most;
    const A power = exp(e);                                   // 0 behind C, or NaN where the whole row is
    sum += power;
    if (!LOG) e = power;
  }
  sum = row_sum(sum, room);
  const A last = LOG ? log(sum) : A(1) / sum;
#pragma unroll
  for (A& e : part.at) e = LOG ? e - last : e * last;
  part.store(y + r * C, C);
}

template <typename T, int V, int N, bool LOG>
__global__ void __launch_bounds__(MOST, 1) softmax_row_pull(const T* g, const T* y, T* dx, long long R, int C) {
  using A = acc_t<T>;
  __shared__ A room[WARP];
  const long long r = static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (r >= R) return;                                         // a whole warp, and only where rows are warps
  auto slope = RowPart<T, V, N>::load(g + r * C, C, A(0));
  const auto out = RowPart<T, V, N>::load(y + r * C, C, A(0));
  A sum = 0;
#pragma unroll
  for (int k = 0; k < N * V; ++k) sum += LOG ? slope.at[k] : slope.at[k] * out.at[k];
  sum = row_sum(sum, room);
#pragma unroll
  for (int k = 0; k < N * V; ++k) {
    slope.at[k] = LOG ? slope.at[k] - exp(out.at[k]) * sum : out.at[k] * (slope.at[k] - sum);
  }
  slope.store(dx + r * C, C);
}

template <typename T, int V, bool LOG>
__global__ void __launch_bounds__(MOST, 1) softmax_long(const T* x, T* y, long long C) {
  using A = acc_t<T>;
  using P = Pack<T, V>;
  __shared__ A room[WARP];
  const long long row = blockIdx.x * C;
  OnlineSum<A> seen;
  for_row<T, V>(x + row, C, [&](long long, const P& p) { seen.add(p); });
  seen = seen.over_row(room);
  const A last = LOG ? log(seen.sum) : A(1) / seen.sum;
  for_row<T, V>(x + row, C, [&](long long c, P p) {
#pragma unroll
    for (T& e : p.at) {
      const A z = A(e) - seen.largest;
      e = T(LOG ? z - last : exp(z) * last);
    }
    p.store(y + row + c);
  });
}

template <typename T, int V, bool LOG>
__global__ void __launch_bounds__(MOST, 1) softmax_long_pull(const T* g, const T* y, T* dx, long long C) {
  using A = acc_t<T>;
  using P = Pack<T, V>;
  __shared__ A room[WARP];
  const long long row = blockIdx.x * C;
  A sum = 0;
  for_row<T, V>(g + row, C, [&](long long c, const P& p) {
    P out{};
    if (!LOG) out = P::load(y + row + c);
#pragma unroll
    for (int v = 0; v < V; ++v) sum += LOG ? A(p.at[v]) : A(p.at[v]) * A(out.at[v]);
  });
  sum = row_sum(sum, room);
  for_row<T, V>(g + row, C, [&](long long c, P p) {
    const P out = P::load(y + row + c);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const A slope = A(p.at[v]), value = A(out.at[v]);
      p.at[v] = T(LOG ? slope - exp(value) * sum : value * (slope - sum));
    }
    p.store(dx + row + c);
  });
}
