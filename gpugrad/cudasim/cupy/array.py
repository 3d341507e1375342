"""The stand-in's `ndarray`: NumPy memory that counts as a device's, with CuPy's refusals."""

import numpy as np

from gpugrad.cudasim import memory
from gpugrad.cudasim.errors import OutOfBounds

from .blocks import MemoryPointer, UnownedMemory, submit
from .device import Device, current
from .indexing import as_tuple, resolved
from .pool import UNIT, allocate
from .streams import copied, get_current_stream, waited

IMPLICIT = "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
NUMBERS = (bool, int, float, complex, np.generic)


class Flags:
    """Contiguity and ownership, by attribute or by name."""

    def __init__(self, array):
        flags = array._host.flags
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.fnc, self.forc, self.owndata = flags.fnc, flags.forc, array.base is None

    def __getitem__(self, name):
        return getattr(self, name.lower())


class ndarray:
    """Device memory of one type and shape. `base` owns the memory of a view; `_memory` is what the allocator gave."""

    __slots__ = ("__weakref__", "_host", "_memory", "_number", "base")
    __array_priority__ = 100

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        self._number, self.base = current() if memptr is None else memptr.device_id, None
        if memptr is None:
            host = memory.empty(shape, dtype) if order in (None, "C") else np.empty(shape, dtype, order)
            self._host, self._memory = placed(host, self._number, written=False)
        else:
            self._host, self._memory = over(memptr, shape, dtype, strides, order), memptr

    shape = property(lambda self: self._host.shape, lambda self, shape: setattr(self._host, "shape", shape))
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    device = property(lambda self: Device(self._number))
    flags = property(Flags)
    T = property(lambda self: view(self, self._host.T))
    mT = property(lambda self: view(self, self._host.mT))

    @property
    def data(self):
        """A MemoryPointer to the first element."""
        pointer = self._memory
        if not self.size:
            return MemoryPointer(pointer.mem, 0)
        return MemoryPointer(pointer.mem, memory.address(self._host) - pointer.mem.ptr)

    @property
    def real(self):
        return view(self, self._host.real) if self.dtype.kind == "c" else self

    @real.setter
    def real(self, value):
        self.real[...] = value

    @property
    def imag(self):
        if self.dtype.kind == "c":
            return view(self, self._host.imag)
        return done("cupy_zeros", current(), [], lambda: np.zeros(self.shape, self.dtype))

    @imag.setter
    def imag(self, value):
        if self.dtype.kind != "c":
            raise TypeError("cannot set imag part of a real array")
        self.imag[...] = value

    def conj(self):
        """CuPy's method, unlike its function, leaves real arrays as they are."""
        if self.dtype.kind != "c":
            return self
        return done("cupy_conjugate", current(), [operand(self)], lambda: np.asarray(self._host.conj(), order="C"))

    conjugate = conj

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "typestr": self.dtype.str, "descr": self.dtype.descr, "version": 3, "stream": 1,
                "strides": None if self.flags.c_contiguous else self.strides, "data": (self.data.ptr, False)}

    def __dlpack_device__(self):
        return 2, self._number                             # kDLCUDA

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        raise BufferError("__dlpack__: simulated device memory has no address that other libraries could read. "
                          "Use cupy.asnumpy.")

    # out of the device ----------------------------------------------------------------------------------------------------

    def get(self, stream=None, order="C", out=None, blocking=True):
        """The one way to a NumPy array."""
        copied("to_host")
        if out is None:
            return np.array(self._host, order=order)
        if out.dtype != self.dtype:
            raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
        if out.shape != self.shape:
            raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}")
        out[...] = self._host
        return out

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        copied("to_device")
        self._host[...] = arr

    def item(self):
        copied("to_host")
        return self._host.item()

    def tolist(self):
        copied("to_host")
        return self._host.tolist()

    def tobytes(self, order="C"):
        copied("to_host")
        return self._host.tobytes(order)

    def __array__(self, dtype=None, copy=None):
        raise TypeError(IMPLICIT)

    def __bool__(self):
        copied("to_host")
        return bool(self._host)

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __complex__(self):
        return complex(self.get())

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return repr(self._host)

    def __str__(self):
        return str(self._host)

    def __format__(self, spec):
        return format(self.get().item() if self.ndim == 0 else self._host, spec)

    __hash__ = None  # type: ignore[assignment]

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        return _asarray, (self.get(),)

    # shapes and copies ------------------------------------------------------------------------------------------------------

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if casting is not None or subok is not None:
            raise TypeError(f"{'casting' if casting is not None else 'subok'} is not supported yet")
        dtype = np.dtype(dtype)
        if not copy and dtype == self.dtype:
            return self

        def cast():
            with np.errstate(all="ignore"):
                return self._host.astype(dtype, order=order)
        return done("cupy_astype", current(), [operand(self)], cast)

    def copy(self, order="C"):
        return done("cupy_copy", current(), [self._host], lambda: self._host.copy(order))

    def view(self, dtype=None, type=None):
        return view(self, self._host.view() if dtype is None or dtype is ndarray else self._host.view(dtype))

    def reshape(self, *shape, order="C", copy=None):
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape
        return result("cupy_reshape", self, lambda: self._host.reshape(shape, order=order))

    def ravel(self, order="C"):
        return result("cupy_ravel", self, lambda: self._host.ravel(order))

    def flatten(self, order="C"):
        return done("cupy_flatten", current(), [operand(self)], lambda: self._host.flatten(order))

    def transpose(self, *axes):
        return view(self, self._host.transpose(*axes))

    def swapaxes(self, axis1, axis2):
        return view(self, self._host.swapaxes(axis1, axis2))

    def squeeze(self, axis=None):
        return view(self, self._host.squeeze(axis))

    def diagonal(self, offset=0, axis1=0, axis2=1):
        made = self._host.diagonal(offset, axis1, axis2)
        made.flags.writeable = True                        # CuPy's is a view that may be written
        return view(self, made)

    def fill(self, value):
        if isinstance(value, np.ndarray):
            if value.ndim:
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            value = value[()]
        value = operand(value)
        if self.flags.c_contiguous:
            value = without_sign(value)
        submit("cupy_fill", current(), [], [operand(self)], lambda: self._host.fill(value))

    def sort(self, axis=-1, kind=None):
        submit("cupy_sort", current(), [operand(self)], [self._host], lambda: self._host.sort(axis, kind="stable"))

    def clip(self, min=None, max=None, out=None):
        low, high = operand(min), operand(max)
        return result("cupy_clip", self, lambda: self._host.clip(low, high))

    def argsort(self, axis=-1, kind=None):
        return done("cupy_argsort", current(), [operand(self)], lambda: self._host.argsort(axis, kind="stable"))

    # indices ------------------------------------------------------------------------------------------------------------------

    def __getitem__(self, index):
        now, places, masked = resolved(self, index)
        if masked:
            waited()
        made = self._host[now()]
        if not places and not any(isinstance(item, bool | np.bool_) for item in as_tuple(index)):
            return view(self, made if isinstance(made, np.ndarray) else self._host[(*as_tuple(index), ...)])
        return finished("cupy_take", current(), [np.asarray(made)], [made], lambda: [self._host[now()]],
                        [operand(self), *places])[0]

    def __setitem__(self, index, value):
        now, places, _ = resolved(self, index)
        if isinstance(value, np.ndarray | list | tuple):
            if np.ndim(value):
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            value = np.asarray(value)[()]
        value = operand(value)
        if places or operand(self)[now()].flags.c_contiguous:
            value = without_sign(value)
        reads = [x for x in (value,) if isinstance(x, np.ndarray)]
        submit("cupy_setitem", current(), reads, [np.asarray(operand(self)[now()])],
               lambda: self._host.__setitem__(now(), value), holds=[self._host, *places, *reads])

    # protocols ------------------------------------------------------------------------------------------------------------

    def __array_ufunc__(self, function, method, *inputs, **kwargs):
        import gpugrad.cudasim.cupy as cupy
        out = kwargs.get("out")
        if isinstance(out, tuple):
            kwargs["out"] = out[0] if len(out) == 1 else out
        here = getattr(cupy, function.__name__, None)
        if here is None or method not in ("__call__", "reduce", "accumulate", "outer", "at"):
            return NotImplemented
        if any(foreign(x) for x in inputs):
            return NotImplemented
        if function.__name__ in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"):
            inputs = tuple([x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in inputs])
        return (here if method == "__call__" else getattr(here, method))(*inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        import gpugrad.cudasim.cupy as place
        if not all(issubclass(t, ndarray | np.ndarray) for t in types):
            return NotImplemented
        try:
            for part in (function.__module__ or "").split(".")[1:]:
                place = getattr(place, part)
            here = getattr(place, function.__name__)
        except AttributeError:
            return NotImplemented
        return NotImplemented if here is function else here(*args, **kwargs)


def foreign(x):
    """Whether another class with NumPy's protocol, and no memory of a device to take, should answer."""
    return (not isinstance(x, (ndarray, np.ndarray, *NUMBERS)) and hasattr(type(x), "__array_ufunc__")
            and not hasattr(x, "__cuda_array_interface__"))


def operand(x):
    """What NumPy computes with in the place of x. NumPy arrays and lists are refused, and arrays of a device that is not current,
    as CuPy refuses them where the devices cannot reach each other's memory."""
    if isinstance(x, ndarray):
        if x._number != current():
            raise ValueError("Array device must be same as the current device: "
                             f"array device = {x._number} while current = {current()}")
        return x._host
    if x is None or isinstance(x, NUMBERS):
        return x
    if hasattr(x, "__cuda_array_interface__"):
        return from_interface(x)
    raise TypeError(f"Unsupported type {type(x)}")


def without_sign(value):
    """0 for a number that is -0.0: CuPy fills with zero bytes wherever a value equals 0."""
    return type(value)(0) if isinstance(value, NUMBERS) and value == 0 else value


def from_interface(x):
    """The memory that another object says it has, as a NumPy array."""
    said = x.__cuda_array_interface__
    shape, dtype, start = said["shape"], np.dtype(said["typestr"]), said["data"][0]
    if not np.prod(shape):
        return np.empty(shape, dtype)
    allocation = memory.SPACE.find(start)
    return np.ndarray(shape, dtype, memory.raw_bytes(allocation.owner()), start - allocation.start, said.get("strides"))


def wrap(host, number=None):
    """A new array of this NumPy memory, which counts as what the allocator gave."""
    number = current() if number is None else number
    host, pointer = placed(host, number)
    return array_of(host, pointer, number)


def array_of(host, pointer, number, base=None):
    made = object.__new__(ndarray)
    made._host, made._memory, made._number, made.base = host, pointer, number, base
    return made


def placed(host, number, written=True):
    """(new NumPy memory, what the allocator gives for it); moved, where that is a piece of memory that it had already."""
    pointer = allocate(host.nbytes, number)
    if pointer.mem.host is None and 0 <= pointer.mem.size - host.nbytes < UNIT:
        pointer.mem.adopt(host)
        return host, pointer
    moved = over(pointer, host.shape, host.dtype, host.strides)
    if written:
        moved[...] = host
    return moved, pointer


def over(pointer, shape, dtype, strides=None, order="C"):
    """The NumPy array of this layout in the memory from a pointer on."""
    found = pointer.bytes()
    if not found.size and np.prod(shape):                  # NumPy does not check strides against no bytes at all
        raise OutOfBounds(f"ndarray: memory for {shape} of {dtype} was expected, got a pointer to its end. Allocate more.")
    return np.ndarray(shape, dtype, found, 0, strides, order)


def borrowed(x):
    """An array of the memory that another object says it has, and keeps."""
    host = from_interface(x)
    owner = UnownedMemory(memory.address(host) if host.size else 0, host.nbytes, x)
    return array_of(host, MemoryPointer(owner, 0), current())


def view(array, host):
    """A view of an array's memory, which it keeps alive."""
    return array_of(host, array._memory, array._number, array if array.base is None else array.base)


def done(name, number, reads, compute, holds=None, kind="cupy"):
    """A new array that one launch has written: compute() is its value. holds: what memory the launch knows, if not reads."""
    return finished(name, number, reads, [compute()], lambda: [compute()], holds, kind)[0]


def finished(name, number, reads, hosts, compute, holds=None, kind="cupy"):
    """New arrays that one launch has written with these values; again, by compute(), where the launch is captured."""
    hosts = [np.asarray(host) for host in hosts]
    if get_current_stream().capture_for_work() is None:
        made = [wrap(host if host.base is None else host.copy(order="K"), number) for host in hosts]
        submit(name, number, reads, [x._host for x in made], _nothing, kind)
        return made
    made = [unwritten(host, number) for host in hosts]
    outs = [x._host for x in made]

    def work():
        with np.errstate(all="ignore"):
            for out, value in zip(outs, compute(), strict=True):
                out[...] = value
    submit(name, number, reads, outs, work, kind, holds=holds)
    return made


def unwritten(like, number):
    """A new array of a NumPy array's shape and order whose elements count as never written."""
    host = memory.empty(like.shape, like.dtype) if like.flags.c_contiguous else np.empty_like(like)
    host, pointer = placed(host, number, written=False)
    return array_of(host, pointer, number)


def _nothing():
    """Work that is done already."""


def result(name, array, compute):
    """A view where NumPy makes one of the array's memory, else a new array."""
    host = compute()
    if memory.owner_of(host) is memory.owner_of(array._host):
        return view(array, host)
    return done(name, current(), [operand(array)], compute)


def _asarray(host):
    copied("to_device")
    return wrap(np.array(host))
