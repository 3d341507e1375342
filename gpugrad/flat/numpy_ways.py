"""What NumPy makes of results without axes, and what it refuses to write where: a trace does the same."""
from __future__ import annotations

import warnings
from typing import Any

import numpy

#: Functions and methods that give arrays, also those without axes. The others give NumPy's scalars there.
GIVE_ARRAYS = frozenset({
    "block", "broadcast_arrays", "broadcast_to", "conj", "conjugate", "copy", "cov", "empty_like", "flip", "full_like", "i0",
    "imag", "moveaxis", "ones_like", "permute_dims", "piecewise", "real", "real_if_close", "reshape", "roll", "select", "squeeze",
    "swapaxes", "tensordot", "tile", "transpose", "where", "zeros_like"})
#: Those of them that are methods, too, also of scalars, which give scalars.
OF_SCALARS = frozenset({"conj", "conjugate", "imag", "moveaxis", "real", "reshape", "squeeze", "swapaxes", "transpose"})

#: Reductions of an array without axes that NumPy allows an axis.
REDUCE_NUMBERS = frozenset({"sum", "prod", "max", "min", "amax", "amin", "any", "all", "argmax", "argmin", "nansum", "nanmax",
                            "nanmin"})


def gives_array(name: str, args: tuple) -> bool:
    """Whether the function, or the method with the array in front, gives an array where its result has no axes."""
    return name in GIVE_ARRAYS and not (name in OF_SCALARS and args and getattr(args[0], "scalar", False))


def require_target(ufunc: Any, operands: tuple, target: Any) -> None:
    """NumPy's error for out= or an in-place operator, where the result is no array, does not fit or may not be cast."""
    if getattr(target, "scalar", False):
        raise TypeError("return arrays must be of ArrayType")
    if not isinstance(ufunc, numpy.ufunc) or ufunc.signature is not None:
        return
    empty = [numpy.empty(0, x.dtype) if hasattr(x, "dtype") else x for x in operands]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ufunc(*empty, out=numpy.empty(0, target.dtype))
    shape = numpy.broadcast_shapes(*[getattr(x, "shape", ()) for x in operands])
    if numpy.broadcast_shapes(shape, target.shape) != target.shape:
        raise ValueError(f"non-broadcastable output operand with shape {shown(target.shape)} doesn't match the broadcast shape "
                         f"{shown(numpy.broadcast_shapes(shape, target.shape))}")


def shown(shape: tuple[int, ...]) -> str:
    """A shape as NumPy's messages have it."""
    return f"({','.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def assignable(value: Any, target: Any) -> Any:
    """The value of target[index] = value: of complex numbers the real part, with NumPy's warning, where the target is real."""
    if getattr(target, "scalar", False):
        raise TypeError(f"'numpy.{target.dtype.type.__name__}' object does not support item assignment")
    if getattr(value, "dtype", target.dtype).kind != "c" or target.dtype.kind == "c":
        return value
    if target.dtype == bool:
        return value != 0
    warnings.warn("Casting complex values to real discards the imaginary part", numpy.exceptions.ComplexWarning, stacklevel=3)
    return value.real


def over_no_axis(name: str, x: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """The arguments behind x with axis None, where x has no axes and NumPy's reductions take 0 and -1 for it, too."""
    if name in REDUCE_NUMBERS and not getattr(x, "ndim", 1):
        if args and args[0] in (0, -1):
            return (None, *args[1:]), kwargs
        if kwargs.get("axis") in (0, -1):
            return args, {**kwargs, "axis": None}
    return args, kwargs
