"""Tensor-core instructions: mma of whole warps, and ldmatrix.

Fragments are spread over the lanes as the PTX ISA draws them ("Matrix Fragments for mma.m16n8k16" and its neighbours): with
g = lane / 4 and t = lane % 4, a lane holds rows g and g + 8 of A, column g of B, and columns 2t, 2t + 1 of C. Products are
exact and are summed in float64 before they are rounded; a real tensor core sums in an order that NVIDIA leaves open.
"""

import numpy as np

from .access import Access
from .decode import Step, opcode
from .lanes import WARP
from .ops_half import from_float64, to_float32
from .ops_warp import blame
from .types import NUMPY, high_half, low_half, pack

LANE = np.arange(WARP)
G, T = LANE // 4, LANE % 4


def whole(i, lanes):
    """Matrix instructions need all 32 lanes of every warp that comes."""
    if lanes.whole_warps:
        return
    partial = np.flatnonzero(lanes.active != 0xFFFFFFFF)
    if partial.size:
        position = int(lanes.firsts[partial[0]])
        blame(i, lanes, position, 0, "all 32 lanes of a warp must execute it", f"{int(lanes.active[partial[0]]):#010x}",
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
    return [word]


def fragment_columns(kind, words):
    """For each register of A or B along k: the k of its first element, per lane."""
    per_word = 2 if kind in ("f16", "bf16") else 1
    return [per_word * T + 4 * per_word * part for part in range(words)]


@opcode("mma")
def multiply_accumulate(i):
    shape = next((part for part in i.parts if part.startswith("m") and part[1:2].isdigit()), "")
    kinds = [part for part in i.parts if part in ("f16", "bf16", "tf32", "f32", "f64")]
    if not i.has("sync") or len(kinds) != 4 or kinds[1] != kinds[2] or kinds[0] != kinds[3]:
        return None
    result, kind = kinds[0], kinds[1]
    m, n, k = (int(number) for number in shape[1:].replace("n", " ").replace("k", " ").split())
    known = {(16, 8, 16): ("f16", "bf16"), (16, 8, 8): ("f16", "bf16", "tf32"), (16, 8, 4): ("tf32",), (8, 8, 4): ("f64",)}
    if kind not in known.get((m, n, k), ()) or not (i.has("row") and i.has("col")):
        return None
    targets, *sources = (operand.items if hasattr(operand, "items") else (operand,) for operand in i.operands)
    a_words, b_words, c_words = (len(source) for source in sources)
    parts = slice(0, a_words), slice(a_words, a_words + b_words), slice(a_words + b_words, None)
    rows = m // 8
    columns = fragment_columns(kind, b_words)
    word_type = "f64" if kind == "f64" else "b32"
    c_type = {"f16": "b32", "f32": "f32", "f64": "f64"}[result]

    def run(lanes, *words):
        whole(i, lanes)
        rows_of_words = [by_warp(lanes, word) for word in words]
        a, b, c = (rows_of_words[s] for s in parts)
        warps = len(a[0])
        left, right = np.zeros((warps, m, k)), np.zeros((warps, k, n))
        for number, word in enumerate(a):
            part, row = divmod(number, rows)
            for offset, values in enumerate(elements(word, kind)):
                left[:, G + 8 * row, columns[part] + offset] = values
        for part, word in enumerate(b):
            for offset, values in enumerate(elements(word, kind)):
                right[:, columns[part] + offset, G] = values
        product = left @ right
        out = []
        if result == "f16":
            for row, word in enumerate(c):
                pair = [product[:, G + 8 * row, 2 * T + e] + v for e, v in enumerate(elements(word, "f16"))]
                out.append(pack(*(from_float64(v, "f16") for v in pair)).ravel())
        else:
            for number, word in enumerate(c):
                row, column = divmod(number, 2)
                out.append((product[:, G + 8 * row, 2 * T + column] + word).astype(NUMPY[result]).ravel())
        return tuple(out)
    reads = [(s, word_type) for s in (*sources[0], *sources[1])] + [(s, c_type) for s in sources[2]]
    assert c_words == len(targets)
    return Step(run, reads, [(t, c_type) for t in targets], "matrix", lanes=True)


@opcode("ldmatrix")
def load_matrix(i):
    """Each group of 8 lanes names the 8 rows (16 bytes each) of one 8 x 8 matrix of 16-bit numbers."""
    count = next((int(part[1:]) for part in i.parts if part in ("x1", "x2", "x4")), None)
    if count is None or "m8n8" not in i.parts or i.type != "b16":
        return None
    target, address = i.operands
    targets = target.items if hasattr(target, "items") else (target,)
    transposed = i.has("trans")
    base = address.base
    wide = getattr(base, "type", "b64").endswith("64")
    site = Access(i.place, "shared", np.uint32, 4, address.offset)

    def run(lanes, base):
        whole(i, lanes)
        naming = np.flatnonzero(lanes.lane < 8 * count)
        parts = site.load(lanes.subset(naming), lanes.spread(base)[naming])
        rows = np.stack(parts, axis=1).reshape(-1, count, 8, 4)
        if not transposed:
            return tuple(rows[:, j, G, T].ravel() for j in range(count)) if count > 1 else rows[:, 0, G, T].ravel()
        halves = np.ascontiguousarray(rows).view(np.uint16)
        out = [pack(halves[:, j, 2 * T, G], halves[:, j, 2 * T + 1, G]).ravel() for j in range(count)]
        return tuple(out) if count > 1 else out[0]
    return Step(run, [(base, "u64" if wide else "u32")], [(t, "b32") for t in targets], "shared load", lanes=True)
