"""`RawModule`: kernels compiled by NVRTC, launched on the simulated device with CuPy's argument rules."""

from typing import Any

from gpugrad.cudasim import CompileError, compile_cuda

from .array import ndarray
from .device import CompileException, CUDADriverError, current
from .log import launched

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
        hosts = [x._host if isinstance(x, ndarray) else x for x in args]
        self.kernel.launch(grid, block, hosts, shared_mem)
        launched(self.kernel.name, current(), [x for x in hosts if hasattr(x, "nbytes")], [], "kernel", tuple(grid), tuple(block))
