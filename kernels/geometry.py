"""Launch geometry that several wrappers share: widths, lanes, and the zeros by which blocks find out who is last."""
from __future__ import annotations

from typing import Any

from gpugrad.kernels.launch import vector_width
from gpugrad.kernels.signature import VECTOR_BYTES

FAN = 32                          # slices that one block adds up; as in device.cuh
_TICKETS: dict[tuple, list] = {}


def pack_width(*arrays: Any, length: int | None = None) -> int:
    """Elements a pack: those of 128 bits where all arrays can be read so, else 1. `length` as in `vector_width`."""
    present = [a for a in arrays if a is not None]
    width = vector_width(*present, length=length)
    return width if width * max(a.dtype.itemsize for a in present) == VECTOR_BYTES else 1


def flat_grid(n: int, width: int, threads: int = 256) -> int:
    """Blocks for for_each_pack: one thread a pack, one an element of the tail."""
    return max(1, -(-(n // width + n % width) // threads))


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
