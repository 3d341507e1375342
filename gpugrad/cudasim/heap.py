"""The heap of the device: `malloc`, `free`, `new` and `delete` in kernels.

It has the 8 MB that a device has by default, for all launches of the process. Blocks are used again only when the rest is
used up, so that what touches a freed block, or the gap behind one, is noticed.
"""

from typing import Any

import numpy as np

from . import memory
from .decode import Step, opcode
from .errors import MemoryFault, OutOfBounds, show_index
from .syntax import Register

SIZE, UNIT = 8 << 20, 16


class Heap(memory.Allocation):
    """One allocation, divided into blocks: where each starts and ends, and whether it is still in use."""

    def __init__(self, owner, start, initialised=None):
        super().__init__(owner, start, initialised)
        self.title, self.poison = "the heap of the device", None
        self.starts: Any = np.zeros(0, np.int64)
        self.ends: Any = np.zeros(0, np.int64)
        self.live: Any = np.zeros(0, np.bool_)
        self.cursor = 0

    def take(self, sizes):
        """Addresses of new blocks of so many bytes, 0 where there is no room."""
        sizes = sizes.astype(np.int64)
        needs = -(-sizes // UNIT) * UNIT + UNIT  # a gap behind each
        at = self.cursor + np.cumsum(needs) - needs
        fits = (at + sizes <= SIZE) & (sizes > 0)
        if not fits[sizes > 0].all():
            at = np.array([self.squeeze_in(int(size)) if size > 0 else -1 for size in sizes])
            return np.where(at >= 0, at + self.start, 0).astype(np.uint64)
        self.cursor += int(needs.sum())
        self.add(at[fits], sizes[fits])
        return np.where(fits, at + self.start, 0).astype(np.uint64)

    def add(self, at, sizes):
        self.starts, self.ends = np.concatenate([self.starts, at]), np.concatenate([self.ends, at + sizes])
        self.live = np.concatenate([self.live, np.ones(at.size, np.bool_)])
        for start, size in zip(at, sizes, strict=True):
            self.initialised[start: start + size] = 0

    def squeeze_in(self, size):
        """The offset of a block between those still in use, -1 where there is no room; what was freed is forgotten."""
        self.starts, self.ends, self.live = self.starts[self.live], self.ends[self.live], self.live[self.live]
        begins = np.concatenate([[0], -(-self.ends // UNIT) * UNIT + UNIT])
        room = np.flatnonzero(begins + size <= np.concatenate([self.starts - UNIT, [SIZE]]))
        if not room.size:
            return -1
        at = int(begins[room[0]])
        self.add(np.array([at]), np.array([size]))
        order = np.argsort(self.starts)
        self.starts, self.ends = self.starts[order], self.ends[order]
        self.cursor = max(self.cursor, at + size)
        return at

    def give(self, addresses):
        """Free the blocks at these addresses. Returns the positions of those that are no block in use."""
        at = addresses.astype(np.int64) - self.start
        if not self.starts.size:
            return np.arange(at.size)
        block = np.maximum(np.searchsorted(self.starts, at, side="right") - 1, 0)
        first = np.zeros(at.size, np.bool_)
        first[np.unique(block, return_index=True)[1]] = True
        good = (self.starts[block] == at) & self.live[block] & first
        self.live[block[good]] = False
        return np.flatnonzero(~good)

    def outside(self, at, size):
        """Which accesses of `size` bytes at these offsets do not lie within one block in use."""
        block = np.searchsorted(self.starts, at, side="right") - 1
        if not self.starts.size:
            return np.ones(np.shape(block), np.bool_)
        return (block < 0) | ~self.live[block] | (at + size > self.ends[block])

    def check(self, access, lanes, address, kind):
        """OutOfBounds where an access leaves its block."""
        at = np.atleast_1d(address).astype(np.int64) - self.start
        bad = self.outside(at, access.size)
        if bad.any():
            position = int(np.flatnonzero(bad)[0])
            access.fault(OutOfBounds, lanes, position, int(at[position]) + self.start, self, kind,
                         "must lie inside a block of the heap", "Check the index, and who frees the block.",
                         self.describe(int(at[position])), int(bad.sum()))

    def describe(self, at):
        """What an offset outside of all blocks is near to."""
        block = int(np.searchsorted(self.starts, at, side="right")) - 1
        if block < 0:
            return f"before every block of {self.title}"
        bytes_of = f"{self.ends[block] - self.starts[block]} bytes from malloc"
        if not self.live[block]:
            return f"{at - self.starts[block]} bytes into {bytes_of}, which have been freed"
        return f"{at - self.ends[block]} bytes past the end of {bytes_of}"


def heap():
    """The heap, made when first asked for."""
    if not HEAP:
        owner = np.zeros(SIZE, np.uint8)
        HEAP.append((owner, memory.SPACE.register(owner, np.zeros(SIZE, np.uint8), Heap)))
    return HEAP[0][1]


HEAP: list = []


@opcode("malloc")
def malloc(i):
    size, result = i.operands
    if not (isinstance(size, Register) and isinstance(result, Register)):
        return None

    def run(lanes, size):
        return heap().take(lanes.spread(size))
    return Step(run, [(size, "u64")], [(result, "u64")], "control", lanes=True)


@opcode("free")
def free(i):
    pointer, = i.operands
    if not isinstance(pointer, Register):
        return None

    def run(lanes, pointer):
        pointer = lanes.spread(pointer)
        held = np.flatnonzero(pointer)
        wrong = heap().give(pointer[held])
        if wrong.size:
            position = int(held[wrong[0]])
            block, thread = lanes.coordinates(position)
            raise MemoryFault(
                f"{i.place.kernel}: free must get a pointer that malloc returned and nobody has freed, got "
                f"{int(pointer[position]):#x}, from thread {show_index(thread)} of block {show_index(block)} at {i.place}. "
                "Free each block once.", kernel=i.place.kernel, block=block, thread=thread,
                address=int(pointer[position]), line=i.place.line, source=i.place.source, ptx=i.place.ptx)
    return Step(run, [(pointer, "u64")], [], "control", lanes=True)
