"""Where a list of operations repeats itself: the layers of a network, the steps of a loop."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

LONGEST_PERIOD = 400  # operations in one layer
FEWEST = 3  # times
CANDIDATES = 12  # periods that are tried in earnest


class Repeat(NamedTuple):
    """Operations start … start + period * times - 1 are one block of `period` operations, `times` times."""

    start: int
    period: int
    times: int

    @property
    def end(self) -> int:
        return self.start + self.period * self.times


class Op(NamedTuple):
    """An operation as far as it can repeat: its name, and for each argument the number of the operation that made it,
    or a word for an input of the graph."""

    name: Hashable
    arguments: tuple[int | str, ...]


def repeats(ops: Sequence[Op]) -> list[Repeat]:
    """Disjoint repeats in `ops`, in order; of two that overlap the one that hides more operations is kept.

    Two operations a period apart are the same if their names are, and if each argument is the same kind of input, the
    same operation, or an operation a period earlier.
    """
    found = [repeat for period in _periods(ops) for repeat in _runs(ops, period)]
    found.sort(key=lambda r: (-r.period * (r.times - 1), r.period, r.start))
    taken = bytearray(len(ops))
    kept = []
    for r in found:
        if taken.find(1, r.start, r.end) < 0:
            taken[r.start : r.end] = b"\1" * (r.end - r.start)
            kept.append(r)
    return sorted(kept)


def _periods(ops: Sequence[Op]) -> list[int]:
    """The commonest distances between two places where the same names end."""
    last: dict[Hashable, int] = {}
    distances: Counter[int] = Counter()
    names = [op.name for op in ops]
    for i in range(len(names)):
        for length in (1, 3, 8):  # a name alone may come twice in a layer, eight names hardly
            ending = tuple(names[max(0, i - length + 1) : i + 1])
            if ending in last:
                distances[i - last[ending]] += 1
            last[ending] = i
    return [p for p, _ in distances.most_common(CANDIDATES) if p <= LONGEST_PERIOD]


def _runs(ops: Sequence[Op], period: int) -> list[Repeat]:
    runs, begin = [], period
    for i in range(period, len(ops) + 1):
        if i < len(ops) and _same(ops[i], ops[i - period], period):
            continue
        found = [Repeat(start, period, times) for start in range(begin - period, begin)
                 if (times := (i - start) // period) >= FEWEST]
        if found:
            runs.append(min(found, key=lambda r: _misplaced(ops, r)))
        begin = i + 1
    return runs


def _misplaced(ops: Sequence[Op], repeat: Repeat) -> tuple[int, bool, int]:
    """How unlike the beginning of a layer a start is: a layer reads few values made before it, and its first operation
    is likely to be the first of the graph."""
    entering = _entering(ops[repeat.start : repeat.start + repeat.period], repeat.start)
    return entering, ops[repeat.start].name != ops[0].name, -repeat.times


def _entering(block: Sequence[Op], start: int) -> int:
    """How many operations before a block it reads: few where a layer begins, more in the middle of one."""
    return len({a for op in block for a in op.arguments if isinstance(a, int) and a < start})


def _same(op: Op, earlier: Op, period: int) -> bool:
    return op.name == earlier.name and len(op.arguments) == len(earlier.arguments) and all(
        a == b or isinstance(a, int) and isinstance(b, int) and a - b == period
        for a, b in zip(op.arguments, earlier.arguments, strict=True))
