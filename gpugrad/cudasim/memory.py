"""Device memory: every NumPy buffer gets a virtual address, with gaps between so wide that a wild index hits nothing.

An Allocation is the whole buffer that owns an array's memory; views share it. Addresses stay valid as long as the owner
lives. Windows below FIRST_GLOBAL are the generic addresses of shared, local and parameter memory.
"""

import bisect
import itertools
import threading
import weakref

import numpy as np

from .errors import ArgumentError

SHARED, LOCAL, PARAM = (n << 40 for n in (1, 2, 3))
FIRST_GLOBAL = 1 << 48
GAP = 1 << 36  # an int32 index that overflows moves an address by at most 2**31 elements of 16 bytes


class Region:
    """Bytes with shadows: `initialised` (None: all are), and per launch which bytes were read and written."""

    writable = True

    def __init__(self, data, start=0, title="", initialised=None):
        self.data, self.start, self.title = data, start, title
        self.initialised = initialised
        self.read = self.written = self.launch = self.hazards = None
        self.views = {}

    @property
    def size(self):
        return self.data.size

    def view(self, dtype, count=1):
        """The bytes as rows of `count` elements; a tail too short for a row is left out."""
        key = (dtype, count)
        if key not in self.views:
            row = dtype.itemsize * count
            whole = self.data[: self.size // row * row].view(dtype)
            self.views[key] = whole.reshape(-1, count) if count > 1 else whole
        return self.views[key]

    def first_touch(self, launch, counting):
        """A launch touches the region for the first time: forget what an earlier one read and wrote."""
        self.launch = launch
        self.read = np.zeros(self.size, np.uint8) if counting else None
        self.written = np.zeros(self.size, np.uint8) if counting else None
        self.notice_host_writes()

    def notice_host_writes(self):
        """Regions that the host can't write have nothing to notice."""

    def check(self, access, lanes, address, kind):
        """A region that is divided refuses accesses that leave their part of it."""

    def touched(self):
        """(distinct bytes read, distinct bytes written) since the launch began."""
        return tuple(0 if marks is None else int(np.count_nonzero(marks)) for marks in (self.read, self.written))


class Allocation(Region):
    """A NumPy buffer as device memory."""

    def __init__(self, owner, start, initialised=None):
        data = bytes_of(owner)
        super().__init__(data, start, describe(owner), initialised)
        self.owner = weakref.ref(owner)
        self.poison = None if initialised is None else data.copy()
        self.constant = False  # __constant__: the host writes there, and kernels do not

    @property
    def writable(self):  # type: ignore[override]
        """What the array says now: it may change its mind between launches."""
        owner = self.owner()
        return not self.constant and (owner is None or owner.flags.writeable)

    def notice_host_writes(self):
        """Bytes that no longer hold the poison were written by the host; whole 4-byte words count.

        A shorter tail goes with the bytes before it, if the host wrote those now: two bytes alone hold the poison by chance.
        """
        if self.poison is None:
            return
        changed = self.data != self.poison
        words = self.size // 4 * 4
        by_host = changed[max(self.size - 4, 0):] & (self.initialised[max(self.size - 4, 0):] == 0)
        in_word = changed[:words].reshape(-1, 4).any(axis=1)
        self.initialised[:words] |= np.repeat(in_word, 4)
        self.initialised[words:] |= by_host.any()


class AddressSpace:
    """Which allocation stands at which address."""

    def __init__(self):
        self.starts, self.allocations, self.by_owner = [], [], {}
        self.cursor = FIRST_GLOBAL
        self.freed = []
        self.lock = threading.RLock()     # an array may die, and be forgotten, while another is registered

    def allocation_of(self, array):
        """The allocation behind an array, registered on first sight."""
        owner = owner_of(array)
        found = self.by_owner.get(id(owner))
        return found if found is not None else self.register(owner)

    def register(self, owner, initialised=None, kind=Allocation):
        with self.lock:
            known = self.by_owner.get(id(owner))
            if known is not None:                                   # by another thread, meanwhile
                return known
            allocation = kind(owner, self.cursor, initialised)
            self.cursor += GAP * (2 + allocation.size // GAP)
            self.starts.append(allocation.start)
            self.allocations.append(allocation)
            self.by_owner[id(owner)] = allocation
            weakref.finalize(owner, self.forget, id(owner)).atexit = False
            return allocation

    def forget(self, key):
        with self.lock:
            allocation = self.by_owner.pop(key, None)
            if allocation is None:
                return
            at = bisect.bisect_left(self.starts, allocation.start)
            del self.starts[at], self.allocations[at]
        self.freed = [*self.freed[-255:], (allocation.start, allocation.size, allocation.title)]

    def address(self, array):
        """The device address of an array's first element."""
        return self.allocation_of(array).start + pointer(array) - pointer(owner_of(array))

    def find(self, address):
        """The allocation at or just below an address, or None."""
        with self.lock:
            at = bisect.bisect_right(self.starts, address) - 1
            return self.allocations[at] if at >= 0 else None

    def nearest(self, address):
        """The allocation whose bytes lie nearest to an address."""
        at = bisect.bisect_right(self.starts, address)
        around = self.allocations[max(at - 1, 0): at + 1]
        return min(around, key=lambda a: max(a.start - address, address - a.start - a.size), default=None)


SPACE = AddressSpace()
_seeds = itertools.count(1)


def address(array):
    """The device address of an array, to be stored in an array of pointers. Keep the array alive yourself.

    A kernel that follows the address of an array that died raises OutOfBounds and says so.
    """
    return SPACE.address(array)


def empty(shape, dtype=np.float32):
    """An array whose elements count as uninitialised until a kernel or the host writes them.

    It is filled with a random pattern; elements that no longer hold it at a launch were written by the host.
    """
    array = np.empty(shape, dtype)
    if array.nbytes:
        pattern = np.random.default_rng(next(_seeds)).integers(1, 256, array.nbytes, np.uint8)
        bytes_of(array)[:] = pattern
    SPACE.register(array, initialised=np.zeros(array.nbytes, np.uint8))
    return array


def raw_bytes(owner):
    """The bytes of an array whose memory is one piece, as a view that belongs to it."""
    return owner if owner.dtype == np.uint8 and owner.ndim == 1 else owner.ravel(order="K").view(np.uint8)


def owner_of(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def pointer(array):
    return array.__array_interface__["data"][0]


def bytes_of(owner):
    """A uint8 view of an array's whole buffer, whatever its strides (its memory is one piece)."""
    if owner.nbytes == 0:
        return np.empty(0, np.uint8)
    low, high = np.lib.array_utils.byte_bounds(owner)
    if low != pointer(owner):
        raise ArgumentError(
            f"launch: an array with its first element first in memory was expected, got strides {owner.strides}. "
            "Pass a contiguous copy.")
    return np.asarray(Bytes(low, high - low))


class Bytes:
    """Memory by address, for NumPy; a ctypes array of each size would be a new type, which only the collector frees."""

    def __init__(self, address, size):
        self.__array_interface__ = {"version": 3, "shape": (size,), "typestr": "|u1", "data": (address, False)}


def describe(array):
    return f"{array.dtype}{list(array.shape)}"
