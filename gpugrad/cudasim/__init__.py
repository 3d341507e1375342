"""A simulated CUDA device: NVRTC compiles CUDA C++, and the PTX is executed on the CPU, over NumPy, with checks.

    from gpugrad.cudasim import compile_cuda
    module = compile_cuda(source, arch="sm_90", names=["scale<float>"])
    counters = module["scale<float>"].launch(grid, block, (y, x, np.float32(2), np.int64(y.size)))

Everything imported here is public; it needs NumPy and the NVRTC wheel, and nothing of gpugrad.
"""

from .counters import Checks, Counters
from .errors import (
    ArgumentError,
    BarrierDivergence,
    CompileError,
    DivisionByZero,
    MemoryFault,
    Misaligned,
    OutOfBounds,
    PtxError,
    Race,
    ReadOnly,
    SimError,
    StackOverflow,
    StaleMemory,
    Timeout,
    Trap,
    Uninitialised,
    WarpDivergence,
)
from .memory import address, empty
from .module import Kernel, Module, compile_cuda

__all__ = [
    "ArgumentError", "BarrierDivergence", "Checks", "CompileError", "Counters", "DivisionByZero", "Kernel", "MemoryFault",
    "Misaligned", "Module", "OutOfBounds", "PtxError", "Race", "ReadOnly", "SimError", "StackOverflow", "StaleMemory", "Timeout",
    "Trap", "Uninitialised", "WarpDivergence", "address", "compile_cuda", "empty",
]
