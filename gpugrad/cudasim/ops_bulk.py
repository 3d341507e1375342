"""cp.async.bulk: copies of many bytes that an mbarrier, or a group, is told of. The bytes are there at once."""

import numpy as np

from .access import Access
from .decode import Step
from .ops_memory import base_of
from .syntax import Immediate

CHUNK = 16


def copy_bulk(i, complete):
    """The Step of a copy; complete(i, address) gives (base, function) that tells an mbarrier of so many bytes."""
    places = [part for part in i.parts if part in ("global", "shared-cta", "shared-cluster")]
    by_barrier = i.has("mbarrier-complete_tx-bytes")
    target, source, size, *rest = i.operands
    if len(places) != 2 or by_barrier == i.has("bulk_group") or i.has("multicast-cluster", "cp_mask", "ignore_oob"):
        return None
    spaces = [place.split("-")[0] for place in places]
    writer, reader = (Access(i.place, space, np.uint32, CHUNK // 4, address.offset)
                      for space, address in zip(spaces, (target, source), strict=True))
    barrier, tell = complete(i, rest[0]) if by_barrier else ((Immediate(0, "int"), "u32"), None)

    def run(lanes, to, fro, size, barrier):
        to, fro, size = (lanes.spread(value) for value in (to, fro, size))
        if (size % np.uint32(CHUNK)).any():
            writer.misaligned_by(lanes, size, CHUNK, "the size")
        for offset in range(0, int(size.max()), CHUNK):
            chosen = np.flatnonzero(size > offset)
            part = lanes if chosen.size == lanes.count else lanes.subset(chosen)
            values = reader.load(part, fro[chosen] + fro.dtype.type(offset))
            writer.store(part, to[chosen] + to.dtype.type(offset), *values)
        if tell:
            tell(lanes, barrier, size)
    return Step(run, [base_of(i, target), base_of(i, source), (size, "u32"), barrier], [], "async copy", lanes=True)
