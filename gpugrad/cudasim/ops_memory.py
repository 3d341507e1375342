"""ld, st, atom, red, cp.async and their kin."""

import numpy as np

from . import atomics
from .access import Access
from .decode import Step, opcode
from .definedness import following, storing
from .syntax import SINK, Address, Group, Immediate, Register, parts_of
from .types import NUMPY, halves128, joined128

SPACES = ("global", "shared", "local", "const", "param")
STRONG = ("volatile", "relaxed", "acquire", "release", "acq_rel")


def space_of(i):
    """The state space of an access; an address of shared::cluster says itself whose memory it is of (see clusters.py)."""
    for part in i.parts[1:]:
        if part.split("-")[0] in SPACES:
            return part.split("-")[0]
    return "generic"


def base_of(i, address):
    """The read of an address's base: (operand, type)."""
    base = address.base
    wide = not isinstance(base, Register) or base.type.endswith("64")
    return base, "u64" if wide else "u32"


def resolved_space(i, space, address):
    """ld.param of a parameter of an inlined function that was left in local memory is a local access."""
    symbol = getattr(address.base, "name", None)
    if space == "param" and not isinstance(address.base, Register) and i.layout.space(symbol) == "local":
        return "local"
    return space


def access(i, address, count=None):
    space = resolved_space(i, space_of(i), address)
    if i.type is None or (i.type == "b128" and i.count > 1):
        raise i.unknown()
    dtype, count = (NUMPY["u64"], 2) if i.type == "b128" else (NUMPY[i.type], count or i.count)
    return Access(i.place, space, dtype, count, address.offset, i.has(*STRONG), i.has("release", "acq_rel")), space


@opcode("ld", "ldu")
def load(i):
    target, address = i.operands[:2]
    site, space = access(i, address)
    site.readonly, site.follows = i.has("nc"), True
    site.strong = site.strong or address in i.layout.atomic_places
    if i.type == "b128":
        return Step(lambda lanes, base: joined128(*site.load(lanes, base)), [base_of(i, address)], [(target, "b128")],
                    f"{space} load", lanes=True)
    targets = parts_of(target)
    return Step(site.load, [base_of(i, address)], [(None if t == SINK else t, i.type) for t in targets],
                f"{space} load", lanes=True, marked=following(site))


@opcode("st")
def store(i):
    address, source = i.operands[:2]
    site, space = access(i, address)
    if i.type == "b128":
        return Step(lambda lanes, base, value: site.store(lanes, base, *halves128(value)),
                    [base_of(i, address), (source, "b128")], [], f"{space} store", lanes=True)
    sources = parts_of(source)
    return Step(site.store, [base_of(i, address), *((s, i.type) for s in sources)], [], f"{space} store", lanes=True,
                marked=storing(site))


@opcode("atom", "red")
def atomic(i):
    """Atomics; those of vectors (sm_90) are atomic element by element, as the PTX ISA says."""
    if i.type == "b128":
        return atomic128(i)
    with_result = i.parts[0] == "atom"
    address, *operands = i.operands[with_result:]
    sources = [parts_of(o) for o in operands if o != SINK]
    target = i.operands[0] if with_result else SINK
    targets = target.items if isinstance(target, Group) else (target,) * len(sources[0])
    name = next((part for part in i.parts if part in (*atomics.FUNCTIONS, "cas")), None)
    function = atomic_function(name, i.type)
    if name is None or (name != "cas" and function is None):
        return None
    site, _ = access(i, address, len(sources[0]))
    site.strong = True
    wants_old = any(t != SINK and not i.layout.unused(t) for t in targets)

    def update(rng, cells, where, values):
        if name == "cas":
            return atomics.compare_and_swap(cells, where, values[0], values[1], rng)
        return atomics.apply(function, cells, where, values[0], rng, wants_old)

    def run(lanes, base, *values):
        batch = lanes.batch
        batch.counters.atomics += lanes.count * site.count
        spread = [lanes.spread(value) for value in values]
        out = [np.empty(lanes.count, NUMPY[i.type]) for _ in targets]
        for part in site.locate(lanes, base, "atomic"):
            site.account(part, "atomic", spread)
            cells = part.region.view(NUMPY[i.type])
            rows = (np.arange(part.lanes.count) + (part.run >> site.shift) if part.at is None
                    else np.broadcast_to(part.at >> site.shift, (part.lanes.count,)))
            chosen = slice(None) if part.selector is None else part.selector
            for k in range(site.count):
                where = rows * site.count + k
                before = cells[where] if batch.watching else None
                old = update(batch.rng, cells, where, [value[chosen] for value in spread[k:: site.count]])
                batch.changes += not batch.watching or bool((cells[where] != before).any())
                if wants_old:
                    out[k][chosen] = old
        if wants_old and batch.launch.hazards is not None:
            batch.launch.hazards.take(batch.first_block + lanes.block)
        return (out if len(targets) > 1 else out[0]) if wants_old else None
    reads = [(source, i.type) for group in sources for source in group]
    writes = [(None if t == SINK else t, i.type) for t in targets] if wants_old else []
    return Step(run, [base_of(i, address), *reads], writes, "atomic", lanes=True)


def atomic128(i):
    """atom.exch and atom.cas of 128 bits, one lane after the other."""
    target, address, *operands = i.operands
    if i.parts[0] != "atom" or not i.has("exch", "cas"):
        return None
    site, _ = access(i, address)
    site.strong = True

    def run(lanes, *given):
        lanes.batch.counters.atomics += lanes.count
        base, *values = (lanes.spread(value) for value in given)
        old = np.empty(lanes.count, NUMPY["b128"])
        for k in lanes.batch.rng.permutation(lanes.count):
            lane, at = lanes.subset(np.array([k])), base[k: k + 1]
            found = old[k: k + 1] = joined128(*site.load(lane, at))
            if i.has("exch") or found.tobytes() == values[0][k: k + 1].tobytes():
                site.store(lane, at, *halves128(values[-1][k: k + 1]))
        return old
    return Step(run, [base_of(i, address), *((o, "b128") for o in operands)], [(None if target == SINK else target, "b128")],
                "atomic", lanes=True)


def atomic_function(name, kind):
    """How an atomic combines what a cell holds with what a lane brings; None where there is no such instruction."""
    if kind in ("f16", "bf16"):
        return atomics.half_sum(kind) if name == "add" else None
    if kind in ("f16x2", "bf16x2"):
        return atomics.packed_sum(kind[:-2]) if name == "add" else None
    return atomics.FUNCTIONS.get(name)


def copy_async(i):
    """cp.async from global to shared memory: the bytes are there at once, but count as missing until their thread waits."""
    if i.has("commit_group"):
        return Step(lambda lanes: lanes.batch.copies.commit(lanes), [], [], "control", lanes=True)
    if i.has("wait_group", "wait_all"):
        groups = i.operands[0].bits if i.has("wait_group") else None
        return Step(lambda lanes: lanes.batch.copies.wait(lanes, groups), [], [], "control", lanes=True)
    if not i.has("async") or i.has("bulk"):
        return None
    target, source, size, *rest = i.operands
    if i.has("ignore-src") or not isinstance(size, Immediate) or any(isinstance(o, Register) and o.type == "pred" for o in rest):
        return None
    words = size.bits // 4
    reader = Access(i.place, "global", np.uint32, words, source.offset)
    writer = Access(i.place, "shared", np.uint32, words, target.offset)

    def write(lanes, to, values):
        for part in writer.locate(lanes, to, "write"):
            writer.store_part(part, values)
            lanes.batch.copies.issue(part, 4 * words)

    def run(lanes, to, fro, *taken):
        if not taken:
            values = reader.load(lanes, fro)
            write(lanes, to, values if words > 1 else [values])
            return
        # The bytes past src-size are zeros, and are not read.
        taken = lanes.spread(taken[0])
        to, fro = lanes.spread(to), lanes.spread(fro)
        for amount in np.unique(taken):
            chosen = np.flatnonzero(taken == amount)
            part, columns = lanes.subset(chosen), [np.zeros(chosen.size, np.uint32)] * words
            if amount:
                count = int(amount) // 4
                values = Access(i.place, "global", np.uint32, count, source.offset).load(part, fro[chosen])
                columns = [*(values if count > 1 else [values]), *columns[count:]]
            write(part, to[chosen], columns)
    reads = [base_of(i, target), base_of(i, source), *((r, "u32") for r in rest if not isinstance(r, Address))]
    return Step(run, reads, [], "async copy", lanes=True)


@opcode("membar", "fence")
def fence(i):
    return Step(lambda lanes: lanes.batch.fence(lanes), [], [], "control", lanes=True)


@opcode("prefetch", "prefetchu", "applypriority", "discard", "nanosleep", "griddepcontrol", "setmaxnreg")
def no_effect(i):
    return Step(lambda: None, [], [], "control")


