// elementwise.cuh: the functions that generated kernels call where CUDA's own differ from NumPy's
#pragma once

#include "device.cuh"

// NaN goes through, as in numpy.maximum and numpy.minimum; fmax and fmin of CUDA drop it.
template <typename A> __device__ A larger(A a, A b) { return a > b || a != a ? a : b; }
template <typename A> __device__ A smaller(A a, A b) { return a < b || a != a ? a : b; }

template <typename A> __device__ A sign_of(A x) { return x > A(0) ? A(1) : x < A(0) ? A(-1) : x; }

// 1 where a > b, 1/2 where they are equal, else 0
template <typename A> __device__ A ahead(A a, A b) { return a > b ? A(1) : a == b ? A(0.5) : A(0); }

// floor(a / b), exact where the rounded quotient would cross a whole number, as CPython and NumPy have it
template <typename A> __device__ A floor_divide(A a, A b) {
  if (b == A(0)) return a / b;
  A rest = fmod(a, b), quotient = (a - rest) / b;
  if (rest != A(0) && (b < A(0)) != (rest < A(0))) quotient -= A(1);
  if (quotient == A(0)) return copysign(A(0), a / b);
  const A whole = floor(quotient);
  return quotient - whole > A(0.5) ? whole + A(1) : whole;
}

template <typename A> __device__ A remainder_of(A a, A b) {
  const A rest = fmod(a, b);
  if (rest == A(0)) return copysign(A(0), b);
  return (b < A(0)) != (rest < A(0)) ? rest + b : rest;
}
