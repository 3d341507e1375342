// cross_entropy.cu: softmax cross-entropy of logits with integer labels: loss, its mean and its gradient in one launch
//
// Formula    z = x[r,c] + b[c] - max_c, s = sum_c exp z, p = exp(z) / s, t = (1 - e) [c = label[r]] + e / C
//            loss[r]  = log s - (1 - e) z[r,label[r]] - e mean_c z[r,:]
//            dx[r,c]  = w (p[r,c] - t[r,c]),   w = scale, or scale / count, times g[r] where there is a g
//            total    = (scale, or scale / count) sum_r loss[r],   db[c] = sum_r dx[r,c]
// Arrays     x, p, dx: (R, C), row-major, contiguous, T = float, double, half or bfloat16; b, db: (C,); labels: (R,) of I = int or
//            long long; g: (R,) or (1,); loss: (R,) of acc_t; total: (1,). p, dx, total, b, db, count may be null.
//            dx or p may be x. ticket: (1,) zero, needed for total and db. count: (1,), labels other than `ignore` (count_labels)
// Mapping    cross_entropy_row: a row in the registers of a warp, block (32, 8), C <= 32 V N; or of a block (G, 1), G a multiple
//            of 32, at most 512, C <= G V N; grid.x = ceil(R / blockDim.y)
//            cross_entropy_long: a row a block of (512, 1), any C, read twice; grid.x = R
//            cross_entropy_pull: block (32, 8), a warp takes 32 V columns of a row, grid.x = ceil(R / 8) ceil(C / (32 V))
//            count_labels: one block of 1024.  V = 16 / sizeof(T) needs 16-byte addresses and C % V = 0; V = 1 takes any
// Traffic    2 R C sizeof(T) + R (sizeof(I) + sizeof(acc_t)) bytes with dx. db is read back from dx by the last block: for small
//            R C only (the digits of an MLP); elsewhere reduce.cu sums it
// Floor      R = 4096, C = 32768, float: 1.07 GB, 320 us at 3.35 TB/s (H100 SXM, advertised)
// Numerics   as softmax.cu; rows, and the mean over them, are summed in fixed order, by integer ticket and no float atomic.
//            A label equal to `ignore` gives loss 0 and gradient 0; any other outside [0, C) gives NaN for both: the device
//            cannot raise. The mean over no labels is NaN
// Source     one kernel for both directions: llm.c's fused_classifier; the online sum: arXiv:1805.02867

#include "device.cuh"

constexpr int MOST = 512;  // threads a block: 128 registers a thread, enough for N V <= 16 in float and 8 in double

// What all kernels of a launch share, beside the logits.
template <typename A> struct Target {
  long long label;
  A keep, spread;                                             // 1 - e and e / C
  bool counts, known;                                         // not ignored; within [0, C)

  __device__ Target(long long label, long long C, double smoothing, long long ignore)
      : label(label), keep(A(1 - smoothing)), spread(A(smoothing / C)), counts(label != ignore),
        known(label >= 0 && label < C) {}

  // w (p - t), or what stands in for it.
  __device__ A slope(A p, long long c, A weight) const {
    if (!counts) return A(0);
    if (!known) return not_a_number<A>();
    return weight * (p - (c == label ? keep + spread : spread));
  }

  __device__ A loss(A log_sum, A z_label, A z_sum) const {    // z_sum is only looked at with smoothing
    if (!counts) return A(0);
    if (!known) return not_a_number<A>();
    const A loss = log_sum - keep * z_label;
    return spread > A(0) ? loss - spread * z_sum : loss;
  }
};

template <typename A> __device__ A weight_of(double scale, const long long* count) {
  return count ? A(scale / *count) : A(scale);
}

// The block that arrives last adds up the rows: `total` from the losses, `db` from the gradients. All threads must call.
template <typename T>
__device__ void finish(const acc_t<T>* loss, const T* dx, T* total, T* db, unsigned* ticket, acc_t<T> weight, long long R, int C) {
  using A = acc_t<T>;
  __shared__ A room[MOST];
  if (!total && !db) return;
  if (!last_block(ticket, gridDim.x)) return;
  const int threads = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x;
  if (total) {
    A sum = 0;
    for (long long r = thread; r < R; r += threads) sum += read_through(loss + r);
    sum = block_sum(sum, room);
    if (thread == 0) *total = T(weight * sum);
  }
  if (!db) return;
  int lanes = WARP;                                           // columns side by side, the rest of the threads down the rows
  while (lanes / 2 >= C) lanes /= 2;
  const int lane = thread % lanes, group = thread / lanes, groups = threads / lanes;
  for (int base = 0; base < C; base += lanes) {
    const int c = base + lane;
    A sum = 0;
    if (c < C) {
      for (long long r = group; r < R; r += groups) sum += A(read_through(dx + r * C + c));
    }
    room[thread] = sum;
    __syncthreads();                                          // room is written before it is read
    if (group == 0 && c < C) {
      for (int k = 1; k < groups; ++k) sum += room[k * lanes + lane];
      db[c] = T(sum);
    }
    __syncthreads();                                          // room is read before the next columns write it
  }
}

template <typename T, int V, int N, typename I>
__global__ void __launch_bounds__(MOST, 1)
    cross_entropy_row(const T* x, const T* b /* or null */, const I* labels, const T* g /* or null */,
                      const long long* count /* or null */, acc_t<T>* loss, T* p /* or null */, T* dx /* or null */,
                      T* total /* or null */, T* db /* or null */, unsigned* ticket /* or null */, long long R, int C,
                      double scale, double smoothing, long long ignore) {
  using A = acc_t<T>;
  using Part = RowPart<T, V, N>;
  __shared__ A room[WARP];
  const long long r = static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y;
  const A weight = weight_of<A>(scale, count);
  if (r < R) {                                                // all or none of the threads that share a row
    const T* row = x + r * C;                                 // (C,)
    const Target<A> target(labels[r], C, smoothing, ignore);
    auto part = Part::load(row, C, -infinity<A>());
    A z_label = target.known ? A(row[target.label]) : A(0);   // read before the barrier, so dx may overwrite x
    if (b) {
      const auto shift = Part::load(b, C, A(0));
#pragma unroll
      for (int k = 0; k < N * V; ++k) part.at[k] += shift.at[k];
      if (target.known) z_label += A(b[target.label]);
    }
    A most = part.at[0];
#pragma unroll
    for (int k = 1; k < N * V; ++k) most = fmax(most, part.at[k]);
    most = row_max(most, room);
    A sum = 0, z_sum = 0;
#pragma unroll
    for (int k = 0; k < N * V; ++k) {
      const A z = part.at[k] - most;
      if (smoothing > 0 && Part::column(k) < C) z_sum += z;
      sum += part.at[k] = exp(z);                             // 0 behind C, or NaN where the whole row is
    }
    sum = row_sum(sum, room);
    if (smoothing > 0) z_sum = row_sum(z_sum, room);
    if (threadIdx.x == 0) loss[r] = target.loss(log(sum), z_label - most, z_sum);
    const A inverse = A(1) / sum;
#pragma unroll
    for (A& e : part.at) e *= inverse;
    if (p) part.store(p + r * C, C);
    if (dx) {
      const A w = g ? weight * A(g[r]) : weight;
#pragma unroll
      for (int k = 0; k < N * V; ++k) part.at[k] = target.slope(part.at[k], Part::column(k), w);
      part.store(dx + r * C, C);
    }
  }
  finish(loss, dx, total, db, ticket, weight, R, C);
}

template <typename T, int V, typename I>
__global__ void __launch_bounds__(MOST, 1)
    cross_entropy_long(const T* x, const I* labels, const T* g /* or null */, const long long* count /* or null */,
                       acc_t<T>* loss, T* p /* or null */, T* dx /* or null */, T* total /* or null */,
                       unsigned* ticket /* or null */, long long R, long long C, double scale, double smoothing,
                       long long ignore) {
  using A = acc_t<T>;
  using P = Pack<T, V>;
  __shared__ A room[WARP];
  const long long r = blockIdx.x;
  const T* row = x + r * C;                                   // (C,)
  const A weight = weight_of<A>(scale, count);
  const Target<A> target(labels[r], C, smoothing, ignore);
  const A x_label = target.known ? A(row[target.label]) : A(0);  // read before the barrier, so dx may overwrite x
  OnlineSum<A> seen;
  for_row<T, V>(row, C, [&](long long, const P& pack) { seen.add(pack); });
  seen = seen.over_row(room);
  const A inverse = A(1) / seen.sum;
  A z_sum = 0;
  if (p || dx || smoothing > 0) {
    const A w = g ? weight * A(g[r]) : weight;
    for_row<T, V>(row, C, [&](long long c, P pack) {
      P share;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const A z = A(pack.at[v]) - seen.largest;
        z_sum += z;
        const A value = exp(z) * inverse;
        share.at[v] = T(value);
        pack.at[v] = T(target.slope(value, c + v, w));
      }
      if (p) share.store(p + r * C + c);
      if (dx) pack.store(dx + r * C + c);
    });
  }
  if (smoothing > 0) z_sum = row_sum(z_sum, room);
  if (threadIdx.x == 0) loss[r] = target.loss(log(seen.sum), x_label - seen.largest, z_sum);
  finish<T>(loss, nullptr, total, nullptr, ticket, weight, R, 0);
}

template <typename T, int V, typename I>
__global__ void __launch_bounds__(256)
    cross_entropy_pull(const T* g, const T* p, const I* labels, const long long* count /* or null */, T* dx, long long R,
                       int C, bool g_each, double scale, double smoothing, long long ignore) {
  using A = acc_t<T>;
  const unsigned tiles = (C + WARP * V - 1) / (WARP * V);
  const long long r = static_cast<long long>(blockIdx.x / tiles) * blockDim.y + threadIdx.y;
  const int c = (blockIdx.x % tiles * WARP + threadIdx.x) * V;
  if (r >= R || c >= C) return;
  const Target<A> target(labels[r], C, smoothing, ignore);
  const A w = weight_of<A>(scale, count) * A(g[g_each ? r : 0]);
  auto pack = Pack<T, V>::load(p + r * C + c);
#pragma unroll
  for (int v = 0; v < V; ++v) pack.at[v] = T(target.slope(A(pack.at[v]), c + v, w));
  pack.store(dx + r * C + c);
}

template <typename I>
__global__ void __launch_bounds__(1024) count_labels(const I* labels, long long* count, long long R, long long ignore) {
  __shared__ int room[WARP];
  int found = 0;
  for (long long r = threadIdx.x; r < R; r += blockDim.x) found += labels[r] != ignore;
  found = block_sum(found, room);
  if (threadIdx.x == 0) *count = found;
}
