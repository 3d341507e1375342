"""A simulated cuBLASLt: the C functions that a caller hands descriptors to, over the memory of the simulated device.

    lt = CublasLt()
    lt.cublasLtMatmul(handle, descriptor, ...)          status numbers, ctypes arguments and byref results, as in the library

Written from NVIDIA's documentation alone, so that it can disagree with who calls it: column-major matrices with a leading
dimension, batch strides in elements, epilogues along the rows of D, masks of one bit with a row length in bits. It refuses what
the library refuses, by status. Memory that a product must not touch raises as it does under a kernel: outside of an array,
misaligned, never written, read-only. The layout of a mask is the library's secret; here row r of column c is bit c * ld + r.
"""

from types import SimpleNamespace

import numpy as np

from .errors import Misaligned, OutOfBounds, ReadOnly, Uninitialised
from .memory import SPACE

INVALID_VALUE, NOT_SUPPORTED = 7, 15
NAMES = {0: b"CUBLAS_STATUS_SUCCESS", 7: b"CUBLAS_STATUS_INVALID_VALUE", 15: b"CUBLAS_STATUS_NOT_SUPPORTED"}
TYPES: dict[int, np.dtype] = {0: np.dtype("f4"), 1: np.dtype("f8"), 2: np.dtype("f2")}
#: (compute type, type of A and B, type of D) -> type of the scale: 32F, 32F_FAST_16BF, 32F_FAST_TF32, 64F
PRECISIONS = {(68, 0, 0): 0, (75, 0, 0): 0, (77, 0, 0): 0, (70, 1, 1): 1, (68, 2, 2): 0, (68, 2, 0): 0}
KEPT_BITS = {75: 16, 77: 19}                    # of a float32 that goes into the product
SIZES = {"MatrixLayout": {0: 4, 1: 4, 2: 8, 3: 8, 4: 8, 5: 4, 6: 8},
         "MatmulDesc": {0: 4, 1: 4, 3: 4, 4: 4, 7: 4, 8: 8, 11: 8, 12: 8},
         "MatmulPreference": {1: 8, 3: 4, 5: 4, 6: 4, 7: 4, 8: 4}}
DEFAULT, RELU, BIAS, DRELU, BGRAD, GELU, DGELU, AUX, BGRADA, BGRADB = 1, 2, 4, 8, 16, 32, 64, 128, 256, 512
EPILOGUES = {DEFAULT, BIAS, RELU, RELU | BIAS, RELU | AUX, RELU | BIAS | AUX, DRELU | AUX, DRELU | BGRAD | AUX, GELU, GELU | BIAS,
             GELU | AUX, GELU | BIAS | AUX, DGELU | AUX, DGELU | BGRAD | AUX, BGRADA, BGRADB}
WITH_VECTOR = BIAS | BGRAD | BGRADA | BGRADB
MASK_ROW, GELU_ROW = 128, 8                     # what the row of aux is a multiple of: bits of a mask, elements of a GELU input
WORKSPACE_ALIGNMENT = 256


class CublasLt:
    """The library's functions. `heuristics`, `products` and `streams` tell what was asked; `objects` are those not destroyed.

    enqueue   enqueue(stream, work, product) runs or keeps work(), which multiplies; product has the matrices a, b, c, d, their
              `pointers`, and those of `vector` and `aux`. By default it runs now.
    """

    def __init__(self, enqueue=lambda stream, work, product: work()):
        self.objects: dict[int, dict] = {}
        self.heuristics, self.products, self.made, self.enqueue = 0, 0, 0, enqueue
        self.streams: list[int] = []
        for kind in SIZES:
            setattr(self, f"cublasLt{kind}SetAttribute", lambda *a, kind=kind: self.set(kind, *a))
            setattr(self, f"cublasLt{kind}GetAttribute", lambda *a, kind=kind: self.get(kind, *a))
            setattr(self, f"cublasLt{kind}Destroy", lambda p: 0 if self.objects.pop(p.value, None) else INVALID_VALUE)

    def cublasLtGetVersion(self):
        return 131000

    def cublasLtGetStatusName(self, status):
        return NAMES.get(status, b"CUBLAS_STATUS_UNKNOWN")

    # objects ------------------------------------------------------------------------------------------------------------

    def cublasLtCreate(self, handle):
        return self.new("Handle", handle, {})

    def new(self, kind, pointer, attributes):
        self.made += 16
        pointer._obj.value = self.made
        self.objects[self.made] = {"kind": kind, **attributes}
        return 0

    def cublasLtMatrixLayoutCreate(self, pointer, dtype, rows, cols, ld):
        return self.new("MatrixLayout", pointer, {0: dtype.value, 1: 0, 2: rows.value, 3: cols.value, 4: ld.value, 5: 1, 6: 0})

    def cublasLtMatmulDescCreate(self, pointer, compute, scale):
        return self.new("MatmulDesc", pointer, {0: compute.value, 1: scale.value, 3: 0, 4: 0, 7: DEFAULT})

    def cublasLtMatmulPreferenceCreate(self, pointer):
        return self.new("MatmulPreference", pointer, {1: 0})

    def set(self, kind, pointer, attribute, held, size):
        one = self.objects.get(pointer.value)
        if one is None or one["kind"] != kind or size.value != SIZES[kind].get(attribute.value):
            return INVALID_VALUE
        one[attribute.value] = held._obj.value
        return 0

    def get(self, kind, pointer, attribute, held, size, written):
        one = self.objects.get(pointer.value)
        if one is None or one["kind"] != kind or size.value != SIZES[kind].get(attribute.value):
            return INVALID_VALUE
        held._obj.value = one.get(attribute.value, 0)
        written._obj.value = size.value
        return 0

    # products -----------------------------------------------------------------------------------------------------------

    def read(self, desc, layouts):
        """A product's sizes as the descriptors stand now, or None where the library has no algorithm for it."""
        d, found = self.objects[desc.value], [self.objects[x.value] for x in layouts]
        if any(o["kind"] != "MatrixLayout" or o[1] != 0 for o in found):
            return None
        a, b, c, out = (SimpleNamespace(type=o[0], rows=o[2], cols=o[3], ld=o[4], batch=o[5], stride=o[6]) for o in found)
        m, k = (a.cols, a.rows) if d[3] else (a.rows, a.cols)
        inner, n = (b.cols, b.rows) if d[4] else (b.rows, b.cols)
        epilogue, aux_ld = d[7], d.get(12, 0)
        right = k == inner and (m, n) == (out.rows, out.cols) == (c.rows, c.cols) and m * n * k > 0
        right &= a.type == b.type and c.type == out.type and PRECISIONS.get((d[0], a.type, out.type)) == d[1]
        right &= all(x.ld >= x.rows and x.batch == out.batch for x in (a, b, c, out))
        right &= out.batch == 1 or out.stride >= out.ld * (n - 1) + m
        right &= epilogue in EPILOGUES
        if epilogue & AUX:
            right &= bool(d.get(11)) and aux_ld >= m and aux_ld % (MASK_ROW if epilogue & (RELU | DRELU) else GELU_ROW) == 0
        right &= not (epilogue & (DRELU | BGRADA | BGRADB) and k == 1) and not (epilogue == BGRADB and m == 1)
        right &= bool(d.get(8)) or not epilogue & WITH_VECTOR
        right &= out.batch == 1 or not epilogue & (AUX | BGRAD | BGRADA | BGRADB)
        return SimpleNamespace(a=a, b=b, c=c, d=out, m=m, n=n, k=k, epilogue=epilogue, ta=d[3], tb=d[4], vector=d.get(8),
                               aux=d.get(11), aux_ld=aux_ld, compute=d[0]) if right else None

    def cublasLtMatmulAlgoGetHeuristic(self, handle, desc, a, b, c, d, preference, asked, result, count):
        self.heuristics += 1
        if self.read(desc, (a, b, c, d)) is None:
            return NOT_SUPPORTED
        wants = self.objects[preference.value]
        result._obj.algo.data[:4] = [wants.get(n, 256) for n in (5, 6, 7, 8)]
        result._obj.algo.data[4] = wants[1]
        count._obj.value = 1
        return 0

    def cublasLtMatmul(self, handle, desc, alpha, a, la, b, lb, beta, c, lc, d, ld, algo, workspace, size, stream):
        p = self.read(desc, (la, lb, lc, ld))
        wanted = list(algo._obj.data)
        if p is None or any(x.value % n for x, n in zip((a, b, c, d), wanted) if n):
            return INVALID_VALUE
        if size.value < wanted[4] or (workspace.value or 0) % WORKSPACE_ALIGNMENT:
            return INVALID_VALUE
        if c.value == d.value and vars(p.c) != vars(p.d):
            return INVALID_VALUE
        p.alpha, p.beta = alpha._obj.value, beta._obj.value            # on the host: a graph repeats these values
        p.pointers = a.value, b.value, c.value, d.value
        self.products += 1
        self.streams.append(stream.value)
        self.enqueue(stream.value or 0, lambda: multiply(p), p)
        return 0


def multiply(p):
    """D = epilogue(alpha op(A) op(B) + beta C), one matrix of the batch after the other."""
    a, b, c, d = p.pointers
    wide = np.float64 if p.a.type == 1 else np.float32
    with np.errstate(all="ignore"):
        for i in range(p.d.batch):
            left = rounded(matrix("A", a, p.a, i).astype(wide), p.compute)
            right = rounded(matrix("B", b, p.b, i).astype(wide), p.compute)
            left, right = left.T if p.ta else left, right.T if p.tb else right
            total = wide(p.alpha) * (left @ right)
            if p.beta:
                total = total + wide(p.beta) * matrix("C", c, p.c, i).astype(wide)
            finish(p, total, left, right, matrix("D", d, p.d, i, write=True))


def finish(p, total, left, right, new):
    """The epilogue of one matrix (m, n); vectors lie along m, but for BGRADB."""
    e, dtype = p.epilogue, new.dtype
    if e in (BGRADA, BGRADB):
        whole = left.sum(1) if e == BGRADA else right.sum(0)
        flat("the bias gradient", p.vector, dtype, len(whole), write=True)[:] = whole
    if e & BIAS:
        total = total + flat("the bias", p.vector, dtype, p.m)[:, None]
    if e & (DRELU | DGELU):
        total = total * (open_gates(p) if e & DRELU else gelu_slope(padded(p, dtype)))
        if e & BGRAD:
            flat("the bias gradient", p.vector, dtype, p.m, write=True)[:] = total.sum(1)
    elif e & RELU:
        positive = total > 0
        if e & AUX:
            bits = np.zeros((p.aux_ld, p.n), bool)
            bits[:p.m] = positive
            flat("aux", p.aux, np.uint8, p.aux_ld * p.n // 8, write=True)[:] = np.packbits(bits.T.ravel(), bitorder="little")
        total = np.where(positive, total, 0)                            # NaN becomes 0, as in the library
    elif e & GELU:
        if e & AUX:
            padded(p, dtype, write=True)[:] = total
        total = gelu(total)
    new[:] = total


def open_gates(p):
    bits = np.unpackbits(flat("aux", p.aux, np.uint8, p.aux_ld * p.n // 8), bitorder="little")
    return bits.reshape(p.n, p.aux_ld).T[:p.m]


def padded(p, dtype, write=False):
    """GELU's input (m, n) in columns of aux_ld."""
    return columns("aux", p.aux, np.dtype(dtype), p.m, p.n, p.aux_ld, write)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gelu_slope(x):
    t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x * x)


def rounded(x, compute):
    """float32 as the tensor cores take it: rounded to the bits that TF32 or bfloat16 keep."""
    if compute not in KEPT_BITS:
        return x
    lost = 32 - KEPT_BITS[compute]
    bits = np.ascontiguousarray(x).view(np.uint32) + np.uint32(1 << (lost - 1))
    return (bits & np.uint32(0xFFFFFFFF << lost & 0xFFFFFFFF)).view(np.float32)


# memory -----------------------------------------------------------------------------------------------------------------

def flat(name, address, dtype, count, write=False):
    return columns(name, address, np.dtype(dtype), int(count), 1, int(count), write)[:, 0]


def matrix(name, address, m, i=0, write=False):
    """The i-th column-major (rows, cols) matrix of a batch; nothing between its columns is touched."""
    dtype: np.dtype = TYPES[m.type]
    return columns(name, address + i * m.stride * dtype.itemsize, dtype, m.rows, m.cols, m.ld, write)


def columns(name, address, dtype, rows, cols, ld, write):
    """`cols` columns of `rows` elements, `ld` apart, in simulated memory: to be read, or about to be written whole."""
    size = dtype.itemsize
    behind = address + (ld * (cols - 1) + rows) * size
    found = SPACE.find(address)
    facts = {"kernel": "cublasLtMatmul", "address": address}
    if address % size:
        raise Misaligned(f"cublasLtMatmul: {name} was expected at a multiple of {size} bytes, got {address:#x}. Copy the view.",
                         **facts)
    if found is None or behind > found.start + found.size:
        nearest = SPACE.nearest(address)
        raise OutOfBounds(
            f"cublasLtMatmul: {name}, {rows} x {cols} of {dtype} with leading dimension {ld}, was expected inside one array, got "
            f"{address:#x} to {behind:#x}, near {nearest.title if nearest else 'none'}. Check its layout.", **facts)
    place = slice(address - found.start, behind - found.start)
    if write and not found.writable:
        raise ReadOnly(f"cublasLtMatmul: {name} was expected in memory that may be written, got {found.title}. Copy it.", **facts)
    if found.initialised is not None:
        found.notice_host_writes()
        shadow = np.lib.stride_tricks.as_strided(found.initialised[place], (cols, rows * size), (ld * size, 1))
        if write:
            shadow[...] = 1
        elif not shadow.all():
            raise Uninitialised(f"cublasLtMatmul: {name} was expected to be written before it is read, got "
                                f"{np.count_nonzero(shadow == 0)} untouched bytes of {found.title}. Fill it.", **facts)
    values = found.data[place].view(dtype)
    return np.lib.stride_tricks.as_strided(values, (rows, cols), (size, ld * size))
