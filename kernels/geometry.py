"""Launch geometry that several wrappers share: widths, lanes, and the zeros by which blocks find out who is last."""
from __future__ import annotations

from typing import Any

from gpugrad.arrays import module_of
from gpugrad.kernels.launch import launch, vector_width
from gpugrad.kernels.signature import VECTOR_BYTES

FLOATS = "efd"                    # the dtypes, by their letters, that all kernels of networks are compiled for
BLOCKS = 264                      # that fill an H100: two for each multiprocessor
FAN = 32                          # slices that one block adds up; as in device.cuh
WARP, ROWS, LONG = 32, 8, 512     # threads of a warp; warps a block, a row each; most threads that share a row
_TICKETS: dict[tuple, list] = {}


def pack_width(*arrays: Any, length: int | None = None) -> int:
    """Elements a pack: those of 128 bits where all arrays can be read so, else 1. `length` as in `vector_width`."""
    present = [a for a in arrays if a is not None]
    width = vector_width(*present, length=length)
    return width if width * max(a.dtype.itemsize for a in present) == VECTOR_BYTES else 1


def flat_grid(n: int, width: int, threads: int = 256) -> int:
    """Blocks for for_each_pack: one thread a pack, one an element of the tail."""
    return max(1, -(-(n // width + n % width) // threads))


def taken(*arrays: Any) -> bool:
    """Whether a kernel takes these arrays: of one dtype among FLOATS."""
    return arrays[0].dtype.char in FLOATS and all(a.dtype == arrays[0].dtype for a in arrays)


def row_plan(columns: int, width: int, dtype: Any) -> tuple[int, tuple[int, int], int] | None:
    """(N, block, rows a block) of a kernel that keeps a row in registers; None where only a long one does.

    A thread holds N packs of `width`: at most 16 elements of float and narrower, 8 of double: as many as fit without spills.
    """
    most = (8 if dtype == "float64" else 16) // width
    for packs in sorted({1, 4, most} if width == 1 else {1, most}):
        if columns <= WARP * width * packs:
            return packs, (WARP, ROWS), ROWS
    lanes = -(-columns // (width * most * WARP)) * WARP
    return (most, (lanes, 1), 1) if lanes <= LONG else None


def over_elements(source: Any, kernel: str, choices: tuple, *arrays: Any, operations: int = 1) -> Any:
    """kernel<dtype, V, *choices>(*arrays, y, n) over arrays of one shape, None where the kernel allows it: its result y."""
    first = arrays[-1]
    xp = module_of(first)
    y = xp.empty(first.shape, first.dtype)
    arrays = tuple([None if a is None else xp.ascontiguousarray(a) for a in arrays])
    width = pack_width(*arrays, y, length=0)                  # the kernel takes a tail
    launch(source, kernel, (y.dtype, width, *choices), flat_grid(y.size, width), 256, (*arrays, y, y.size),
           flops=operations * y.size)
    return y


def lanes_for(columns: int, width: int) -> int:
    """Threads along a row of columns: a power of two, at most 32 and no more than needed."""
    lanes = 1
    while lanes < 32 and lanes * width < columns:
        lanes *= 2
    return lanes


def ticket_count(slices: int, tiles: int = 1) -> int:
    """How many tickets sum_slices of device.cuh takes."""
    count = 0
    while slices > 1:
        slices = -(-slices // FAN)
        count += slices
    return count * tiles


def tickets(xp: Any, count: int) -> Any:
    """At least `count` zeros of uint32 on the current device. Kernels leave them zero, so each stream has its own, made once.

    Outgrown ones are kept: a captured graph may hold their address.
    """
    key = (xp, xp.cuda.runtime.getDevice(), xp.cuda.get_current_stream().ptr)
    kept = _TICKETS.setdefault(key, [])
    if not kept or kept[-1].size < count:
        kept.append(xp.zeros(max(1024, 1 << (count - 1).bit_length()), "uint32"))
    return kept[-1]


def row_slices(rows: int, side: int, most: int) -> tuple[int, int]:
    """(slices, rows a slice) for a sum over rows: about `most`, none with fewer than the rows that go side by side."""
    size = max(side, -(-rows // most))
    return -(-rows // size), size


def partial_room(xp: Any, dtype: Any, slices: int, each: int, tiles: int) -> tuple[Any, Any]:
    """(partial, ticket) as sum_slices of device.cuh wants them, for `each` sums a slice; of one slice, None."""
    if slices == 1:
        return None, None
    return xp.empty(slices * each, "float64" if dtype == "float64" else "float32"), tickets(xp, ticket_count(slices, tiles))
