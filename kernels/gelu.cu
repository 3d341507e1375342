// gelu.cu: GELU in its exact (erf) and its tanh form, and the pullbacks
//
// Formula    erf    y = x P(x), P(x) = erfc(-x / sqrt 2) / 2;          slope P(x) + x exp(-x^2 / 2) / sqrt(2 pi)
//            tanh   y = x (1 + t) / 2, t = tanh(k (x + c x^3));        slope (1 + t)/2 + x k (1 + 3 c x^2) (1 - t^2) / 2
//            k = sqrt(2 / pi), c = 0.044715.   dx = g slope(x); without g, the slope itself
// Arrays     x, y, g, dx: (n,), contiguous, T = float, double, half or bfloat16. dx may be g or x, y may be x.
// Mapping    a pack a thread, blocks of 256, grid.x = ceil((n / V + n % V) / 256); V = 16 / sizeof(T) needs 16-byte
//            addresses, V = 1 takes any
// Traffic    forward 2 n sizeof(T) bytes, pullback 3 n sizeof(T)
// Floor      n = 2048 * 3072, float: 50 MB, 15 us at 3.35 TB/s (H100 SXM, advertised); pullback 75 MB, 23 us
// Numerics   computed in acc_t. erfc keeps the relative accuracy of P where x < 0, which (1 + erf) / 2 loses.
//            NaN stays NaN; at inf and -inf, and where x^2 overflows, y and slope are their limits (x, 1 and 0, 0)
// Source     Hendrycks & Gimpel 2016, arXiv:1606.08415

#include "device.cuh"

constexpr double K = 0.79788456080286535588;                  // sqrt(2 / pi)
constexpr double C = 0.044715;
constexpr double HALF_ROOT = 0.70710678118654752440;          // sqrt(1 / 2)
constexpr double DENSITY_AT_0 = 0.39894228040143267794;       // 1 / sqrt(2 pi)

// a b, but 0 wherever a is: the vanishing factor wins over an overflowing one.
template <typename A> __device__ A damped(A a, A b) { return a == A(0) ? A(0) : a * b; }

template <bool TANH, typename A> __device__ A share(A x) {    // P(x) or (1 + t) / 2, in [0, 1]
  if constexpr (TANH) return (A(1) + tanh(A(K) * x * (A(1) + A(C) * x * x))) * A(0.5);
  return A(0.5) * erfc(x * A(-HALF_ROOT));
}

template <bool TANH, typename A> __device__ A slope(A x) {
  const A p = share<TANH>(x);
  if constexpr (TANH) return p + damped(A(2) * p * (A(1) - p), x * A(K) * (A(1) + A(3 * C) * x * x));
  return p + damped(exp(x * x * A(-0.5)) * A(DENSITY_AT_0), x);
}

template <typename T, int V, bool TANH>
__global__ void __launch_bounds__(256) gelu(const T* x, T* y, long long n) {
  for_each_pack<V>(n, [=](long long i, auto width) {
    using P = Pack<T, decltype(width)::value>;
    P p = P::load(x + i);
#pragma unroll
    for (T& e : p.at) e = T(damped(share<TANH>(acc_t<T>(e)), acc_t<T>(e)));
    p.store(y + i);
  });
}

template <typename T, int V, bool TANH>
__global__ void __launch_bounds__(256) gelu_pull(const T* g /* or null */, const T* x, T* dx, long long n) {
  for_each_pack<V>(n, [=](long long i, auto width) {
    using P = Pack<T, decltype(width)::value>;
    P p = P::load(x + i);
    P outer;
#pragma unroll
    for (T& e : outer.at) e = T(1.f);
    if (g) outer = P::load(g + i);
#pragma unroll
    for (int v = 0; v < decltype(width)::value; ++v) {
      p.at[v] = T(acc_t<T>(outer.at[v]) * slope<TANH>(acc_t<T>(p.at[v])));
    }
    p.store(dx + i);
  });
}
