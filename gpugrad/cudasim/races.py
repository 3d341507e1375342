"""Shared-memory races: accesses of different warps to one place, at least one a write, with no barrier between.

For every granule of shared memory (the smallest size a kernel accesses) three sets of warps are kept since the last
barrier: who read it, who wrote it, who changed it atomically. A barrier takes the warps that met there out of the sets.
"""

import numpy as np

AGAINST = {"read": ("write", "atomic"), "write": ("write", "read", "atomic"), "atomic": ("write", "read")}
PENDING = 64  # accesses; each may hold a few hundred kilobytes


class Races:
    def __init__(self, size, rows, granule):
        self.granule, self.rows = granule, rows
        self.sets = {kind: np.zeros(size // granule, np.uint32) for kind in AGAINST}
        self.dirty = dict.fromkeys(AGAINST, False)
        self.reads = []  # not yet in the set of readers: mostly a barrier comes first, and nobody asks for them

    def record(self, kind, at, size, bit):
        """Note accesses of `size` bytes at byte offsets `at` by the warps in `bit`.

        Returns (positions, other kind, other warps): the lanes that conflict with an earlier access, if any.
        """
        if kind != "read":
            self.fold()
        first = at // self.granule
        granules = [first, *(first + part for part in range(1, size // self.granule))]
        for other in AGAINST[kind]:
            if not self.dirty[other]:
                continue
            for where in granules:
                foreign = self.sets[other][where] & ~bit
                if foreign.any():
                    positions = np.flatnonzero(foreign)
                    return positions, other, foreign[positions]
        if kind == "read":
            self.reads.append((granules, bit))
            if len(self.reads) > PENDING:
                self.fold()
        else:
            self.add(kind, granules, bit)
        return None

    def fold(self):
        """Enter the pending reads into the set of readers."""
        for granules, bit in self.reads:
            self.add("read", granules, bit)
        self.reads.clear()

    def add(self, kind, granules, bit):
        marks = self.sets[kind]
        self.dirty[kind] = True
        for where in granules:
            now = marks[where]
            if not (now & bit == 0).any():
                continue
            marks[where] = now | bit
            # Where warps met at one place in one instruction, the last of them won.
            lost = np.flatnonzero(marks[where] & bit == 0)
            if lost.size:
                np.bitwise_or.at(marks, where[lost], bit[lost])

    def release(self, blocks, bits):
        """Forget what single warps did: `bits` names one warp of each of `blocks`, which may repeat."""
        gone = np.zeros(self.rows, np.uint32)
        np.bitwise_or.at(gone, blocks, bits)
        self.barrier(np.flatnonzero(gone), gone[gone != 0])

    def barrier(self, blocks, warps):
        """The warps in the masks `warps` (one per block, None for all) met at a barrier of these blocks (None: of all)."""
        if blocks is None:
            self.reads.clear()
        self.fold()
        for kind, dirty in self.dirty.items():
            if not dirty:
                continue
            marks = self.sets[kind].reshape(self.rows, -1)
            if blocks is None:
                marks.fill(0)
            elif warps is None:
                marks[blocks] = 0
            else:
                marks[blocks] &= ~warps[:, None]
        if blocks is None:
            self.dirty = dict.fromkeys(self.dirty, False)
