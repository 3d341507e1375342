"""CuPy's memory pools and allocators over the driver's memory.

A pool rounds sizes up to 512 bytes, keeps what is freed for the stream that it was made on, takes the smallest free block that
fits and splits it.
"""
from __future__ import annotations

import bisect
import threading
import weakref
from collections import deque
from contextlib import contextmanager

from . import streams
from .blocks import BaseMemory, Memory, MemoryPointer, Tenancy, named
from .device import TOTAL_BYTES, CUDARuntimeError, Device, _local, current

UNIT = 512                             # bytes: what cudaMalloc aligns to


class OutOfMemoryError(MemoryError):
    """No room on the device, or beyond a pool's limit."""

    def __init__(self, size, total, limit=0):
        text = f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
        super().__init__(text + (f", limit set to: {limit:,} bytes)." if limit else ")."))


class Chunk:
    """A piece of a Memory that is in use or free as a whole."""

    __slots__ = ("block", "size", "start", "stream")

    def __init__(self, block, start, size, stream):
        self.block, self.start, self.size, self.stream = block, start, size, stream


class PooledMemory(BaseMemory):
    """A block of a pool, which gets it back when this dies."""

    def __init__(self, chunk, pool):
        super().__init__(chunk.size, chunk.block.device_id)
        self.chunk, self.pool = chunk, weakref.ref(pool)
        self.tenancy = Tenancy(chunk.block, chunk.start, chunk.start + chunk.size)
        capture = streams.get_current_stream().capture
        if capture is not None:
            capture.own.add(self.tenancy)

    def adopt(self, host):
        super().adopt(host)
        named(self.tenancy, self.host)

    def free(self):
        if self.tenancy.alive:
            self.tenancy.alive = False
            pool = self.pool()
            if pool is not None:
                pool.returned.append(self.chunk)
                self.chunk = None

    def __del__(self):
        self.free()


class DevicePool:
    """The blocks of one device. `returned`: freed, by whatever thread or collector, and not yet put in order."""

    def __init__(self, allocator):
        self.allocator, self.lock, self.returned = allocator, threading.RLock(), deque[Chunk]()
        self.limit = self.total = self.used = 0
        self.parts: dict[Memory, list[Chunk]] = {}                 # of each Memory, by address
        self.free: dict[int, list[tuple[int, int, Chunk]]] = {}    # stream -> (size, id, chunk), by size

    def malloc(self, size):
        size = -(-size // UNIT) * UNIT
        if not size:
            return MemoryPointer(Memory(0), 0)
        with self.lock:
            self.settle()
            stream = streams.get_current_stream().ptr
            free = self.free.setdefault(stream, [])
            at = bisect.bisect_left(free, (size, 0))
            if at < len(free):
                chunk = free.pop(at)[2]
                if chunk.size > size:
                    self.split(chunk, size)
            else:
                chunk = self.more(size, stream)
            self.used += size
            return MemoryPointer(PooledMemory(chunk, self), 0)

    def more(self, size, stream):
        """A chunk that is all of a new Memory."""
        if self.limit and self.total + size > self.limit:
            raise OutOfMemoryError(size, self.total, self.limit)
        try:
            block = self.allocator(size).mem
        except CUDARuntimeError as error:
            if "cudaErrorMemoryAllocation" not in str(error):
                raise
            self.free_all_blocks()
            try:
                block = self.allocator(size).mem
            except CUDARuntimeError:
                raise OutOfMemoryError(size, self.total, self.limit) from error
        chunk = Chunk(block, 0, size, stream)
        self.parts[block] = [chunk]
        self.total += size
        return chunk

    def split(self, chunk, size):
        rest = Chunk(chunk.block, chunk.start + size, chunk.size - size, chunk.stream)
        chunk.size = size
        parts = self.parts[chunk.block]
        parts.insert(parts.index(chunk) + 1, rest)
        self.offer(rest)

    def offer(self, chunk):
        bisect.insort(self.free.setdefault(chunk.stream, []), (chunk.size, id(chunk), chunk))

    def settle(self):
        """Put what was returned among the free, joined with free neighbours."""
        while self.returned:
            chunk = self.returned.popleft()
            self.used -= chunk.size
            parts, free = self.parts[chunk.block], self.free.setdefault(chunk.stream, [])
            at = parts.index(chunk)
            for near in (at + 1, at - 1):
                if 0 <= near < len(parts):
                    other = parts[near]
                    key = (other.size, id(other), other)
                    place = bisect.bisect_left(free, key[:2])
                    if place < len(free) and free[place][2] is other:
                        del free[place], parts[near]
                        chunk.start, chunk.size = min(chunk.start, other.start), chunk.size + other.size
            self.offer(chunk)

    def free_all_blocks(self, stream=None):
        with self.lock:
            self.settle()
            for key in list(self.free) if stream is None else [stream.ptr]:
                kept = []
                for entry in self.free.get(key, ()):
                    if len(self.parts[entry[2].block]) > 1:
                        kept.append(entry)
                    else:
                        self.total -= entry[2].size
                        del self.parts[entry[2].block]
                self.free[key] = kept


class MemoryPool:
    """A pool for all devices. `malloc` is the allocator: with cupy.cuda.using_allocator(pool.malloc): ..."""

    def __init__(self, allocator=None):
        self.allocator = allocator or _malloc
        self.pools: dict[int, DevicePool] = {}

    def here(self):
        """The pool of the current device, its free blocks in order."""
        number = current()
        if number not in self.pools:
            self.pools[number] = DevicePool(self.allocator)
        pool = self.pools[number]
        with pool.lock:
            pool.settle()
        return pool

    def malloc(self, size):
        """A MemoryPointer to at least `size` bytes of the current device, from the current stream's free blocks if one fits."""
        return self.here().malloc(size)

    def free_all_blocks(self, stream=None):
        """Give free blocks that are not parts of larger ones back to the driver."""
        self.here().free_all_blocks(stream)

    def n_free_blocks(self):
        return sum(len(chunks) for chunks in self.here().free.values())

    def used_bytes(self):
        return self.here().used

    def free_bytes(self):
        return self.total_bytes() - self.used_bytes()

    def total_bytes(self):
        return self.here().total

    def set_limit(self, size=None, fraction=None):
        """The most bytes that the current device may be asked for: a size, or a fraction of its memory; 0 is no limit."""
        if size is not None and fraction is not None:
            raise ValueError("size and fraction cannot be specified at one time")
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"memory limit fraction out of range: {fraction}")
        if size is not None and size < 0:
            raise ValueError(f"memory limit size out of range: {size}")
        self.here().limit = int(fraction * TOTAL_BYTES) if fraction is not None else size or 0

    def get_limit(self):
        return self.here().limit


# allocators --------------------------------------------------------------------------------------------------------------------

def _malloc(size):
    return MemoryPointer(Memory(size), 0)


DEFAULT = MemoryPool()
_allocator = [DEFAULT.malloc]


def get_default_memory_pool():
    return DEFAULT


def get_allocator():
    return getattr(_local, "allocator", None) or _allocator[0]


def set_allocator(allocator=None):
    if getattr(_local, "allocator", None) is not None:
        raise ValueError("Can't change the global allocator inside `using_allocator` context manager")
    _allocator[0] = allocator or _malloc


@contextmanager
def using_allocator(allocator=None):
    """This thread's allocator inside the `with`."""
    before = getattr(_local, "allocator", None)
    _local.allocator = allocator or _malloc
    try:
        yield
    finally:
        _local.allocator = before


def alloc(size):
    """A MemoryPointer to `size` bytes, by the current allocator."""
    return get_allocator()(size)


def allocate(size, number):
    """`alloc` on a device that need not be the current one."""
    if number == current():
        return get_allocator()(size)
    with Device(number):
        return get_allocator()(size)
