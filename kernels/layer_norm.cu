// layer_norm.cu: layer norm over the last axis with an optional residual added first; the pullback with all its gradients
//
// Formula    u = x + residual,  m = mean_c u,  v = mean_c (u - m)^2,  rstd = 1 / sqrt(v + eps),  n = (u - m) rstd
//            y = n gamma + beta.   Without centring (RMS norm) m = 0
//            h = g gamma,  dx = rstd (h - mean_c h - n mean_c (h n)) + extra;   without centring mean_c h is left out
//            dgamma[c] = sum_r g n,  dbeta[c] = sum_r g
// Arrays     x, residual, y, u, g, extra, dx: (R, C), row-major, contiguous, T = float, double, half or bfloat16;
//            gamma, beta, dgamma, dbeta: (C,); mean, rstd: (R,) of acc_t. Null where not wanted: residual, gamma, beta, u, mean,
//            rstd forward; gamma, extra, dgamma, dbeta back. Back, x is u, or n itself where mean is null. `extra` is the gradient
//            that reached u by another way. y may be x, u may be x or residual, dx may be g or extra.
//            partial, ticket: as sum_slices of device.cuh has them, K = 2 N V (rows) or 2 V (columns), for more than one slice
// Mapping    layer_norm_row: a row in the registers of a warp, block (32, 8), C <= 32 V N; or of a block (G, 1), G a multiple of
//            32, at most 512, C <= G V N; grid.x = ceil(R / blockDim.y).  layer_norm_long: a row a block of (512, 1), any C,
//            read three times.   layer_norm_row_pull: block (G, Y), Y a power of two, G Y <= 512, C <= G V N, N V <= 8: Y
//            rows at a time of a slice of rows; grid = (1, slices), about 264.   Any C: layer_norm_long_pull, a row a block of (512, 1), for dx,
//            and layer_norm_columns, block (32, 8), grid = (ceil(C / (32 V)), slices), for dgamma and dbeta.
//            V = 16 / sizeof(T) needs 16-byte addresses and C % V = 0; V = 1 takes any
// Traffic    forward 2 R C sizeof(T) bytes, 4 with residual and u; pullback 3, or 4 with extra, and 4 slices C sizeof(acc_t)
// Floor      R = 4096, C = 1024, float: 34 MB, 10 us at 3.35 TB/s (H100 SXM, advertised); pullback 50 MB, 15 us
// Numerics   the mean, then deviations from it and their squares, in acc_t: what the first mean missed is taken off as well, so a
//            large offset does not show in n. u is rounded to T before it is normalised, so that
//            back and forth agree. No atomics on floats; sums in an order fixed by the launch
// Source     Ba, Kiros & Hinton 2016, arXiv:1607.06450; one pass for all gradients: llm.c's layernorm_backward, apex

#include "device.cuh"

constexpr int MOST = 512;  // threads a block: 128 registers a thread, enough for N V <= 16 in float and 8 in double

// 1 / sqrt(variance + eps), from the mean square about a point that misses the mean by `rest`.
template <typename A> __device__ A inverse_root(A square, A rest, A eps) {
  const A variance = square - rest * rest;
  return A(1) / sqrt((variance < A(0) ? A(0) : variance) + eps);  // NaN is not below 0, and passes
}

template <typename T, int V, int N>
__global__ void __launch_bounds__(MOST, 1)
    layer_norm_row(const T* x, const T* residual /* or null */, const T* gamma /* or null */, const T* beta /* or null */,
                   T* y, T* u /* or null */, acc_t<T>* mean /* or null */, acc_t<T>* rstd /* or null */, long long R, int C,
                   double eps, bool centre) {
  using A = acc_t<T>;
  using Part = RowPart<T, V, N>;
  __shared__ A room[2 * WARP];
  const long long r = static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (r >= R) return;                                         // a whole warp, and only where rows are warps
  auto part = Part::load(x + r * C, C, A(0));
  if (residual) {
    const auto other = Part::load(residual + r * C, C, A(0));
#pragma unroll
    for (int k = 0; k < N * V; ++k) part.at[k] = A(T(part.at[k] + other.at[k]));
  }
  if (u) part.store(u + r * C, C);
  A middle = 0;
  if (centre) {
#pragma unroll
    for (int k = 0; k < N * V; ++k) middle += part.at[k];
    middle = row_sum(middle, room) / A(C);
  }
  A means[2] = {};                                            // of the deviation and its square
#pragma unroll
  for (int k = 0; k < N * V; ++k) {
    part.at[k] = Part::column(k) < C ? part.at[k] - middle : A(0);
    means[0] += part.at[k];
    means[1] += part.at[k] * part.at[k];
  }
  row_folds(means, Add{}, room);
  const A rest = centre ? means[0] / A(C) : A(0);
  const A scale = inverse_root(means[1] / A(C), rest, A(eps));
#pragma unroll
  for (int k = 0; k < N * V; ++k) part.at[k] = (part.at[k] - rest) * scale;
  if (gamma) {
    const auto stretch = Part::load(gamma, C, A(0));
#pragma unroll
    for (int k = 0; k < N * V; ++k) part.at[k] *= stretch.at[k];
  }
  if (beta) {
    const auto shift = Part::load(beta, C, A(0));
#pragma unroll
    for (int k = 0; k < N * V; ++k) part.at[k] += shift.at[k];
  }
  part.store(y + r * C, C);
  if (threadIdx.x == 0 && mean) mean[r] = middle + rest;
  if (threadIdx.x == 0 && rstd) rstd[r] = scale;
}

template <typename T, int V>
__global__ void __launch_bounds__(MOST, 1)
    layer_norm_long(const T* x, const T* residual /* or null */, const T* gamma /* or null */, const T* beta /* or null */,
                    T* y, T* u /* or null */, acc_t<T>* mean /* or null */, acc_t<T>* rstd /* or null */, long long C,
                    double eps, bool centre) {
  using A = acc_t<T>;
  using P = Pack<T, V>;
  __shared__ A room[2 * WARP];
  const long long row = blockIdx.x * C;
  const auto added = [&](long long c, P p) {                  // u
    if (!residual) return p;
    const P other = P::load(residual + row + c);
#pragma unroll
    for (int v = 0; v < V; ++v) p.at[v] = T(A(p.at[v]) + A(other.at[v]));
    return p;
  };
  A middle = 0;
  if (centre) {
    for_row<T, V>(x + row, C, [&](long long c, P p) {
      p = added(c, p);
#pragma unroll
      for (int v = 0; v < V; ++v) middle += A(p.at[v]);
    });
    middle = row_sum(middle, room) / A(C);
  }
  A means[2] = {};                                            // of the deviation and its square
  for_row<T, V>(x + row, C, [&](long long c, P p) {
    p = added(c, p);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const A deviation = A(p.at[v]) - middle;
      means[0] += deviation;
      means[1] += deviation * deviation;
    }
  });
  row_folds(means, Add{}, room);
  const A rest = centre ? means[0] / A(C) : A(0);
  const A scale = inverse_root(means[1] / A(C), rest, A(eps));
  for_row<T, V>(x + row, C, [&](long long c, P p) {
    p = added(c, p);
    if (u) p.store(u + row + c);
    P stretch, shift{};
    if (gamma) stretch = P::load(gamma + c);
    if (beta) shift = P::load(beta + c);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const A n = (A(p.at[v]) - middle - rest) * scale;
      p.at[v] = T((gamma ? n * A(stretch.at[v]) : n) + A(shift.at[v]));
    }
    p.store(y + row + c);
  });
  if (threadIdx.x == 0 && mean) mean[blockIdx.x] = middle + rest;
  if (threadIdx.x == 0 && rstd) rstd[blockIdx.x] = scale;
}

template <typename T, int V, int N>
__global__ void __launch_bounds__(MOST, 1)
    layer_norm_row_pull(const T* g, const T* x, const T* gamma /* or null */, const acc_t<T>* mean /* or null */,
                        const acc_t<T>* rstd, const T* extra /* or null */, T* dx, T* dgamma /* or null */,
                        T* dbeta /* or null */, acc_t<T>* partial /* null for one slice */,
                        unsigned* ticket /* null for one slice */, long long R, int C, long long slice_rows, bool centre,
                        bool accumulate) {
  using A = acc_t<T>;
  using Part = RowPart<T, V, N>;
  __shared__ A room[SIDE * MOST];
  A sums[2 * N * V] = {};                                     // dgamma, then dbeta, of this thread's columns
  const long long first = blockIdx.y * slice_rows;
  const long long stop = min(first + slice_rows, R);
  for (long long base = first; base < stop; base += blockDim.y) {  // all rows of the block together: they share barriers
    const long long r = base + threadIdx.y;
    const bool mine = r < stop;
    const int columns = mine ? C : 0;
    auto slope = Part::load(g + r * C, columns, A(0));
    auto n = Part::load(x + r * C, columns, A(0));
    const A scale = mine ? rstd[r] : A(0);
    if (mean) {
      const A middle = mine ? mean[r] : A(0);
#pragma unroll
      for (int k = 0; k < N * V; ++k) n.at[k] = Part::column(k) < columns ? (n.at[k] - middle) * scale : A(0);
    }
#pragma unroll
    for (int k = 0; k < N * V; ++k) {
      sums[k] += slope.at[k] * n.at[k];
      sums[N * V + k] += slope.at[k];
    }
    if (gamma) {
      const auto stretch = Part::load(gamma, C, A(0));
#pragma unroll
      for (int k = 0; k < N * V; ++k) slope.at[k] *= stretch.at[k];
    }
    A means[2] = {};
#pragma unroll
    for (int k = 0; k < N * V; ++k) {
      means[0] += slope.at[k];
      means[1] += slope.at[k] * n.at[k];
    }
    row_folds(means, Add{}, room);
    const A shift = centre ? means[0] / A(C) : A(0), turn = means[1] / A(C);
#pragma unroll
    for (int k = 0; k < N * V; ++k) slope.at[k] = scale * (slope.at[k] - shift - n.at[k] * turn);
    if (extra) {
      const auto other = Part::load(extra + r * C, columns, A(0));
#pragma unroll
      for (int k = 0; k < N * V; ++k) slope.at[k] += other.at[k];
    }
    slope.store(dx + r * C, columns);
  }
  if (!dgamma && !dbeta) return;
  __syncthreads();                                            // the last row's room is read before it is written here
  column_sums(sums, room);
  if (!sum_slices(sums, partial, ticket, room)) return;
#pragma unroll
  for (int each = 0; each < 2; ++each) {
    T* const out = each ? dbeta : dgamma;
    if (!out) continue;
    Part total;
#pragma unroll
    for (int k = 0; k < N * V; ++k) total.at[k] = sums[each * N * V + k];
    if (accumulate) {
      const auto before = Part::load(out, C, A(0));
#pragma unroll
      for (int k = 0; k < N * V; ++k) total.at[k] += before.at[k];
    }
    total.store(out, C);
  }
}

template <typename T, int V>
__global__ void __launch_bounds__(MOST, 1)
    layer_norm_long_pull(const T* g, const T* x, const T* gamma /* or null */, const acc_t<T>* mean /* or null */,
                         const acc_t<T>* rstd, const T* extra /* or null */, T* dx, long long C, bool centre) {
  using A = acc_t<T>;
  using P = Pack<T, V>;
  __shared__ A room[2 * WARP];
  const long long row = blockIdx.x * C;
  const A scale = rstd[blockIdx.x], middle = mean ? mean[blockIdx.x] : A(0), stretch_n = mean ? scale : A(1);
  A means[2] = {};
  for_row<T, V>(g + row, C, [&](long long c, const P& p) {
    const P at = P::load(x + row + c);
    P stretch;
    if (gamma) stretch = P::load(gamma + c);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const A h = gamma ? A(p.at[v]) * A(stretch.at[v]) : A(p.at[v]);
      means[0] += h;
      means[1] += h * ((A(at.at[v]) - middle) * stretch_n);
    }
  });
  row_folds(means, Add{}, room);
  const A shift = centre ? means[0] / A(C) : A(0), turn = means[1] / A(C);
  for_row<T, V>(g + row, C, [&](long long c, P p) {
    const P at = P::load(x + row + c);
    P stretch, other{};
    if (gamma) stretch = P::load(gamma + c);
    if (extra) other = P::load(extra + row + c);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const A h = gamma ? A(p.at[v]) * A(stretch.at[v]) : A(p.at[v]);
      p.at[v] = T(scale * (h - shift - (A(at.at[v]) - middle) * stretch_n * turn) + A(other.at[v]));
    }
    p.store(dx + row + c);
  });
}

template <typename T, int V>
__global__ void __launch_bounds__(256)
    layer_norm_columns(const T* g, const T* x, const acc_t<T>* mean /* or null */, const acc_t<T>* rstd,
                       T* dgamma /* or null */, T* dbeta /* or null */, acc_t<T>* partial /* null for one slice */,
                       unsigned* ticket /* null for one slice */, long long R, long long C, long long slice_rows,
                       bool accumulate) {
  using A = acc_t<T>;
  using P = Pack<T, V>;
  __shared__ A room[SIDE * 256];
  const long long c = (static_cast<long long>(blockIdx.x) * WARP + threadIdx.x) * V;
  const long long stop = min((blockIdx.y + 1) * slice_rows, R);
  A sums[2 * V] = {};                                         // dgamma, then dbeta
  if (c < C) {
    for (long long r = blockIdx.y * slice_rows + threadIdx.y; r < stop; r += blockDim.y) {
      const P slope = P::load(g + r * C + c), at = P::load(x + r * C + c);
      const A middle = mean ? mean[r] : A(0), scale = mean ? rstd[r] : A(1);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        sums[v] += A(slope.at[v]) * ((A(at.at[v]) - middle) * scale);
        sums[V + v] += A(slope.at[v]);
      }
    }
  }
  column_sums(sums, room);
  if (!sum_slices(sums, partial, ticket, room) || c >= C) return;
#pragma unroll
  for (int each = 0; each < 2; ++each) {
    T* const out = each ? dbeta : dgamma;
    if (!out) continue;
    P total{};
    if (accumulate) total = P::load(out + c);
#pragma unroll
    for (int v = 0; v < V; ++v) total.at[v] = T(A(total.at[v]) + sums[each * V + v]);
    total.store(out + c);
  }
}
