"""For the tests of kernels/*.cu: compile a source, place arrays in simulated device memory, launch.

Every launch runs with all checks: bounds, alignment, uninitialised reads, races, barriers. `placed` and `blank` put an array at
the end of an allocation of its own, `shift` elements past a 128-bit boundary, so that one element too far is an error.
"""
import functools
from pathlib import Path

import numpy as np
import pytest

from gpugrad.cudasim import Checks, compile_cuda, empty

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
OPTIONS = (f"-I{KERNELS}", "-std=c++17", "-ftz=true", "--device-as-default-execution-space")     # as CuPy passes them
C_NAMES = {"float32": "float", "float64": "double", "float16": "__half", "bfloat16": "__nv_bfloat16"}
SIZES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}


def thinned(cases):
    """Every second case is for the slow suite: each compiles and runs several instantiations."""
    return [case if k % 2 == 0 else pytest.param(*(case if isinstance(case[0], tuple) else (case,)), marks=pytest.mark.slow)
            for k, case in enumerate(cases)]


LENGTHS = (1, 31, 32, 33, 127, 129, 1009, 4096)


@functools.cache
def compiled(file, arch, names):
    return compile_cuda((KERNELS / file).read_text(), arch, OPTIONS, names)


def wide(dtype):
    """Elements in 128 bits."""
    return 16 // SIZES[dtype]


def launch(file, kernel, targs, grid, block, args, arch="sm_90", seed=0, shared=0):
    """Run kernel<targs> of a .cu file on the simulated device; dtypes in targs by NumPy's names. Returns the counters."""
    spelled = [str(C_NAMES.get(t, t)) if not isinstance(t, bool) else str(t).lower() for t in targs]
    name = f"{kernel}<{', '.join(spelled)}>"
    return compiled(file, arch, (name,))[name].launch(grid, block, args, shared=shared, checks=Checks(seed=seed))


def stored(x, dtype):
    """x as the memory of dtype holds it: bfloat16, which NumPy lacks, as its upper 16 bits, rounded to nearest even."""
    if dtype != "bfloat16":
        return np.asarray(x, dtype)
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FC0), rounded)


def values(memory, dtype):
    """What stored memory means, in float64."""
    if dtype != "bfloat16":
        return np.asarray(memory, np.float64)
    return (memory.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def placed(x, dtype=None, shift=0):
    """A copy of x in device memory of its own, `shift` elements past a 128-bit boundary."""
    x = stored(x, dtype or x.dtype.name)
    target = blank(x.shape, x.dtype, shift)
    target[...] = x
    return target


def blank(shape, dtype, shift=0):
    """Uninitialised device memory for an array."""
    dtype = np.dtype("uint16" if dtype == "bfloat16" else dtype)
    size = int(np.prod(shape, dtype=np.int64))
    return empty(size + shift, dtype)[shift:].reshape(shape)


def i64(n):
    return np.int64(n)


def eps(dtype):
    return 2.0 ** -8 if dtype == "bfloat16" else float(np.finfo(dtype).eps)


def assert_near(got, wanted, dtype, terms=1, scale=None, ulps=4):
    """|got - wanted| <= ulps eps(dtype) |wanted| + eps(accumulator) sqrt(terms) scale, NaN only where wanted is NaN.

    terms   how many numbers a sum has; scale the magnitude of its terms added up in squares, or of the largest
    """
    got = values(got, dtype)
    wanted = np.asarray(wanted, np.float64)
    assert got.shape == wanted.shape
    accumulator = 2.0 ** -52 if dtype == "float64" else 2.0 ** -23
    scale = np.abs(wanted) if scale is None else scale
    with np.errstate(invalid="ignore"):
        bound = ulps * eps(dtype) * np.abs(wanted) + 4 * accumulator * np.sqrt(terms) * scale + tiny(dtype)
        close = (np.abs(got - wanted) <= bound) | (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    worst = np.flatnonzero(~np.atleast_1d(close))[:3]
    assert close.all(), [(int(i), got.flat[i], wanted.flat[i]) for i in worst]


def tiny(dtype):
    """What may get lost near zero: CuPy compiles with -ftz=true, so subnormals of float32 are zero."""
    return {"float16": 2.0 ** -24, "float32": 2.0 ** -126, "bfloat16": 2.0 ** -126, "float64": 2.0 ** -1074}[dtype]


def flushed(x, dtype):
    """x with the subnormals of float32 at zero, where the kernel computes in float32."""
    return np.where(np.abs(x) < 2.0 ** -126, 0, x) if dtype != "float64" else x


def tickets(slices, tiles=1, fan=32):
    """The zeros that sum_slices of device.cuh wants."""
    count = 0
    while slices > 1:
        slices = -(-slices // fan)
        count += slices
    return np.zeros(count * tiles, np.uint32)
