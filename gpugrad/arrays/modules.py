"""Which array module owns an array. The only importer of cupy.

A CuPy that finds no driver counts as no CuPy. Importing CuPy takes half a second, so the cheap questions (is it installed,
is there a driver) come first, and `import gpugrad` asks none of them.
"""
from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

import numpy

from gpugrad.errors import DeviceError, DtypeError

INSTALL = "Install CuPy for your driver: pip install gpugrad[cuda13], or gpugrad[cuda12]; or use device='cpu'."


@functools.cache
def cuda_problem() -> str | None:
    """Why CUDA cannot be used here, in CuPy's own words where it has some; None where it can."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    try:
        import cupy
        count = cupy.cuda.runtime.getDeviceCount()
    except ImportError as error:
        return f"CuPy cannot be imported ({first_line(error)})"
    except Exception as error:                  # CUDARuntimeError exists only where CuPy could be imported
        return f"CuPy finds no usable driver ({first_line(error)})"
    return None if count else "CuPy finds a driver but no device"


@functools.cache
def cuda_usable() -> bool:
    """The answer of `cuda_problem`, without importing CuPy where there is no driver library to begin with."""
    if "cupy" not in sys.modules:
        if importlib.util.find_spec("cupy") is None:
            return False
        try:
            ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        except OSError:
            return False
    return cuda_problem() is None


def cupy_module(asked: str) -> ModuleType:
    """cupy, or DeviceError with the reason. `asked` is the device the user named."""
    problem = cuda_problem()
    if problem:
        raise DeviceError(f"device: expected a usable CUDA device for {asked!r}, got none: {problem}. {INSTALL}")
    import cupy
    return cupy


def simulated_module() -> ModuleType:
    """The stand-in for cupy over the simulated device, registered as an array module at the first call."""
    if SIMULATED not in sys.modules or sys.modules[SIMULATED].ndarray not in OWN:
        module = importlib.import_module(SIMULATED)
        register(module.ndarray, module)
    return sys.modules[SIMULATED]


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip(" =")), type(error).__name__)


SIMULATED = "gpugrad.cudasim.cupy"

#: Array types of our own, and the module that stands behind each.
OWN: dict[type, Any] = {}


def register(array_type: type, module: Any) -> None:
    """Make `array_type` an array type: `module_of` answers with `module`, which has the names of NumPy's functions."""
    OWN[array_type] = module


def module_of_type(array_type: type) -> ModuleType:
    """numpy or cupy for the type of an array; DtypeError for anything else."""
    if issubclass(array_type, numpy.ndarray | numpy.generic):
        return numpy
    cupy = sys.modules.get("cupy")
    if cupy is not None and issubclass(array_type, getattr(cupy, "ndarray", ())):
        return cupy
    if array_type in OWN:
        return OWN[array_type]
    raise DtypeError(f"array: expected a NumPy or CuPy array, got {array_type.__name__}. Use gpugrad.asarray(x).")


def is_array(x: Any) -> bool:
    """True for NumPy arrays and scalars, and for CuPy arrays."""
    if isinstance(x, numpy.ndarray | numpy.generic):
        return True
    cupy = sys.modules.get("cupy")
    return (cupy is not None and isinstance(x, getattr(cupy, "ndarray", ()))) or type(x) in OWN


def module_of(x: Any) -> ModuleType:
    return module_of_type(type(x))


def has_kernels(xp: Any) -> bool:
    """True for a module whose arrays our CUDA kernels take: CuPy, or its stand-in."""
    return hasattr(xp, "RawModule")
