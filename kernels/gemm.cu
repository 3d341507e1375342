// gemm.cu: small matrix products and the gradients of products, all transposes, with accumulation and a ReLU mask on the way in
//
// Formula    d = alpha op(a) op(b) + beta d,  op(x) = x or x transposed. A masked operand has zeros where its bit is zero:
//            dx = (g mask) w' and dw += x' (g mask) need no pass of their own for the gate
// Arrays     op(a): (M, K), op(b): (K, N), d: (M, N), row-major with leading dimensions lda, ldb, ldd (elements from row to row of
//            what is stored), T = float, double, half or bfloat16; batches in two axes, as the heads of rows that lie side by side:
//            batch i inner + j begins i `outer` + j `stride` elements behind the first. d overlaps neither.
//            mask: bits of the stored a (MASK = 1) or b (MASK = 2), as relu.cu writes them: (rows stored, ceil(columns / 32)),
//            one batch only; null for MASK = 0.
//            partial: (slices, M, N) of acc_t, any contents, and ticket: (tiles of M, tiles of N) zeros, where slices > 1
// Mapping    block 256, a tile of 64 x 64 of d, 4 x 4 a thread; grid = (ceil(M / 64) ceil(N / 64), slices, batches); slices > 1
//            (of slice_size of K, a multiple of 16) for one batch only: where the tiles alone leave most of the device idle
//            V = 16 / sizeof(T) needs 16-byte addresses and every size, leading dimension and stride a multiple of V; V = 1 takes any
// Traffic    (M K ceil(N / 64) + K N ceil(M / 64) + M N) sizeof(T) bytes, each operand once for every tile it meets
// Floor      M = 256, N = 64, K = 64, float: 0.15 MB, 0.05 us at 3.35 TB/s, 2.1 MFLOP, 0.03 us at 67 TFLOP/s (H100 SXM, advertised)
// Numerics   fused multiply-adds in acc_t, k ascending in a slice, slices in order, no atomics: repeats bit for bit. A closed gate is 0
//            whatever stands there. beta = 0 does not read d, so NaN there is gone
// Source     register and shared-memory tiling: Boehm 2022, "How to optimize a CUDA matmul kernel"

#include "device.cuh"

constexpr int TILE = 64;                                      // of M and of N
constexpr int DEPTH = 16;                                     // of K, in shared memory at a time
constexpr int THREADS = 256;
constexpr int EACH = 4;                                       // rows and columns of d a thread
constexpr int PAD = 4;                                        // keeps 128-bit alignment, and rows apart in the banks

// A tile of DEPTH x TILE of an operand into shared memory, k by k. ALONG_K: the stored rows run along k.
template <typename T, int V, bool ALONG_K, bool MASKED>
__device__ void fetch(acc_t<T> (&tile)[DEPTH][TILE + PAD], const T* x, const unsigned* mask, long long ld, long long k0,
                      long long k_stop, long long i0, long long size, int words) {
  using A = acc_t<T>;
  // Lanes side by side along a stored row: a sector of 32 bytes where rows run along k, so that the transposed stores of a warp
  // meet all banks; else the whole tile.
  constexpr int SIDE = ALONG_K ? 32 / (V * sizeof(T)) : TILE / V;
  constexpr int ROWS = ALONG_K ? TILE : DEPTH;
  for (int q = threadIdx.x; q < DEPTH * TILE / V; q += THREADS) {
    const int across = q / SIDE % ROWS, along = (q / (SIDE * ROWS) * SIDE + q % SIDE) * V;
    const long long k = k0 + (ALONG_K ? along : across), i = i0 + (ALONG_K ? across : along);
    const long long row = ALONG_K ? i : k, column = ALONG_K ? k : i;
    const bool inside = k < k_stop && i < size;
    Pack<T, V> p{};
    if (inside) p = Pack<T, V>::load(x + row * ld + column);
    const unsigned bits = MASKED && inside ? mask[row * words + column / 32] >> column % 32 : ~0u;
    A value[V];
#pragma unroll
    for (int v = 0; v < V; ++v) value[v] = bits >> v & 1 ? A(p.at[v]) : A(0);
    if constexpr (ALONG_K) {
#pragma unroll
      for (int v = 0; v < V; ++v) tile[along + v][across] = value[v];
    } else {
      constexpr int W = V == 1 ? 1 : 16 / sizeof(A);
#pragma unroll
      for (int v = 0; v < V; v += W) {
        Pack<A, W> part;
#pragma unroll
        for (int w = 0; w < W; ++w) part.at[w] = value[v + w];
        part.store(&tile[across][along + v]);
      }
    }
  }
}

// EACH neighbours in shared memory, 128 bits at a time.
template <typename A> __device__ void read_each(A (&x)[EACH], const A* from) {
  constexpr int W = 16 / sizeof(A);
#pragma unroll
  for (int e = 0; e < EACH; e += W) {
    const auto p = Pack<A, W>::load(from + e);
#pragma unroll
    for (int w = 0; w < W; ++w) x[e + w] = p.at[w];
  }
}

template <typename T, int V, bool TRANSPOSE_A, bool TRANSPOSE_B, int MASK>
__global__ void __launch_bounds__(THREADS, 2)
    gemm(const T* __restrict__ a, const T* __restrict__ b, const unsigned* __restrict__ mask /* null without MASK */,
         T* __restrict__ d, acc_t<T>* partial /* null for one slice */, unsigned* ticket /* null for one slice */, long long M,
         long long N, long long K, long long lda, long long ldb, long long ldd, long long stride_a, long long stride_b,
         long long stride_d, unsigned inner, long long outer_a, long long outer_b, long long outer_d, long long slice_size,
         double alpha, double beta) {
  using A = acc_t<T>;
  __shared__ __align__(16) A left[DEPTH][TILE + PAD];         // (k, row of d)
  __shared__ __align__(16) A right[DEPTH][TILE + PAD];        // (k, column of d)
  const long long tiles = (N + TILE - 1) / TILE;
  const long long m0 = blockIdx.x / tiles * TILE, n0 = blockIdx.x % tiles * TILE;
  const long long first = blockIdx.y * slice_size, stop = min(first + slice_size, K);
  const long long i = blockIdx.z / inner, j = blockIdx.z % inner;
  a += i * outer_a + j * stride_a;
  b += i * outer_b + j * stride_b;
  d += i * outer_d + j * stride_d;
  const int words = int(((MASK == 1 ? (TRANSPOSE_A ? M : K) : (TRANSPOSE_B ? K : N)) + 31) / 32);
  const int row = threadIdx.x / 16 * EACH, column = threadIdx.x % 16 * EACH;  // [0, TILE)
  A sums[EACH][EACH] = {};
  for (long long k0 = first; k0 < stop; k0 += DEPTH) {
    fetch<T, V, !TRANSPOSE_A, MASK == 1>(left, a, mask, lda, k0, stop, m0, M, words);
    fetch<T, V, TRANSPOSE_B, MASK == 2>(right, b, mask, ldb, k0, stop, n0, N, words);
    __syncthreads();                                          // the tiles are written before they are read
#pragma unroll
    for (int k = 0; k < DEPTH; ++k) {
      A x[EACH], y[EACH];
      read_each(x, &left[k][row]);
      read_each(y, &right[k][column]);
#pragma unroll
      for (int e = 0; e < EACH * EACH; ++e) sums[e / EACH][e % EACH] += x[e / EACH] * y[e % EACH];
    }
    __syncthreads();                                          // the tiles are read before the next ones are written
  }
  const unsigned slices = gridDim.y;
  const auto place = [&](int e) { return (m0 + row + e / EACH) * N + n0 + column + e % EACH; };
  const auto inside = [&](int e) { return m0 + row + e / EACH < M && n0 + column + e % EACH < N; };
  if (slices > 1) {
#pragma unroll
    for (int e = 0; e < EACH * EACH; ++e) {
      if (inside(e)) partial[blockIdx.y * M * N + place(e)] = sums[e / EACH][e % EACH];
    }
    if (!last_block(ticket + blockIdx.x, slices)) return;
#pragma unroll
    for (int e = 0; e < EACH * EACH; ++e) {
      A sum = 0;
      for (unsigned s = 0; s < slices && inside(e); ++s) sum += read_through(partial + s * M * N + place(e));
      sums[e / EACH][e % EACH] = sum;
    }
  }
  constexpr int W = V <= EACH ? V : 1;                        // a thread's 4 columns are half a pack of half precision
#pragma unroll
  for (int e = 0; e < EACH; ++e) {
    if (m0 + row + e >= M) break;
    T* const out = d + (m0 + row + e) * ldd + n0 + column;
#pragma unroll
    for (int f = 0; f < EACH; f += W) {
      if (n0 + column + f >= N) break;
      Pack<T, W> p{};
      if (beta != 0) p = Pack<T, W>::load(out + f);
#pragma unroll
      for (int w = 0; w < W; ++w) {
        const A sum = A(alpha) * sums[e][f + w];
        p.at[w] = T(beta == 0 ? sum : sum + A(beta) * A(p.at[w]));
      }
      p.store(out + f);
    }
  }
}
