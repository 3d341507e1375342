"""cp.async: copies that are under way until the thread that issued them waits.

The bytes are there at once, but they are marked as missing (a 2 in `initialised`), so that whoever reads them before the wait
is told so.
"""

from typing import Any

import numpy as np

UNDER_WAY = 2


class Copies:
    """Groups of copies, each thread's own: those before `committed[lane]` may be waited for."""

    def __init__(self, batch):
        self.batch, self.open = batch, []  # (lanes, groups, offsets in shared memory, bytes)
        self.committed: Any = None

    def issue(self, part, size):
        marks = part.region.initialised
        if marks is None:
            return
        if self.committed is None:
            self.committed = np.zeros(self.batch.lane_count, np.int64)
        numbers = part.lanes.numbers
        at = np.broadcast_to(part.at, numbers.shape)
        marks[(at[:, None] + np.arange(size)).ravel()] = UNDER_WAY
        self.open.append((numbers, self.committed[numbers], at, size))

    def commit(self, lanes):
        if self.committed is not None:
            self.committed[lanes.numbers] += 1

    def wait(self, lanes, groups):
        """All but the last `groups` groups of these lanes are done; with None, those not committed too."""
        if not self.open:
            return
        limit = np.full(self.batch.lane_count, -1)
        limit[lanes.numbers] = (self.committed[lanes.numbers] - groups if groups is not None else np.iinfo(np.int64).max)
        marks, left = self.batch.shared.initialised, []
        for numbers, group, at, size in self.open:
            done = group < limit[numbers]
            where = (at[done, None] + np.arange(size)).ravel()
            marks[where[marks[where] == UNDER_WAY]] = 1
            if not done.all():
                left.append((numbers[~done], group[~done], at[~done], size))
        self.open = left
