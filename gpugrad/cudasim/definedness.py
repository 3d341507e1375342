"""Values that are undefined, and what becomes of them.

A shuffle that reads a lane which does not take part gives anything, and so does a load of bytes that nobody wrote. That is no
error as long as nobody uses it: whole warps shuffle, and only some lanes look at what they got; merges and stencils load past
the end of what they have, and drop it. So such values are marked, marks go with the values through arithmetic, and an error
is raised where one decides something: a branch, an address, a store to global memory, a vote. A store to shared or local
memory hands it on: the bytes count as unwritten again.

Blocks have a second function that follows marks. It runs where a register has some, or a shuffle could make some. A load that
is the first to meet unwritten bytes stops the plain function, and a second one of what is left of the block goes on from there.
"""

from typing import Any

import numpy as np

from .errors import WarpDivergence
from .syntax import Negated, Register
from .writer import BlockWriter

NONE = np.int32(0)
ADVICE = "Round the number of threads up to whole warps, or guard the source lane."


class Marks:
    """Of a batch: by register number, for every lane the number of the shuffle that left it undefined, or 0."""

    def __init__(self, batch):
        self.batch, self.registers, self.origins = batch, {}, []
        self.memory: dict[int, np.ndarray] = {}  # the same for bytes of shared and local memory, by region
        self.found = None  # while a load runs whose marks are followed: what it missed, as (part, which lanes, error)

    def __bool__(self):
        return bool(self.registers)

    def new(self, make_error):
        """The number of another origin; make_error(where it is used) is what a use raises."""
        self.origins.append(make_error)
        return np.int32(len(self.origins))

    def of(self, lanes, register):
        marks = self.registers.get(register)
        return NONE if marks is None else lanes.of_batch(marks)

    def write(self, lanes, register, marks):
        if not marks.any():
            if register in self.registers:
                self.registers[register][lanes.numbers] = 0
                if not self.registers[register].any():
                    del self.registers[register]
            return
        whole = self.registers.setdefault(register, np.zeros(self.batch.lane_count, np.int32))
        whole[lanes.numbers] = marks

    def missing(self, access, part, bad, error):
        """A load or atomic met unwritten bytes in the lanes `bad` of a part: note it, or raise the error."""
        if self.found is None or not access.follows:
            raise error
        self.found.append((part, bad, error))

    def resume(self, number, lanes, error):
        """Go on with a block whose plain function was stopped by a load of unwritten bytes; what the block returns."""
        code = self.batch.kernel.code
        start = code.position(number, error.access)
        if start is None:
            raise error
        trace = error.__traceback__
        while trace.tb_frame.f_code.co_name != f"block_{number}":
            trace = trace.tb_next
        values = dict(trace.tb_frame.f_locals)
        return code.marked(number, start)(lanes, values)

    def store(self, region, offsets, marks, size):
        """Undefined values were stored: the bytes count as unwritten again, and remember where the values came from."""
        whole = self.memory.setdefault(id(region), np.zeros(region.size, np.int32))
        for k in range(size):
            region.initialised[offsets + k], whole[offsets + k] = 0, marks

    def stored_at(self, region, offsets):
        """The marks of values that were stored at unwritten bytes, 0 where none was."""
        whole = self.memory.get(id(region))
        return np.zeros(offsets.size, np.int32) if whole is None else whole[offsets]

    def used(self, marks, place):
        if marks.any():
            raise self.origins[int(marks[np.flatnonzero(marks)[0]]) - 1](place)


def following(access):
    """For `marked` of a load."""
    def run(lanes, base, of_base):
        marks = lanes.batch.marks
        marks.used(of_base, access.place)
        marks.found = []
        try:
            values = access.load(lanes, base)
        finally:
            found, marks.found = marks.found, None
        out: Any = np.zeros(lanes.count, np.int32) if found else NONE
        for part, bad, error in found:
            where = np.flatnonzero(np.broadcast_to(bad, (part.lanes.count,)))
            stored = marks.stored_at(part.region, access.offsets(part)[where])
            mine = np.where(stored == 0, marks.new(unwritten(error)), stored)
            out[where if part.selector is None else part.selector[where]] = mine
        return values, out
    return run


def storing(access):
    """For `marked` of a store."""
    def run(lanes, base, *values):
        marks, values, of_base, *of_values = lanes.batch.marks, values[: access.count], *values[access.count:]
        marks.used(of_base, access.place)
        marked = np.broadcast_to(np.maximum.reduce(of_values), (lanes.count,))
        access.store(lanes, base, *values)
        if marked.any():
            for part in access.locate(lanes, base, "write"):
                mine = marked if part.selector is None else marked[part.selector]
                if part.space == "global" or part.region.initialised is None:
                    marks.used(mine, access.place)
                else:
                    marks.store(part.region, access.offsets(part)[mine != 0], mine[mine != 0], access.size)
        return (), NONE
    return run


def selected(choose):
    """For `marked` of a Step: writes by choose(*reads), marked where what was chosen is, or the choice itself."""
    def run(a, b, p, of_a, of_b, of_p):
        return choose(a, b, p), np.maximum(np.where(p, of_a, of_b), of_p)
    return run


def decided(function, value):
    """For `marked` of `and` (value False) and `or` (True) of predicates: one operand of that value decides alone."""
    def run(a, b, of_a, of_b):
        alone = ((a == value) & (of_a == 0)) | ((b == value) & (of_b == 0))
        return function(a, b), np.where(alone, NONE, np.maximum(of_a, of_b))
    return run


class MarkedWriter(BlockWriter):
    """The text of a block's function with marks beside the values."""

    prefix = "marked"

    def __init__(self, number, numbers, namespace, layout, kernel, place):
        super().__init__(number, numbers, namespace, layout, kernel)
        self.place, self.marks = place, {}

    def after(self, plain):
        """Begin where the writer `plain` of the block's first instructions stopped: its variables are in `values`."""
        self.values = {register: dict(known) for register, known in plain.values.items()}
        self.fresh, self.written = plain.fresh, dict(plain.written)
        self.signature = f"{self.prefix}_{self.number}(lanes, values)"
        self.lines += [f'{name} = values["{name}"]' for known in self.values.values() for name in known.values()]

    def mark_of(self, operand):
        """The name of the marks of an operand, None where it can have none."""
        register = operand.register if isinstance(operand, Negated) else operand
        if not isinstance(register, Register):
            return None
        if register not in self.marks:
            self.marks[register] = self.name()
            self.lines.append(f"{self.marks[register]} = lanes.batch.marks.of(lanes, {self.register(register)})")
        return self.marks[register]

    def invoke(self, step, arguments, names, instruction):
        marks = [self.mark_of(operand) for operand, _ in step.reads]
        mark = self.name()
        if step.marked is not None:
            given = ", ".join([*arguments, *(m or self.bind("n", NONE) for m in marks)])
            targets = names[0] if len(names) == 1 else f"({', '.join(names)})"
            self.lines.append(f"{targets}, {mark} = {self.bind('f', step.marked)}({given})  # {instruction.text}")
        else:
            known = list(dict.fromkeys(m for m in marks if m))
            if step.lanes:
                self.use(known, instruction)
            super().invoke(step, arguments, names, instruction)
            whole = known[0] if known and not step.lanes else self.bind("n", NONE)
            for other in known[1:] if not step.lanes else ():
                whole = f"{self.bind('j', np.maximum)}({whole}, {other})"
            self.lines.append(f"{mark} = {whole}")
        self.marks |= {register: mark for register, _ in step.writes if register is not None}

    def use(self, marks, instruction):
        for mark in marks:
            self.lines.append(f"lanes.batch.marks.used({mark}, {self.bind('p', self.place(instruction))})")

    def write_back(self, register):
        super().write_back(register)
        self.lines.append(f"lanes.batch.marks.write(lanes, {self.register(register)}, {self.mark_of(register)})")

    def before_the_end(self, last):
        self.use([m for operand, _ in last.reads if (m := self.mark_of(operand))], None)


def unwritten(error):
    """What raises where a value is used that a load found in bytes which nobody wrote; `error` is the load's."""
    def used(place):
        said = str(error) if place == error.access.place else f"{error} What was found is used at {place}."
        return type(error)(said, **error.__dict__)
    return used


def undefined(message, facts):
    """What raises where an undefined value is used; `message` and `facts` are of the shuffle that made it."""
    def error(place):
        return WarpDivergence(f"{message}, and what it got is used at {place}. {ADVICE}", **facts)
    return error
