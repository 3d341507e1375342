"""The instantiations of the .cu files that the wrappers may launch: INSTANCES[file][kernel] lists their template arguments.

    SOFTMAX = Source("softmax.cu", INSTANCES["softmax.cu"])

Dtypes by NumPy's names, widths and tile sizes as ints, choices as bools. The compile gate compiles all of them.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence

ALL = ("float32", "float64", "float16", "bfloat16")
WIDE_FLOATS = ("float32", "float64")
INDICES = ("int32", "int64")
TRANSPOSES = ((False, False, 0), (True, False, 0), (False, True, 0), (True, True, 0))
MASKED = ((False, True, 1), (True, False, 2))
ITEMSIZE = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}


def wide(dtype: str) -> int:
    """Elements in 128 bits."""
    return 16 // ITEMSIZE[dtype]


def paths(dtypes: Iterable[str] = ALL) -> list[tuple[str, int]]:
    """(dtype, V) of the vector and the scalar path."""
    return [(t, v) for t in dtypes for v in (wide(t), 1)]


def packs(dtype: str, width: int) -> list[int]:
    """The N of the kernels that keep a row in registers: a thread holds N packs, 16 elements at most, 8 of float64."""
    most = 8 if dtype == "float64" else 16
    return sorted({1, 4, most} if width == 1 else {1, most // width})


def every(kernels: Sequence[str], arguments: Iterable[tuple]) -> dict[str, list[tuple]]:
    """Each of several kernels with the same template arguments."""
    listed = tuple(arguments)
    return {kernel: list(listed) for kernel in kernels}


ROW_PATHS = [(t, v, n) for t, v in paths() for n in packs(t, v)]
FORMS = (False, True)             # the bool of gelu's tanh form and of log-softmax

INSTANCES: dict[str, dict[str, list[tuple]]] = {
    "relu.cu": every(("relu", "relu_pull", "bias_relu", "bias_relu_pull"), paths()),
    "reduce.cu": every(("sum_last", "sum_middle"), paths()),
    "gelu.cu": every(("gelu", "gelu_pull"), [(*p, form) for p in paths() for form in FORMS]),
    "dropout.cu": every(("dropout",), paths()),
    "softmax.cu": every(("softmax_row", "softmax_row_pull"), [(*p, log) for p in ROW_PATHS for log in FORMS])
                  | every(("softmax_long", "softmax_long_pull"), [(*p, log) for p in paths() for log in FORMS]),
    "cross_entropy.cu": {"cross_entropy_row": [*((*p, "int64") for p in ROW_PATHS), ("float32", 4, 4, "int32")]}
                        | every(("cross_entropy_long", "cross_entropy_pull"), [(*p, i) for p in paths() for i in INDICES])
                        | {"count_labels": [(i,) for i in INDICES]},
    "layer_norm.cu": {"layer_norm_row": ROW_PATHS,
                      "layer_norm_row_pull": [(t, v, max(1, most // v)) for t, v in paths()
                                              for most in ((4, 8) if t == "float64" else (8,))]}
                     | every(("layer_norm_long", "layer_norm_long_pull", "layer_norm_columns"), paths()),
    "attention.cu": every(("attention", "attention_pull"), [(*p, columns) for p in paths() for columns in (32, 64, 128)]),
    "optim.cu": every(("sgd", "adam"), paths(WIDE_FLOATS)),
    "scatter.cu": every(("scatter_chunks", "scatter_joins"), [(*p, i) for p in paths() for i in INDICES]),
    "gemm.cu": every(("gemm",), [*((*p, *how) for p in paths() for how in TRANSPOSES),
                                  *((*p, *how) for p in paths(WIDE_FLOATS) for how in MASKED)]),
}
