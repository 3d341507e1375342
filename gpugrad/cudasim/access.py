"""Loads and stores: where an address leads, whether the access is allowed, what it costs, and the bytes themselves."""

import numpy as np

from . import clusters, coalesce, memory
from .errors import ReadOnly, show_index
from .faults import Faults
from .hazards import SEVERAL, Shadow
from .types import UNSIGNED

BYTES_SET = {1: np.uint8(1), 2: np.uint16(0x0101), 4: np.uint32(0x01010101), 8: np.uint64(0x0101010101010101)}


class Part:
    """Lanes whose addresses lead into one region: byte offsets `at`, or a plain run of them starting at `run`."""

    __slots__ = ("at", "lanes", "region", "run", "selector", "space")

    def __init__(self, space, region, lanes, at, run=None, selector=None):
        self.space, self.region, self.lanes, self.at, self.run, self.selector = space, region, lanes, at, run, selector


class Access(Faults):
    """One load, store or atomic of the program: `count` elements of `dtype` at base + offset."""

    def __init__(self, place, space, dtype, count, offset, strong=False, releases=False):
        self.place, self.space, self.dtype, self.count = place, space, np.dtype(dtype), count
        self.offset, self.size = offset, self.dtype.itemsize * count
        self.readonly = False  # ld.global.nc: the compiler was promised that nobody writes there
        self.follows = False  # a plain load: what it finds undefined is followed to its use (see definedness.py)
        self.strong = strong  # ordered by itself (.volatile, .relaxed, .acquire): no race with its like
        self.releases = releases  # .release: publishes what came before, without a fence
        self.shift = self.size.bit_length() - 1
        self.bits = UNSIGNED[self.dtype.itemsize]

    # --- the operations ------------------------------------------------------------------------------------------

    def load(self, lanes, base):
        """The element at each lane's address (a tuple of them when count > 1)."""
        parts = self.locate(lanes, base, "read")
        if len(parts) == 1:
            columns = self.load_part(parts[0])
        else:
            columns = [np.empty(lanes.count, self.dtype) for _ in range(self.count)]
            for part in parts:
                for column, values in zip(columns, self.load_part(part), strict=True):
                    column[part.selector] = values
        return columns[0] if self.count == 1 else columns

    def load_part(self, part):
        self.account(part, "read")
        rows = part.region.view(self.dtype, self.count)
        if part.run is not None:
            first = part.run >> self.shift
            rows = rows[first: first + part.lanes.count]
            return [rows.copy()] if self.count == 1 else [rows[:, j].copy() for j in range(self.count)]
        rows = rows[part.at >> self.shift]
        if self.count == 1:
            return [rows]
        return [rows[..., j].copy() for j in range(self.count)]

    def store(self, lanes, base, *values):
        for part in self.locate(lanes, base, "write"):
            chosen = part.selector
            self.store_part(part, [v if chosen is None or v.ndim == 0 else v[chosen] for v in values])

    def store_part(self, part, values):
        self.account(part, "write", values)
        batch = part.lanes.batch
        batch.changes += not batch.watching or self.changes(part, values)
        rows = part.region.view(self.dtype, self.count)
        if part.run is not None:
            first = part.run >> self.shift
            rows = rows[first: first + part.lanes.count]
            if self.count == 1:
                rows[...] = values[0]
            else:
                for column, value in enumerate(values):
                    rows[:, column] = value
            return
        where = part.at >> self.shift
        if self.count == 1:
            rows[where] = values[0]
        else:
            for column, value in enumerate(values):
                rows[where, column] = value
        checks = batch.checks
        if (part.space == "shared" and checks.races) or (part.space == "global" and checks.hazards):
            self.same_instruction_conflict(part, rows, where, values)

    def changes(self, part, values):
        """Whether a store of the values would change memory."""
        now = part.region.view(self.dtype, self.count)[self.offsets(part) >> self.shift].reshape(part.lanes.count, -1)
        new = np.stack([part.lanes.spread(value) for value in values], axis=1)
        return not np.array_equal(now.view(self.bits), new.view(self.bits))

    # --- where addresses lead ------------------------------------------------------------------------------------

    def locate(self, lanes, base, kind):
        """The Parts that the lanes' addresses lead to, checked for bounds and alignment."""
        if self.space == "generic":
            return self.locate_generic(lanes, base, kind)
        if self.space in ("global", "const"):
            return self.locate_global(lanes, base + np.uint64(self.offset & (1 << 64) - 1), kind)
        if base.dtype.itemsize == 4:
            # 32-bit addresses wrap: NVRTC puts a negative multiple of the index into the register and the rest here.
            at = (base + np.uint32(self.offset & 0xFFFFFFFF)).view(np.int32).astype(np.int64)
        else:
            at = base.astype(np.int64) + self.offset
        return [self.locate_window(lanes, at, kind, self.space)]

    def locate_generic(self, lanes, base, kind):
        address = base + np.uint64(self.offset & (1 << 64) - 1)
        window = address >> np.uint64(40)
        if window.ndim == 0 or (window == window[0]).all():
            window = int(window.flat[0] if window.ndim else window)
            if window not in (1, 2, 3):
                return self.locate_global(lanes, address, kind)
            at = address.astype(np.int64) - (window << 40)
            return [self.locate_window(lanes, at, kind, ("shared", "local", "param")[window - 1])]
        parts = []
        for one in np.unique(window):
            selector = np.flatnonzero(window == one)
            sub = self.locate_generic_one(lanes.subset(selector), address[selector], kind, int(one))
            for part in sub:
                part.selector = selector if part.selector is None else selector[part.selector]
            parts += sub
        return parts

    def locate_generic_one(self, lanes, address, kind, window):
        if window not in (1, 2, 3):
            return self.locate_global(lanes, address, kind)
        space = ("shared", "local", "param")[window - 1]
        return [self.locate_window(lanes, address.astype(np.int64) - (window << 40), kind, space)]

    def locate_global(self, lanes, address, kind):
        if address.ndim == 0:
            if kind != "read":
                address = np.full(lanes.count, address)
            else:
                region = self.region_at(lanes, address.reshape(1), int(address), kind)
                return [Part("global", region, lanes, np.int64(int(address) - region.start))]
        count = lanes.count
        first, last = int(address[0]), int(address[-1])
        if last - first == (count - 1) * self.size and count > 1:
            run = bool((address - address[0] == lanes.batch.ramp(self.size, count)).all())
        else:
            run = count == 1
        low, high = (first, last) if run else (int(address.min()), int(address.max()))
        region = memory.SPACE.find(low)
        if region is None or high + self.size > region.start + region.size:
            return self.split_global(lanes, address, kind)
        region.check(self, lanes, address, kind)
        misaligned = first & self.size - 1 if run else int(np.bitwise_or.reduce(address)) & self.size - 1
        if misaligned:
            self.misaligned(lanes, address, kind, region)
        if kind != "read" and not region.writable:
            self.fault(ReadOnly, lanes, 0, int(address[0]), region, kind, "must leave read-only memory alone",
                       "Only the host may write there.", f"in {lanes.batch.name_of(region)}")
        if run:
            return [Part("global", region, lanes, None, first - region.start)]
        return [Part("global", region, lanes, (address - np.uint64(region.start)).view(np.int64))]

    def split_global(self, lanes, address, kind):
        """Addresses in several allocations, or outside of all."""
        starts = np.array(memory.SPACE.starts, np.uint64)
        which = np.searchsorted(starts, address, side="right") - 1
        ends = np.array([a.start + a.size for a in memory.SPACE.allocations] or [0], np.uint64)
        bad = (which < 0) | (address + np.uint64(self.size) > ends[which])
        if bad.any():
            position = int(np.flatnonzero(bad)[0])
            self.out_of_bounds(lanes, position, int(address[position]), kind, int(bad.sum()))
        parts = []
        for one in np.unique(which):
            selector = np.flatnonzero(which == one)
            for part in self.locate_global(lanes.subset(selector), address[selector], kind):
                part.selector = selector
                parts.append(part)
        return parts

    def region_at(self, lanes, address, value, kind):
        region = memory.SPACE.find(value)
        if region is None or value + self.size > region.start + region.size:
            self.out_of_bounds(lanes, 0, value, kind, lanes.count)
        region.check(self, lanes, address, kind)
        if value & self.size - 1:
            self.misaligned(lanes, address, kind, region)
        return region

    def locate_window(self, lanes, at, kind, space):
        """Shared, local or parameter memory: the bounds are those of the variables, the row that of block or lane."""
        batch = lanes.batch
        region, variables, stride, row = batch.window(space, lanes)
        low, high = (int(at), int(at)) if at.ndim == 0 else (int(at.min()), int(at.max()))
        if space == "shared" and high >> clusters.SHIFT:
            at, row = batch.clusters.located(lanes, at)
            low, high = (int(at), int(at)) if at.ndim == 0 else (int(at.min()), int(at.max()))
        if low < 0 or high + self.size > variables.end or (variables.gaps and not variables.covers(at, self.size, low, high)):
            bad = np.atleast_1d(~variables.inside(at, self.size))
            position = int(np.flatnonzero(bad)[0])
            self.outside_window(lanes, position, int(np.atleast_1d(at)[position]), kind, space, variables,
                                int(bad.sum()) if at.ndim else lanes.count)
        if (low if at.ndim == 0 else int(np.bitwise_or.reduce(at))) & self.size - 1:
            self.misaligned(lanes, np.atleast_1d(at), kind, None)
        if row is not None:
            at = row * stride + at
        elif at.ndim == 0 and kind != "read":
            at = np.full(lanes.count, at)
        return Part(space, region, lanes, at)

    # --- what an access is checked for, and what it costs -----------------------------------------------------------

    def account(self, part, kind, values=None):
        checks, region = part.lanes.batch.checks, part.region
        if self.strong and kind != "read":
            part.lanes.batch.publish(part.lanes, self.releases)
        if part.space == "global":
            launch = part.lanes.batch.launch
            if region.launch is not launch:
                launch.touch(region)
            if self.space != "const":
                self.count_global(part, kind, checks)
            if region.initialised is not None:
                self.initialise(part, kind, checks)
            if launch.hazards is not None and region.writable:
                if region.hazards is None:
                    region.hazards = Shadow(region.size, launch.hazards.granule)
                first = part.lanes.batch.first_block * part.lanes.batch.threads
                self.hazard(part, kind, values, launch.hazards, first + part.lanes.numbers)
        elif part.space == "shared":
            if checks.races and part.lanes.batch.races is not None:
                self.race(part, kind, values)
            self.initialise(part, kind, checks)
            if part.lanes.batch.warp_hazards is not None:
                self.hazard(part, kind, values, part.lanes.batch.warp_hazards, part.lanes.slots)
            self.count_shared(part, checks)
        elif part.space == "local":
            self.initialise(part, kind, checks)
            part.lanes.batch.counters.local_bytes += self.size * part.lanes.count

    def marks(self, shadow, part):
        """The part of a byte shadow under this access, as an indexable array and an index."""
        rows = shadow[: shadow.size // self.size * self.size].view(self.bits)
        if self.count > 1:
            rows = rows.reshape(-1, self.count)
        if part.run is not None:
            first = part.run >> self.shift
            return rows, slice(first, first + part.lanes.count)
        return rows, part.at >> self.shift

    def offsets(self, part):
        """The byte offset of each lane's access in the region."""
        count = part.lanes.count
        return part.run + np.arange(count) * self.size if part.at is None else np.broadcast_to(part.at, (count,))

    def initialise(self, part, kind, checks):
        if not checks.uninitialised:
            return
        rows, where = self.marks(part.region.initialised, part)
        ones = BYTES_SET[self.dtype.itemsize]
        if kind != "write":
            missing = rows[where] != ones
            if missing.any():
                bad = missing.reshape(missing.shape[0], -1).any(axis=1) if missing.ndim else np.array([True])
                error = self.uninitialised(part, int(np.flatnonzero(bad)[0]), kind, int(bad.sum()))
                part.lanes.batch.marks.missing(self, part, bad, error)
        if kind != "read":
            rows[where] = ones

    def count_global(self, part, kind, checks):
        lanes, counters = part.lanes, part.lanes.batch.counters
        moved = self.size * lanes.count
        if kind != "write":
            counters.bytes_read += moved
        if kind != "read":
            counters.bytes_written += moved
        if not checks.counters:
            return
        counters.global_requests += lanes.warps
        if part.run is not None and lanes.whole_warps and (part.region.start + part.run) % 32 == 0:
            asked = needed = moved // 32
        elif part.run is None and part.at.ndim == 0:
            asked = needed = lanes.warps
        else:
            at = part.run + lanes.batch.ramp(self.size, lanes.count).view(np.int64) if part.at is None else part.at
            asked, needed = coalesce.sectors(lanes.dense(at + part.region.start), self.size)
        counters.global_sectors += asked
        counters.sectors_needed += needed
        ones = BYTES_SET[self.dtype.itemsize]
        for shadow, touched in ((part.region.read, kind != "write"), (part.region.written, kind != "read")):
            if touched and shadow is not None:
                rows, where = self.marks(shadow, part)
                rows[where] = ones

    def count_shared(self, part, checks):
        lanes, counters = part.lanes, part.lanes.batch.counters
        counters.shared_requests += lanes.warps
        if checks.counters and part.at.ndim:
            counters.bank_conflicts += coalesce.conflicts(lanes.dense(part.at), self.size)

    def race(self, part, kind, values):
        lanes = part.lanes
        at = lanes.spread(np.asarray(part.at))
        found = lanes.batch.races.record("atomic" if self.strong else kind, at, self.size, lanes.warp_bit)
        if found is None:
            return
        positions, other, foreign = found
        if kind == "write" and other == "write":
            # Warps that store the same value race only in name: the outcome does not depend on their order.
            now = part.region.view(self.dtype, self.count)[at[positions] >> self.shift].reshape(positions.size, -1)
            mine = np.stack([lanes.spread(v)[positions] for v in values], axis=1)
            differs = (now.view(self.bits) != np.ascontiguousarray(mine).view(self.bits)).any(axis=1)
            if not differs.any():
                return
            positions, foreign = positions[differs], foreign[differs]
        warp = int(foreign[0]).bit_length() - 1
        self.racing(part, int(positions[0]), kind, f"warp {warp} {PAST[other]} it since the last barrier", at)

    def hazard(self, part, kind, values, hazards, threads):
        at = part.run + part.lanes.batch.ramp(self.size, threads.size).view(np.int64) if part.at is None else part.at
        at = np.broadcast_to(at, threads.shape)
        found = hazards.record(part.region.hazards, kind, at, self.size, threads, self.strong, self.readonly)
        if found is None:
            return
        positions, did, others = found
        if kind == "write" and did == "wrote":
            now = part.region.view(self.dtype, self.count)[at[positions] >> self.shift].reshape(positions.size, -1)
            mine = np.stack([np.broadcast_to(v, threads.shape)[positions] for v in values], axis=1)
            differs = (now.view(self.bits) != np.ascontiguousarray(mine).view(self.bits)).any(axis=1)
            if not differs.any():
                return
            positions, others = positions[differs], others[differs]
        batch, other = part.lanes.batch, int(others[0]) - 1
        if hazards.alone:
            who = f"lane {other % 32}" if other < SEVERAL - 1 else "other lanes of its warp"
            self.racing(part, int(positions[0]), kind, f"{who} {did} it", at, "lanes of a warp must be ordered by a barrier",
                        "Put __syncwarp() between the two.")
        if other < SEVERAL - 1:
            block, thread = divmod(other, batch.threads)
            who = f"thread {show_index(batch.launch.thread_at(thread))} of block {show_index(batch.launch.block_at(block))}"
        else:
            who = "several other threads" if other == SEVERAL - 1 else "other threads of its block"
        self.racing(part, int(positions[0]), kind, f"{who} {did} it in this launch", at,
                    "different threads must be ordered by a barrier or a fence",
                    "Use a second array, a barrier within the block, or two launches.")

    def same_instruction_conflict(self, part, rows, where, values):
        """Lanes that stored different values to one address in this very instruction."""
        for column, value in enumerate(values):
            now = rows[where] if self.count == 1 else rows[where, column]
            lost = now.view(self.bits) != value.view(self.bits)
            if lost.any():
                position = int(np.flatnonzero(lost)[0])
                self.racing(part, position, "write", "another thread stores a different value in the same instruction",
                            np.broadcast_to(part.at, (part.lanes.count,)), "one instruction must not collide",
                            "Let one thread store, or use an atomic.")


PAST = {"read": "read", "write": "wrote", "atomic": "changed"}
