"""Generated elementwise kernels: several formulas over the same arrays in one launch.

    tanh_pull = Elementwise("tanh_pull", [(1 - y * y) * g])          # Leafs y and g, see expression.py
    gx, = tanh_pull({"y": y, "g": g}, shape)

The flat path moves 128 bits a load where all arrays are contiguous, of one shape and aligned. The strided path takes any
strides and broadcasting, with neighbouring axes joined wherever they lie alike. Values are computed in float for float16
and float32, in double for float64, and rounded once at the end.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy

from gpugrad.arrays import empty_beside, has_kernels
from gpugrad.kernels.expression import SYMBOLS, Body, Expression, Leaf
from gpugrad.kernels.geometry import FLOATS
from gpugrad.kernels.launch import grid_for, launch, vector_width
from gpugrad.kernels.load import Source, generated_source
from gpugrad.kernels.signature import VECTOR_BYTES

THREADS = 256
INT32_MOST = 2**31 - 1


class Elementwise:
    """One or more formulas as a kernel: called with the arrays that they read, by name, it returns one array a formula.

    name      of the kernel, in the launch log
    formulas  Expressions over Leafs
    inputs    the names that are read
    """

    def __init__(self, name: str, formulas: Sequence[Expression]):
        body = Body(formulas)
        self.name, self.inputs, self.numbers = name, tuple(body.inputs), tuple(body.numbers)
        self.body = (tuple(body.lines), tuple(body.results))
        self.flops = len(body.lines)

    def __call__(self, arrays: Mapping[str, Any], shape: tuple[int, ...]) -> list:
        """New arrays of `shape`, which every array read broadcasts to. All are of one dtype among FLOATS and on one device."""
        read = [arrays[name] for name in self.inputs]
        outs = [empty_beside(read[0], shape, read[0].dtype) for _ in self.body[1]]
        self.into(outs, read)
        return outs

    def into(self, outs: Sequence[Any], read: Sequence[Any]) -> None:
        """Write the results into contiguous arrays of one shape."""
        shape, n, dtype = outs[0].shape, outs[0].size, outs[0].dtype
        if not n:
            return
        if all(a.shape == shape and a.flags.c_contiguous for a in read):
            width = vector_width(*read, *outs, length=0)                # any length: the tail goes by elements
            width = width if width * dtype.itemsize == VECTOR_BYTES else 1
            source = source_of(self.name, self.inputs, *self.body, len(self.numbers), -1)
            launch(source, self.name, (dtype, width), grid_for(n // width + n % width, THREADS), THREADS,
                   (*read, *outs, n, *self.numbers), flops=n * self.flops)
            return
        sizes, strides = joined(shape, [strides_in(a, shape) for a in read])
        source = source_of(self.name, self.inputs, *self.body, len(self.numbers), len(sizes))
        index = "int32" if max(n, *(sum(abs(s) * k for s, k in zip(each, sizes)) for each in strides)) <= INT32_MOST else "int64"
        launch(source, self.name, (dtype, index), grid_for(n, THREADS), THREADS,
               (*read, *outs, n, *sizes[1:], *(s for each in strides for s in each), *self.numbers),
               strided=[f"{x}_" for x in self.inputs], flops=n * self.flops,
               reads=[dtype.itemsize * math.prod(k for s, k in zip(each, sizes) if s) for each in strides])


def strides_in(array: Any, shape: tuple[int, ...]) -> list[int]:
    """The strides, in elements, of an array that is broadcast to a shape: 0 along the axes that it repeats on."""
    lead = len(shape) - array.ndim
    size = array.dtype.itemsize
    return [0] * lead + [0 if n == 1 else s // size for n, s in zip(array.shape, array.strides)]


def joined(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Shape and strides with neighbouring axes made one wherever a step over the outer is a run through the inner."""
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        if sizes and all(own[-1] == s[axis] * n for own, s in zip(steps, strides)):
            sizes[-1] *= n
            for own, s in zip(steps, strides):
                own[-1] = s[axis]
        else:
            sizes.append(n)
            for own, s in zip(steps, strides):
                own.append(s[axis])
    return (sizes, steps) if sizes else ([1], [[0] for _ in strides])


# operations ---------------------------------------------------------------------------------------------------------------

def generated(name: str, passes: Callable) -> Callable:
    """xp -> the operation of that name in SYMBOLS as one launch; where nothing compiles kernels, what `passes(xp)` makes."""
    def on(xp: Any) -> Callable:
        run = passes(xp)
        if not has_kernels(xp):
            return run

        def launched(*xs: Any) -> Any:
            arrays: list[Any] = [x for x in xs if hasattr(x, "dtype")]
            if not takes(arrays, xp.ndarray):
                return run(*xs)
            kernel = forward(name, tuple([None if hasattr(x, "dtype") else float(x) for x in xs]))
            out, = kernel({f"x{i}": x for i, x in enumerate(xs)}, numpy.broadcast_shapes(*[a.shape for a in arrays]))
            return out
        return launched
    return on


@functools.lru_cache(maxsize=1024)
def forward(name: str, numbers: tuple[float | None, ...]) -> Elementwise:
    """The kernel of an operation; numbers[i] stands for its i-th input unless that is an array."""
    return Elementwise(name, [getattr(SYMBOLS, name)(*(Leaf(f"x{i}") if n is None else n for i, n in enumerate(numbers)))])


def takes(arrays: Sequence[Any], array_type: Any) -> bool:
    """Whether a generated kernel takes these arrays: of that type, and of one dtype among FLOATS."""
    return all(type(a) is array_type and a.dtype == arrays[0].dtype for a in arrays) and arrays[0].dtype.char in FLOATS


# text ---------------------------------------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=4096)
def source_of(name: str, inputs: tuple[str, ...], lines: tuple[str, ...], results: tuple[str, ...], numbers: int,
              rank: int) -> Source:
    """The Source of a kernel: flat for rank -1, else strided over so many axes."""
    text = (flat_text if rank < 0 else functools.partial(strided_text, rank))(name, inputs, lines, results, numbers)
    return generated_source(name, text)


def flat_text(name: str, inputs: Sequence[str], lines: Sequence[str], results: Sequence[str], numbers: int) -> str:
    outs = [f"out{k}" for k in range(len(results))]
    loads = "\n".join(f"    const auto {x}_pack = Pack<T, W>::load({x}_ + i);" for x in inputs)
    values = "\n".join(f"      const A {x} = A({x}_pack.at[v]);" for x in inputs)
    keeps = "\n".join(f"      {o}_pack.at[v] = T({r});" for o, r in zip(outs, results))
    stores = "\n".join(f"    {o}_pack.store({o} + i);" for o in outs)
    packs = "\n".join(f"    Pack<T, W> {o}_pack;" for o in outs)
    body = "\n".join(f"      {line}" for line in lines)
    return f"""#include "elementwise.cuh"

template <typename T, int V>
__global__ void __launch_bounds__({THREADS}) {name}({pointers(inputs, outs)}, long long n{scalars(numbers)}) {{
  using A = acc_t<T>;
{casts(numbers)}  for_each_pack<V>(n, [=](long long i, auto width) {{
    constexpr int W = decltype(width)::value;
{loads}
{packs}
#pragma unroll
    for (int v = 0; v < W; ++v) {{
{values}
{body}
{keeps}
    }}
{stores}
  }});
}}
"""


def strided_text(rank: int, name: str, inputs: Sequence[str], lines: Sequence[str], results: Sequence[str],
                 numbers: int) -> str:
    outs = [f"out{k}" for k in range(len(results))]
    sizes = [f"I size{axis}" for axis in range(1, rank)]
    steps = [f"I {x}_step{axis}" for x in inputs for axis in range(rank)]
    walk = [f"  const I at{axis} = rest % size{axis};\n  rest /= size{axis};" for axis in range(rank - 1, 0, -1)]
    walk.append("  const I at0 = rest;")
    values = "\n".join(f"  const A {x} = A({x}_[{' + '.join(f'at{k} * {x}_step{k}' for k in range(rank))}]);" for x in inputs)
    newline = "\n"
    return f"""#include "elementwise.cuh"

template <typename T, typename I>
__global__ void __launch_bounds__({THREADS}) {name}({pointers(inputs, outs)}, I n,
    {", ".join([*sizes, *steps])}{scalars(numbers)}) {{
  using A = acc_t<T>;
{casts(numbers)}  const long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  I rest = I(i);
{newline.join(walk)}
{values}
{newline.join(f"  {line}" for line in lines)}
{newline.join(f"  {o}[i] = T({r});" for o, r in zip(outs, results))}
}}
"""


def pointers(inputs: Sequence[str], outs: Sequence[str]) -> str:
    return ", ".join([*(f"const T* __restrict__ {x}_" for x in inputs), *(f"T* __restrict__ {o}" for o in outs)])


def scalars(numbers: int) -> str:
    return "".join(f", double c{k}" for k in range(numbers))


def casts(numbers: int) -> str:
    return "".join(f"  const A _c{k} = A(c{k});\n" for k in range(numbers))
