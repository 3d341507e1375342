"""gg.numpy: NumPy's functions on Tensors, differentiable, with NumPy's names and arguments and those of the Array API 2024.12.

Arguments may be Tensors, NumPy or CuPy arrays, lists and numbers; results are Tensors, on the device of the arguments.
A family of functions is imported when the first of them is used, so that `import gpugrad` stays quick.
"""
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from numpy import (
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

if TYPE_CHECKING:
    from gpugrad.numpy.choosing import *  # noqa: F403
    from gpugrad.numpy.contract import *  # noqa: F403
    from gpugrad.numpy.creation import *  # noqa: F403
    from gpugrad.numpy.diagonals import *  # noqa: F403
    from gpugrad.numpy.einstein import *  # noqa: F403
    from gpugrad.numpy.elementwise import *  # noqa: F403
    from gpugrad.numpy.index import *  # noqa: F403
    from gpugrad.numpy.join import *  # noqa: F403
    from gpugrad.numpy.ordering import *  # noqa: F403
    from gpugrad.numpy.padding import *  # noqa: F403
    from gpugrad.numpy.reduce import *  # noqa: F403
    from gpugrad.numpy.scan import *  # noqa: F403
    from gpugrad.numpy.selection import *  # noqa: F403
    from gpugrad.numpy.shaping import *  # noqa: F403
    from gpugrad.numpy.statistics import *  # noqa: F403
    from gpugrad.numpy.without_nan import *  # noqa: F403

#: The public names of each module here, as its own __all__ has them.
FAMILIES = {
    "choosing": """
        allclose angle array_equal array_equiv clip imag interp isclose iscomplexobj isrealobj nan_to_num piecewise real
        real_if_close select unwrap where""",
    "contract": """
        convolve correlate cross dot inner kron matmul matvec outer tensordot vdot vecdot vecmat""",
    "creation": """
        arange array asarray ascontiguousarray astype copy empty empty_like eye from_dlpack fromfunction full full_like
        geomspace identity indices linspace logspace ones ones_like tri zeros zeros_like""",
    "diagonals": """
        diag diag_indices diag_indices_from diagflat diagonal fill_diagonal ix_ ravel_multi_index trace tril
        tril_indices tril_indices_from triu triu_indices triu_indices_from unravel_index""",
    "einstein": """
        einsum einsum_path""",
    "elementwise": """
        abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2 arctanh around asin asinh atan atan2
        atanh bitwise_and bitwise_count bitwise_invert bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift
        bitwise_xor cbrt ceil conj conjugate copysign cos cosh deg2rad degrees divide divmod equal exp exp2 expm1 fabs
        fix float_power floor floor_divide fmax fmin fmod frexp gcd greater greater_equal heaviside hypot i0 invert
        iscomplex isfinite isinf isnan isneginf isposinf isreal lcm ldexp left_shift less less_equal log log10 log1p
        log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor maximum minimum mod modf multiply
        negative nextafter not_equal positive pow power rad2deg radians reciprocal remainder right_shift rint round sign
        signbit sin sinc sinh spacing sqrt square subtract tan tanh true_divide trunc""",
    "index": """
        At getitem setitem""",
    "join": """
        append array_split block c_ column_stack concat concatenate delete dsplit dstack hsplit hstack insert meshgrid r_
        sliding_window_view split stack trim_zeros unstack vander vsplit vstack""",
    "ordering": """
        argpartition argsort argwhere digitize flatnonzero isin lexsort nonzero partition searchsorted sort unique
        unique_all unique_counts unique_inverse unique_values""",
    "padding": """
        pad""",
    "reduce": """
        all amax amin any argmax argmin average count_nonzero logsumexp max mean min prod ptp std sum var""",
    "scan": """
        cumprod cumsum cumulative_prod cumulative_sum diff ediff1d gradient logcumsumexp trapezoid""",
    "selection": """
        bincount choose compress copyto extract index_add place put put_along_axis putmask scatter_add segment_sum take
        take_along_axis""",
    "shaping": """
        atleast_1d atleast_2d atleast_3d broadcast_arrays broadcast_to expand_dims flip fliplr flipud matrix_transpose
        moveaxis ndim permute_dims ravel repeat reshape resize roll rollaxis rot90 shape size squeeze swapaxes tile
        transpose""",
    "statistics": """
        corrcoef cov median nanmedian nanpercentile nanquantile percentile quantile""",
    "without_nan": """
        nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmin nanprod nanstd nansum nanvar""",
}

MODULES = {name: family for family, names in FAMILIES.items() for name in names.split()}

__all__ = [
    "bool", "complex64", "complex128", "e", "euler_gamma", "finfo", "float16", "float32", "float64", "iinfo", "inf", "int8",
    "int16", "int32", "int64", "isdtype", "nan", "newaxis", "pi", "uint8", "uint16", "uint32", "uint64",
]
__all__ += list(MODULES)


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module 'gpugrad.numpy' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"gpugrad.numpy.{MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES})
