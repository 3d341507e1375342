"""Rows for gpugrad/rules/contract.py."""
import numpy as np
from rows import Row, normal


def matmul_row(label, a, b, **options):
    return Row("matmul", label, sample=(normal, normal), shapes=[(a, b)], complex_ok=True, **options)


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
]
