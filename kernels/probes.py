"""One small launch of each hot kernel, for the simulated device to count: sectors, bank conflicts, bytes.

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

ROWS, COLUMNS = 128, 1024
ELEMENTS = ROWS * COLUMNS
V = 4
F = ("float32", V)


@dataclass(frozen=True)
class Probe:
    """A launch: block and grid as CUDA takes them, `args` one for each parameter, `least` and `most` bytes an element."""

    file: str
    kernel: str
    arguments: tuple
    grid: int | tuple[int, ...]
    block: int | tuple[int, ...]
    args: tuple
    least: float
    most: float
    elements: int = ELEMENTS

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
        """Launch it on the simulated device with every check; returns the counters."""
        from gpugrad.cudasim import compile_cuda
        bound = self.source.bind(self.kernel, self.arguments)
        values = [a if p.pointer else p.convert(a, bound.where) for p, a in zip(bound.parameters, self.args, strict=True)]
        options = tuple(o for o in all_options(self.source.options((bound.expression,)), arch) if not o.startswith("-arch"))
        module = compile_cuda(self.source.code, arch, options, (bound.expression,))
        return module[bound.expression].launch(self.grid, self.block, values)


SOURCES = {file: Source(file, instances) for file, instances in INSTANCES.items()}


def probes() -> Iterator[Probe]:
    """All of them. Some read what the one before wrote, so run each before asking for the next."""
    from gpugrad.cudasim import address, empty

    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal((ROWS, COLUMNS)).astype(np.float32) for _ in range(2))
    b = x[0].copy()
    blank = lambda *shape, dtype=np.float32: empty(shape, dtype)
    matrix = lambda: blank(ROWS, COLUMNS)
    zeros = lambda n: np.zeros(n, np.uint32)
    flat, tiles, slices = ELEMENTS // V // 256, COLUMNS // (32 * V), 16
    warps = ((COLUMNS // 16, 1), ROWS)                       # a row in the registers of 64 threads

    yield Probe("relu.cu", "relu", F, flat, 256, (x, matrix(), ELEMENTS), 8, 8)
    yield Probe("relu.cu", "relu_pull", F, flat, 256, (g, x, matrix(), ELEMENTS), 12, 12)
    mask = blank(ROWS, COLUMNS // 32, dtype=np.uint32)
    yield Probe("relu.cu", "bias_relu", F, ROWS // 8 * tiles, (32, 8), (x, b, matrix(), mask, ROWS, COLUMNS), 8.125, 8.16)
    partial = lambda k, lanes: blank(slices, k, lanes)
    yield Probe("relu.cu", "bias_relu_pull", F, (tiles, slices), (32, 8),
                (g, mask, matrix(), blank(COLUMNS), partial(V, 32 * tiles), zeros(2 * tiles), ROWS, COLUMNS, ROWS // slices,
                 False), 8.125, 9.2)
    yield Probe("reduce.cu", "sum_middle", F, (tiles, slices), (32, 8),
                (x, blank(COLUMNS), partial(V, 32 * tiles), zeros(2 * tiles), ROWS, COLUMNS, ROWS // slices, tiles, 1.0, False),
                4, 5.1)
    yield Probe("reduce.cu", "sum_last", F, ROWS // 8, (32, 8),
                (x, blank(ROWS), None, None, ROWS, COLUMNS, COLUMNS, 1.0, False), 4, 4.01)
    block, grid = warps
    p = matrix()
    yield Probe("softmax.cu", "softmax_row", (*F, V, False), grid, block, (x, p, ROWS, COLUMNS), 8, 8)
    yield Probe("softmax.cu", "softmax_row_pull", (*F, V, False), grid, block, (g, p, matrix(), ROWS, COLUMNS), 12, 12)
    labels = rng.integers(0, COLUMNS, ROWS)
    yield Probe("cross_entropy.cu", "cross_entropy_row", (*F, V, "int64"), grid, block,
                (x, None, labels, None, None, blank(ROWS), None, matrix(), None, None, zeros(1), ROWS, COLUMNS, 1.0, 0.0, -100),
                8, 8.02)
    mean, rstd = blank(ROWS), blank(ROWS)
    yield Probe("layer_norm.cu", "layer_norm_row", (*F, V), grid, block,
                (x, None, None, None, matrix(), None, mean, rstd, ROWS, COLUMNS, 1e-5, True), 8, 8.02)
    yield Probe("layer_norm.cu", "layer_norm_row_pull", (*F, 2), (1, 8), (128, 2),
                (g, x, None, mean, rstd, None, matrix(), blank(COLUMNS), blank(COLUMNS), blank(8, 2 * 2 * V, 128), zeros(2), ROWS,
                 COLUMNS, ROWS // 8, True, False), 12, 13.1)
    yield Probe("gelu.cu", "gelu", (*F, True), flat, 256, (x, matrix(), ELEMENTS), 8, 8)
    yield Probe("gelu.cu", "gelu_pull", (*F, True), flat, 256, (g, x, matrix(), ELEMENTS), 12, 12)
    yield Probe("dropout.cu", "dropout", F, flat, 256,
                (x, np.array([1, 2], np.uint64), matrix(), 0, round(0.1 * 2**32), 1 / 0.9, ELEMENTS), 8, 8.001)
    w, m, v = x.copy(), g.copy(), np.abs(g)
    tensors = (np.array([address(g)], np.uint64), np.array([0, ELEMENTS]), np.array([ELEMENTS]), np.array([0.1]))
    yield Probe("optim.cu", "adam", F, ELEMENTS // 1024, 256,
                (*tensors, w, m, v, None, np.array([0]), zeros(1), 1, 0.9, 0.999, 1e-8, 0.0, False), 28, 28.01)
    yield Probe("optim.cu", "sgd", F, ELEMENTS // 1024, 256,
                (*tensors, w, m, np.array([1]), zeros(1), 1, 0.9, 0.0, 0.0, False), 20, 20.01)
    order = rng.permutation(ROWS)
    yield Probe("scatter.cu", "scatter_chunks", (*F, "int64"), (1, COLUMNS // (32 * V)), (32, 8),
                (g, np.arange(ROWS), order, x.copy(), blank(2, ROWS // 32, COLUMNS), ROWS, COLUMNS, ROWS), 12, 12.1)
    a, c = (rng.standard_normal((128, 64)).astype(np.float32) for _ in range(2))
    yield Probe("gemm.cu", "gemm", (*F, False, True, 0), (4, 1, 1), 256,
                (a, c, None, blank(128, 128), None, None, 128, 128, 64, 64, 64, 128, 128 * 64, 128 * 64, 128 * 128, 64, 1.0, 0.0),
                4, 4, 2 * 128 * 64 + 128 * 128)
