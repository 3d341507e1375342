"""`RawModule`: kernels compiled by NVRTC, launched on the simulated device with CuPy's argument rules."""

import ctypes
from typing import Any

import numpy as np

from gpugrad.cudasim import CompileError, compile_cuda

from .array import ndarray
from .blocks import submit
from .device import CompileException, CUDADriverError, current
from .streams import get_current_stream

ARCH = "sm_90"
CUPY_ADDS = ("-ftz=true", "--device-as-default-execution-space")


class RawModule:
    """CUDA C++ text, compiled at the first kernel asked for. `name_expressions` name the instances of templates."""

    def __init__(self, code=None, *, path=None, options=(), backend="nvrtc", translate_cucomplex=False,
                 enable_cooperative_groups=False, name_expressions=None, jitify=False):
        self.code, self.options, self.names = code, tuple(options), tuple(name_expressions or ())
        self.module: Any = None

    def compile(self, log_stream=None):
        if self.module is None:
            try:
                self.module = compile_cuda(self.code, ARCH, options=(*self.options, *CUPY_ADDS), names=self.names)
            except CompileError as error:
                raise CompileException(error.log) from error

    def get_function(self, name):
        self.compile()
        return RawKernel.of(self.module[name])


class RawKernel:
    """A kernel: kernel((blocks,), (threads,), (arguments...), shared_mem=0)."""

    def __init__(self, code, name, options=(), backend="nvrtc", translate_cucomplex=False, *, enable_cooperative_groups=False,
                 jitify=False):
        self.max_dynamic_shared_size_bytes = 48 << 10
        self.kernel = RawModule(code=code, options=options).get_function(name).kernel

    @classmethod
    def of(cls, kernel):
        made = object.__new__(cls)
        made.max_dynamic_shared_size_bytes, made.kernel = 48 << 10, kernel
        return made

    def __call__(self, grid, block, args, *, shared_mem=0):
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        for x in args:
            if isinstance(x, ndarray) and x.device.id != current():
                raise CUDADriverError(f"CUDA_ERROR_ILLEGAL_ADDRESS: an array of device {x.device.id} in a launch on {current()}")
        hosts = [x._host if isinstance(x, ndarray) else frozen(x) for x in args]
        arrays = [x._host for x in args if isinstance(x, ndarray)]
        if get_current_stream().capture is not None:
            self.kernel.check(grid, block, hosts, shared_mem)
        submit(self.kernel.name, current(), [x for x in hosts if hasattr(x, "nbytes")], [],
               lambda: self.kernel.launch(grid, block, hosts, shared_mem), "kernel", tuple(grid), tuple(block), holds=arrays)


def frozen(value):
    """The value as it is now, as the bytes of a launch's arguments are: a graph repeats them. One struct is by value."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "V" and value.size == 1:
        return value.reshape(())[()].copy()
    if isinstance(value, ctypes.Structure | ctypes.Array | ctypes._SimpleCData):
        return type(value).from_buffer_copy(value)
    return value.copy() if isinstance(value, np.void | np.ndarray) else value
