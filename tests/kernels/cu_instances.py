"""The instantiations of kernels/*.cu that the wrappers may launch: {file: [(kernel, template arguments)]}."""
from itertools import product

from cu_support import C_NAMES, wide

ALL = ("float32", "float64", "float16", "bfloat16")
WIDE_FLOATS = ("float32", "float64")


def paths(dtypes=ALL):
    """(dtype, V) of the vector and the scalar path."""
    return [(t, v) for t in dtypes for v in (wide(t), 1)]


def rows(dtype, width, most=None):
    """The N of the kernels that keep a row in registers: see cu_support.row_plan."""
    most = most or (8 if dtype == "float64" else 16)
    return sorted({1, 4, most} if width == 1 else {1, max(1, most // width)})


INSTANCES = {
    "relu.cu": list(product(("relu", "relu_pull", "bias_relu", "bias_relu_pull"), paths())),
    "reduce.cu": list(product(("sum_last", "sum_middle"), paths())),
    "gelu.cu": [(k, (*p, form)) for k in ("gelu", "gelu_pull") for p in paths() for form in (False, True)],
    "dropout.cu": [("dropout", p) for p in paths()],
    "softmax.cu": [(k, (*p, n, log)) for k in ("softmax_row", "softmax_row_pull") for p in paths() for n in rows(*p)
                   for log in (False, True)]
                  + [(k, (*p, log)) for k in ("softmax_long", "softmax_long_pull") for p in paths() for log in (False, True)],
    "cross_entropy.cu": [("cross_entropy_row", (*p, n, "long long")) for p in paths() for n in rows(*p)]
                        + [("cross_entropy_row", ("float32", 4, 4, "int"))]
                        + [(k, (*p, i)) for k in ("cross_entropy_long", "cross_entropy_pull") for p in paths()
                           for i in ("int", "long long")]
                        + [("count_labels", ("int",)), ("count_labels", ("long long",))],
    "layer_norm.cu": [("layer_norm_row", (*p, n)) for p in paths() for n in rows(*p)]
                     + [("layer_norm_row_pull", (*p, max(1, most // p[1]))) for p in paths()
                        for most in ((4, 8) if p[0] == "float64" else (8,))]
                     + list(product(("layer_norm_long", "layer_norm_long_pull", "layer_norm_columns"), paths())),
    "optim.cu": list(product(("sgd", "adam"), paths(WIDE_FLOATS))),
    "scatter.cu": [(k, (*p, i)) for k in ("scatter_chunks", "scatter_joins") for p in paths() for i in ("int", "long long")],
    "gemm.cu": [("gemm", (*p, ta, tb, mask)) for p in paths()
                for ta, tb, mask in ((False, False, 0), (True, False, 0), (False, True, 0), (True, True, 0), (False, True, 1),
                                     (True, False, 2))],
}


def expression(kernel, arguments):
    """As C++ writes it: relu<float, 4>."""
    return f"{kernel}<{', '.join(C_NAMES.get(a, str(a).lower() if isinstance(a, bool) else str(a)) for a in arguments)}>"
