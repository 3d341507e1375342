// attention.cu: softmax(scale q k') v over tiles, the scores never in memory; and its pullback, which makes them again
//
// Formula    s = scale q k',  p = exp(s - lse),  lse[i] = log(sum_j exp(s[i,j])),  o = p v;  causal: j <= i only
//            back, with d[i] = sum_f g[i,f] o[i,f] and u = scale p (g v' - d):  dq = u k,  dk = u' q,  dv = p' g
// Arrays     q, dq: (B, L, E), k, dk: (B, S, E), v, dv: (B, S, F), o, g: (B, L, F), row-major, contiguous, T = float, double,
//            half or bfloat16; lse: (B, L) of acc_t. E, F <= D, D in {32, 64, 128}; L, S in [1, 2^31). Nothing overlaps.
//            With heads > 0, b stands for batch b / heads and head b % heads, and an array's rows begin at multiples of three steps,
//            in elements: batch, head, row; those of `in` are q's, k's, v's and their gradients', those of `out` o's and g's
// Mapping    a block of TX Y threads keeps N rows (forward: queries) and passes over the others, M at a time, in shared memory;
//            threads of one row are 8 lanes of a warp. N, M, Y are Forward<A, D> and Backward<A, D> below.
//            attention: grid.x = B ceil(L / N).  attention_pull: grid.x = B (ceil(S / N) + ceil(L / N)): the first keep N keys
//            for dk and dv, the rest N queries for dq, so that no two blocks add to one number
//            V = 16 / sizeof(T) needs 16-byte addresses and E % V = F % V = 0; V = 1 takes any
// Traffic    forward B (L (E + F) + ceil(L / N) S (E + F)) sizeof(T) bytes, half of the second term where causal: that is k and v
//            once a tile of queries, from the L2 cache but for the first. Operations: 4 B L S D forward, 14 back
// Floor      B = 64, L = S = 1024, D = 64, float: 34 GFLOP, 0.5 ms at 67 TFLOP/s (H100 SXM, advertised, without tensor cores)
// Numerics   the largest score so far is subtracted, so exp never overflows; products and sums in acc_t, in an order fixed by the
//            shape; no atomics. A query whose scores are all -inf is NaN, as in the reference
// Source     Milakov & Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135; Dao 2023, arXiv:2307.08691

#include "device.cuh"

constexpr int TX = 8;  // lanes that share a row of a tile

// Rows kept (N), rows passing (M): as many as fit into 48 KiB of shared memory beside each other.
template <typename A, int D> struct Forward {
  static constexpr bool WIDE = sizeof(A) == 8;
  static constexpr int N = (D == 128 ? 32 : 64) / (WIDE ? 2 : 1), M = (D == 128 ? 16 : 32) / (WIDE ? 2 : 1);
};
template <typename A, int D> struct Backward {
  static constexpr bool WIDE = sizeof(A) == 8;
  static constexpr int N = 32 / (WIDE ? (D == 128 ? 4 : 2) : 1), M = D == 128 ? 8 : WIDE ? 16 : 32;
};

template <int N> constexpr int lanes_down() { return N < 16 ? N : 16; }  // Y

// N rows of at most D numbers in shared memory. A row is padded by 16 bytes: lanes that read neighbouring rows, or write one row,
// 128 bits at a time, meet different banks.
template <typename A, int N, int D> struct Tile {
  static constexpr int W = 16 / sizeof(A), STRIDE = D + W;
  A at[N * STRIDE];

  __device__ Pack<A, W> pack(int row, int column) const { return Pack<A, W>::load(at + row * STRIDE + column); }

  // The rows from `from` on, by Y rows of threads: zero behind `rows` and behind `width`.
  template <int V, int Y, typename T> __device__ void fill(const T* from, int rows, int width, long long step) {
    visit<V, Y>(from, rows, width, step, [](int, int, int, Pack<T, V>) {}, [](int, int) {});
  }

  // The same for rows of g, whose products with rows of o are summed on the way: dots[n].
  template <int V, int Y, typename T>
  __device__ void fill(const T* from, int rows, int width, long long step, const T* other, A* dots) {
    A sum = 0;
    visit<V, Y>(from, rows, width, step,
             [&](int n, int c, int, Pack<T, V> mine) {
               const auto theirs = Pack<T, V>::load(other + n * step + c);
#pragma unroll
               for (int v = 0; v < V; ++v) sum += A(mine.at[v]) * A(theirs.at[v]);
             },
             [&](int n, int tx) {
#pragma unroll
               for (int step = TX / 2; step; step /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
               if (tx == 0) dots[n] = sum;
               sum = 0;
             });
  }

  template <int V, int Y, typename T, typename Each, typename Row>
  __device__ void visit(const T* from, int rows, int width, long long step, Each each, Row row) {
    constexpr int ROLLED = V == 1 ? 1 : N / Y;                // single elements unrolled compile for twice as long
    const int ty = threadIdx.x / TX, tx = threadIdx.x % TX;
#pragma unroll ROLLED
    for (int n = ty; n < N; n += Y) {                         // a warp, 4 rows, goes through together
#pragma unroll 1
      for (int c = tx * V; c < D; c += TX * V) {
        Pack<T, V> p{};
        if (n < rows && c < width) {
          p = Pack<T, V>::load(from + n * step + c);
          each(n, c, tx, p);
        }
        A* const to = at + n * STRIDE + c;
        if constexpr (V == 1) {
          *to = A(p.at[0]);
        } else {
#pragma unroll
          for (int v = 0; v < V; v += W) {
            Pack<A, W> wide;
#pragma unroll
            for (int w = 0; w < W; ++w) wide.at[w] = A(p.at[v + w]);
            wide.store(to + v);
          }
        }
      }
      row(n, tx);
    }
  }
};

// Weights (N, M) on their way from the lanes that made them to all lanes of their rows, which are in one warp. A row begins 8
// banks after the one before.
template <typename A, int N, int M> struct Weights {
  static constexpr int W = 16 / sizeof(A), STRIDE = M == TX ? TX : M + TX, Y = lanes_down<N>(), R = N / Y, C = M / TX;
  A at[N * STRIDE];

  __device__ void put(const A (&p)[R][C]) {
    const int ty = threadIdx.x / TX, tx = threadIdx.x % TX;
    __syncwarp();                                             // what was here has been read
#pragma unroll
    for (int e = 0; e < R * C; ++e) at[(ty + Y * (e / C)) * STRIDE + tx + TX * (e % C)] = p[e / C][e % C];
    __syncwarp();                                             // and is written before it is read
  }

  // sums[i][...] += the weights of row i times the rows of `tile`; a thread has W columns of every TX W
  template <int D> __device__ void combine(A (&sums)[R][D / TX], const Tile<A, M, D>& tile) const {
    const int ty = threadIdx.x / TX, tx = threadIdx.x % TX;
#pragma unroll 2
    for (int m = 0; m < M; m += W) {
      Pack<A, W> p[R];
#pragma unroll
      for (int i = 0; i < R; ++i) p[i] = Pack<A, W>::load(at + (ty + Y * i) * STRIDE + m);
#pragma unroll
      for (int w = 0; w < W; ++w) {
#pragma unroll
        for (int j = 0; j < D / TX; j += W) {
          const auto x = tile.pack(m + w, tx * W + j * TX);
#pragma unroll
          for (int e = 0; e < R * W; ++e) sums[e / W][j + e % W] += p[e / W].at[w] * x.at[e % W];
        }
      }
    }
  }
};

// scores[i][j] = row ty + Y i of `rows` times row tx + TX j of `columns`
template <typename A, int N, int M, int D, int R, int C>
__device__ void products(A (&scores)[R][C], const Tile<A, N, D>& rows, const Tile<A, M, D>& columns) {
  constexpr int W = Tile<A, N, D>::W, Y = lanes_down<N>();
  const int ty = threadIdx.x / TX, tx = threadIdx.x % TX;
#pragma unroll
  for (int e = 0; e < R * C; ++e) scores[e / C][e % C] = 0;
#pragma unroll 2
  for (int d = 0; d < D; d += W) {
    Pack<A, W> x[R], y[C];
#pragma unroll
    for (int i = 0; i < R; ++i) x[i] = rows.pack(ty + Y * i, d);
#pragma unroll
    for (int j = 0; j < C; ++j) y[j] = columns.pack(tx + TX * j, d);
#pragma unroll
    for (int w = 0; w < W; ++w) {
#pragma unroll
      for (int e = 0; e < R * C; ++e) scores[e / C][e % C] += x[e / C].at[w] * y[e % C].at[w];
    }
  }
}

// A thread's columns of its rows, times `factor` of the row.
template <int V, int Y, int R, int WIDTH, typename T, typename A, typename Factor>
__device__ void store_rows(T* to, const A (&sums)[R][WIDTH], int rows, int width, long long step, Factor factor) {
  constexpr int W = 16 / sizeof(A), P = V == W ? W : 1;
  const int ty = threadIdx.x / TX, tx = threadIdx.x % TX;
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const int n = ty + Y * i;
    const A times = factor(i);
#pragma unroll
    for (int c = 0; c < WIDTH; c += P) {
      const int column = tx * W + c / W * W * TX + c % W;
      Pack<T, P> p;
#pragma unroll
      for (int e = 0; e < P; ++e) p.at[e] = T(sums[i][c + e] * times);
      if (n >= rows || column >= width) continue;
      T* const at = to + n * step + column;
      if constexpr (P == 1) {
        p.store(at);
      } else {                                                // NVRTC takes some of the plain stores apart
        __stwb(reinterpret_cast<uint4*>(at), __builtin_bit_cast(uint4, p));
      }
    }
  }
}

// Where the rows of matrix b of a kind of array begin, and how far apart they are.
struct Steps {
  long long batch, head, row;
  int heads;

  __device__ long long start(long long b, long long size) const {
    return heads ? b / heads * batch + b % heads * head : b * size;
  }
  __device__ long long apart(int width) const { return heads ? row : width; }
};

template <typename T, int V, int D>
__global__ void __launch_bounds__(TX* lanes_down<Forward<acc_t<T>, D>::N>(), sizeof(T) == 2 ? 3 : 4)  // with 4 half would spill
    attention(const T* __restrict__ q, const T* __restrict__ k, const T* __restrict__ v, T* __restrict__ o,
              acc_t<T>* __restrict__ lse, int L, int S, int E, int F, double scale, bool causal, int heads = 0,
              long long in_batch = 0, long long in_head = 0, long long in_row = 0, long long out_batch = 0,
              long long out_head = 0, long long out_row = 0) {
  using A = acc_t<T>;
  constexpr int N = Forward<A, D>::N, M = Forward<A, D>::M, Y = lanes_down<N>(), R = N / Y, C = M / TX;
  __shared__ __align__(16) Tile<A, N, D> queries;
  __shared__ __align__(16) Tile<A, M, D> keys, values;
  __shared__ __align__(16) Weights<A, N, M> weights;
  const int tiles = (L + N - 1) / N;
  const long long b = blockIdx.x / tiles;
  const int n0 = (tiles - 1 - int(blockIdx.x % tiles)) * N;   // where causal, the last rows have most to do: they start first
  const int ty = threadIdx.x / TX, tx = threadIdx.x % TX;
  const Steps in{in_batch, in_head, in_row, heads}, out{out_batch, out_head, out_row, heads};
  const long long step = in.apart(E), value_step = in.apart(F), out_step = out.apart(F);
  q += in.start(b, 1ll * L * E) + n0 * step;
  k += in.start(b, 1ll * S * E);
  v += in.start(b, 1ll * S * F);
  queries.template fill<V, Y>(q, L - n0, E, step);
  A most[R], total[R] = {}, sums[R][D / TX] = {};
#pragma unroll
  for (int i = 0; i < R; ++i) most[i] = -infinity<A>();
  const int stop = causal ? min(S, n0 + N) : S;
  for (int m0 = 0; m0 < stop; m0 += M) {
    __syncthreads();                                          // the tiles are read before the next ones are written
    keys.template fill<V, Y>(k + m0 * step, S - m0, E, step);
    values.template fill<V, Y>(v + m0 * value_step, S - m0, F, value_step);
    __syncthreads();                                          // the tiles are written before they are read
    A p[R][C];
    products(p, queries, keys);
#pragma unroll
    for (int i = 0; i < R; ++i) {
      const int limit = causal ? min(S, n0 + ty + Y * i + 1) : S;
      A top = most[i];
#pragma unroll
      for (int j = 0; j < C; ++j) {
        p[i][j] = m0 + tx + TX * j < limit ? p[i][j] * A(scale) : -infinity<A>();
        top = Larger{}(top, p[i][j]);
      }
#pragma unroll
      for (int step = TX / 2; step; step /= 2) top = Larger{}(top, __shfl_xor_sync(ALL_LANES, top, step));
      const A base = top == -infinity<A>() ? A(0) : top;      // so far nothing but -inf: exp(-inf - 0), not exp(-inf + inf)
      const A shrink = exp(most[i] - base);
      most[i] = top;
      total[i] *= shrink;
#pragma unroll
      for (int j = 0; j < C; ++j) {
        p[i][j] = exp(p[i][j] - base);
        total[i] += p[i][j];
      }
#pragma unroll
      for (int d = 0; d < D / TX; ++d) sums[i][d] *= shrink;
    }
    weights.put(p);
    weights.combine(sums, values);
  }
#pragma unroll
  for (int i = 0; i < R; ++i) {
#pragma unroll
    for (int step = TX / 2; step; step /= 2) total[i] += __shfl_xor_sync(ALL_LANES, total[i], step);
    const int n = n0 + ty + Y * i;
    if (tx == 0 && n < L) lse[b * L + n] = (most[i] == -infinity<A>() ? A(0) : most[i]) + log(total[i]);
  }
  store_rows<V, Y>(o + out.start(b, 1ll * L * F) + n0 * out_step, sums, L - n0, F, out_step,
                   [&](int i) { return A(1) / total[i]; });
}

// What the blocks of the pullback share their memory for.
template <typename A, int D> struct Room {
  static constexpr int N = Backward<A, D>::N, M = Backward<A, D>::M;
  Tile<A, N, D> kept, kept_values;                            // keys and values, or queries and g
  Tile<A, M, D> passing, passing_values;                      // the other two
  Weights<A, N, M> weights;
  A lse[N], dots[N];                                          // of the queries among them
};

// N keys from n0 on (KEYS), with all queries passing: dk and dv. Or N queries, with all keys passing: dq.
template <bool KEYS, int V, int D, typename T, typename A>
__device__ void pull_tile(Room<A, D>& room, const T* q, const T* k, const T* v, const T* o, const T* g, const A* lse, T* dq,
                          T* dk, T* dv, int n0, int L, int S, int E, int F, A scale, bool causal, long long step,
                          long long value_step, long long out_step) {
  constexpr int N = Room<A, D>::N, M = Room<A, D>::M, Y = lanes_down<N>(), R = N / Y, C = M / TX;
  const int ty = threadIdx.x / TX, tx = threadIdx.x % TX;
  const long long here = n0;
  const auto take_lse = [&](int first, int count) {
    for (int n = threadIdx.x; n < count; n += TX * Y) room.lse[n] = first + n < L ? lse[first + n] : A(0);
  };
  if constexpr (KEYS) {
    room.kept.template fill<V, Y>(k + here * step, S - n0, E, step);
    room.kept_values.template fill<V, Y>(v + here * value_step, S - n0, F, value_step);
  } else {
    room.kept.template fill<V, Y>(q + here * step, L - n0, E, step);
    room.kept_values.template fill<V, Y>(g + here * out_step, L - n0, F, out_step, o + here * out_step, room.dots);
    take_lse(n0, N);
  }
  A sums[R][D / TX] = {}, value_sums[R][D / TX] = {};
  const int first = KEYS && causal ? n0 / M * M : 0;
  const int stop = KEYS ? L : causal ? min(S, n0 + N) : S;
  for (int m0 = first; m0 < stop; m0 += M) {
    const long long there = m0;
    __syncthreads();                                          // the tiles are read before the next ones are written
    if constexpr (KEYS) {
      room.passing.template fill<V, Y>(q + there * step, L - m0, E, step);
      room.passing_values.template fill<V, Y>(g + there * out_step, L - m0, F, out_step, o + there * out_step, room.dots);
      take_lse(m0, M);
    } else {
      room.passing.template fill<V, Y>(k + there * step, S - m0, E, step);
      room.passing_values.template fill<V, Y>(v + there * value_step, S - m0, F, value_step);
    }
    __syncthreads();                                          // the tiles are written before they are read
    A p[R][C], u[R][C];
    products(p, room.kept, room.passing);
    products(u, room.kept_values, room.passing_values);
#pragma unroll
    for (int e = 0; e < R * C; ++e) {
      const int row = ty + Y * (e / C), column = tx + TX * (e % C);
      const int query = KEYS ? column : row;                  // within its tile
      const int i = query + (KEYS ? m0 : n0), j = KEYS ? n0 + row : m0 + column;
      const bool seen = i < L && j < S && (!causal || j <= i);
      A& weight = p[e / C][e % C];
      weight = seen ? exp(weight * scale - room.lse[query]) : A(0);
      u[e / C][e % C] = seen ? weight * (u[e / C][e % C] - room.dots[query]) * scale : A(0);
    }
    if constexpr (KEYS) {
      room.weights.put(p);
      room.weights.combine(value_sums, room.passing_values);
    }
    room.weights.put(u);
    room.weights.combine(sums, room.passing);
  }
  const auto one = [](int) { return A(1); };
  if constexpr (KEYS) {
    store_rows<V, Y>(dk + here * step, sums, S - n0, E, step, one);
    store_rows<V, Y>(dv + here * value_step, value_sums, S - n0, F, value_step, one);
  } else {
    store_rows<V, Y>(dq + here * step, sums, L - n0, E, step, one);
  }
}

template <typename T, int V, int D>
__global__ void __launch_bounds__(TX* lanes_down<Backward<acc_t<T>, D>::N>(), 3)  // with 4 some would spill
    attention_pull(const T* __restrict__ q, const T* __restrict__ k, const T* __restrict__ v, const T* __restrict__ o,
                   const T* __restrict__ g, const acc_t<T>* __restrict__ lse, T* __restrict__ dq, T* __restrict__ dk,
                   T* __restrict__ dv, long long B, int L, int S, int E, int F, double scale, bool causal, int heads = 0,
                   long long in_batch = 0, long long in_head = 0, long long in_row = 0, long long out_batch = 0,
                   long long out_head = 0, long long out_row = 0) {
  using A = acc_t<T>;
  constexpr int N = Room<A, D>::N;
  __shared__ __align__(16) Room<A, D> room;
  const long long key_tiles = (S + N - 1) / N, query_tiles = (L + N - 1) / N;
  const bool keys = blockIdx.x < B * key_tiles;
  const long long block = keys ? blockIdx.x : blockIdx.x - B * key_tiles;
  const long long tiles = keys ? key_tiles : query_tiles;
  const long long b = block / tiles;
  const int n0 = int(keys ? block % tiles : tiles - 1 - block % tiles) * N;      // where causal, the longest start first
  const Steps in{in_batch, in_head, in_row, heads}, out{out_batch, out_head, out_row, heads};
  const long long queries = in.start(b, 1ll * L * E), theirs = in.start(b, 1ll * S * E), values = in.start(b, 1ll * S * F);
  const long long results = out.start(b, 1ll * L * F);
  q += queries;
  k += theirs;
  v += values;
  o += results;
  g += results;
  lse += b * L;
  if (keys) {
    pull_tile<true, V, D>(room, q, k, v, o, g, lse, dq, dk + theirs, dv + values, n0, L, S, E, F, A(scale), causal, in.apart(E),
                          in.apart(F), out.apart(F));
  } else {
    pull_tile<false, V, D>(room, q, k, v, o, g, lse, dq + queries, dk, dv, n0, L, S, E, F, A(scale), causal, in.apart(E),
                           in.apart(F), out.apart(F));
  }
}
