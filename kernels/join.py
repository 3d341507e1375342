"""Several arrays of one shape copied in one launch: each to memory of its own, or side by side along an axis.

    copies(arrays)                 contiguous copies, whatever the strides
    join(arrays, axis)             numpy.concatenate

CuPy takes a launch for each. Arrays of one dtype among float16, float32 and float64.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from gpugrad.arrays import module_of
from gpugrad.kernels.elementwise import INT32_MOST, THREADS, Elementwise, joined, pointers, strides_in
from gpugrad.kernels.expression import Leaf
from gpugrad.kernels.launch import grid_for, launch
from gpugrad.kernels.load import Source, generated_source


@functools.cache
def copier(count: int) -> Elementwise:
    return Elementwise("copies", [Leaf(f"x{k}") for k in range(count)])


def copies(arrays: Sequence[Any]) -> list:
    """Contiguous copies of arrays of one shape and dtype."""
    return copier(len(arrays))({f"x{k}": x for k, x in enumerate(arrays)}, arrays[0].shape)


def join(arrays: Sequence[Any], axis: int) -> Any:
    """Arrays of one shape and dtype side by side along an axis from 0 on."""
    first, count = arrays[0], len(arrays)
    shape = (*first.shape[:axis], count * first.shape[axis], *first.shape[axis + 1:])
    out = module_of(first).empty(shape, first.dtype)
    n, period = first.size, math.prod(first.shape[axis:])
    if not n:
        return out
    sizes, strides = joined(first.shape, [strides_in(a, first.shape) for a in arrays])
    reach = max(out.size, *(sum(abs(s) * k for s, k in zip(each, sizes, strict=True)) for each in strides))
    launch(source_of(count, len(sizes)), "join", (first.dtype, "int32" if reach <= INT32_MOST else "int64"), grid_for(n, THREADS),
           THREADS, (*arrays, out, n, *sizes[1:], *(s for each in strides for s in each), period, count * period),
           strided=[f"x{k}_" for k in range(count)])
    return out


@functools.cache
def source_of(count: int, rank: int) -> Source:
    names = [f"x{k}" for k in range(count)]
    walk = "".join(f"  const I at{axis} = rest % size{axis};\n  rest /= size{axis};\n" for axis in range(rank - 1, 0, -1))
    parameters = [f"I size{axis}" for axis in range(1, rank)] + [f"I {x}_step{axis}" for x in names for axis in range(rank)]
    writes = "".join(f"  out[to + {k} * period] = {x}_[{' + '.join(f'at{axis} * {x}_step{axis}' for axis in range(rank))}];\n"
                     for k, x in enumerate(names))
    text = f"""#include "device.cuh"

// The k-th array lies `period` elements behind the one before it in each run of `run` elements of the result.
template <typename T, typename I>
__global__ void __launch_bounds__({THREADS}) join({pointers(names, ["out"])}, I n,
    {", ".join(parameters)}, I period, I run) {{
  const long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const I to = I(i) / period * run + I(i) % period;
  I rest = I(i);
{walk}  const I at0 = rest;
{writes}}}
"""
    return generated_source("join", text)
