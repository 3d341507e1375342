"""Adding rows at repeated places by scatter.cu, without atomics: the keys are sorted, runs of equal ones are summed in order."""
from __future__ import annotations

from typing import Any

from gpugrad.kernels.geometry import lanes_for, pack_width
from gpugrad.kernels.instances import INSTANCES
from gpugrad.kernels.launch import launch
from gpugrad.kernels.load import Source

SCATTER = Source("scatter.cu", INSTANCES["scatter.cu"])
CHUNK = 32                        # positions of the sorted keys that a thread goes through; as in scatter.cu
KINDS = "efdFD"                   # dtypes that it takes; complex numbers as pairs of reals


def add_rows(xp: Any, g: Any, rows: Any, n: int) -> Any:
    """(n, width) zeros with g[i] (i.e. (len(rows), width)) added to row rows[i]: the same bits at each call.

    g is of a dtype in KINDS. Rows outside [0, n) are left out.
    """
    y = xp.zeros((n, g.shape[1]), g.dtype)
    if g.size and n:
        order = xp.argsort(rows)                          # CuPy's sort is stable, so equal keys keep their order
        add_sorted(xp, xp.ascontiguousarray(g), rows[order], order, y)
    return y


def add_sorted(xp: Any, g: Any, keys: Any, order: Any, y: Any) -> None:
    """y[keys[j]] += g[order[j]] for ascending int64 keys; g, y contiguous, of one dtype, with rows of one length."""
    if g.dtype.kind == "c":
        g, y = g.view(g.real.dtype), y.view(y.real.dtype)
    count, columns = g.shape
    width = pack_width(g, y, length=columns)
    lanes, chunks = lanes_for(columns, width), -(-count // CHUNK)
    partial = xp.empty((2, chunks, columns), "float64" if g.dtype.char == "d" else "float32")
    grid = (-(-chunks // (256 // lanes)), -(-columns // (lanes * width)))
    block, instance = (lanes, 256 // lanes), (g.dtype, width, keys.dtype)
    launch(SCATTER, "scatter_chunks", instance, grid, block, (g, keys, order, y, partial, count, columns, y.shape[0]),
           writes=[g.nbytes], flops=g.size)
    if chunks > 1:
        launch(SCATTER, "scatter_joins", instance, grid, block, (keys, partial, y, count, columns, y.shape[0]),
               reads=[keys.nbytes], writes=[0])
