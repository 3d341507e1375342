"""Loops that wait for others: which they are, who goes on meanwhile, and when nobody will ever set them free.

A loop waits if its iterations hand no register on (only memory or the clock can end it), or if an exit of it depends on a
volatile or ordered load, on what an atomic found, on an mbarrier, or on the clock. Threads in such a loop let all others go
first: at once where no register is carried, else after a few turns, so that loops over a queue stay together.
"""

import numpy as np

from .errors import Timeout, show_index
from .layout import registers_in
from .syntax import Address, Negated, Register, Symbol

STRONG = {"volatile", "relaxed", "acquire"}
TURNS = 16                 # that a loop which carries registers gets before others go first
QUIET = {"spins": 64, "polls": 100_000}  # turns without a change of memory after which a wait counts as endless
FIRST_LOOK = 1 << 12       # basic blocks after which a batch is compared with what it was
LOOKS = 64                 # comparisons with one state
DIGESTED = 1 << 24         # bytes of memory that are compared where it changed
FASTEST = 40               # the clock runs at most 2**40 times faster while everybody waits


def mark(blocks, loops, live_in, defines):
    """Set `waits` on the blocks of loops that wait: "spins" where no register carries over, "polls" where one does."""
    for header, nodes in loops:
        carried = live_in[header] & set().union(*(defines[n] for n in nodes))
        if carried and not exits_on_others(blocks, nodes):
            continue
        for number in nodes:
            if blocks[number].waits != "spins":
                blocks[number].waits = "polls" if carried else "spins"


def exits_on_others(blocks, nodes):
    """Whether a branch out of a loop depends on something that other threads, or time, may change."""
    instructions = [i for n in nodes for i in blocks[n].instructions]
    tainted: set[Register] = set()
    before = -1
    while len(tainted) != before:
        before = len(tainted)
        for i in instructions:
            if i.parts[0] in ("st", "red") or not i.operands:
                continue
            written, read = i.operands[:1], i.operands[1:]
            if from_others(i) or tainted.intersection(registers_in(read)):
                tainted |= {r for r in registers_in(written) if not isinstance(written[0], Address)}
    for n in nodes:
        last = blocks[n].last
        if last is not None and blocks[n].kind in ("branch", "table") and not nodes.issuperset(blocks[n].targets):
            guard = last.guard.register if isinstance(last.guard, Negated) else last.guard
            if tainted.intersection(registers_in((*last.operands, *([guard] if guard is not None else [])))):
                return True
    return False


def from_others(i):
    root = i.parts[0]
    return root in ("atom", "mbarrier") or (root == "ld" and bool(STRONG.intersection(i.parts))) or any(
        isinstance(o, Symbol) and o.name.startswith(("%clock", "%globaltimer")) for o in i.operands)


class Recurrence:
    """Ends a batch that comes back to a state it was in: the same threads at the same places, the same registers, and
    memory as it was, while nobody reads the clock. The state is kept at steps that are powers of two, and compared when
    its block comes round again."""

    def __init__(self, batch, patience):
        self.batch, self.patience, self.number, self.looks = batch, patience, None, 0
        self.first = self.due = FIRST_LOOK if batch.stack is None else np.inf

    def look(self, number, lanes):
        batch = self.batch
        if batch.steps >= self.due:
            self.due, self.begun, self.looks = 2 * batch.steps, batch.steps, LOOKS
            self.number, self.changes, self.state = number, batch.changes, self.threads(lanes)
            self.registers, self.memory = [register.copy() for register in batch.registers], self.digest()
            batch.watching = True
        elif number == self.number and self.looks:
            self.looks -= 1
            if not batch.ticked and self.state == self.threads(lanes) and self.same_registers() and (
                    batch.changes == self.changes or (self.memory is not None and self.memory == self.digest())):
                if batch.kernel.blocks[number].waits:
                    batch.send(number, lanes)
                    self.patience.endless(number)
                batch.timeout(number, lanes, "one day",
                              f"in a state that all threads were in {batch.steps - self.begun} basic blocks before,",
                              "Look at what should end the loop.")

    def threads(self, lanes):
        """Who is where."""
        waiting = [(key, arrival.number, arrival.lanes.numbers.tobytes())
                   for key, arrivals in self.batch.barriers.waiting.items() for arrival in arrivals]
        pending = sorted((number, group.numbers.tobytes()) for number, groups in self.batch.pending.items() for group in groups)
        return lanes.numbers.tobytes(), pending, waiting

    def digest(self):
        """The memory that the launch touched, as one number; None where that would take long."""
        regions = [self.batch.shared, self.batch.local, *self.batch.launch.regions]
        if sum(region.size for region in regions) > DIGESTED:
            return None
        return hash(tuple(region.data.tobytes() for region in regions))

    def same_registers(self):
        return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(
            self.registers, self.batch.registers, strict=True))


class Patience:
    """Picks the block that runs next, and ends a batch in which everybody waits and nothing changes."""

    def __init__(self, batch):
        self.batch, self.blocks = batch, batch.kernel.blocks
        self.turns = self.quiet = self.changes = 0
        self.last_run: dict[int, int] = {}

    def next(self, pending):
        """The lowest block that does not wait; else of those that wait the one whose turn was longest ago."""
        blocks = self.blocks
        number = min(pending)
        kind = blocks[number].waits
        if kind is None or (kind == "polls" and self.turns < TURNS and len(pending) > 1):
            self.turns += kind is not None
            if kind is None:
                self.turns = self.quiet = 0
            return number
        free = [n for n in pending if blocks[n].waits is None]
        if free:
            self.turns = self.quiet = 0
            return min(free)
        number = min(pending, key=lambda n: self.last_run.get(n, -1))
        self.wait(number)
        return number

    def wait(self, number):
        batch = self.batch
        self.last_run[number] = batch.steps
        self.quiet = 0 if batch.changes != self.changes else self.quiet + 1
        self.changes, batch.watching = batch.changes, True
        batch.time += 1 << min(self.quiet, FASTEST)
        kinds = {self.blocks[n].waits for n in batch.pending}
        if self.quiet > max(QUIET[kind] for kind in kinds) + 2 * len(self.blocks):
            self.endless(number)

    def endless(self, number):
        batch = self.batch
        lanes = batch.pending[number][0]
        block, thread = lanes.coordinates(0)
        threads = sum(group.count for groups in batch.pending.values() for group in groups)
        held = batch.lane_count - threads - int(batch.exited.sum())
        place = batch.place_of_block(number)
        begun = batch.first_block + batch.blocks
        others = [f"{held} more wait at barriers"] * bool(held)
        if begun < batch.launch.counters.blocks:
            others.append(f"blocks from {begun} on have not begun, as on a device that is full")
        raise Timeout(
            f"{batch.kernel.name}: a thread that waits must be set free by another, got {threads} threads that wait for "
            f"memory which nobody will change{''.join(', ' + other for other in others)}; the first is thread "
            f"{show_index(thread)} of block {show_index(block)} at {place}. Look for a lock that is not released, a "
            "flag that is not set, or two locks taken in opposite orders.",
            kernel=batch.kernel.name, block=block, thread=thread, line=place.line, source=place.source, ptx=place.ptx)

