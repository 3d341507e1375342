"""gg.cuda: is there a usable CUDA device, and how many."""
from __future__ import annotations

from gpugrad.arrays import cuda_usable


def is_available() -> bool:
    """True where CuPy is installed and finds a driver and a device. `gpugrad info` says why not."""
    return cuda_usable()


def device_count() -> int:
    """How many CUDA devices there are; 0 where CUDA is not usable."""
    if not is_available():
        return 0
    import gpugrad.arrays.modules as modules
    return int(modules.cupy_module("cuda").cuda.runtime.getDeviceCount())
