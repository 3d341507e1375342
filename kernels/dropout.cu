// dropout.cu: dropout by a counter-based generator; the pullback is the same kernel on g, and no mask is stored
//
// Formula    y[i] = x[i] scale where word(i) >= threshold, else 0;     dx[i] = g[i] scale where word(i) >= threshold, else 0
//            threshold = round(p 2^32) in [0, 2^32], scale = 1 / (1 - p), for a probability p of dropping
//            word(i) = draw 4 (i div 128 mod 2) + i mod 4 of the eight that Philox4x64-10 gives (four words, lower halves first) for
//              counter (32 (i div 256) + i div 4 mod 32 + 1, 0, state[1] + call mod 2^64, 0) and key (state[0], 0)
//            ten rounds of (c0, c1, c2, c3) -> (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)),
//            M0 = 0xD2E7470EE14C6C93, M1 = 0xCA5A826395121157; after each round k0 += 0x9E3779B97F4A7C15,
//            k1 += 0xBB67AE8584CAA73B: numpy.random.Philox(key=state[0], counter=(state[1] + call) 2^128).random_raw(),
//            in groups of 256 draws, whose order lets a thread use all eight for two loads that join those beside it
// Arrays     x, y: (n,), contiguous, T = float, double, half or bfloat16; y may be x
//            state: (2,), the seed and a stream number, read from device memory so that a captured graph can draw anew, or null
//            for zeros; `call` tells calls under one state apart. The pullback passes the forward pass's state and call.
// Mapping    whole groups of 256 elements by threads of 2 S elements each, S = max(V, 4), the rest by an element a thread; blocks
//            of 256, grid.x = ceil((n div 256 * 128 / S + n mod 256) / 256); V = 16 / sizeof(T) needs 16-byte addresses.
//            V = 1 takes any, an element and a Philox each: grid.x = ceil(n / 256)
// Traffic    2 n sizeof(T) bytes
// Floor      n = 2048 * 768, float: 12.6 MB, 3.8 us at 3.35 TB/s (H100 SXM, advertised)
// Numerics   a choice, not a product: NaN and inf are dropped to 0 too, kept elements are rounded once. The same i is kept
//            whatever the dtype, the launch or the device
// Source     Salmon, Moraes, Dror & Shaw, SC 2011; test vectors of Random123

#include "device.cuh"

constexpr int GROUP = 256;  // elements whose draws come from 32 counters
constexpr int HALF = GROUP / 2;

struct Words4 {
  unsigned long long at[4];

  __device__ unsigned draw(int k) const {                     // k in [0, 8)
    const unsigned long long word = k < 4 ? (k < 2 ? at[0] : at[1]) : (k < 6 ? at[2] : at[3]);
    return unsigned(k & 1 ? word >> 32 : word);
  }
};

__device__ inline Words4 philox(unsigned long long q, unsigned long long stream, unsigned long long seed) {
  unsigned long long c0 = q, c1 = 0, c2 = stream, c3 = 0, k0 = seed, k1 = 0;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned long long high0 = __umul64hi(0xD2E7470EE14C6C93ull, c0), low0 = 0xD2E7470EE14C6C93ull * c0;
    const unsigned long long high1 = __umul64hi(0xCA5A826395121157ull, c2), low1 = 0xCA5A826395121157ull * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B97F4A7C15ull;
    k1 += 0xBB67AE8584CAA73Bull;
  }
  return {{c0, c1, c2, c3}};
}

template <typename T, int V>
__global__ void __launch_bounds__(256)
    dropout(const T* x, const unsigned long long* state /* or null */, T* y, unsigned long long call,
            unsigned long long threshold, double scale, long long n) {
  using A = acc_t<T>;
  constexpr int SPAN = V < 4 ? 4 : V;                         // neighbours a thread has of each half of a group
  constexpr int THREADS = HALF / SPAN;                        // that share a group
  const unsigned long long seed = state ? state[0] : 0, stream = (state ? state[1] : 0) + call;
  const A factor = A(scale);
  const long long k = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  const long long groups = V == 1 ? 0 : n / GROUP;
  if (k >= groups * THREADS) {                                // the rest, or all of it, one by one
    const long long i = groups * GROUP + (k - groups * THREADS);
    if (i >= n) return;
    const Words4 words = philox(i / GROUP * 32 + i / 4 % 32 + 1, stream, seed);
    y[i] = words.draw(int(i / HALF % 2 * 4 + i % 4)) >= threshold ? T(A(x[i]) * factor) : T(0.f);
    return;
  }
  const long long base = k / THREADS * GROUP + k % THREADS * SPAN;
  Words4 words[SPAN / 4];
#pragma unroll
  for (int c = 0; c < SPAN / 4; ++c) words[c] = philox(k / THREADS * 32 + k % THREADS * (SPAN / 4) + c + 1, stream, seed);
#pragma unroll
  for (int e = 0; e < 2 * SPAN; e += V) {
    const long long i = base + e / SPAN * HALF + e % SPAN;
    Pack<T, V> p = Pack<T, V>::load(x + i);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const int within = e % SPAN + v;
      p.at[v] = words[within / 4].draw(e / SPAN * 4 + within % 4) >= threshold ? T(A(p.at[v]) * factor) : T(0.f);
    }
    p.store(y + i);
  }
}
