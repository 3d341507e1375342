"""Device memory: what the driver gives, who has which piece of it, and pointers into it.

Which bytes are whose is accounted as on a device; but every block handed out has an address of its own, far from all others, so
that a kernel that leaves its array is caught. A graph that holds the address of a block that was handed out again since, or given
back to the driver, raises StaleMemory where a GPU would compute with another array's numbers.
"""
from __future__ import annotations

import ctypes
import weakref

import numpy as np

from gpugrad.cudasim import memory
from gpugrad.cudasim.cublaslt import TYPES
from gpugrad.cudasim.errors import StaleMemory

from . import log, streams
from .device import CAPTURES, TOTAL_BYTES, CUDARuntimeError, Device, current

_driver_bytes: dict[int, int] = {}     # device -> bytes that the driver has handed out


class BaseMemory:
    """Memory of a device: `size` bytes from `ptr`. Its NumPy buffer is made at the first need, or is an array that fits."""

    host: np.ndarray | None = None

    def __init__(self, size, device_id):
        self.size, self.device_id = size, device_id

    @property
    def ptr(self):
        return memory.address(self.buffer()) if self.size else 0

    @property
    def device(self):
        return Device(self.device_id)

    def __int__(self):
        return self.ptr

    def buffer(self):
        """The NumPy array that owns the memory."""
        if self.host is None:
            self.adopt(memory.empty(self.size, np.uint8))
        return self.host

    def adopt(self, host):
        """Take this NumPy array for the memory; later holders of its address are told what becomes of it."""
        self.host = memory.owner_of(host)


class Memory(BaseMemory):
    """Memory of the driver: what cudaMalloc gives, and cudaFree takes when it dies."""

    def __init__(self, size):
        super().__init__(size, current())
        self.tenancies: weakref.WeakSet[Tenancy] = weakref.WeakSet()
        if size:
            capture = streams.get_current_stream().capture
            if capture is not None and capture.mode != streams.RELAXED:
                self.size = 0
                raise capture.refuse("cudaErrorStreamCaptureUnsupported")
            if allocated(self.device_id) + size > TOTAL_BYTES:
                self.size = 0
                raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
            _driver_bytes[self.device_id] = allocated(self.device_id) + size
            log.allocated()

    def __del__(self):
        if self.size:
            _driver_bytes[self.device_id] -= self.size


def allocated(device_id):
    """Bytes that the driver has handed out on a device."""
    return _driver_bytes.get(device_id, 0)


class UnownedMemory(BaseMemory):
    """Memory that another object owns and keeps."""

    def __init__(self, ptr, size, owner, device_id=-1):
        super().__init__(size, current() if device_id < 0 else device_id)
        self.keep = owner
        found = memory.SPACE.find(ptr)
        self.host = memory.raw_bytes(found.owner())[ptr - found.start:][:size] if size else np.empty(0, np.uint8)


# who has a block ---------------------------------------------------------------------------------------------------------------

class Tenancy:
    """One block of a Memory, from the moment when it is handed out: what a graph that knows its address must ask."""

    __slots__ = ("__weakref__", "alive", "host", "memory", "start", "stop", "takers")

    def __init__(self, block, start, stop):
        self.memory, self.start, self.stop = weakref.ref(block), start, stop
        self.alive, self.takers, self.host = True, [], None
        for other in list(block.tenancies):
            if not other.alive and other.start < stop and start < other.stop:
                other.takers.append(self)
        block.tenancies.add(self)

    def check(self, own, kernel):
        """StaleMemory unless the block still holds what a graph put there, `own` being the blocks that its capture was given."""
        if self.alive:
            return
        what = memory.describe(self.host) if self.host is not None else f"{self.stop - self.start} bytes"
        if self.memory() is None:
            found = "it was freed and its pool has given it back to the driver"
        elif any(taker not in own for taker in self.takers) or (self.takers and self not in own):
            found = "it was freed and its block was handed out again"
        else:
            return
        raise StaleMemory(f"{kernel}: the memory {what} that a graph captured was expected to be kept, but {found}. Hold the "
                          "array as long as the graph, or capture with a pool of its own that lives as long.", kernel=kernel)


_TENANCIES: weakref.WeakValueDictionary[int, Tenancy] = weakref.WeakValueDictionary()    # by the id of the owner, which they hold


def named(tenancy, host):
    """From now on the tenancy of this NumPy array's memory can be asked for."""
    tenancy.host = host
    _TENANCIES[id(host)] = tenancy


def tenancies_of(hosts):
    """The tenancies of the memory of NumPy arrays, where it came from a pool."""
    found = [_TENANCIES.get(id(memory.owner_of(host))) for host in hosts]
    return tuple([t for t in found if t is not None])


def tenancies_at(addresses):
    found = [memory.SPACE.find(address) for address in addresses if address]
    return tuple([t for t in (_TENANCIES.get(id(one.owner())) for one in found if one is not None) if t is not None])


# pointers ----------------------------------------------------------------------------------------------------------------------

class MemoryPointer:
    """A place in memory, which it keeps alive."""

    __slots__ = ("mem", "offset")

    def __init__(self, mem, offset):
        self.mem, self.offset = mem, offset

    ptr = property(lambda self: self.mem.ptr + self.offset)
    device_id = property(lambda self: self.mem.device_id)
    device = property(lambda self: self.mem.device)

    def __int__(self):
        return self.ptr

    def __repr__(self):
        return f"<MemoryPointer {self.ptr:#x} device={self.device_id} mem={self.mem!r}>"

    def __add__(self, offset):
        return MemoryPointer(self.mem, self.offset + offset)

    __radd__ = __add__

    def __sub__(self, offset):
        return self + -offset

    def bytes(self, size=None):
        """The NumPy bytes from here, all by default."""
        flat = memory.raw_bytes(self.mem.buffer())
        return flat[self.offset:] if size is None else flat[self.offset: self.offset + size]

    def copy_from_device_async(self, src, size, stream=None):
        into, out = self.bytes(size), src.bytes(size)
        submit("memcpy", self.device_id, [out], [into], lambda: np.copyto(into, out), kind="memcpy", stream=stream)

    def memset_async(self, value, size, stream=None):
        into = self.bytes(size)
        submit("memset", self.device_id, [], [into], lambda: into.fill(value), kind="memset", stream=stream)

    def copy_from_device(self, src, size):
        refuse_synchronous()
        self.copy_from_device_async(src, size)

    def memset(self, value, size):
        refuse_synchronous()
        self.memset_async(value, size)

    def copy_from_host(self, mem, size):
        streams.copied("to_device")
        self.bytes(size)[:] = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(getattr(mem, "value", mem)))

    def copy_to_host(self, mem, size):
        streams.copied("to_host")
        np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(getattr(mem, "value", mem)))[:] = self.bytes(size)


def refuse_synchronous():
    if streams.get_current_stream().capture_for_work() is not None:
        raise RuntimeError("the current stream is capturing, so synchronous API calls are disallowed")


# work --------------------------------------------------------------------------------------------------------------------------

def submit(name, number, reads, writes, work, kind="cupy", grid=None, block=None, stream=None, holds=None):
    """Do `work()`, one launch over these NumPy arrays; or keep it where the stream is captured.

    holds   the arrays whose addresses the work has, beside those it writes: `reads` by default
    """
    capture = (stream or streams.get_current_stream()).capture_for_work()
    if capture is None:
        work()
        log.launched(name, number, reads, writes, kind, grid, block)
    else:
        note = log.described(name, number, reads, writes, kind, grid, block)
        capture.nodes.append(streams.Node(note, work, tenancies_of([*reads, *writes] if holds is None else [*holds, *writes])))


def enqueue_product(stream, work, product):
    """A product of cuBLASLt on the stream of this pointer; not logged where it runs at once, since who calls the library does."""
    found = next((s for c in CAPTURES for s in c.streams if s.ptr == stream), streams.Stream.null)
    capture = found.capture_for_work()
    if capture is None:
        work()
        return
    sizes = [m.rows * m.cols * m.batch * np.dtype(TYPES[m.type]).itemsize for m in (product.a, product.b, product.d)]
    note = log.Launch("cublasLtMatmul", "gemm", current(), (1, 1, 1), (1, 1, 1), sizes[0] + sizes[1], sizes[2])
    held = tenancies_at([*product.pointers, product.vector, product.aux])
    capture.nodes.append(streams.Node(note, work, held))
