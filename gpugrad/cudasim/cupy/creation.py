"""Making arrays, copying between host and device, and asking about types: what is written by hand."""

import numpy as np

from .array import IMPLICIT, borrowed, done, ndarray, operand, unwritten, wrap
from .blocks import submit
from .device import current
from .functions import leaves
from .streams import copied, library_called

DLPACK_CPU = 1


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    if isinstance(obj, ndarray):
        same = dtype is None or np.dtype(dtype) == obj.dtype
        laid_out = {"C": obj.flags.c_contiguous, "F": obj.flags.f_contiguous}.get(order, True)
        if not copy and same and laid_out and obj.ndim >= ndmin and obj._number == current():
            return obj
        return done("cupy_copy", current(), [obj._host], lambda: np.array(obj._host, dtype, order=order, ndmin=ndmin))
    if hasattr(obj, "__cuda_array_interface__"):
        return array(borrowed(obj), dtype, copy, order, subok, ndmin)
    made = np.array(stacked(obj), dtype, order=order, ndmin=ndmin)
    if made.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {made.dtype}")
    if not made.ndim:                                      # no copy: a fill, whose value goes along with the launch
        return done("cupy_fill", current(), [], lambda: made + made.dtype.type(0) if made == 0 else made)
    copied("to_device")
    return wrap(made)


def stacked(obj):
    """Lists of device arrays are stacked on the device, where they hold nothing else and are of one shape."""
    if not isinstance(obj, list | tuple):
        return obj._host if isinstance(obj, ndarray) else obj
    ours = [isinstance(x, ndarray) for x in leaves(obj)]
    if any(ours) and not (all(ours) and len({x.shape for x in leaves(obj)}) == 1):
        raise TypeError(IMPLICIT)
    return [stacked(x) for x in obj] if any(ours) else obj


def frombuffer(buffer, dtype=float, count=-1, offset=0):
    return array(np.frombuffer(buffer, dtype, count, offset))


def from_dlpack(x, *, device=None, copy=None):
    """A view of an array of this module. The memory of others is not the simulated device's."""
    if isinstance(x, ndarray):
        return x.copy() if copy else x.view()
    kind = x.__dlpack_device__()[0]
    if kind == DLPACK_CPU:
        raise TypeError("CPU arrays cannot be directly imported to CuPy. Use `cupy.array(numpy.from_dlpack(input))` instead.")
    raise BufferError(f"from_dlpack: an array of the simulated device was expected, got one of DLPack's device {kind}.")


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, bool(copy), order or "K")


def asanyarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, bool(copy), order or "K")


def ascontiguousarray(a, dtype=None):
    if isinstance(a, ndarray) and a.flags.c_contiguous and a.ndim and (dtype is None or np.dtype(dtype) == a.dtype):
        return a
    return array(a, dtype, True, "C", ndmin=1)


def asfortranarray(a, dtype=None):
    return array(a, dtype, False, "F")


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    if isinstance(a, ndarray):
        return a.get(order=order, out=out)
    return np.asarray(a, order=order)


def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order=order)


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    return unwritten(np.empty_like(prototype._host, dtype, order, shape=shape), current())


def copyto(dst, src, casting="same_kind", where=None):
    """Without a mask, the two may be on any devices."""
    if where is None and isinstance(src, ndarray):
        value, mask = src._host, True
    else:
        if isinstance(src, np.ndarray):
            if src.ndim:
                raise ValueError("non-scalar numpy.ndarray cannot be used for copyto")
            src = src[()]
        value, mask = operand(src), True if where is None else operand(where)
        operand(dst)
    submit("cupy_copyto", dst._number, [x for x in (value, mask) if isinstance(x, np.ndarray)], [dst._host],
           lambda: np.copyto(dst._host, value, casting=casting, where=mask))


def matmul(x1, x2, /, *rest, out=None, dtype=None):
    if rest:
        raise TypeError("matmul() got multiple values for argument 'out'")
    for x in (x1, x2):
        if not isinstance(x, ndarray) and not hasattr(x, "__cuda_array_interface__"):
            raise TypeError(f"Unsupported type {type(x)}")
    a, b = operand(x1), operand(x2)
    if dtype is not None:
        a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
    library_called("cuBLAS")
    if out is not None:
        submit("cublas_gemm", current(), [a, b], [operand(out)],
               lambda: np.copyto(out._host, np.matmul(a, b), casting="same_kind"), "gemm")
        return out
    return done("cublas_gemm", current(), [a, b], lambda: np.asarray(np.matmul(a, b), order="C"), kind="gemm")


def shape(a):
    return a.shape if isinstance(a, ndarray) else np.shape(a)


def ndim(a):
    return a.ndim if isinstance(a, ndarray) else np.ndim(a)


def size(a, axis=None):
    return a.size if axis is None else a.shape[axis]


def isscalar(element):
    return np.isscalar(element)


def plain(x):
    """An array stands for its dtype, a 0-d one too."""
    return x.dtype if isinstance(x, ndarray) else x


def result_type(*arrays_and_dtypes):
    return np.result_type(*[plain(x) for x in arrays_and_dtypes])


def can_cast(from_, to, casting="safe"):
    return np.can_cast(plain(from_), to, casting)


def iscomplexobj(x):
    return np.iscomplexobj(x._host) if isinstance(x, ndarray) else np.iscomplexobj(x)


def isrealobj(x):
    return not iscomplexobj(x)


def shares_memory(a, b, max_work=None):
    return np.shares_memory(a._host, b._host)


def may_share_memory(a, b, max_work=None):
    return np.may_share_memory(a._host, b._host)


def get_array_module(*args):
    import gpugrad.cudasim.cupy as cupy
    return cupy if any(isinstance(x, ndarray) for x in args) else np
