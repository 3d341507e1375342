"""Clusters of blocks: their barrier, and shared memory of the other blocks.

A shared address whose bits from 24 on are not 0 belongs to the block of that rank, plus one; plain addresses are the block's own.
Clusters lie along x. A kernel without __cluster_dims__ has clusters of one block.
"""

import numpy as np

from .decode import Step, opcode
from .errors import BarrierDivergence, PtxError, show_index

SHIFT = 24
RANK = 0xFF << SHIFT


def size_of_cluster(kernel, attributes):
    """Blocks in each cluster of a kernel. Raises PtxError where they do not lie along x."""
    shape = attributes.get("reqnctapercluster") or [1]
    if any(n != 1 for n in shape[1:]):
        raise PtxError(f"{kernel}: clusters must lie along x on the simulated device, got {tuple(shape)}. Use (n, 1, 1).",
                       kernel=kernel)
    return shape[0]


class Clusters:
    """Of a batch: how often each thread arrived at the barrier of its cluster, and how often that was completed."""

    def __init__(self, batch):
        self.batch, self.size = batch, batch.kernel.cluster
        self.arrived = np.zeros(batch.lane_count, np.int64)
        self.completed = np.zeros(-(-batch.blocks // self.size), np.int64)
        self.waiting = []  # (number of the basic block, Lanes)

    def of(self, lanes):
        return lanes.block // self.size

    def rank(self, lanes):
        """The number of each lane's block within its cluster."""
        return (lanes.block % self.size).astype(np.uint32)

    def arrive(self, lanes):
        self.arrived[lanes.numbers] += 1
        self.batch.proceed(self.release())

    def wait(self, number, lanes):
        """Lanes wait until all threads of their cluster have arrived. Returns the groups that may go on."""
        self.waiting.append((number, lanes))
        return self.release()

    def release(self):
        batch = self.batch
        cluster = batch.block_of_lane // self.size
        behind = ~batch.exited & (self.arrived <= self.completed[cluster])
        came = np.bincount(cluster[~batch.exited], minlength=self.completed.size) > 0
        done = came & (np.bincount(cluster[behind], minlength=self.completed.size) == 0)
        if done.any():
            self.completed[done] += 1
            blocks = np.flatnonzero(np.repeat(done, self.size))
            batch.blocks_met(blocks)
            if batch.races is not None:
                batch.races.barrier(blocks, None)
        moving, staying = [], []
        for number, lanes in self.waiting:
            free = self.arrived[lanes.numbers] <= self.completed[self.of(lanes)]
            if free.any():
                moving.append((number, lanes.subset(free)))
            if not free.all():
                staying.append((number, lanes.subset(~free)))
        self.waiting = staying
        return moving

    def stuck(self):
        """Nobody else can go on: let go whom those that have ended set free, else say who waits."""
        if not self.waiting:
            return []
        moving = self.release()
        if moving:
            return moving
        number, lanes = self.waiting[0]
        place = self.batch.place_of_block(number)
        block, thread = lanes.coordinates(0)
        raise BarrierDivergence(
            f"{place.kernel}: all threads of a cluster must arrive at its barrier, got {lanes.count} that wait for others, the "
            f"first thread {show_index(thread)} of block {show_index(block)} at {place}. Move the barrier out of the branch.",
            kernel=place.kernel, block=block, thread=thread, line=place.line, source=place.source, ptx=place.ptx)

    def located(self, lanes, at):
        """(offset, block within the batch) of shared addresses."""
        rank = at >> SHIFT
        if not rank.any():
            return at, lanes.block
        known = (rank >= 0) & (rank <= self.size)
        block = np.where((rank > 0) & known, self.of(lanes) * self.size + rank - 1, lanes.block)
        return np.where(known, at & ~np.int64(RANK), at), block


@opcode("mapa")
def map_address(i):
    """The address of the same variable in the block of a rank."""
    def run(address, rank):
        kind = address.dtype.type
        return (address & ~kind(RANK)) | (rank + np.uint32(1)).astype(kind) << kind(SHIFT)
    return i.step(run, [i.type, "u32"], [i.type], "move")


@opcode("getctarank")
def rank_of_address(i):
    def run(lanes, address):
        rank = ((address >> address.dtype.type(SHIFT)) & address.dtype.type(0xFF)).astype(np.uint32)
        return np.where(rank == 0, lanes.batch.clusters.rank(lanes), rank - np.uint32(1))
    return i.step(run, [i.type], ["u32"], "move", lanes=True)


def arrive(i):
    """barrier.cluster.arrive: waiting is another instruction."""
    return Step(lambda lanes: lanes.batch.clusters.arrive(lanes), [], [], "barrier", lanes=True)
