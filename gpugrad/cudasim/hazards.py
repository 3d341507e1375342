"""Accesses of different threads to one place that nothing orders, at least one of them a write.

Global memory: any two threads of the grid. A barrier, __syncwarp or a fence orders the threads of a block; between blocks
one of the two must have run a fence, or a releasing atomic, since the first access. Shared memory: lanes of one warp, which
since Volta need __syncwarp (or another instruction of the whole warp) between them; different warps are left to races.py.
Volatile and atomic accesses do not conflict with their like, and threads that store one and the same value do not either.

For every granule the last writer and the last reader are kept, and when; time is the number of accesses so far. Threads are
numbered through from one, so that a group (a block, or a warp) is a run of them.
"""

import numpy as np

SEVERAL = 1 << 62  # the reader is several threads of different groups; SEVERAL + 1 + g: several threads of group g


class Shadow:
    """Who wrote (negative: by a volatile or atomic access) and who read each granule last, and when."""

    def __init__(self, size, granule):
        count = -(-size // granule) + 16 // granule
        self.writer, self.written, self.reader, self.read = (np.zeros(count, np.int64) for _ in range(4))
        self.any_writes = self.any_reads = False


class Hazards:
    """Threads come in `groups` groups of `group`; with `alone`, only threads of one group may conflict."""

    def __init__(self, granule, group, groups, alone):
        self.granule, self.group, self.alone, self.now = granule, group, alone, 1
        self.synced, self.fenced, self.took = (np.zeros(groups, np.int64) for _ in range(3))

    def sync(self, groups, fence=False):
        """The threads of these groups met, or one of them ran a fence."""
        self.now += 1
        self.synced[groups] = self.now
        if fence:
            self.fenced[groups] = self.now

    def take(self, groups):
        """Threads of these groups have seen what an atomic found."""
        self.took[groups] = self.now

    def record(self, shadow, kind, at, size, threads, strong=False, readonly=False):
        """Note accesses of `size` bytes at offsets `at`. Returns (positions, what the others did, the others) or None."""
        self.now += 1
        width = max(size // self.granule, 1)
        mine = threads + 1
        if width > 1:
            mine = np.repeat(mine, width)
            at = (at[:, None] + np.arange(0, size, self.granule)).ravel()
        where = at // self.granule
        found = None
        if shadow.any_writes:
            other = shadow.writer[where]
            bad = (other != 0) & (np.abs(other) != mine)
            if strong:
                bad &= other > 0
            elif bad.any():
                # Whoever has seen the result of an atomic since then may know from it that the others are done.
                bad &= (other > 0) | (self.took[self.group_of(mine)] < shadow.written[where])
            if bad.any():
                found = self.unordered(bad, np.abs(other), shadow.written[where], mine, "wrote")
        if kind == "read":
            if not (strong or readonly):
                self.note_read(shadow, where, mine)
        else:
            if found is None and shadow.any_reads:
                other = shadow.reader[where]
                bad = (other != 0) & (other != mine)
                if bad.any():
                    found = self.unordered(bad, other, shadow.read[where], mine, "read")
            shadow.any_writes = True
            shadow.writer[where] = -mine if strong else mine
            shadow.written[where] = self.now
        return found and (found[0] // width, *found[1:])

    def note_read(self, shadow, where, mine):
        now = mine
        if shadow.any_reads:
            now = self.joined(shadow.reader[where], shadow.read[where], mine)
        shadow.any_reads = True
        shadow.reader[where], shadow.read[where] = now, self.now
        last = shadow.reader[where]
        met = np.flatnonzero(last != now)  # lanes at one place in this instruction
        if met.size:
            shadow.reader[where[met]] = self.joined(last[met], np.full(met.size, self.now), now[met])

    def group_of(self, threads):
        return np.where(threads >= SEVERAL, threads - SEVERAL - 1, (threads - 1) // self.group)

    def joined(self, before, when, mine):
        """The readers of a place: those before whom nothing ordered with these, and these."""
        mixed = (before != 0) & (before != mine)
        if not mixed.any():
            return mine
        group = self.group_of(mine)
        same = self.group_of(before) == group
        since = np.where(same, self.synced[group], self.fenced[group])
        mixed &= when > since
        if self.alone:
            mixed &= same
        return np.where(mixed, np.where(same, SEVERAL + 1 + group, SEVERAL), mine)

    def unordered(self, bad, other, when, mine, did):
        """The conflicts that no synchronisation since then orders, or None."""
        group, theirs = self.group_of(mine), self.group_of(other)
        same = theirs == group
        late = self.synced[group] < when
        if self.alone:
            bad = bad & same & late
        else:
            apart = (self.fenced[group] < when) & ((theirs < 0) | (self.fenced[np.maximum(theirs, 0)] < when))
            bad = bad & np.where(same, late, apart)
        positions = np.flatnonzero(bad)
        return (positions, did, other[positions]) if positions.size else None
