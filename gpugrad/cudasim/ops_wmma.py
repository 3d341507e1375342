"""wmma.load, wmma.mma and wmma.store: the matrices of nvcuda::wmma, one a warp.

How a fragment is spread over the lanes is left open by the PTX ISA. Here its elements are numbered row by row (those of B
column by column), whatever the layout in memory was, and handed out in runs: lane l has those from l * n on, wrapping round
where a fragment has room for every element more than once.
"""

from itertools import accumulate, pairwise

import numpy as np

from .access import Access
from .decode import Step, opcode
from .lanes import WARP
from .ops_half import from_float64
from .ops_matrix import BITS, RESULTS, added, by_warp, elements, operation, shape_of, whole
from .ops_memory import base_of, space_of
from .syntax import Immediate, parts_of
from .types import NUMPY, UNSIGNED, pack

KINDS = {**BITS, "f32": 32, "s32": 32}
SHAPES = {(16, 16, 16), (32, 8, 16), (8, 32, 16), (16, 16, 8), (8, 8, 4), (8, 8, 32), (8, 8, 128)}


class Fragment:
    """One operand of a shape: `role` a, b, c or d; `words` registers in each lane."""

    def __init__(self, role, shape, kind, words):
        m, n, k = shape
        if shape not in SHAPES:
            raise ValueError(shape)
        self.kind, self.bits = kind, KINDS[kind]
        self.rows, self.columns = {"a": (m, k), "b": (k, n)}.get(role, (m, n))
        self.by_columns = role == "b"
        self.word = "f64" if kind == "f64" else kind if role in "cd" and kind != "f16" else "b32"
        self.per_word = max(32 // self.bits, 1)
        self.each = words * self.per_word  # elements of a lane
        self.index = np.arange(WARP * self.each).reshape(WARP, self.each) % (self.rows * self.columns)

    def matrix(self, words):
        """(warps, rows, columns) as float64 from registers (warps, 32)."""
        flat = np.zeros((len(words[0]), self.rows * self.columns))
        read = elements if self.word == "b32" else lambda word, kind: [word.astype(np.float64)]
        for number, word in enumerate(words):
            for offset, values in enumerate(read(word, self.kind)):
                flat[:, self.index[:, number * self.per_word + offset]] = values
        if self.by_columns:
            return flat.reshape(-1, self.columns, self.rows).swapaxes(1, 2)
        return flat.reshape(-1, self.rows, self.columns)

    def registers(self, matrix):
        """The registers of a matrix of accumulators, each as a value per thread."""
        mine = matrix.reshape(len(matrix), -1)[:, self.index]
        if self.kind == "f16":
            return [pack(*(from_float64(mine[:, :, k + e], "f16") for e in (0, 1))).ravel() for k in range(0, self.each, 2)]
        return [mine[:, :, k].astype(NUMPY[self.kind]).ravel() for k in range(self.each)]


def stride_of(i, fragment, by_rows, operand):
    """The leading dimension in elements, that of a packed matrix unless there is an operand."""
    packed = fragment.columns if by_rows else fragment.rows
    return operand[0] if operand else Immediate(packed, "int")


def offsets(fragment, by_rows, number, stride, lanes):
    """The byte offset of each lane's element `number`, per thread of whole warps."""
    index = np.tile(fragment.index[:, number], lanes.warps)
    outer, inner = np.divmod(index, fragment.rows if fragment.by_columns else fragment.columns)
    major, minor = (outer, inner) if by_rows != fragment.by_columns else (inner, outer)
    return ((major * stride.astype(np.int64) + minor) * fragment.bits // 8).astype(np.uint64)


def check_pointer(i, site, lanes, base, stride, fragment):
    """The pointer must be aligned to 32 bytes, and rows to 16, as the CUDA C++ Programming Guide says."""
    address = lanes.spread(base) + np.uint64(site.offset & (1 << 64) - 1) if base.dtype.itemsize == 8 else lanes.spread(base)
    if (address & address.dtype.type(31)).any():
        site.misaligned_by(lanes, address, 32)
    pitch = lanes.spread(stride).astype(np.int64) * fragment.bits // 8
    if fragment.bits >= 16 and (pitch % 16).any():
        site.misaligned_by(lanes, pitch, 16, "the leading dimension in bytes")


@opcode("wmma")
def warp_matrix(i):
    if not i.has("sync"):
        return None
    return {"load": load, "store": store, "mma": multiply}[i.parts[1]](i)


def load(i):
    target, address, *stride = i.operands
    targets = parts_of(target)
    fragment = Fragment(i.parts[2], shape_of(i), i.parts[-1], len(targets))
    by_rows = i.has("row")
    if fragment.bits < 8 and by_rows == fragment.by_columns:
        return None
    dtype = NUMPY[fragment.word] if fragment.bits >= 32 else UNSIGNED[max(fragment.bits, 8) // 8]
    site = Access(i.place, space_of(i), dtype, 1, address.offset)

    def element(lanes, base, stride, number):
        at = offsets(fragment, by_rows, number, stride, lanes)
        return site.load(lanes, lanes.spread(base) + at.astype(base.dtype))

    def run(lanes, base, stride):
        whole(i, lanes)
        check_pointer(i, site, lanes, base, stride, fragment)
        out = []
        for first in range(0, fragment.each, fragment.per_word):
            word = element(lanes, base, stride, first)
            if fragment.bits < 32:
                word = joined(lanes, base, stride, first, word)
            out.append(word)
        return tuple(out) if len(out) > 1 else out[0]

    def joined(lanes, base, stride, first, word):
        """The elements of one register; those of less than a byte lie side by side in memory."""
        step = max(8 // fragment.bits, 1)
        word = word.astype(np.uint32)
        for offset in range(step, fragment.per_word, step):
            more = element(lanes, base, stride, first + offset).astype(np.uint32)
            word = word | more << np.uint32(offset * fragment.bits)
        return word
    reads = [base_of(i, address), (stride_of(i, fragment, by_rows, stride), "u32")]
    return Step(run, reads, [(t, fragment.word) for t in targets], "matrix load", lanes=True)


def store(i):
    address, source, *stride = i.operands
    sources = parts_of(source)
    fragment = Fragment("d", shape_of(i), i.parts[-1], len(sources))
    by_rows = i.has("row")
    dtype = NUMPY[fragment.kind] if fragment.kind != "f16" else NUMPY["b16"]
    site = Access(i.place, space_of(i), dtype, 1, address.offset)

    def run(lanes, base, stride, *words):
        whole(i, lanes)
        check_pointer(i, site, lanes, base, stride, fragment)
        for number in range(fragment.each):
            word = lanes.spread(words[number // fragment.per_word])
            if fragment.kind == "f16":
                word = (word >> np.uint32(number % 2 * 16)).astype(np.uint16)
            at = offsets(fragment, by_rows, number, stride, lanes)
            site.store(lanes, lanes.spread(base) + at.astype(base.dtype), word)
    reads = [base_of(i, address), (stride_of(i, fragment, by_rows, stride), "u32"), *((s, fragment.word) for s in sources)]
    return Step(run, reads, [], "matrix store", lanes=True)


def multiply(i):
    kinds = [part for part in i.parts if part in KINDS]
    if len(kinds) == 2:  # the product of f16 names the types of D and C alone
        kinds = [kinds[0], "f16", "f16", kinds[1]]
    shape = shape_of(i)
    groups = list(map(parts_of, i.operands))
    d, a, b, c = (Fragment(role, shape, kind, len(group))
                  for role, kind, group in zip("dabc", kinds, groups, strict=True))
    if kinds[0] not in RESULTS or kinds[3] not in RESULTS or (kinds[1] == "b1") != i.has("popc"):
        return None
    product, split = operation(i), list(pairwise(accumulate((len(group) for group in groups[1:]), initial=0)))

    def run(lanes, *words):
        whole(i, lanes)
        rows = [by_warp(lanes, word) for word in words]
        left, right, start = (f.matrix(rows[begin:end]) for f, (begin, end) in zip((a, b, c), split, strict=True))
        total = product(left, right)
        total = added(i, total, start.astype(np.int64)) if d.kind == "s32" else total + start
        out = d.registers(total)
        return tuple(out) if len(out) > 1 else out[0]
    reads = [(s, f.word) for f, group in zip((a, b, c), groups[1:], strict=True) for s in group]
    return Step(run, reads, [(t, d.word) for t in groups[0]], "matrix", lanes=True)
