"""gg.numpy: NumPy's functions on Tensors, differentiable, with NumPy's names and arguments and those of the Array API 2024.12.

Arguments may be Tensors, NumPy or CuPy arrays, lists and numbers; results are Tensors, on the device of the arguments.
"""
# ruff: noqa: F401, F403 - every family lists its public names in __all__
from gpugrad.numpy.choose import *
from gpugrad.numpy.contract import *
from gpugrad.numpy.creation import *
from gpugrad.numpy.diagonals import *
from gpugrad.numpy.einsum import *
from gpugrad.numpy.elementwise import *
from gpugrad.numpy.index import *
from gpugrad.numpy.join import *
from gpugrad.numpy.ordering import *
from gpugrad.numpy.pad import *
from gpugrad.numpy.reduce import *
from gpugrad.numpy.scan import *
from gpugrad.numpy.selection import *
from gpugrad.numpy.shape import *
from gpugrad.numpy.statistics import *
from gpugrad.numpy.without_nan import *

from numpy import (  # isort: skip
    bool,
    complex64,
    complex128,
    e,
    euler_gamma,
    finfo,
    float16,
    float32,
    float64,
    iinfo,
    inf,
    int8,
    int16,
    int32,
    int64,
    isdtype,
    nan,
    newaxis,
    pi,
    uint8,
    uint16,
    uint32,
    uint64,
)

__all__ = [name for name in globals() if not name.startswith("_")]
