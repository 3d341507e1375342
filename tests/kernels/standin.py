"""A few names of CuPy over gpugrad.cudasim, enough to launch a kernel: the tests of loader and launcher put it in CuPy's place.

`install(monkeypatch)` makes `gpugrad.arrays` see it as CuPy. It marshals nothing itself: the simulated device refuses an argument
of the wrong width, as CuPy would not.
"""
import sys
from types import ModuleType, SimpleNamespace

import numpy

from gpugrad import cudasim


class Array:
    """Device memory with the attributes that the launcher reads; `values` is the NumPy array behind it."""

    def __init__(self, values, device=0):
        self.values, self.device = values, SimpleNamespace(id=device)
        self.dtype, self.shape, self.strides, self.ndim = values.dtype, values.shape, values.strides, values.ndim
        self.size, self.nbytes, self.flags = values.size, values.nbytes, values.flags
        self.data = SimpleNamespace(ptr=cudasim.address(values) if values.size else 0)

    def __getitem__(self, index):
        if isinstance(index, Array):                       # by index arrays: a copy
            return Array(placed(self.values[index.values]), self.device.id)
        return Array(self.values[index], self.device.id)

    def transpose(self, axes):
        return Array(self.values.transpose(axes), self.device.id)

    def reshape(self, shape):
        return Array(self.values.reshape(shape), self.device.id)

    def view(self, dtype):
        return Array(self.values.view(dtype), self.device.id)

    def __setitem__(self, index, value):
        self.values[index] = value.values if isinstance(value, Array) else value

    def fill(self, value):
        self.values.fill(value)

    def set(self, values):
        self.values[...] = values

    def copy(self):
        return Array(placed(self.values), self.device.id)

    base = None
    real = property(lambda self: Array(self.values.real, self.device.id))


class CompileException(Exception):
    pass


class Function:
    max_dynamic_shared_size_bytes = 48 << 10

    def __init__(self, xp, kernel):
        self.xp, self.kernel = xp, kernel

    def __call__(self, grid, block, args, *, shared_mem=0):
        self.xp.launches.append(SimpleNamespace(name=self.kernel.name, grid=grid, block=block, args=args, shared=shared_mem,
                                                device=self.xp.current))
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self.kernel.launch(grid, block, [a.values if isinstance(a, Array) else by_value(a) for a in args], shared_mem)


def by_value(x):
    """CuPy takes a NumPy array of one struct for the struct."""
    return x[0] if isinstance(x, numpy.ndarray) and x.dtype.kind == "V" else x


class CUDADriverError(RuntimeError):
    pass


class RawModule:
    xp = None

    def __init__(self, *, code, options, name_expressions):
        self.xp.modules.append((code, options, name_expressions))
        extra = ("-ftz=true", "--device-as-default-execution-space")
        try:
            self.module = cudasim.compile_cuda(code, options=(*options, *extra), names=name_expressions)
        except cudasim.CompileError as error:
            raise CompileException(error.log) from error

    def get_function(self, name):
        return Function(self.xp, self.module[name])


def placed(values):
    memory = cudasim.empty(values.shape, values.dtype)
    memory[...] = values
    return memory


def zeroed(memory):
    memory[...] = 0
    return memory


def install(monkeypatch):
    """The stand-in as the module `cupy`, with `launches` and `modules` (compilations), in order."""
    xp = ModuleType("cupy")
    xp.launches, xp.modules, xp.current = [], [], 0

    class Device:
        def __init__(self, number):
            self.id = number

        def __enter__(self):
            self.before, xp.current = xp.current, self.id

        def __exit__(self, *exc):
            xp.current = self.before

    xp.ndarray, xp.RawModule = Array, type("RawModule", (RawModule,), {"xp": xp})
    xp.array = lambda values, dtype=numpy.float32, device=0: Array(numpy.array(values, dtype), device)
    xp.empty = lambda shape, dtype=numpy.float32: Array(cudasim.empty(shape, dtype))
    xp.asarray = lambda values: values if isinstance(values, Array) else Array(placed(values))
    xp.argsort = lambda a: Array(placed(numpy.argsort(a.values, kind="stable")))
    xp.ascontiguousarray = lambda a, dtype=None: Array(placed(numpy.ascontiguousarray(a.values, dtype)))
    xp.zeros = lambda shape, dtype=numpy.float32: Array(zeroed(cudasim.empty(shape, dtype)))
    xp.cuda = SimpleNamespace(Device=Device, get_current_stream=lambda: SimpleNamespace(ptr=0),
                              runtime=SimpleNamespace(getDevice=lambda: xp.current, getDeviceCount=lambda: 2),
                              compiler=SimpleNamespace(CompileException=CompileException))
    monkeypatch.setitem(sys.modules, "cupy", xp)
    return xp
