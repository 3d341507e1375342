"""Rows for gpugrad/rules/contract.py."""
import numpy as np
from rows import Row, normal


def matmul_row(label, a, b, **options):
    return Row("matmul", label, sample=(normal, normal), shapes=[(a, b)], complex_ok=True, **options)


#: Subscripts and the shapes of their operands.
EINSUMS = {
    "ab,bc->ac": ((3, 4), (4, 5)),
    "ba,cb->ca": ((4, 3), (5, 4)),
    "ab,ab->": ((3, 4), (3, 4)),
    "ab,ab->a": ((3, 4), (3, 4)),
    "ab,ab->ba": ((3, 4), (3, 4)),
    "a,b->ba": ((3,), (4,)),
    "abc,cdb->da": ((2, 3, 4), (4, 5, 3)),
    "abc,abd->cbd": ((2, 3, 4), (2, 3, 5)),
    "ab,->ab": ((3, 4), ()),
    "abc->ca": ((2, 3, 4),),
    "ab,cd->ad": ((3, 4), (2, 5)),
    "ab,bc,cd->ad": ((3, 4), (4, 2), (2, 5)),
    "ab,ac,ad->bcd": ((3, 2), (3, 4), (3, 5)),
    "xab,xbc->xac": ((0, 3, 4), (0, 4, 5)),
    "xa,ay->xy": ((3, 0), (0, 4)),
}

ROWS = [
    Row("matrix_transpose", shapes=[(2, 3), (2, 4, 3), (0, 2)], ref=np.matrix_transpose, complex_ok=True),
    matmul_row("matrices", (3, 4), (4, 5)),
    matmul_row("vectors", (4,), (4,)),
    matmul_row("matrix-vector", (3, 4), (4,)),
    matmul_row("vector-matrix", (4,), (4, 5)),
    matmul_row("stack-vector", (2, 3, 4), (4,)),
    matmul_row("vector-stack", (4,), (2, 4, 5)),
    matmul_row("stack-matrix", (2, 6, 3, 4), (4, 5)),
    matmul_row("matrix-stack", (3, 4), (2, 6, 4, 5)),
    matmul_row("stacks", (2, 3, 4), (2, 4, 5)),
    matmul_row("broadcast-stacks", (2, 1, 3, 4), (6, 4, 5)),
    matmul_row("broadcast-left", (1, 3, 4), (2, 4, 5)),
    matmul_row("long-vector-stack", (4,), (2, 3, 4, 5)),
    matmul_row("no-rows", (0, 4), (4, 5)),
    matmul_row("no-inner-axis", (3, 0), (0, 5)),
    matmul_row("no-stack", (0, 3, 4), (4, 5)),
    matmul_row("no-inner-axis-stack", (2, 3, 0), (0, 5)),
    Row("matmul", "integers", args=lambda rng: (rng.normal(size=(3, 4)), rng.integers(-3, 3, size=(4, 2))), keeps_dtype=False),
    *[Row("einsum", subscripts, sample=(normal,) * len(shapes), shapes=[shapes], params={"subscripts": subscripts},
          ref=lambda *xs, subscripts: np.einsum(subscripts, *xs), complex_ok=True) for subscripts, shapes in EINSUMS.items()],
    Row("cross", sample=(normal, normal), shapes=[((3,), (3,)), ((4, 3), (3,)), ((2, 1, 3), (4, 3)), ((0, 3), (1, 3))],
        complex_ok=True),
    *[Row("convolve", f"{mode}-{n}-{k}", sample=(normal, normal), shapes=[((n,), (k,))], params={"mode": mode}, complex_ok=True,
          ref=np.convolve) for mode in ("full", "valid") for n, k in ((7, 3), (3, 7), (4, 4), (1, 5), (1, 1))],
]
