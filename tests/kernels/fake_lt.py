"""cuBLASLt's C functions over NumPy: it interprets the descriptors it is handed, column by column, on real addresses.

Written from NVIDIA's documentation alone, so that it can disagree with kernels/lt_*.py: column-major matrices with a leading
dimension, batch strides in elements, epilogues along the rows of D, masks of one bit with a row length in bits. It refuses what
the library refuses. The mask's own layout is the library's secret; here the bit of row r and column c is number c * ld + r.
"""
import ctypes
from types import SimpleNamespace

import numpy

INVALID_VALUE, NOT_SUPPORTED = 7, 15
TYPES = {0: numpy.float32, 1: numpy.float64, 2: numpy.float16}
SIZES = {"MatrixLayout": {0: 4, 1: 4, 2: 8, 3: 8, 4: 8, 5: 4, 6: 8},
         "MatmulDesc": {0: 4, 1: 4, 3: 4, 4: 4, 7: 4, 8: 8, 11: 8, 12: 8},
         "MatmulPreference": {1: 8, 3: 4, 5: 4, 6: 4, 7: 4, 8: 4}}


class FakeLt:
    """`lib` for gpugrad.kernels.lt_library.Library; `heuristics` and `products` count calls."""

    def __init__(self):
        self.objects, self.heuristics, self.products, self.streams = {}, 0, 0, []
        for kind in SIZES:
            setattr(self, f"cublasLt{kind}SetAttribute", lambda *a, kind=kind: self.set(kind, *a))
            setattr(self, f"cublasLt{kind}GetAttribute", lambda *a: self.get(*a))
            setattr(self, f"cublasLt{kind}Destroy", lambda p: self.objects.pop(p.value) and 0)

    def cublasLtGetVersion(self):
        return 131000

    def cublasLtGetStatusName(self, status):
        return f"STATUS_{status}".encode()

    def cublasLtCreate(self, handle):
        return self.new(handle, {})

    def new(self, pointer, attributes):
        number = pointer._obj.value = max(self.objects, default=0) + 16
        self.objects[number] = dict(attributes)
        return 0

    def cublasLtMatrixLayoutCreate(self, pointer, dtype, rows, cols, ld):
        return self.new(pointer, {0: dtype.value, 1: 0, 2: rows.value, 3: cols.value, 4: ld.value, 5: 1, 6: 0})

    def cublasLtMatmulDescCreate(self, pointer, compute, scale):
        return self.new(pointer, {0: compute.value, 1: scale.value, 3: 0, 4: 0, 7: 1})

    def cublasLtMatmulPreferenceCreate(self, pointer):
        return self.new(pointer, {1: 0})

    def set(self, kind, pointer, attribute, held, size):
        if size.value != SIZES[kind].get(attribute.value):
            return INVALID_VALUE
        self.objects[pointer.value][attribute.value] = held._obj.value
        return 0

    def get(self, pointer, attribute, held, size, written):
        held._obj.value = self.objects[pointer.value].get(attribute.value, 0)
        written._obj.value = size.value
        return 0

    def product(self, desc, layouts):
        """The sizes of a product, or None where the library would have no algorithm."""
        d = self.objects[desc.value]
        a, b, c, out = (SimpleNamespace(type=o[0], rows=o[2], cols=o[3], ld=o[4], batch=o[5], stride=o[6])
                        for o in (self.objects[x.value] for x in layouts))
        m, k = (a.cols, a.rows) if d[3] else (a.rows, a.cols)
        k_b, n = (b.cols, b.rows) if d[4] else (b.rows, b.cols)
        epilogue, mask = d[7], d.get(12, 0)
        right = k == k_b and (m, n) == (out.rows, out.cols) == (c.rows, c.cols) and m * n * k > 0
        right &= all(x.ld >= x.rows and x.batch == out.batch for x in (a, b, c, out)) and c.type == out.type
        right &= (out.batch == 1 or out.stride >= out.ld * (n - 1) + m) and d[1] == (1 if a.type == 1 else 0)
        if epilogue & 128:
            right &= bool(d.get(11)) and mask >= m and mask % (8 if epilogue & (32 | 64) else 128) == 0
        right &= not (epilogue & 8 and k == 1) and not (epilogue == 512 and m == 1)
        right &= bool(d.get(8)) or not epilogue & (4 | 16 | 256 | 512)
        return SimpleNamespace(a=a, b=b, c=c, d=out, m=m, n=n, k=k, epilogue=epilogue, ta=d[3], tb=d[4], vector=d.get(8),
                               aux=d.get(11), aux_ld=mask, scale=TYPES[d[1]]) if right else None

    def cublasLtMatmulAlgoGetHeuristic(self, handle, desc, a, b, c, d, preference, asked, result, count):
        self.heuristics += 1
        if self.product(desc, (a, b, c, d)) is None:
            return NOT_SUPPORTED
        wants = self.objects[preference.value]
        result._obj.algo.data[:4] = [wants[n] for n in (5, 6, 7, 8)]
        result._obj.algo.data[4] = wants[1]
        count._obj.value = 1
        return 0

    def cublasLtMatmul(self, handle, desc, alpha, a, la, b, lb, beta, c, lc, d, ld, algo, workspace, size, stream):
        p = self.product(desc, (la, lb, lc, ld))
        wanted = list(algo._obj.data)
        if p is None or any(x.value % n for x, n in zip((a, b, c, d), wanted)) or workspace.value % 256 or size.value < wanted[4]:
            return INVALID_VALUE
        self.products += 1
        self.streams.append(stream.value)
        wide = numpy.float64 if p.scale is numpy.float64 else numpy.float32
        for i in range(p.d.batch):
            left, right, old, new = (matrix(x.value, one, i) for x, one in ((a, p.a), (b, p.b), (c, p.c), (d, p.d)))
            left, right = left.T if p.ta else left, right.T if p.tb else right
            total = wide(alpha._obj.value) * (left.astype(wide) @ right.astype(wide))
            if beta._obj.value:
                total = total + wide(beta._obj.value) * old.astype(wide)
            self.finish(p, total, left, right, new)
        return 0

    def finish(self, p, total, left, right, new):
        """The epilogue of one matrix: (m, n), vector along m."""
        e, dtype = p.epilogue, new.dtype
        if e in (256, 512):
            vector = flat(p.vector, dtype, p.m if e == 256 else p.n)
            vector[:] = left.sum(1) if e == 256 else right.sum(0)
            new[:] = total
            return
        if e & 4:
            total = total + flat(p.vector, dtype, p.m)[:, None]
        if e & (8 | 64):
            total = total * (self.mask(p)[:p.m] if e & 8 else gelu_slope(matrix_at(p.aux, dtype, p.aux_ld, p.n)[:p.m]))
            if e & 16:
                flat(p.vector, dtype, p.m)[:] = total.sum(1)
        elif e & 2:
            positive = total > 0
            if e & 128:
                bits = numpy.zeros((p.aux_ld, p.n), bool)
                bits[:p.m] = positive
                flat(p.aux, numpy.uint8, p.aux_ld * p.n // 8)[:] = numpy.packbits(bits.T.ravel(), bitorder="little")
            total = numpy.where(positive, total, 0)                     # NaN becomes 0, as in the library
        elif e & 32:
            if e & 128:
                matrix_at(p.aux, dtype, p.aux_ld, p.n)[:p.m] = total
            total = gelu(total)
        new[:] = total

    def mask(self, p):
        bits = numpy.unpackbits(flat(p.aux, numpy.uint8, p.aux_ld * p.n // 8), bitorder="little")
        return bits.reshape(p.n, p.aux_ld).T


def flat(address, dtype, count):
    size = int(count) * numpy.dtype(dtype).itemsize
    return numpy.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype)


def matrix(address, m, i=0):
    """A column-major (rows, cols) matrix with its leading dimension; nothing behind its last element is touched."""
    dtype = numpy.dtype(TYPES[m.type])
    values = flat(address + i * m.stride * dtype.itemsize, dtype, m.ld * (m.cols - 1) + m.rows)
    return numpy.lib.stride_tricks.as_strided(values, (m.rows, m.cols), (dtype.itemsize, m.ld * dtype.itemsize))


def matrix_at(address, dtype, ld, cols):
    return flat(address, dtype, ld * cols).reshape(cols, ld).T


def gelu(x):
    return 0.5 * x * (1 + numpy.tanh(numpy.sqrt(2 / numpy.pi) * (x + 0.044715 * x**3)))


def gelu_slope(x):
    t = numpy.tanh(numpy.sqrt(2 / numpy.pi) * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * numpy.sqrt(2 / numpy.pi) * (1 + 3 * 0.044715 * x * x)
