"""Tensor-core instructions: mma of whole warps on fragments spread over their lanes.

Fragments are spread as the PTX ISA draws them ("Matrix Fragments for mma.m16n8k16" and its neighbours): with g = lane / 4
and t = lane % 4, a lane holds rows g and g + 8 of A, column g of B, and columns 2t, 2t + 1 of C; a register of A or B holds as
many neighbours along k as fit. Products are exact and are summed in float64 before they are rounded; a real tensor core sums
floats in an order that NVIDIA leaves open. Sums of integers are exact.
"""

import numpy as np

from .decode import Step, opcode
from .lanes import WARP
from .ops_half import from_float64, to_float32
from .ops_warp import blame
from .small_floats import decoded
from .syntax import parts_of
from .types import NUMPY, high_half, low_half, pack

LANE = np.arange(WARP)
G, T = LANE // 4, LANE % 4
BITS = {"f16": 16, "bf16": 16, "tf32": 32, "f64": 64, "s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1, "e4m3": 8, "e5m2": 8}
RESULTS = ("f16", "f32", "f64", "s32")
SHAPES = {  # (m, n, k) that mma has
    "f16": [(16, 8, 8), (16, 8, 16)], "bf16": [(16, 8, 8), (16, 8, 16)], "tf32": [(16, 8, 4), (16, 8, 8)],
    "f64": [(8, 8, 4), (16, 8, 4), (16, 8, 8), (16, 8, 16)], "fp8": [(16, 8, 16), (16, 8, 32)],
    "8": [(8, 8, 16), (16, 8, 16), (16, 8, 32)], "4": [(8, 8, 32), (16, 8, 32), (16, 8, 64)],
    "1": [(8, 8, 128), (16, 8, 128), (16, 8, 256)],
}


def family(kind):
    """The key in SHAPES of an element type: integers of one width may be mixed, as may the 8-bit floats."""
    return {"e4m3": "fp8", "e5m2": "fp8"}.get(kind, kind[1:] if kind[0] in "sub" and kind != "bf16" else kind)


def whole(i, lanes):
    """Matrix instructions need all 32 lanes of every warp that comes."""
    if lanes.whole_warps:
        return
    partial = np.flatnonzero(lanes.active != 0xFFFFFFFF)
    if partial.size:
        position = int(lanes.firsts[partial[0]])
        blame(i, lanes, position, "all 32 lanes of a warp must execute it", f"{int(lanes.active[partial[0]]):#010x}",
              "Move it out of the branch, or launch whole warps.")


def by_warp(lanes, value):
    """A register of whole warps as (warps, 32)."""
    return lanes.spread(value).reshape(-1, WARP)


def elements(word, kind):
    """The numbers in one 32- or 64-bit register, as float64, first element first."""
    if kind in ("f16", "bf16"):
        return [to_float32(half(word).view(NUMPY[kind]), kind).astype(np.float64) for half in (low_half, high_half)]
    if kind == "tf32":
        return [(word & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)]
    bits = BITS[kind]
    if bits >= 32:
        return [word]
    pieces = [word >> np.uint32(at) & np.uint32((1 << bits) - 1) for at in range(0, 32, bits)]
    if kind[0] == "e":
        return [decoded(piece, kind) for piece in pieces]
    return [integer(piece, kind) for piece in pieces]


def integer(piece, kind):
    """A small integer's bits as float64."""
    value = piece.astype(np.float64)
    return np.where(value >= 1 << BITS[kind] - 1, value - (1 << BITS[kind]), value) if kind[0] == "s" else value


def fragment_columns(kind, words):
    """For each register of A or B along k: the k of its first element, per lane."""
    per_word = max(32 // BITS[kind], 1)
    return [per_word * T + 4 * per_word * part for part in range(words)]


def shape_of(i):
    """(m, n, k) in the modifiers of a matrix instruction."""
    shape = next(part for part in i.parts if part.startswith("m") and part[1:2].isdigit())
    return tuple(int(number) for number in shape[1:].replace("n", " ").replace("k", " ").split())


def operation(i):
    """The product of (..., m, k) and (..., k, n) matrices of float64: a sum of products, or of bits that an operation leaves."""
    if i.has("xor"):
        return lambda a, b: a.sum(-1, keepdims=True) + b.sum(-2, keepdims=True) - 2 * (a @ b)
    return np.matmul


def added(i, product, c):
    """A product of integers and what they are added to, as s32."""
    total = product.astype(np.int64) + c
    if i.has("satfinite"):
        total = np.clip(total, -(1 << 31), (1 << 31) - 1)
    return total.astype(np.int32)


@opcode("mma")
def multiply_accumulate(i):
    kinds = [part for part in i.parts if part in BITS or part in RESULTS]
    if not i.has("sync") or len(kinds) != 4 or kinds[0] != kinds[3] or not (i.has("row") and i.has("col")):
        return None
    result, left_kind, right_kind, _ = kinds
    m, n, k = shape_of(i)
    mixed = left_kind != right_kind and family(left_kind) not in ("8", "4", "fp8")
    if mixed or family(left_kind) != family(right_kind) or (m, n, k) not in SHAPES.get(family(left_kind), ()):
        return None
    if (family(left_kind) in ("8", "4", "1")) != (result == "s32") or (left_kind == "b1") != i.has("popc"):
        return None
    targets, *sources = map(parts_of, i.operands)
    a_words, b_words, c_words = (len(source) for source in sources)
    parts = slice(0, a_words), slice(a_words, a_words + b_words), slice(a_words + b_words, None)
    rows = m // 8
    columns, multiply = fragment_columns(left_kind, b_words), operation(i)
    word_type = "f64" if left_kind == "f64" else "b32"
    c_type = {"f16": "b32"}.get(result, result)

    def run(lanes, *words):
        whole(i, lanes)
        rows_of_words = [by_warp(lanes, word) for word in words]
        a, b, c = (rows_of_words[s] for s in parts)
        warps = len(a[0])
        left, right = np.zeros((warps, m, k)), np.zeros((warps, k, n))
        for number, word in enumerate(a):
            part, row = divmod(number, rows)
            for offset, values in enumerate(elements(word, left_kind)):
                left[:, G + 8 * row, columns[part] + offset] = values
        for part, word in enumerate(b):
            for offset, values in enumerate(elements(word, right_kind)):
                right[:, columns[part] + offset, G] = values
        product = multiply(left, right)
        out = []
        if result == "f16":
            for row, word in enumerate(c):
                pair = [product[:, G + 8 * row, 2 * T + e] + v for e, v in enumerate(elements(word, "f16"))]
                out.append(pack(*(from_float64(v, "f16") for v in pair)).ravel())
        else:
            for number, word in enumerate(c):
                row, column = divmod(number, 2)
                mine = product[:, G + 8 * row, 2 * T + column]
                out.append((added(i, mine, word) if result == "s32" else (mine + word).astype(NUMPY[result])).ravel())
        return tuple(out)
    reads = [(s, word_type) for s in (*sources[0], *sources[1])] + [(s, c_type) for s in sources[2]]
    assert c_words == len(targets)
    return Step(run, reads, [(t, c_type) for t in targets], "matrix", lanes=True)
