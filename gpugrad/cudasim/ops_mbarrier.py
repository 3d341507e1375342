"""mbarrier: a barrier as a 64-bit word in shared memory, for arrivals and for bytes that copies bring.

The word holds the arrivals still awaited (bits 0-19), those that each phase awaits (bits 20-39), the bytes still awaited (bits
40-61, signed) and the parity of the phase (bit 63); the hardware's layout is opaque. Whoever completes a phase orders all
accesses of its block.
"""

import numpy as np

from . import atomics
from .access import Access
from .decode import Step, opcode
from .ops_bulk import copy_bulk
from .ops_memory import base_of, copy_async
from .syntax import SINK
from .types import NUMPY

COUNT, EXPECTED, BYTES, PHASE = np.uint64((1 << 20) - 1), np.uint64(20), np.uint64(40), np.uint64(63)
BYTES_MASK = np.uint64((1 << 22) - 1)


@opcode("mbarrier")
def mbarrier(i):
    kind = i.parts[1]
    if i.parts[-1] != "b64" and kind != "inval":
        return None
    match kind:
        case "init":
            return init(i)
        case "inval":
            return Step(lambda: None, [], [], "barrier")
        case "arrive" | "arrive_drop":
            return arrive(i, i.operands[0], i.operands[1], i.operands[2:], kind == "arrive_drop")
        case "expect_tx" | "complete_tx":
            base, change = awaited_bytes(i, i.operands[0], 1 if kind == "expect_tx" else -1)
            return Step(change, [base, (i.operands[1], "u32")], [], "barrier", lanes=True)
        case "test_wait" | "try_wait":
            return test(i)
        case "pending_count":
            return i.step(lambda word: (word & COUNT).astype(np.uint32), ["u64"], ["u32"], "barrier")
    return None


@opcode("cp")
def copy_or_arrive(i):
    """cp.async, and cp.async.mbarrier.arrive: the copies are there already; without .noinc nobody awaits the arrival."""
    if i.has("bulk") and not i.has("commit_group", "wait_group"):
        return copy_bulk(i, lambda i, address: awaited_bytes(i, address, -1))
    if not i.has("mbarrier"):
        return copy_async(i)
    arrival = arrive(i, SINK, i.operands[0], ())
    counts = i.has("noinc")

    def run(lanes, base):
        lanes.batch.copies.wait(lanes, None)
        return arrival.call(lanes, base) if counts else None
    return Step(run, arrival.reads, [(None, "u64")], "barrier", lanes=True)


def word_at(i, address):
    shared = i.has("shared", "shared-cta", "shared-cluster")
    return Access(i.place, "shared" if shared else "generic", NUMPY["u64"], 1, address.offset, True), base_of(i, address)


def init(i):
    site, base = word_at(i, i.operands[0])

    def run(lanes, base, count):
        count = count.astype(np.uint64)
        site.store(lanes, base, count | count << EXPECTED)
    return Step(run, [base, (i.operands[1], "u32")], [], "barrier", lanes=True)


def word(count, expected, awaited, phase):
    """A word of these fields; if nothing is awaited any more, the next phase begins."""
    done = (count == 0) & (awaited & BYTES_MASK == 0)
    return np.where(done, expected, count) | expected << EXPECTED | (awaited & BYTES_MASK) << BYTES | (phase ^ done) << PHASE


def arrive(i, target, address, counts, drop=False):
    """Each lane in turn takes its count from the word; with .expect_tx, one, and it awaits so many bytes more."""
    site, base = word_at(i, address)
    expects = i.has("expect_tx")

    def arrived(old, given):
        count = np.uint64(1) if expects else given
        expected = (old >> EXPECTED & COUNT) - (count if drop else np.uint64(0))
        awaited = (old >> BYTES) + (given if expects else np.uint64(0))
        return word((old & COUNT) - count, expected, awaited, old >> PHASE)

    def run(lanes, base, *given):
        return changed(site, lanes, base, lanes.spread(given[0] if given else np.uint32(1)), arrived)
    reads = [base, *((c, "u32") for c in counts)]
    return Step(run, reads, [(None if target == SINK else target, "u64")], "barrier", lanes=True)


def awaited_bytes(i, address, sign):
    """(base, function) that makes a word await so many bytes more, or fewer."""
    site, base = word_at(i, address)

    def moved(old, count):
        awaited = (old >> BYTES) + (count if sign > 0 else np.uint64(0) - count)
        return word(old & COUNT, old >> EXPECTED & COUNT, awaited, old >> PHASE)

    def run(lanes, base, count):
        changed(site, lanes, base, lanes.spread(count), moved)
    return base, run


def changed(site, lanes, base, amounts, function):
    """Each lane in turn changes its word by an amount; what each found."""
    batch, out, amounts = lanes.batch, np.empty(lanes.count, np.uint64), amounts.astype(np.uint64)
    for part in site.locate(lanes, base, "atomic"):
        site.account(part, "atomic", [amounts])
        cells = part.region.view(NUMPY["u64"])
        chosen = slice(None) if part.selector is None else part.selector
        where = np.broadcast_to(part.at >> site.shift, (part.lanes.count,))
        before = cells[where]
        out[chosen] = atomics.apply(function, cells, where, amounts[chosen], batch.rng, True)
        turned = (cells[where] ^ before) >> PHASE != 0
        if turned.any():
            blocks = np.unique(part.lanes.block[turned])
            batch.blocks_met(blocks)
            if batch.races is not None:
                batch.races.barrier(blocks, None)
    batch.changes += 1
    return out


def test(i):
    """Whether the phase of a token, or the phase of a parity, is over. try_wait does not wait: its callers loop."""
    target, address, token = i.operands[:3]
    site, base = word_at(i, address)
    parity = i.has("parity")

    def run(lanes, base, token):
        asked = token.astype(np.uint64) & np.uint64(1) if parity else token >> PHASE
        return site.load(lanes, base) >> PHASE != asked
    return Step(run, [base, (token, "u32" if parity else "u64")], [(target, "pred")], "barrier", lanes=True)
