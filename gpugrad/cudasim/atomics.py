"""Atomic operations, one lane after the other where lanes meet at an address, in an order shuffled by seed."""

import numpy as np

from .ops_half import from_float32, to_float32
from .types import high_half, low_half, pack


def half_sum(kind):
    def single(a, b):
        return from_float32(to_float32(a, kind) + to_float32(b, kind), kind)
    return single


def packed_sum(kind):
    single, dtype = half_sum(kind), np.float16 if kind == "f16" else np.uint16

    def both(a, b):
        return pack(*(single(half(a).view(dtype), half(b).view(dtype)) for half in (low_half, high_half)))
    return both


def increment(old, limit):
    return np.where(old >= limit, old.dtype.type(0), old + old.dtype.type(1))


def decrement(old, limit):
    return np.where((old == 0) | (old > limit), limit, old - old.dtype.type(1))


UFUNCS = {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
          "xor": np.bitwise_xor}
FUNCTIONS = {**UFUNCS, "inc": increment, "dec": decrement, "exch": lambda old, new: new}


def apply(function, cells, where, values, rng, wants_old):
    """cells[w] = function(cells[w], v) for each w, v in turn; returns what each lane found, if wanted."""
    order = rng.permutation(where.size)
    where, values = where[order], values[order]
    plain_float = function is np.add and cells.dtype.kind == "f"
    if not wants_old and (function in UFUNCS.values()):
        if plain_float:
            np.add.at(cells, where, values)
        else:
            groups = Groups(where)
            cells[groups.cells] = function(cells[groups.cells], function.reduceat(values[groups.order], groups.starts))
        return None
    groups = Groups(where)
    values = values[groups.order]
    if function is np.add and not plain_float:
        before = np.cumsum(values, dtype=values.dtype) - values
        old = cells[where[groups.order]] + before - groups.spread(before[groups.starts])
        cells[groups.cells] += np.add.reduceat(values, groups.starts)
    elif isinstance(function, np.ufunc) and groups.starts.size < groups.longest:
        old = np.empty_like(values)
        for cell, start, stop in zip(groups.cells, groups.starts, groups.stops, strict=True):
            run = function.accumulate(np.concatenate([cells[cell: cell + 1], values[start:stop]]))
            old[start:stop], cells[cell] = run[:-1], run[-1]
    else:
        old = np.empty_like(values)
        for turn in groups.turns():
            cell = where[groups.order[turn]]
            old[turn] = cells[cell]
            cells[cell] = function(old[turn], values[turn])
    return unsorted(old, order, groups) if wants_old else None


def compare_and_swap(cells, where, expected, values, rng):
    """Each lane in turn: if the cell holds its expected value, its new value goes in. Returns what each lane found."""
    order = rng.permutation(where.size)
    groups = Groups(where[order])
    expected, values = expected[order][groups.order], values[order][groups.order]
    old = np.empty_like(values)
    left = np.arange(values.size)
    of_group = groups.spread(np.arange(groups.cells.size))
    while left.size:
        now = cells[groups.cells[of_group[left]]]
        hit = np.where(expected[left] == now, left, values.size)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(of_group[left])) + 1])
        first = np.minimum.reduceat(hit, starts)
        first_of_lane = np.repeat(first, np.diff(starts, append=left.size))
        # Lanes before the first that succeeds fail, and see the same value as it does.
        done = left <= first_of_lane
        old[left[done]] = now[done]
        winners = first[first < values.size]
        cells[groups.cells[of_group[winners]]] = values[winners]
        left = left[~done]
    return unsorted(old, order, groups)


def unsorted(sorted_values, order, groups):
    out = np.empty_like(sorted_values)
    out[order[groups.order]] = sorted_values
    return out


class Groups:
    """Lanes sorted by the cell they address; lanes of one cell keep their order."""

    def __init__(self, where):
        self.order = np.argsort(where, kind="stable")
        sorted_cells = where[self.order]
        self.starts = np.concatenate([[0], np.flatnonzero(sorted_cells[1:] != sorted_cells[:-1]) + 1])
        self.stops = np.append(self.starts[1:], where.size)
        self.cells = sorted_cells[self.starts]
        self.lengths = self.stops - self.starts
        self.longest = int(self.lengths.max())

    def spread(self, per_group):
        return np.repeat(per_group, self.lengths)

    def turns(self):
        """Positions of the first lane of every group, then of the second lanes, and so on."""
        rank = np.arange(self.order.size) - self.spread(self.starts)
        by_rank = np.argsort(rank, kind="stable")
        yield from np.split(by_rank, np.flatnonzero(np.diff(rank[by_rank])) + 1)
