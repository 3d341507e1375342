"""Shuffles, votes, matches and reductions within a warp, and the check that their masks name the lanes that come."""

import numpy as np

from . import clusters
from .decode import Step, opcode
from .definedness import ADVICE, undefined
from .errors import WarpDivergence, show_index
from .lanes import WARP
from .syntax import SINK, Group
from .types import NUMPY

ALL = np.uint32(0xFFFFFFFF)


def check_mask(i, lanes, mask):
    """Every lane must be in its own mask, and every living lane of the mask must execute the instruction with it.

    Returns whether the easy case holds: whole warps under a full mask.
    """
    lanes.batch.ordered(lanes)
    if mask.ndim == 0 and mask == ALL and lanes.whole_warps:
        return True
    mask = lanes.spread(mask)
    outside = (mask >> lanes.lane.astype(np.uint32)) & np.uint32(1) == 0
    if outside.any():
        position = int(np.flatnonzero(outside)[0])
        blame(i, lanes, position,
              "the mask must name every lane that executes the instruction",
              f"lane {int(lanes.lane[position])} outside of mask {int(mask[position]):#010x}",
              "Widen the mask, or keep the lane out of the branch.")
    missing = mask & ~lanes.per_lane(lanes.active) & lanes.per_lane(lanes.batch.living(lanes))
    if missing.any():
        position = int(np.flatnonzero(missing)[0])
        absent = int(missing[position])
        blame(i, lanes, position, "every lane that the mask names must execute the instruction",
              f"mask {int(mask[position]):#010x} and no lane {(absent & -absent).bit_length() - 1} "
              f"(missing {absent:#010x})", "Compute the mask with __ballot_sync before the branch, or narrow it.")
    return False


def blame(i, lanes, position, expected, got, advice):
    message, facts = diagnosis(i, lanes, position, expected, got)
    raise WarpDivergence(f"{message}. {advice}", **facts)


def diagnosis(i, lanes, position, expected, got):
    """(message, facts) of an error of the lane at a position."""
    block, thread = lanes.coordinates(position)
    place = i.place
    message = (f"{place.kernel}: {i.parts[0]}.sync: {expected}, got {got}, at thread {show_index(thread)} of block "
               f"{show_index(block)}, {place}")
    return message, {"kernel": place.kernel, "block": block, "thread": thread, "line": place.line, "source": place.source,
                     "ptx": place.ptx}


def source_lanes(mode, lane, b, c):
    """The lane that each lane reads, and whether it lies in range (PTX ISA, shfl.sync)."""
    b, segment, clamp = b.astype(np.int64) & 31, (c.astype(np.int64) >> 8) & 31, c.astype(np.int64) & 31
    lowest = lane & segment
    last = lowest | (clamp & ~segment)
    match mode:
        case "up":
            j = lane - b
            inside = j >= last
        case "down":
            j = lane + b
            inside = j <= last
        case "bfly":
            j = lane ^ b
            inside = j <= last
        case "idx":
            j = lowest | (b & ~segment)
            inside = j <= last
    return np.where(inside, j, lane), inside


@opcode("shfl")
def shuffle(i):
    if not i.has("sync"):
        return None
    mode = i.parts[2]
    pair = isinstance(i.operands[0], Group)
    target, inside_target = i.operands[0].items if pair else (i.operands[0], None)

    def run(lanes, a, b, c, mask):
        easy = check_mask(i, lanes, mask)
        if easy and b.ndim == 0 and c.ndim == 0:
            j, inside = source_lanes(mode, np.arange(WARP), b, c)
            out = a if a.ndim == 0 else a.reshape(-1, WARP)[:, j].ravel()
            return (out, np.tile(inside, lanes.warps)) if pair else out
        j, inside, absent = sources(lanes, b, c, mask)
        if absent.any():
            message, facts = absent_source(lanes, j, absent)
            raise WarpDivergence(f"{message}. {ADVICE}", **facts)
        out = lanes.dense(lanes.spread(a))[lanes.rank, j]
        return (out, inside) if pair else out

    def marked(lanes, a, b, c, mask, of_a, *of_others):
        check_mask(i, lanes, mask)
        j, inside, absent = sources(lanes, b, c, mask)
        out = lanes.dense(lanes.spread(a))[lanes.rank, j]
        marks = np.maximum.reduce([lanes.dense(lanes.spread(of_a))[lanes.rank, j], *map(lanes.spread, of_others)])
        if absent.any():
            marks = np.where(absent, lanes.batch.marks.new(undefined(*absent_source(lanes, j, absent))), marks)
        return ((out, inside) if pair else out), marks

    def sources(lanes, b, c, mask):
        """The lane that each lane reads, whether that lies in range, and whether it takes no part."""
        j, inside = source_lanes(mode, lanes.lane.astype(np.int64), lanes.spread(b), lanes.spread(c))
        places = j.astype(np.uint32)
        return j, inside, ((lanes.per_lane(lanes.active) & lanes.spread(mask)) >> places) & np.uint32(1) == 0

    def absent_source(lanes, j, absent):
        position = int(np.flatnonzero(absent)[0])
        active = (int(lanes.per_lane(lanes.active)[position]) >> int(j[position])) & 1
        return diagnosis(i, lanes, position, "a lane must read from a lane that takes part",
                         f"lane {int(lanes.lane[position])} reading lane {int(j[position])}, which is "
                         f"{'not in the mask' if active else 'not active'}")
    writes = [(None if target == SINK else target, "b32")]
    if pair:
        writes.append((None if inside_target == SINK else inside_target, "pred"))
    a, b, c, mask = i.operands[1:5]
    return Step(run, [(a, "b32"), (b, "u32"), (c, "u32"), (mask, "u32")], writes, "shuffle", lanes=True, marked=marked)


@opcode("vote")
def vote(i):
    if not i.has("sync"):
        return None
    mode = i.parts[2]

    def run(lanes, p, mask):
        check_mask(i, lanes, mask)
        ballot = lanes.per_lane(lanes.mask_of(lanes.spread(p))) & mask
        present = lanes.per_lane(lanes.active) & mask
        match mode:
            case "ballot":
                return ballot
            case "any":
                return ballot != 0
            case "all":
                return ballot == present
            case "uni":
                return (ballot == present) | (ballot == 0)
    return Step(run, [(i.operands[1], "pred"), (i.operands[2], "u32")],
                [(i.operands[0], "b32" if mode == "ballot" else "pred")], "vote", lanes=True)


@opcode("activemask")
def activemask(i):
    return Step(lambda lanes: lanes.per_lane(lanes.active), [], [(i.operands[0], "b32")], "vote", lanes=True)


def equal_lanes(lanes, values):
    """Per lane, the mask of its warp's lanes that hold the same value (absent lanes may be in it)."""
    rows = lanes.dense(values)
    equal = rows[:, :, None] == rows[:, None, :]
    masks = (equal * (np.uint32(1) << np.arange(WARP, dtype=np.uint32))).sum(axis=2, dtype=np.uint32)
    return masks.ravel() if lanes.whole_warps else masks[lanes.rank, lanes.lane]


@opcode("match")
def match_lanes(i):
    every = i.has("all")
    pair = isinstance(i.operands[0], Group)
    target, flag = i.operands[0].items if pair else (i.operands[0], SINK)

    def run(lanes, value, mask):
        check_mask(i, lanes, mask)
        present = lanes.per_lane(lanes.active) & mask
        equal = equal_lanes(lanes, lanes.spread(value)) & present
        if not every:
            return equal
        agreed = equal == present
        out = np.where(agreed, present, np.uint32(0))
        return (out, agreed) if pair else out
    writes = [(None if target == SINK else target, "b32")] + [(None if flag == SINK else flag, "pred")] * pair
    return Step(run, [(i.operands[1], i.type), (i.operands[2], "u32")], writes, "vote", lanes=True)


@opcode("redux")
def redux(i):
    name = i.parts[2]
    dtype = NUMPY[i.type]
    function = {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
                "xor": np.bitwise_xor}.get(name)
    if function is None or (dtype.kind == "f" and name not in ("min", "max")):
        return None
    if dtype.kind == "f":  # sm_100a
        if i.has("NaN"):
            neutral = np.array(np.inf if name == "min" else -np.inf, dtype)
        else:
            function, neutral = np.fmin if name == "min" else np.fmax, np.array(np.nan, dtype)
    else:
        identity = {"min": np.iinfo(dtype).max, "max": np.iinfo(dtype).min, "and": -1}.get(name, 0)
        neutral = np.array(identity & 0xFFFFFFFF, np.uint32).view(dtype)

    def run(lanes, value, mask):
        check_mask(i, lanes, mask)
        rows = lanes.dense(lanes.spread(np.abs(value) if i.has("abs") else value))
        members = lanes.dense(lanes.spread(lanes.per_lane(lanes.active) & mask))
        chosen = (members[:, :, None] >> np.arange(WARP, dtype=np.uint32)) & np.uint32(1) != 0
        totals = function.reduce(np.where(chosen, rows[:, None, :], neutral), axis=2, dtype=dtype)
        return totals.ravel() if lanes.whole_warps else totals[lanes.rank, lanes.lane]
    return Step(run, [(i.operands[1], i.type), (i.operands[2], "u32")], [(i.operands[0], i.type)], "vote", lanes=True)


@opcode("elect")
def elect(i):
    target, flag = i.operands[0].items

    def run(lanes, mask):
        check_mask(i, lanes, mask)
        members = lanes.per_lane(lanes.active) & mask
        lowest = members & (~members + np.uint32(1))
        return np.bitwise_count(lowest - np.uint32(1)).astype(np.uint32), lanes.lane_bit == lowest
    return Step(run, [(i.operands[1], "u32")], [(None if target == SINK else target, "b32"), (flag, "pred")], "vote",
                lanes=True)


@opcode("bar", "barrier")
def warp_barrier(i):
    """bar.warp.sync: lanes that part meet again before it; a lane outside of its own mask is an error.

    Barriers of a block end a basic block, and the machine itself handles them.
    """
    if i.has("cluster"):
        return clusters.arrive(i)
    if not i.has("warp"):
        return None

    def run(lanes, mask):
        lanes.batch.ordered(lanes)
        own = lanes.spread(mask) >> lanes.lane.astype(np.uint32) & np.uint32(1)
        if not own.all():
            position = int(np.flatnonzero(own == 0)[0])
            mask = int(lanes.spread(mask)[position])
            blame(i, lanes, position, "the mask must name every lane that executes the instruction",
                  f"lane {int(lanes.lane[position])} outside of mask {mask:#010x}", "Widen the mask.")
    return Step(run, [(i.operands[0], "u32")], [], "barrier", lanes=True)
