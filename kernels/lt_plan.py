"""From arrays to a cuBLASLt product: which buffer is A, which is transposed, what the epilogue means. Pure; needs no GPU.

cuBLASLt thinks in columns, NumPy in rows, and a row-major matrix is its own transpose in columns. So a row-major
out = a b is computed as outᵀ = bᵀ aᵀ: Lt's A is b's buffer, Lt's B is a's, and nothing is moved:

    user's product              Lt's m, n, k    A             B             epilogue
    y = x w + bias              N, B, K         w, N          x, N          bias along the columns of y
    dx = dy wᵀ                  K, B, N         w, T          dy, N         drelu_bgrad: the sum over rows of dx
    dw += xᵀ dy                 N, K, B         dy, N         x, T          sum_b: the sum over rows of dy

Any leading dimension will do, as long as rows or columns lie together: slices of columns and transposed views are no copies.
Leading axes are a batch with one stride; where b has none, they are folded into the rows.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy

from gpugrad.errors import ArgumentError, DtypeError, GpugradError, ShapeError

#: Lt's epilogues. `bias`, `bgrad` and `sum` take the argument `vector`; `aux` and `d...` the argument `aux`.
EPILOGUES = {
    None: 1, "bias": 4, "relu": 2, "relu_bias": 6, "relu_aux": 2 | 128, "relu_aux_bias": 6 | 128,
    "drelu": 8 | 128, "drelu_bgrad": 8 | 16 | 128,
    "gelu": 32, "gelu_bias": 36, "gelu_aux": 32 | 128, "gelu_aux_bias": 36 | 128, "dgelu": 64 | 128, "dgelu_bgrad": 64 | 16 | 128,
    "sum_a": None, "sum_b": None,           # BGRADA or BGRADB, whichever of them reads a, or b
}
BGRADA, BGRADB = 256, 512
#: (dtype of a and b, dtype of out, compute=) -> (compute type, scale type)
COMPUTE: dict = {
    ("float32", "float32", None): ("32F", "float32"), ("float32", "float32", "tf32"): ("32F_FAST_TF32", "float32"),
    ("float32", "float32", "bf16"): ("32F_FAST_16BF", "float32"), ("float64", "float64", None): ("64F", "float64"),
    **{(half, out, None): ("32F", "float32") for half in ("float16", "bfloat16") for out in (half, "float32")},
}
MASK_BITS = 128                             # the rows of a ReLU mask are padded to this many bits
MOST_BATCHES = 2**31 - 1                    # a C int
GELU_ROW = 8                                # and those of a GELU input to this many elements


class LtUnsupportedError(GpugradError, NotImplementedError):
    """cuBLASLt cannot do this product as asked; the message is the reason. The caller takes another way."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A column-major matrix in memory: rows, cols and ld in elements, batch_stride from one matrix to the next."""

    dtype: str
    rows: int
    cols: int
    ld: int
    batch_stride: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """D = alpha op(A) op(B) + beta C in Lt's terms. `swapped`: Lt's A is the user's b, since out is row-major."""

    m: int
    n: int
    k: int
    batch: int
    swapped: bool
    transpose_a: bool
    transpose_b: bool
    a: Matrix
    b: Matrix
    c: Matrix
    d: Matrix
    compute: str
    scale: str
    epilogue: int = 1
    aux_ld: int = 0

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * self.k * self.batch


def plan(a: Any, b: Any, out: Any, c: Any = None, *, epilogue: str | None = None, vector: Any = None, aux: Any = None,
         compute: str | None = None, nan_to_zero: bool = False) -> Plan:
    """The Plan of out = alpha a @ b + beta c; arguments as `cublaslt.matmul` has them, read for shape, strides and dtype only.

    Raises ShapeError, DtypeError and ArgumentError for what no product could mean, LtUnsupportedError for what Lt cannot do.
    """
    c = out if c is None else c
    lead = check_shapes(a, b, out, c)
    dtypes = (a.dtype.name, out.dtype.name, compute)
    if a.dtype != b.dtype or c.dtype != out.dtype or dtypes not in COMPUTE:
        raise DtypeError(f"matmul: expected a and b of one dtype, out of the same or float32, and compute None, 'tf32' or 'bf16' "
                         f"(float32 only), got {a.dtype}, {b.dtype}, {out.dtype}, c {c.dtype}, {compute!r}. Cast one of them.")
    batch, steps = one_batch(lead, (a, b, c, out))
    va, vb, vd = View.of("a", a, steps[0]), View.of("b", b, steps[1]), View.of("out", out, steps[3])
    vc = View.of("c", c, steps[2], vd.by_rows)
    if batch > 1 and vb.batch_stride == 0 and va.foldable() and vc.foldable() and vd.foldable():
        va, vc, vd, batch = va.folded(batch), vc.folded(batch), vd.folded(batch), 1
    if batch > 1 and vd.batch_stride == 0:
        raise LtUnsupportedError("out is broadcast along its batch")
    swapped, k = vd.by_rows, va.cols
    if not (k and out.size) or batch > MOST_BATCHES:
        raise LtUnsupportedError(f"sizes must lie between 1 and {MOST_BATCHES} matrices, got inner size {k}, out {out.shape}")
    left, right = (vb, va) if swapped else (va, vb)
    m, n = (vd.cols, vd.rows) if swapped else (vd.rows, vd.cols)
    number, aux_ld = 1, 0
    if epilogue is not None:
        number = epilogue_number(epilogue, swapped, m, k, batch, nan_to_zero)
        aux_ld = check_extras(epilogue, vd, out.dtype, vector, aux)
    compute_type, scale = COMPUTE[dtypes]
    return Plan(m, n, k, batch, swapped, left.by_rows != swapped, right.by_rows != swapped,
                left.matrix(), right.matrix(), vc.matrix(), vd.matrix(), compute_type, scale, number, aux_ld)


def check_shapes(a: Any, b: Any, out: Any, c: Any) -> tuple[int, ...]:
    """The batch axes of out, once all shapes agree."""
    try:
        lead = numpy.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        agree = min(a.ndim, b.ndim) >= 2 and a.shape[-1] == b.shape[-2] \
            and out.shape == c.shape == (*lead, a.shape[-2], b.shape[-1])
    except ValueError:
        agree = False
    if not agree:
        raise ShapeError(f"matmul: expected a (..., M, K), b (..., K, N), c and out (..., M, N), got {a.shape}, {b.shape}, "
                         f"{c.shape}, {out.shape}. Transpose an operand, or check the batch axes.")
    return lead


def one_batch(lead: tuple[int, ...], arrays: tuple) -> tuple[int, list[int]]:
    """(number of matrices, bytes from one to the next in each array) where the leading axes merge into one."""
    axes = batch_axes(lead, arrays)
    if len(axes) > 1:
        raise LtUnsupportedError(f"the batch axes {lead} have no common stride")
    return axes[0] if axes else (1, [0] * len(arrays))


def batch_axes(lead: tuple[int, ...], arrays: tuple) -> list[tuple[int, list[int]]]:
    """(size, bytes from one matrix to the next in each array) of the leading axes that are left when all that can have merged."""
    axes: list[tuple[int, list[int]]] = []
    for axis in range(len(lead) - 1, -1, -1):
        size, steps = lead[axis], []
        if size == 1:
            continue
        for x in arrays:
            own = axis - len(lead) + x.ndim - 2
            steps.append(0 if own < 0 or x.shape[own] == 1 else x.strides[own])
        if axes and all(step == inner * axes[0][0] for step, inner in zip(steps, axes[0][1])):
            axes[0] = (size * axes[0][0], axes[0][1])
        else:
            axes.insert(0, (size, steps))
    return axes


@dataclass(frozen=True, slots=True)
class View:
    """A user's matrix: rows and columns as NumPy counts them; `by_rows`: its rows lie together, `ld` elements apart."""

    name: str
    dtype: str
    rows: int
    cols: int
    ld: int
    by_rows: bool
    batch_stride: int

    @classmethod
    def of(cls, name: str, x: Any, batch_step: int, by_rows: bool | None = None) -> View:
        """The View of an array's last two axes; rows go first where either would do, unless `by_rows` says which."""
        (rows, cols), size = x.shape[-2:], x.dtype.itemsize
        if any(s % size for s in (*x.strides[-2:], batch_step)):
            raise LtUnsupportedError(f"{name} has strides {x.strides}, which are no multiples of its {size} bytes")
        down, across, step = x.strides[-2] // size, x.strides[-1] // size, batch_step // size
        if by_rows is not False and (cols == 1 or across == 1) and (rows == 1 or down >= cols):
            return cls(name, x.dtype.name, rows, cols, cols if rows == 1 else down, True, step)
        if by_rows is not True and (rows == 1 or down == 1) and (cols == 1 or across >= rows):
            return cls(name, x.dtype.name, rows, cols, rows if cols == 1 else across, False, step)
        order = {None: "rows or columns", True: "rows, as in out,", False: "columns, as in out,"}[by_rows]
        raise LtUnsupportedError(f"the {order} of {name} must lie together, got strides {x.strides}")

    def foldable(self) -> bool:
        """Whether a batch of these matrices is one matrix of more rows."""
        return self.by_rows and self.batch_stride >= self.cols and (self.rows == 1 or self.batch_stride == self.rows * self.ld)

    def folded(self, batch: int) -> View:
        ld = self.batch_stride if self.rows == 1 else self.ld
        return View(self.name, self.dtype, self.rows * batch, self.cols, ld, True, 0)

    def matrix(self) -> Matrix:
        """Its memory as Lt sees it: what lies together is a column."""
        rows, cols = (self.cols, self.rows) if self.by_rows else (self.rows, self.cols)
        return Matrix(self.dtype, rows, cols, self.ld, self.batch_stride)


def epilogue_number(name: str, swapped: bool, m: int, k: int, batch: int, nan_to_zero: bool) -> int:
    """Lt's number of an epilogue. Raises ArgumentError for an unknown one, LtUnsupportedError where Lt's rules forbid it."""
    if name not in EPILOGUES:
        known = ", ".join(e for e in EPILOGUES if e)
        raise ArgumentError(f"matmul: expected an epilogue of {known}, got {name!r}. Choose one.")
    if name in ("sum_a", "sum_b"):
        number = BGRADA if (name == "sum_b") == swapped else BGRADB
        if k == 1 or (number == BGRADB and m == 1):
            raise LtUnsupportedError(f"{name} needs an inner size above 1, and BGRADB more than one row, got m = {m}, k = {k}")
    else:
        number = EPILOGUES[name]                                                      # type: ignore[assignment]
        if not swapped:
            raise LtUnsupportedError(f"{name} works along the columns of a row-major out, but out lies by columns")
    if name.startswith("relu") and not nan_to_zero:
        raise LtUnsupportedError(f"{name} turns NaN into 0, where numpy.maximum keeps it; nan_to_zero=True accepts that")
    if name.startswith("drelu") and k == 1:
        raise LtUnsupportedError(f"{name} needs an inner size above 1")
    if batch > 1 and name not in ("bias", "relu", "relu_bias", "gelu", "gelu_bias"):
        raise LtUnsupportedError(f"{name} on a batch of {batch} would need a vector or aux of each")
    return number


def aux_shape(epilogue: str, rows: int, cols: int) -> tuple[int, int]:
    """The shape of aux for an out of (rows, cols): bytes of a ReLU mask (uint8), or padded rows of GELU's input (out's dtype)."""
    unit = MASK_BITS if "relu" in epilogue else GELU_ROW
    padded = -(-cols // unit) * unit
    return rows, padded // 8 if "relu" in epilogue else padded


def check_extras(epilogue: str, out: View, dtype: Any, vector: Any, aux: Any) -> int:
    """The leading dimension of aux (bits of a mask, elements of a GELU input; 0 without), once vector and aux fit."""
    needs_vector = any(part in epilogue for part in ("bias", "bgrad", "sum"))
    needs_aux = epilogue.startswith("d") or "aux" in epilogue
    for what, needed, given in (("vector", needs_vector, vector), ("aux", needs_aux, aux)):
        if needed != (given is not None):
            raise ArgumentError(f"matmul: expected {what}= with epilogue {epilogue!r} {'' if needed else 'not '}to be given, "
                                f"got {None if given is None else given.shape}. Correct it.")
    if needs_vector:
        length = out.rows if epilogue == "sum_a" else out.cols
        if vector.shape != (length,) or vector.dtype != dtype or not vector.flags.c_contiguous:
            raise ArgumentError(f"matmul: expected vector ({length},) of {dtype}, contiguous, got {vector.shape} of "
                                f"{vector.dtype}, strides {vector.strides}. Use gpugrad.ascontiguous(x).")
    if not needs_aux:
        return 0
    shape, aux_dtype = aux_shape(epilogue, out.rows, out.cols), numpy.dtype("uint8") if "relu" in epilogue else dtype
    if aux.shape != shape or aux.dtype != aux_dtype or not aux.flags.c_contiguous:
        raise ArgumentError(f"matmul: expected aux {shape} of {aux_dtype}, contiguous, got {aux.shape} of {aux.dtype}, strides "
                            f"{aux.strides}. Allocate aux_shape({epilogue!r}, {out.rows}, {out.cols}).")
    return shape[1] * 8 if "relu" in epilogue else shape[1]
