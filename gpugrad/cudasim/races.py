"""Shared-memory races: accesses of different warps to one place, at least one a write, with no barrier between.

For every granule of shared memory (the smallest size a kernel accesses) three sets of warps are kept since the last
barrier: who read it, who wrote it, who changed it atomically. A barrier takes the warps that met there out of the sets.
"""

import numpy as np


class Races:
    def __init__(self, size, rows, granule):
        self.granule, self.rows = granule, rows
        self.readers, self.writers, self.atomics = (np.zeros(size // granule, np.uint32) for _ in range(3))
        self.dirty = {"read": False, "write": False, "atomic": False}

    def sets(self, kind):
        return {"read": self.readers, "write": self.writers, "atomic": self.atomics}[kind]

    def record(self, kind, at, size, bit):
        """Note accesses of `size` bytes at byte offsets `at` by the warps in `bit`.

        Returns (positions, other kind, other warps): the lanes that conflict with an earlier access, if any.
        """
        against = {"read": ("write", "atomic"), "write": ("write", "read", "atomic"), "atomic": ("write", "read")}[kind]
        granules = at // self.granule
        for part in range(max(size // self.granule, 1)):
            where = granules + part if part else granules
            for other in against:
                if self.dirty[other]:
                    foreign = self.sets(other)[where] & ~bit
                    if foreign.any():
                        positions = np.flatnonzero(foreign)
                        return positions, other, foreign[positions]
            self.add(self.sets(kind), where, bit)
        self.dirty[kind] = True
        return None

    @staticmethod
    def add(marks, where, bit):
        """marks[where] |= bit, also where places repeat."""
        now = marks[where]
        if not (now & bit == 0).any():
            return
        marks[where] = now | bit
        lost = np.flatnonzero(marks[where] & bit == 0)
        if lost.size:
            np.bitwise_or.at(marks, where[lost], bit[lost])

    def barrier(self, blocks, warps):
        """The warps in the masks `warps` (one per block, None for all) met at a barrier of these blocks (None: of all)."""
        for kind, dirty in self.dirty.items():
            if not dirty:
                continue
            marks = self.sets(kind).reshape(self.rows, -1)
            if blocks is None:
                marks.fill(0)
            elif warps is None:
                marks[blocks] = 0
            else:
                marks[blocks] &= ~warps[:, None]
        if blocks is None:
            self.dirty = dict.fromkeys(self.dirty, False)
