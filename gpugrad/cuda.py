"""gg.cuda: is there a usable CUDA device, how many, and how exactly they multiply matrices."""
from __future__ import annotations

from gpugrad.arrays import cuda_usable
from gpugrad.kernels.matmul import gelu_epilogue, matmul_precision, relu_epilogue

__all__ = ["device_count", "gelu_epilogue", "is_available", "matmul_precision", "relu_epilogue"]


def is_available() -> bool:
    """True where CuPy is installed and finds a driver and a device. `gpugrad info` says why not."""
    return cuda_usable()


def device_count() -> int:
    """How many CUDA devices there are; 0 where CUDA is not usable."""
    if not is_available():
        return 0
    import gpugrad.arrays.modules as modules
    return int(modules.cupy_module("cuda").cuda.runtime.getDeviceCount())
