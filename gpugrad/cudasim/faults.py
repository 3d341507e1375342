"""What is said of a load, store or atomic that touches memory it must not: where it stands, and what was probably meant."""

import numpy as np

from . import memory
from .copies import UNDER_WAY
from .errors import Misaligned, OutOfBounds, Place, Race, Uninitialised, show_index

FAR = 1 << 30  # bytes; further off than this an index is rather wrapped than off by one
VERBS = {"read": "a load", "write": "a store", "atomic": "an atomic"}


class Faults:
    """The diagnoses of an Access: they know its place in the source and its size in bytes."""

    place: Place
    size: int

    def out_of_bounds(self, lanes, position, address, kind, count):
        nearest = memory.SPACE.nearest(address)
        if nearest is None:
            where = "there is no array at all"
        elif address < nearest.start:
            where = f"{nearest.start - address} bytes before the start of {lanes.batch.name_of(nearest)}"
        else:
            past = address - nearest.start - nearest.size
            where = (f"{past} bytes past the end of {lanes.batch.name_of(nearest)} ({nearest.size} bytes)"
                     if past >= 0 else f"{-past} bytes before the end of {lanes.batch.name_of(nearest)}")
        advice = "Check the index against the size."
        if address < 1 << 40:
            where, advice = "which is near the null pointer", "Check the pointer argument."
        elif nearest is not None and not -FAR < address - nearest.start < nearest.size + FAR:
            advice = "So far away an index has probably overflowed 32 bits: compute it in 64."
        for start, size, title in memory.SPACE.freed:
            if start <= address < start + size:
                where, advice = f"inside {title}, which has been freed", "Keep the array alive until the launch is over."
        self.fault(OutOfBounds, lanes, position, address, nearest, kind, "must lie inside an array",
                   advice, where, count)

    def outside_window(self, lanes, position, at, kind, space, variables, count):
        self.fault(OutOfBounds, lanes, position, at, None, kind, f"must lie inside a {space} variable",
                   "Check the index against the size." if space != "shared" else
                   "Check the index, and the shared= bytes of the launch for `extern __shared__`.",
                   variables.describe(at, self.size), count)

    def misaligned(self, lanes, address, kind, region):
        bad = address & address.dtype.type(self.size - 1) != 0
        position = int(np.flatnonzero(bad)[0])
        self.fault(Misaligned, lanes, position, int(address[position]), region, kind,
                   f"must start at a multiple of {self.size}", "Align the pointer, or take the scalar path.",
                   f"{int(address[position]) % self.size} past one", int(bad.sum()))

    def misaligned_by(self, lanes, address, wanted, what="the pointer"):
        """A matrix instruction wants more alignment than its elements have."""
        bad = address & address.dtype.type(wanted - 1) != 0
        position = int(np.flatnonzero(bad)[0])
        self.fault(Misaligned, lanes, position, int(address[position]), None, "read",
                   f"of a matrix needs {what} as a multiple of {wanted}", "Align it, or widen the rows.", "", int(bad.sum()))

    def uninitialised(self, part, position, kind, count):
        """The Uninitialised error of lanes that read bytes which nobody wrote, to be raised."""
        at = part.run + position * self.size if part.at is None else int(np.atleast_1d(part.at)[position])
        inside = part.lanes.batch.window_offset(part.space, at)
        copied = (part.region.initialised[at: at + self.size] == UNDER_WAY).any()
        error = self.told(Uninitialised, part.lanes, position, inside + part.region.start, part.region, kind,
                          "must find written bytes", "Wait for the copy first." if copied else "Write them first.",
                          f"{self.size} bytes of {part.lanes.batch.describe_offset(part.space, part.region, inside)} "
                          + ("that an asynchronous copy may not have reached" if copied else "that nobody wrote"), count)
        error.access = self
        return error

    def racing(self, part, position, kind, other, at, who="different warps must be ordered by a barrier",
               advice="Put __syncthreads() between the two."):
        batch, space = part.lanes.batch, part.space
        inside = batch.window_offset(space, int(at[position]))
        array = batch.variable_at("shared", inside) if space == "shared" else batch.name_of(part.region)
        block, thread = part.lanes.coordinates(position)
        raise Race(
            f"{self.place.kernel}: accesses of {who}, got {VERBS[kind]} of "
            f"{self.size} bytes of {batch.describe_offset(space, part.region, inside)} by thread {show_index(thread)} "
            f"of block {show_index(block)} at {self.place} while {other}. {advice}",
            kernel=self.place.kernel, block=block, thread=thread, address=inside + part.region.start, array=array,
            line=self.place.line, source=self.place.source, ptx=self.place.ptx)

    def fault(self, *what):
        raise self.told(*what)

    def told(self, error, lanes, position, address, region, kind, expected, advice, where="", count=1):
        block, thread = lanes.coordinates(position)
        others = f" ({count - 1} more threads alike)" if count > 1 else ""
        name = None if region is None else lanes.batch.name_of(region)
        return error(
            f"{self.place.kernel}: {VERBS[kind]} of {self.size} bytes {expected}, got address {address:#x}"
            f"{', ' + where if where else ''}, from thread {show_index(thread)} of block {show_index(block)}{others} at "
            f"{self.place}. {advice}",
            kernel=self.place.kernel, block=block, thread=thread, address=address, array=name, line=self.place.line,
            source=self.place.source, ptx=self.place.ptx)
