"""A batch of blocks that run together: its registers and memories, and the loop that schedules its basic blocks.

The scheduler keeps, for every basic block, the lanes that wait to execute it, and always runs the lowest-numbered one.
Blocks are numbered so that lanes which part at a branch meet again where its paths join (see flow.py). Lanes at a barrier
wait outside of the queue.
"""

from functools import cached_property
from typing import Any

import numpy as np

from .barriers import Barriers
from .clusters import Clusters
from .copies import Copies
from .definedness import Marks
from .errors import Timeout, Uninitialised
from .hazards import Hazards, Shadow
from .lanes import WARP, Lanes
from .memory import Region
from .names import short
from .races import Races
from .stack import Stack
from .types import storage
from .waiting import Patience, Recurrence

SHARED_ROW = 128


class Batch:
    def __init__(self, launch, first_block, blocks):
        self.launch, self.kernel, self.checks, self.counters = launch, launch.kernel, launch.checks, launch.counters
        self.first_block, self.blocks, self.rng = first_block, blocks, launch.rng
        self.block_shape, self.grid_shape, self.threads = launch.block, launch.grid, launch.threads
        self.dynamic_shared, self.shared_variables = launch.shared, launch.shared_variables
        self.lane_count = blocks * self.threads
        self.steps, self.any_exited, self.ticked = 0, False, False
        self.time, self.changes, self.watching = 0, 0, False  # the clock; changes of memory; whether stores look for any
        self.registers = [storage(kind).type(0) for kind in self.kernel.code.register_types]
        self.exited = np.zeros(self.lane_count, bool)
        self.fenced: Any = None  # per warp: whether a fence has run and no ordered store published what stood before it
        self.geometry()
        self.memories()
        self.ramps = {}
        self.everyone = Lanes(self)

    def geometry(self):
        """Who is where: block, thread and warp coordinates of every lane."""
        shape, numbers = launch_geometry(self.block_shape, self.blocks)
        self.thread_index, self.place_in_warp, self.warp_in_block, self.lane_bit, self.warp_bit, thread = shape
        self.block_of_lane = numbers
        warps_per_block = -(-self.threads // WARP)
        self.warp_of_lane = numbers * warps_per_block + thread // WARP
        self.warp_count = self.blocks * warps_per_block
        block = (self.first_block + numbers).astype(np.uint64)
        gx, gy, _ = (np.uint64(n) for n in self.grid_shape)
        x, rest = block % gx, block // gx
        self.block_index = tuple(v.astype(np.uint32) for v in (x, rest % gy, rest // gy))
        if self.blocks == 1:
            self.block_index = tuple(v[:1].repeat(self.lane_count) for v in self.block_index)

    @cached_property
    def all_numbers(self):
        return np.arange(self.lane_count)

    @cached_property
    def warp_slot(self):
        """The number of each lane if all warps were whole."""
        return self.warp_of_lane * WARP + self.place_in_warp

    def memories(self):
        stride = max(-(-self.shared_variables.end // SHARED_ROW) * SHARED_ROW, SHARED_ROW)
        self.shared_stride = stride
        uninitialised = self.checks.uninitialised
        self.shared = Region(np.zeros(stride * self.blocks, np.uint8), title="shared memory",
                             initialised=np.zeros(stride * self.blocks, np.uint8) if uninitialised else None)
        self.copies = Copies(self)
        self.races = None
        if self.checks.races and self.threads > WARP and self.shared_variables.end:
            self.races = Races(stride * self.blocks, self.blocks, self.kernel.code.granule)
        self.warp_hazards = None
        if self.checks.hazards and self.threads > 1 and self.shared_variables.end:
            self.warp_hazards = Hazards(self.kernel.code.granule, WARP, self.warp_count, alone=True)
            self.shared.hazards = Shadow(self.shared.size, self.kernel.code.granule)
        frame = -(-self.kernel.layout.locals.end // 16) * 16
        self.frame = frame
        self.local = Region(np.zeros(frame * self.lane_count, np.uint8), title="local memory",
                            initialised=np.zeros(frame * self.lane_count, np.uint8) if uninitialised else None)

        self.marks, self.clusters = Marks(self), Clusters(self)
        self.stack: Any = Stack(self) if self.kernel.code.calls else None

    # --- what accesses ask ---------------------------------------------------------------------------------------

    def window(self, space, lanes):
        """(region, variables, bytes per row, row per lane) of shared, local or parameter memory."""
        if space == "shared":
            return self.shared, self.shared_variables, self.shared_stride, lanes.block
        if space == "local":
            row = np.arange(self.lane_count) if lanes.index is None else lanes.index
            return self.local, self.kernel.layout.locals, self.frame, row
        return self.launch.parameters, self.kernel.layout.params, 0, None

    def window_offset(self, space, at):
        stride = {"shared": self.shared_stride, "local": self.frame}.get(space)
        return at % stride if stride else at

    def describe_offset(self, space, region, offset):
        if space == "global":
            return f"{self.name_of(region)} from byte {offset}"
        variables = self.shared_variables if space == "shared" else self.kernel.layout.locals
        name, inside = variables.at(offset)
        return f"{space} `{short(name)}` from byte {inside}" if name else f"{space} memory from byte {offset}"

    def variable_at(self, space, offset):
        name, _ = (self.shared_variables if space == "shared" else self.kernel.layout.locals).at(offset)
        return short(name) if name else None

    def name_of(self, region):
        return self.launch.names.get(id(region), region.title)

    def local_bytes_of(self, lanes, position, offset):
        lane = position if lanes.index is None else int(lanes.index[position])
        return self.local.data[lane * self.frame + offset: (lane + 1) * self.frame]

    def ramp(self, step, count):
        """0, step, 2 * step, ... as uint64."""
        ramp = self.ramps.get(step)
        if ramp is None:
            ramp = self.ramps[step] = np.arange(0, self.lane_count * step, step, dtype=np.uint64)
        return ramp if count == ramp.size else ramp[:count]

    def coordinates(self, lane):
        """(block, thread) of a lane, three coordinates each."""
        return (tuple(int(axis[lane]) for axis in self.block_index), tuple(int(axis[lane]) for axis in self.thread_index))

    def living(self, lanes):
        """Per warp with a lane in `lanes`, the mask of its lanes that exist and have not returned."""
        masks = np.zeros(self.warp_count, np.uint32)
        alive = np.flatnonzero(~self.exited)
        np.bitwise_or.at(masks, self.warp_of_lane[alive], self.lane_bit[alive])
        return masks[lanes.of_batch(self.warp_of_lane)[lanes.firsts]]

    def fence(self, lanes):
        """What the warps did so far is published by their next ordered store, or atomic."""
        self.ordered(lanes, fence=True)
        if self.races is not None:
            self.fenced = np.zeros(self.warp_count, bool) if self.fenced is None else self.fenced
            self.fenced[lanes.of_batch(self.warp_of_lane)] = True

    def ordered(self, lanes, fence=False):
        """Lanes of a warp met, or ran a fence."""
        if self.warp_hazards is not None:
            self.warp_hazards.sync(lanes.of_batch(self.warp_of_lane))
        if self.launch.hazards is not None:
            self.launch.hazards.sync(self.first_block + lanes.block, fence)

    def blocks_met(self, blocks):
        """Blocks of the batch (None: all) completed a barrier."""
        blocks = np.arange(self.blocks) if blocks is None else blocks
        if self.launch.hazards is not None:
            self.launch.hazards.sync(self.first_block + blocks)
        if self.warp_hazards is not None:
            per_block = self.warp_count // self.blocks
            self.warp_hazards.sync((blocks[:, None] * per_block + np.arange(per_block)).ravel())

    def publish(self, lanes, always):
        """An ordered store or atomic: who sees it sees all that the warp did before its fence, so that is no race."""
        if always:
            self.ordered(lanes, fence=True)
        if self.races is None or (self.fenced is None and not always):
            return
        warps = np.unique(lanes.of_batch(self.warp_of_lane))
        if not always:
            warps = warps[self.fenced[warps]]
        if warps.size:
            per_block = self.warp_count // self.blocks
            self.races.release(warps // per_block, np.uint32(1) << (warps % per_block).astype(np.uint32))
            if self.fenced is not None:
                self.fenced[warps] = False

    def write_register(self, register, lanes, values):
        number = self.kernel.code.numbers.get(register)
        if number is not None:
            dtype = storage(register.type)
            lanes.write(number, values if values.dtype == dtype else values.astype(dtype))

    # --- the scheduler ---------------------------------------------------------------------------------------------

    def run(self):
        """Run all threads of the batch to their end."""
        try:
            self.schedule()
        finally:
            for name in ("everyone", "barriers", "pending", "copies", "stack", "marks", "clusters"):  # who know the batch
                vars(self).pop(name, None)

    def schedule(self):
        code, blocks = self.kernel.code, self.kernel.blocks
        self.barriers = Barriers(self, self.kernel.code.barriers)
        pending, patience = {0: [self.everyone]}, Patience(self)
        recurrence = Recurrence(self, patience)
        self.pending = pending
        while pending or self.wake():
            number = patience.next(pending)
            lanes = self.merged(pending.pop(number))
            self.steps += 1
            self.time += 1
            if self.steps >= recurrence.first:
                recurrence.look(number, lanes)
            if self.steps > self.checks.step_limit:
                self.timeout(number, lanes, f"within {self.checks.step_limit:,} basic blocks", "still",
                             "Look for an endless loop, or raise Checks.step_limit.")
            self.count(number, lanes)
            marked = (self.marks and not code.touches[number].isdisjoint(self.marks.registers)) or (
                number in code.shuffles and not lanes.whole_warps)
            answer = code.marked(number)(lanes) if marked else self.execute(number, lanes)
            block = blocks[number]
            if block.kind == "jump":
                self.send(block.targets[0], lanes)
            elif block.kind == "branch":
                self.branch(block, lanes, answer)
            elif block.kind == "exit":
                self.retire(lanes)
            elif block.kind == "table":
                self.table(block, lanes, answer)
            elif block.kind == "call":
                self.stack.call(number, lanes)
                self.send(block.targets[0], lanes)
            elif block.kind == "return":
                for target, some in self.stack.leave(lanes):
                    self.send(target, some)
            else:
                self.proceed(self.barriers.arrive(number, lanes, answer))

    def execute(self, number, lanes):
        """Run a block's plain function; where a load meets unwritten bytes, go on from there with one that follows them."""
        try:
            return self.kernel.code.functions[number](lanes)
        except Uninitialised as error:
            met = error
        return self.marks.resume(number, lanes, met)

    def count(self, number, lanes):
        self.launch.block_threads[number] += lanes.count
        self.launch.block_warps[number] += lanes.warps

    def send(self, number, lanes):
        """Lanes go on to a block; those for which nothing is left to do end here, so that nobody waits for them."""
        block = self.kernel.blocks[number]
        if block.kind == "exit" and not block.instructions:
            self.count(number, lanes)
            self.retire(lanes)
        else:
            self.pending.setdefault(number, []).append(lanes)

    def retire(self, lanes):
        self.exited[slice(None) if lanes.index is None else lanes.index] = True
        self.any_exited = True

    def tick(self):
        """The time, which moves on with every look at it."""
        self.time += 1
        self.ticked = True
        return self.time

    def place_of_block(self, number):
        block = self.kernel.blocks[number]
        return self.kernel.place((block.instructions or [block.last])[0])

    def wake(self):
        """Whether a barrier lets anybody go on, now that all the others have ended or wait."""
        self.proceed(self.clusters.stuck() or self.barriers.stuck())
        return bool(self.pending)

    def proceed(self, moving):
        for number, lanes in moving:
            self.send(self.kernel.blocks[number].targets[0], lanes)

    def merged(self, groups):
        if len(groups) == 1:
            lanes = groups[0]
        else:
            lanes = Lanes(self, np.sort(np.concatenate([g.index for g in groups])))
        return self.everyone if lanes.count == self.lane_count else lanes

    def branch(self, block, lanes, taken):
        self.counters.branches += lanes.warps
        hits = lanes.count * bool(taken) if taken.ndim == 0 else np.count_nonzero(taken)
        if hits == lanes.count or hits == 0:
            self.send(block.targets[0 if hits else 1], lanes)
            return
        self.counters.divergent_branches += self.divided(lanes, taken)
        for target, chosen in zip(block.targets, (taken, ~taken), strict=True):
            self.send(target, lanes.subset(chosen))

    @staticmethod
    def divided(lanes, taken):
        """How many warps have lanes on both sides."""
        if lanes.whole_warps:
            took = taken.reshape(-1, WARP).sum(axis=1)
            return int(((took > 0) & (took < WARP)).sum())
        took = np.add.reduceat(taken.astype(np.int64), lanes.firsts)
        return int(((took > 0) & (took < np.diff(lanes.firsts, append=lanes.count))).sum())

    def table(self, block, lanes, index):
        self.counters.branches += lanes.warps
        if index.ndim == 0:
            self.send(block.targets[int(index)], lanes)
            return
        for value in np.unique(index):
            self.send(block.targets[int(value)], lanes.subset(index == value))

    def timeout(self, number, lanes, within, how, advice):
        block, thread = lanes.coordinates(0)
        place = self.place_of_block(number)
        raise Timeout(
            f"{self.kernel.name}: a batch of blocks must end {within}, got thread {thread} of block {block} {how} at "
            f"{place}. {advice}",
            kernel=self.kernel.name, block=block, thread=thread, line=place.line, source=place.source, ptx=place.ptx)


def launch_geometry(block_shape, blocks):
    """Per lane: thread coordinates, place in the warp, warp, their bits and the thread number; and the block."""
    bx, by, bz = block_shape
    threads = bx * by * bz
    thread = np.tile(np.arange(threads), blocks)
    index = tuple(v.astype(np.uint32) for v in (thread % bx, thread // bx % by, thread // (bx * by)))
    place, warp = (thread % WARP).astype(np.uint32), (thread // WARP).astype(np.uint32)
    one = np.uint32(1)
    return (index, place, warp, one << place, one << warp, thread), np.repeat(np.arange(blocks), threads)
