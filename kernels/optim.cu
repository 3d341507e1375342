// optim.cu: one step of SGD, Adam or AdamW on all parameters in one launch
//
// Formula    sgd   d = g + decay w;  v = momentum v + (1 - dampening) d (v = d at the first step);
//                  w -= lr (d without momentum, d + momentum v with nesterov, else v)
//            adam  g += decay w (or, decoupled, w -= lr decay w);  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;
//                  w -= lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps);  with `top`, top = max(top, v) stands in the root
// Arrays     w, m, v, top: one arena each, contiguous, T = float or double: every tensor starts at a multiple of CHUNK = 1024
//            elements, so a block works for one tensor. starts: (tensors + 1,) first element of each tensor, then of none;
//            lengths: (tensors,); gradients: (tensors,) addresses, 0 for a tensor that has none this step and is left alone;
//            null where they are `few`, in the arguments of the launch itself, so that nothing is copied for it.
//            lr: (1,) double, step: (1,) long long, steps taken so far; both lie in device memory, so that a captured graph
//            follows them. ticket: (1,) zero: the block that ends last counts the step. v is null without momentum, top
//            without AMSGrad. g is only read
// Mapping    block 256, a chunk of 1024 elements each; grid.x = starts[tensors] / CHUNK. A flat arena is tensors = 1.
//            V = 16 / sizeof(T) needs 16-byte addresses, gradients too, and takes any length; V = 1 takes any
// Traffic    a parameter: sgd 3 sizeof(T) bytes, with momentum 5; adam 7, with top 9; 32 bytes a tensor more
// Floor      1.86 M parameters, float, adam: 52 MB, 15.6 us at 3.35 TB/s (H100 SXM, advertised)
// Numerics   lr / (1 - b1^t) and its like are computed in double, once a block. The root is exact, the quotient rounded once.
//            NaN and inf pass into the parameters
// Source     Kingma & Ba 2015, arXiv:1412.6980; Loshchilov & Hutter 2019, arXiv:1711.05101; AMSGrad: Reddi et al. 2018

#include "device.cuh"

constexpr int THREADS = 256;
constexpr int CHUNK = 1024;
using Few = Words<256>;

// The part of a tensor that this block works on.
template <typename T> struct Piece {
  const T* g;                                                 // null: nothing to do
  long long base;                                             // in the arena
  int length;                                                 // [0, CHUNK]

  __device__ Piece(const unsigned long long* gradients, const Few& few, const long long* starts, const long long* lengths,
                   int tensors) {
    base = static_cast<long long>(blockIdx.x) * CHUNK;
    int low = 0, high = tensors;                              // starts[low] <= base < starts[high]
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (starts[middle] <= base ? low : high) = middle;
    }
    const long long inside = base - starts[low];
    length = int(max(0ll, min(static_cast<long long>(CHUNK), lengths[low] - inside)));
    const unsigned long long address = gradients ? gradients[low] : few.at[low];
    g = address ? reinterpret_cast<const T*>(address) + inside : nullptr;
  }

  // Calls body(i, width) for this thread's packs of the piece, then for its element of the tail.
  template <int V, typename Body> __device__ void each(Body body) const {
    if (!g) return;
    const int whole = length / V * V;
#pragma unroll
    for (int i = threadIdx.x * V; i < whole; i += THREADS * V) body(i, Width<V>{});
    if (V > 1 && whole + int(threadIdx.x) < length) body(whole + threadIdx.x, Width<1>{});
  }
};

// The block that ends last counts the step; all blocks have read it.
__device__ inline void count_step(long long* step, unsigned* ticket) {
  if (last_block(ticket, gridDim.x) && threadIdx.x == 0) *step += 1;
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 2)
    sgd(const unsigned long long* gradients /* or null */, const __grid_constant__ Words<256> few, const long long* starts,
        const long long* lengths, const double* lr, T* w, T* v /* or null */, long long* step, unsigned* ticket, int tensors,
        double momentum, double dampening, double decay, bool nesterov) {
  const Piece<T> piece(gradients, few, starts, lengths, tensors);
  const bool first = *step == 0;
  const T rate = T(*lr), keep = T(momentum), fresh = T(first ? 1 : 1 - dampening), shrink = T(decay);
  T* const weights = w + piece.base;
  T* const speeds = v ? v + piece.base : nullptr;
  piece.template each<V>([=](int i, auto width) {
    constexpr int W = decltype(width)::value;
    const Pack<T, W> slope = Pack<T, W>::load(piece.g + i);
    Pack<T, W> weight = Pack<T, W>::load(weights + i), speed{};
    if (speeds && !first) speed = Pack<T, W>::load(speeds + i);
#pragma unroll
    for (int k = 0; k < W; ++k) {
      T d = shrink == T(0) ? slope.at[k] : slope.at[k] + shrink * weight.at[k];
      if (speeds) {
        speed.at[k] = keep * speed.at[k] + fresh * d;
        d = nesterov ? d + keep * speed.at[k] : speed.at[k];
      }
      weight.at[k] -= rate * d;
    }
    if (speeds) speed.store(speeds + i);
    weight.store(weights + i);
  });
  count_step(step, ticket);
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 2)
    adam(const unsigned long long* gradients /* or null */, const __grid_constant__ Words<256> few, const long long* starts,
         const long long* lengths, const double* lr, T* w, T* m, T* v, T* top /* or null */, long long* step, unsigned* ticket,
         int tensors, double beta1, double beta2, double eps, double decay, bool decoupled) {
  __shared__ double shared_rate, shared_root;
  const Piece<T> piece(gradients, few, starts, lengths, tensors);
  if (threadIdx.x == 0) {
    const double t = double(*step + 1);
    shared_rate = *lr / (1 - pow(beta1, t));
    shared_root = 1 / sqrt(1 - pow(beta2, t));
  }
  __syncthreads();                                            // the corrections are written before they are read
  const T rate = T(shared_rate), correct = T(shared_root), small = T(eps);
  const T keep1 = T(beta1), fresh1 = T(1 - beta1), keep2 = T(beta2), fresh2 = T(1 - beta2);
  const T coupled = decoupled ? T(0) : T(decay), rest = decoupled ? T(1 - *lr * decay) : T(1);
  const long long base = piece.base;
  piece.template each<V>([=](int i, auto width) {
    constexpr int W = decltype(width)::value;
    using P = Pack<T, W>;
    const P slope = P::load(piece.g + i);
    P weight = P::load(w + base + i), mean = P::load(m + base + i), square = P::load(v + base + i), most{};
    if (top) most = P::load(top + base + i);
#pragma unroll
    for (int k = 0; k < W; ++k) {
      const T g = coupled == T(0) ? slope.at[k] : slope.at[k] + coupled * weight.at[k];
      mean.at[k] = keep1 * mean.at[k] + fresh1 * g;
      square.at[k] = keep2 * square.at[k] + fresh2 * (g * g);
      // max that keeps NaN, as numpy.maximum does
      most.at[k] = top && !(square.at[k] > most.at[k] || square.at[k] != square.at[k]) ? most.at[k] : square.at[k];
      weight.at[k] = rest * weight.at[k] - rate * mean.at[k] / (sqrt(most.at[k]) * correct + small);
    }
    mean.store(m + base + i);
    square.store(v + base + i);
    if (top) most.store(top + base + i);
    weight.store(w + base + i);
  });
  count_step(step, ticket);
}
