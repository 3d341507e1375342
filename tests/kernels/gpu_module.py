"""An array module over simulated memory for the tests of products: NumPy's functions on arrays with CuPy's attributes, kernels on
the simulated device, and a simulated cuBLASLt.
"""
import sys
from collections import deque
from types import ModuleType, SimpleNamespace

import numpy
from standin import CompileException, RawModule

from gpugrad.cudasim import address
from gpugrad.cudasim.cublaslt import CublasLt
from gpugrad.cudasim.memory import SPACE
from gpugrad.kernels import cublaslt


class Array(numpy.ndarray):
    """A NumPy array with CuPy's attributes, at an address of the simulated device."""

    device = SimpleNamespace(id=0)
    get = None

    @property
    def data(self):
        return SimpleNamespace(ptr=address(self) if self.size else 0)


class GpuModule(ModuleType):
    """`cupy` on the simulated device."""

    ndarray = Array

    def __init__(self):
        super().__init__("cupy")
        self.launches, self.modules, self.current = deque(maxlen=0), [], 0      # a launch kept would hold its arrays
        self.RawModule = type("RawModule", (RawModule,), {"xp": self})
        self.cublaslt = CublasLt()
        self.cuda = SimpleNamespace(Device=None, runtime=SimpleNamespace(getDevice=lambda: 0, getDeviceCount=lambda: 1),
                                    compiler=SimpleNamespace(CompileException=CompileException),
                                    get_current_stream=lambda: SimpleNamespace(ptr=7))

    def empty(self, shape, dtype="float32"):
        array = Array(shape, dtype)                     # of its own memory, so that the sweep may add to it
        if array.size:
            array.view("uint8", numpy.ndarray).reshape(-1)[:] = 0xA5
            SPACE.register(array, initialised=numpy.zeros(array.nbytes, "uint8"))
        return array

    def array(self, values, dtype=None):
        return numpy.array(values, dtype).view(Array)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(numpy, name)


XP = GpuModule()                        # one for all tests, so that a kernel is compiled once


def install(monkeypatch):
    """The module in CuPy's place, and cuBLASLt's caches empty."""
    xp = XP
    monkeypatch.setitem(sys.modules, "cupy", xp)
    for module in ("gpugrad.arrays", "gpugrad.kernels.cublaslt", "gpugrad.kernels.matmul", "gpugrad.kernels.launch"):
        monkeypatch.setattr(f"{module}.module_of", lambda x: xp if isinstance(x, Array) else numpy)
    for cache in ("_handles", "_prepared", "_workspaces", "_reasons"):
        monkeypatch.setattr(cublaslt, cache, type(getattr(cublaslt, cache))())
    return xp
