"""ldmatrix, stmatrix and movmatrix: 8 x 8 matrices of 16-bit numbers between shared memory and the lanes of a warp."""

import numpy as np

from .access import Access
from .decode import Step, opcode
from .ops_matrix import G, T, by_warp, whole
from .ops_memory import base_of
from .syntax import parts_of
from .types import pack


def matrices(i):
    """How many matrices an instruction moves, None for one of another shape."""
    count = next((int(part[1:]) for part in i.parts if part in ("x1", "x2", "x4")), None)
    return count if "m8n8" in i.parts and i.type == "b16" else None


def site_of(i, address):
    return Access(i.place, "shared" if i.has("shared", "shared-cta") else "generic", np.uint32, 4, address.offset)


def row_lanes(lanes, count):
    """Each group of 8 lanes names the 8 rows (16 bytes each) of one matrix."""
    return np.flatnonzero(lanes.lane < 8 * count)


@opcode("ldmatrix")
def load_matrix(i):
    count = matrices(i)
    if count is None:
        return None
    target, address = i.operands
    targets = parts_of(target)
    transposed, site = i.has("trans"), site_of(i, address)

    def run(lanes, base):
        whole(i, lanes)
        naming = row_lanes(lanes, count)
        parts = site.load(lanes.subset(naming), lanes.spread(base)[naming])
        rows = np.stack(parts, axis=1).reshape(-1, count, 8, 4)
        out = fragments(rows, transposed)
        return tuple(out) if count > 1 else out[0]
    return Step(run, [base_of(i, address)], [(t, "b32") for t in targets], "shared load", lanes=True)


def fragments(rows, transposed):
    """The register of each matrix from rows (warps, matrices, 8, 4 words): lane 4 g + t has word t of row g."""
    if not transposed:
        return [rows[:, j, G, T].ravel() for j in range(rows.shape[1])]
    halves = np.ascontiguousarray(rows).view(np.uint16)
    return [pack(halves[:, j, 2 * T, G], halves[:, j, 2 * T + 1, G]).ravel() for j in range(rows.shape[1])]


@opcode("stmatrix")
def store_matrix(i):
    count = matrices(i)
    if count is None:
        return None
    address, source = i.operands
    sources = parts_of(source)
    transposed, site = i.has("trans"), site_of(i, address)

    def run(lanes, base, *words):
        whole(i, lanes)
        naming = row_lanes(lanes, count)
        rows = np.stack([by_warp(lanes, word) for word in words], axis=1).reshape(-1, count, 8, 4)
        if transposed:
            halves = np.ascontiguousarray(rows).view(np.uint16)
            rows = np.ascontiguousarray(halves.transpose(0, 1, 3, 2)).view(np.uint32)
        columns = rows.reshape(-1, 4)
        site.store(lanes.subset(naming), lanes.spread(base)[naming], *(columns[:, k].copy() for k in range(4)))
    return Step(run, [base_of(i, address), *((s, "b32") for s in sources)], [], "shared store", lanes=True)


@opcode("movmatrix")
def transpose_matrix(i):
    if "m8n8" not in i.parts or not i.has("trans") or i.type != "b16":
        return None

    def run(lanes, word):
        whole(i, lanes)
        return fragments(by_warp(lanes, word).reshape(-1, 1, 8, 4), True)[0]
    return Step(run, [(i.operands[1], "b32")], [(i.operands[0], "b32")], "matrix", lanes=True)
