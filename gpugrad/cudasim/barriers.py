"""Barriers of a block: who has come, who is awaited, and what happens when they never do."""

import numpy as np

from .errors import BarrierDivergence, show_index
from .lanes import WARP

NAMED = 16  # barriers of a block


class Arrival:
    """Lanes that came to one barrier instruction; those of bar.arrive count, but do not wait."""

    def __init__(self, lanes, number, predicate, waits):
        self.lanes, self.number, self.predicate, self.waits = lanes, number, predicate, waits


class Barriers:
    def __init__(self, batch, instructions):
        self.batch, self.instructions = batch, instructions
        self.waiting = {}  # (barrier id, explicit count or 0) -> Arrivals

    def arrive(self, number, lanes, answer):
        """Lanes reach the barrier that ends block `number`. Returns the groups of lanes that may go on: (number, Lanes)."""
        barrier = self.instructions[number]
        if barrier.cluster:
            return self.batch.clusters.wait(number, lanes)
        ident, count, *predicate = answer
        predicate = lanes.spread(predicate[0]) if predicate else None
        moving = []
        for value in np.unique(np.stack([lanes.spread(ident), lanes.spread(count)]), axis=1).T if (
                ident.ndim or count.ndim) else [(ident, count)]:
            chosen = lanes
            if ident.ndim or count.ndim:
                mask = (lanes.spread(ident) == value[0]) & (lanes.spread(count) == value[1])
                chosen = lanes.subset(mask)
                chosen_predicate = None if predicate is None else predicate[mask]
            else:
                chosen_predicate = predicate
            key = int(value[0]), int(value[1])
            if key[0] >= NAMED or key[1] % WARP or key[1] > -(-self.batch.threads // WARP) * WARP:
                self.misused(barrier.place, chosen, key)
            self.waiting.setdefault(key, []).append(Arrival(chosen, number, chosen_predicate, not barrier.arrive))
            if barrier.arrive:
                moving.append((number, chosen))
            moving += self.release(key)
        return moving

    def misused(self, place, lanes, key):
        block, thread = lanes.coordinates(0)
        raise BarrierDivergence(
            f"{place.kernel}: a barrier must have a number below {NAMED} and await whole warps of its block, got barrier "
            f"{key[0]} for {key[1] or 'all'} threads in a block of {self.batch.threads}, from thread {show_index(thread)} of "
            f"block {show_index(block)} at {place}. Round the threads up to a multiple of {WARP}.",
            kernel=place.kernel, block=block, thread=thread, line=place.line, source=place.source, ptx=place.ptx)

    def release(self, key):
        """Let go every block whose threads have all come."""
        arrivals = self.waiting[key]
        if len(arrivals) == 1 and arrivals[0].lanes.index is None and self.expected(key) is None:
            complete = None
        else:
            expected = self.expected(key)
            expected = np.full(self.batch.blocks, self.batch.threads) if expected is None else expected
            come = sum(np.bincount(a.lanes.block, minlength=self.batch.blocks) for a in arrivals)
            complete = (come >= expected) & (come > 0)
            if not complete.any():
                return []
            if key[1] == 0:
                self.check_same_instruction(arrivals, complete)
        return self.complete(key, arrivals, complete)

    def expected(self, key):
        """Threads awaited per block; None for all of them."""
        if key[1]:
            return np.full(self.batch.blocks, key[1])
        if self.batch.checks.early_exit and self.batch.any_exited:
            return np.bincount(self.batch.block_of_lane[~self.batch.exited], minlength=self.batch.blocks)
        return None

    def complete(self, key, arrivals, complete):
        batch = self.batch
        batch.counters.barriers += batch.blocks if complete is None else int(complete.sum())
        batch.blocks_met(None if complete is None else np.flatnonzero(complete))
        if batch.races is not None:
            if complete is None:
                batch.races.barrier(None, None)
            else:
                batch.races.barrier(np.flatnonzero(complete), self.warps_of(arrivals)[complete] if key[1] else None)
        moving, staying, results = [], [], self.reductions(arrivals)
        for arrival in arrivals:
            if complete is None:
                gone = arrival.lanes
            else:
                mask = complete[arrival.lanes.block]
                gone = arrival.lanes.subset(mask)
                if not mask.all():
                    rest = None if arrival.predicate is None else arrival.predicate[~mask]
                    staying.append(Arrival(arrival.lanes.subset(~mask), arrival.number, rest, arrival.waits))
            if not gone.count or not arrival.waits:
                continue
            barrier = self.instructions[arrival.number]
            if barrier.reduction:
                batch.write_register(barrier.target, gone, results[barrier.reduction][gone.block])
            moving.append((arrival.number, gone))
        self.waiting[key] = staying
        return moving

    def reductions(self, arrivals):
        """Per block: how many predicates hold, whether all do, whether any does."""
        blocks = self.batch.blocks
        true, come = np.zeros(blocks, np.uint32), np.zeros(blocks, np.uint32)
        for a in arrivals:
            if a.predicate is not None:
                true += np.bincount(a.lanes.block[a.predicate], minlength=blocks).astype(np.uint32)
                come += np.bincount(a.lanes.block, minlength=blocks).astype(np.uint32)
        return {"popc": true, "and": true == come, "or": true > 0}

    def warps_of(self, arrivals):
        """The set of warps that came, per block."""
        warps = np.zeros(self.batch.blocks, np.uint32)
        for a in arrivals:
            np.bitwise_or.at(warps, a.lanes.block, a.lanes.warp_bit)
        return warps

    def check_same_instruction(self, arrivals, complete):
        """All threads of a block must meet at one and the same __syncthreads()."""
        numbers = {a.number for a in arrivals if a.waits}
        if len(numbers) < 2:
            return
        seen: dict[int, Arrival] = {}
        for arrival in arrivals:
            for block in np.unique(arrival.lanes.block[complete[arrival.lanes.block]]):
                other = seen.setdefault(block, arrival)
                if other.number != arrival.number:
                    self.diverged(block, [other, arrival])

    def stuck(self):
        """No thread can go on: say who waits where, and where the others are."""
        for key in list(self.waiting):
            moving = self.release(key) if self.waiting[key] else []
            if moving:
                return moving
        arrivals = [a for group in self.waiting.values() for a in group if a.waits]
        if arrivals:
            block = int(arrivals[0].lanes.block[0])
            self.diverged(block, [a for a in arrivals if (a.lanes.block == block).any()])
        return []

    def diverged(self, block, arrivals):
        batch, waiting = self.batch, []
        place = self.instructions[arrivals[0].number].place
        came = np.zeros(batch.threads, bool)
        for arrival in arrivals:
            lanes = arrival.lanes
            whole = np.arange(batch.lane_count) if lanes.index is None else lanes.index
            threads = whole[lanes.block == block] % batch.threads
            came[threads] = True
            waiting.append(f"{ranges(threads)} at {self.instructions[arrival.number].place}")
        exited = batch.exited[block * batch.threads: (block + 1) * batch.threads] & ~came
        if exited.any():
            waiting.append(f"{ranges(np.flatnonzero(exited))} already returned")
        coordinates, thread = batch.coordinates(int(block * batch.threads + np.flatnonzero(came)[0]))
        raise BarrierDivergence(
            f"{place.kernel}: all {batch.threads} threads of a block must reach the same barrier, got in block "
            f"{show_index(coordinates)} threads {'; threads '.join(waiting)}. Move the barrier out of the branch.",
            kernel=place.kernel, block=coordinates, thread=thread, line=place.line, source=place.source, ptx=place.ptx)


def ranges(numbers):
    """[0, 1, 2, 5] as "0-2, 5", cut short after four ranges."""
    numbers = np.sort(numbers)
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 2) != 1)
    pieces = np.split(numbers, starts[1:])
    shown = [f"{p[0]}-{p[-1]}" if p.size > 1 else f"{p[0]}" for p in pieces[:4]]
    return ", ".join(shown) + (", ..." if len(pieces) > 4 else "")
