# ruff: noqa: F401
"""A stand-in for CuPy 14 over simulated device memory: its names, signatures and refusals, and a log of what was asked.

    from gpugrad.cudasim import cupy
    with cupy.recording() as log:
        y = cupy.asarray(x) @ w
    log.names(), log.waits

Array functions are NumPy's; kernels given as text (RawModule) run on the simulated device and need the NVRTC wheel. Beside CuPy's
names there are `recording`, `host_waits` and `cublaslt`, a simulated cuBLASLt.
"""

import numpy as _np

from gpugrad.cudasim.cublaslt import CublasLt as _CublasLt

from . import cuda, functions, random
from .array import ndarray
from .blocks import enqueue_product as _enqueue_product
from .creation import (
    array,
    asanyarray,
    asarray,
    ascontiguousarray,
    asfortranarray,
    asnumpy,
    can_cast,
    copyto,
    empty,
    empty_like,
    from_dlpack,
    frombuffer,
    get_array_module,
    iscomplexobj,
    isrealobj,
    isscalar,
    matmul,
    may_share_memory,
    ndim,
    result_type,
    shape,
    shares_memory,
    size,
)
from .functions import ufunc
from .log import TOTAL as _TOTAL
from .log import recording
from .pool import get_default_memory_pool
from .raw import RawKernel, RawModule

__version__ = "14.2.0"
bool_ = _np.bool_
e, inf, nan, newaxis, pi, euler_gamma = _np.e, _np.inf, _np.nan, None, _np.pi, _np.euler_gamma
dtype, finfo, iinfo, generic, number = _np.dtype, _np.finfo, _np.iinfo, _np.generic, _np.number
float16, float32, float64, complex64, complex128 = _np.float16, _np.float32, _np.float64, _np.complex64, _np.complex128
int8, int16, int32, int64 = _np.int8, _np.int16, _np.int32, _np.int64
uint8, uint16, uint32, uint64, intp = _np.uint8, _np.uint16, _np.uint32, _np.uint64, _np.intp
integer, floating, inexact, complexfloating = _np.integer, _np.floating, _np.inexact, _np.complexfloating
promote_types, issubdtype, isdtype, broadcast_shapes = _np.promote_types, _np.issubdtype, _np.isdtype, _np.broadcast_shapes

cublaslt = _CublasLt(_enqueue_product)

functions.install(globals())


def is_available():
    return True


def host_waits():
    """How often the host has waited for a device."""
    return _TOTAL.waits


def __getattr__(name):
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: the stand-in for CuPy leaves it out", name=name)
