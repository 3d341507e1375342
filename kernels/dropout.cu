// dropout.cu: dropout by a counter-based generator; the pullback is the same kernel on g, and no mask is stored
//
// Formula    y[i] = x[i] scale where word(i) >= threshold, else 0;     dx[i] = g[i] scale where word(i) >= threshold, else 0
//            threshold = round(p 2^32) in [0, 2^32], scale = 1 / (1 - p), for a probability p of dropping
//            word(i) = element i mod 4 of Philox4x32-10 with
//              counter (q mod 2^32, q div 2^32, s mod 2^32, s div 2^32), q = i div 4, s = state[1] + call (mod 2^64)
//              key     (state[0] mod 2^32, state[0] div 2^32)
//            ten rounds of (c0, c1, c2, c3) -> (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)),
//            M0 = 0xD2511F53, M1 = 0xCD9E8D57; after each round k0 += 0x9E3779B9, k1 += 0xBB67AE85
// Arrays     x, y: (n,), contiguous, T = float, double, half or bfloat16; y may be x
//            state: (2,), the seed and a stream number, read from device memory so that a captured graph can draw anew;
//            `call` tells calls under one state apart. The pullback passes the forward pass's state and call.
// Mapping    max(V, 4) elements a thread, blocks of 256, grid.x = ceil((n / E + n % E) / 256), E = max(V, 4);
//            V = 16 / sizeof(T) needs 16-byte addresses. V = 1 takes any, an element and a Philox each: E = 1
// Traffic    2 n sizeof(T) bytes
// Floor      n = 2048 * 768, float: 12.6 MB, 3.8 us at 3.35 TB/s (H100 SXM, advertised)
// Numerics   a choice, not a product: NaN and inf are dropped to 0 too, kept elements are rounded once. The same i is kept
//            whatever the dtype, the launch or the device
// Source     Salmon, Moraes, Dror & Shaw, SC 2011; test vectors of Random123

#include "device.cuh"

__device__ inline uint4 philox(uint4 c, uint2 k) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned high0 = __umulhi(0xD2511F53u, c.x), low0 = 0xD2511F53u * c.x;
    const unsigned high1 = __umulhi(0xCD9E8D57u, c.z), low1 = 0xCD9E8D57u * c.z;
    c = {high1 ^ c.y ^ k.x, low1, high0 ^ c.w ^ k.y, low0};
    k.x += 0x9E3779B9u;
    k.y += 0xBB67AE85u;
  }
  return c;
}

struct Draws {
  unsigned long long seed, stream;
  __device__ uint4 at(unsigned long long q) const {           // the words of elements 4 q to 4 q + 3
    return philox({unsigned(q), unsigned(q >> 32), unsigned(stream), unsigned(stream >> 32)},
                  {unsigned(seed), unsigned(seed >> 32)});
  }
};

__device__ inline unsigned chosen(uint4 words, int k) {       // k in [0, 4)
  return k < 2 ? (k ? words.y : words.x) : (k == 2 ? words.z : words.w);
}

template <typename T, int V>
__global__ void __launch_bounds__(256)
    dropout(const T* x, const unsigned long long* state, T* y, unsigned long long call, unsigned long long threshold,
            double scale, long long n) {
  using A = acc_t<T>;
  constexpr int EACH = V == 1 ? 1 : V < 4 ? 4 : V;
  const Draws draws{state[0], state[1] + call};
  const A factor = A(scale);
  for_each_pack<EACH>(n, [=](long long i, auto width) {
    constexpr int W = decltype(width)::value < V ? 1 : V;     // the tail goes one by one
    uint4 words = draws.at(i >> 2);
#pragma unroll
    for (int e = 0; e < decltype(width)::value; e += W) {
      Pack<T, W> p = Pack<T, W>::load(x + i + e);
#pragma unroll
      for (int v = 0; v < W; ++v) {
        const int k = W == 1 ? int(i & 3) : (e + v) & 3;
        if (W > 1 && k == 0 && e + v) words = draws.at((i + e + v) >> 2);
        p.at[v] = chosen(words, k) >= threshold ? T(A(p.at[v]) * factor) : T(0.f);
      }
      p.store(y + i + e);
    }
  });
}
