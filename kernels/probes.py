"""One launch of each hot kernel: for the simulated device to count sectors, bank conflicts and bytes; for a GPU to be timed.

float32, vector path, aligned; rows of 1024, elementwise kernels on as many elements. `least` is the traffic of the .cu file's
header, in bytes an element: each array once; partial sums, labels and tickets come on top, `most` allows for them.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpugrad.kernels.instances import INSTANCES
from gpugrad.kernels.load import Source, all_options

ROWS, COLUMNS = 128, 1024         # as many rows as show every path; a timing wants more
V = 4
F = ("float32", V)


class Addresses(list):
    """Arrays whose addresses the kernel takes, as an array of them."""


@dataclass(frozen=True)
class Probe:
    """A launch: block and grid as CUDA takes them, `args` one for each parameter, `least` and `most` bytes an element."""

    file: str
    kernel: str
    arguments: tuple
    grid: int | tuple[int, ...]
    block: int | tuple[int, ...]
    args: tuple
    elements: int
    least: float
    most: float

    @property
    def threads(self) -> int:
        return int(np.prod(self.block))

    @property
    def source(self) -> Source:
        return SOURCES[self.file]

    @property
    def expression(self) -> str:
        return self.source.signature(self.kernel).expression(self.arguments)

    def run(self, arch: str = "sm_90") -> Any:
        """Launch it on the simulated device with every check; returns the counters. `args` are the device's memory."""
        from gpugrad.cudasim import address, compile_cuda
        bound = self.source.bind(self.kernel, self.arguments)
        args = [np.array([address(x) for x in a], np.uint64) if isinstance(a, Addresses) else a for a in self.args]
        values = [a if p.pointer else p.convert(a, bound.where) for p, a in zip(bound.parameters, args, strict=True)]
        values = [v[0] if isinstance(v, np.ndarray) and v.dtype.kind == "V" else v for v in values]      # a struct by value
        options = tuple(o for o in all_options(self.source.options((bound.expression,)), arch) if not o.startswith("-arch"))
        module = compile_cuda(self.source.code, arch, options, (bound.expression,))
        return module[bound.expression].launch(self.grid, self.block, values)


SOURCES = {file: Source(file, instances) for file, instances in INSTANCES.items()}


def tickets(slices: int, tiles: int = 1, fan: int = 32) -> np.ndarray:
    """The zeros that sum_slices of device.cuh counts in."""
    count = 0
    while slices > 1:
        slices = -(-slices // fan)
        count += slices
    return np.zeros(count * tiles, np.uint32)


def probes(rows: int = ROWS) -> Iterator[Probe]:
    """All of them, at `rows` rows, a multiple of 128. Some read what the one before wrote: run each before the next."""
    from gpugrad.cudasim import empty

    rng, n = np.random.default_rng(0), rows * COLUMNS
    x, g = (rng.standard_normal((rows, COLUMNS), dtype=np.float32) for _ in range(2))
    b = x[0].copy()
    matrix, row = (lambda: empty((rows, COLUMNS))), (lambda: empty(COLUMNS))
    flat, tiles, slices = n // V // 256, COLUMNS // (32 * V), min(rows // 64, 32)    # rows a slice as in big launches
    sums = lambda k, lanes, slices: empty((slices, k, lanes))

    yield Probe("relu.cu", "relu", F, flat, 256, (x, matrix(), n), n, 8, 8)
    yield Probe("relu.cu", "relu_pull", F, flat, 256, (g, x, matrix(), n), n, 12, 12)
    mask = empty((rows, COLUMNS // 32), np.uint32)
    yield Probe("relu.cu", "bias_relu", F, rows // 8 * tiles, (32, 8), (x, b, matrix(), mask, rows, COLUMNS), n, 8.125, 8.16)
    yield Probe("relu.cu", "bias_relu_pull", F, (tiles, slices), (32, 8),
                (g, mask, matrix(), row(), sums(V, 32 * tiles, slices), tickets(slices, tiles), rows, COLUMNS, rows // slices,
                 False), n, 8.125, 8.4)
    yield Probe("reduce.cu", "sum_middle", F, (tiles, slices), (32, 8),
                (x, row(), sums(V, 32 * tiles, slices), tickets(slices, tiles), rows, COLUMNS, rows // slices, tiles, 1.0, False),
                n, 4, 4.2)
    yield Probe("reduce.cu", "sum_last", F, rows // 8, (32, 8),
                (x, empty(rows), None, None, rows, COLUMNS, COLUMNS, 1.0, False), n, 4, 4.01)
    block, p = (COLUMNS // 16, 1), matrix()                  # a row in the registers of 64 threads
    yield Probe("softmax.cu", "softmax_row", (*F, V, False), rows, block, (x, p, rows, COLUMNS), n, 8, 8)
    yield Probe("softmax.cu", "softmax_row_pull", (*F, V, False), rows, block, (g, p, matrix(), rows, COLUMNS), n, 12, 12)
    labels = rng.integers(0, COLUMNS, rows)
    yield Probe("cross_entropy.cu", "cross_entropy_row", (*F, V, "int64"), rows, block,
                (x, None, labels, None, None, empty(rows), None, matrix(), None, None, tickets(2), rows, COLUMNS, 1.0, 0.0, -100),
                n, 8, 8.02)
    mean, rstd = empty(rows), empty(rows)
    yield Probe("layer_norm.cu", "layer_norm_row", (*F, V), rows, block,
                (x, None, None, None, matrix(), None, mean, rstd, rows, COLUMNS, 1e-5, True), n, 8, 8.02)
    slices = min(rows // 16, 256)
    yield Probe("layer_norm.cu", "layer_norm_row_pull", (*F, 2), (1, slices), (128, 2),
                (g, x, None, mean, rstd, None, matrix(), row(), row(), sums(2 * 2 * V, 128, slices), tickets(slices), rows,
                 COLUMNS, rows // slices, True, False), n, 12, 13.1)
    yield Probe("gelu.cu", "gelu", (*F, True), flat, 256, (x, matrix(), n), n, 8, 8)
    yield Probe("gelu.cu", "gelu_pull", (*F, True), flat, 256, (g, x, matrix(), n), n, 12, 12)
    yield Probe("dropout.cu", "dropout", F, n // 8 // 256, 256,
                (x, np.array([1, 2], np.uint64), matrix(), 0, round(0.1 * 2**32), 1 / 0.9, n), n, 8, 8.001)
    tensors = (Addresses([g]), np.zeros(256, np.uint64), np.array([0, n]), np.array([n]), np.array([0.1]))
    yield Probe("optim.cu", "adam", F, n // 1024, 256,
                (*tensors, x.copy(), g.copy(), np.abs(g), None, np.array([0]), tickets(2), 1, 0.9, 0.999, 1e-8, 0.0, False),
                n, 28, 28.01)
    yield Probe("optim.cu", "sgd", F, n // 1024, 256,
                (*tensors, x.copy(), g.copy(), np.array([1]), tickets(2), 1, 0.9, 0.0, 0.0, False), n, 20, 20.01)
    order = rng.permutation(rows)
    yield Probe("scatter.cu", "scatter_chunks", (*F, "int64"), (-(-rows // 256), tiles), (32, 8),
                (g, np.arange(rows), order, x.copy(), empty((2, rows // 32, COLUMNS)), rows, COLUMNS, rows), n, 12, 12.1)
    heads, length, width = rows // 64, 64, 64                # of the arrays: heads length width elements
    q, k, v, dy, o, dq, dk, dv = ([z.reshape(-1)[:heads * length * width] for z in (x, g, x[::-1].copy(), g[::-1].copy())]
                                  + [empty(heads * length * width) for _ in range(4)])
    lse, sizes = empty(heads * length), (length, length, width, width, 0.125, False, *[0] * 7)
    yield Probe("attention.cu", "attention", (*F, width), heads, 128, (q, k, v, o, lse, *sizes), o.size, 16, 16.1)
    yield Probe("attention.cu", "attention_pull", (*F, width), heads * 4, 128, (q, k, v, o, dy, lse, dq, dk, dv, heads, *sizes),
                o.size, 32, 32.1)
    a, c = (rng.standard_normal((128, 64), dtype=np.float32) for _ in range(2))
    yield Probe("gemm.cu", "gemm", (*F, False, True, 0), (4, 1, 1), 256,
                (a, c, None, empty((128, 128)), None, None, 128, 128, 64, 64, 64, 128, 128 * 64, 128 * 64, 128 * 128,
                 np.uint32(1), 0, 0, 0, 64, 1.0, 0.0), 2 * 128 * 64 + 128 * 128, 4, 4)
