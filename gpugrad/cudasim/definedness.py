"""Values that are undefined, and what becomes of them.

A shuffle that reads a lane which does not take part gives anything. That is no error as long as nobody uses it: whole warps
shuffle, and only some lanes look at what they got. So such values are marked, marks go with the values through arithmetic,
and an error is raised where one decides something: a branch, an address, a store, a vote.

Blocks have a second function that follows marks. It runs where a register has some, or a shuffle could make some.
"""

import numpy as np

from .errors import WarpDivergence
from .ptx import Negated, Register
from .writer import BlockWriter

NONE = np.int32(0)
ADVICE = "Round the number of threads up to whole warps, or guard the source lane."


class Marks:
    """Of a batch: by register number, for every lane the number of the shuffle that left it undefined, or 0."""

    def __init__(self, batch):
        self.batch, self.registers, self.origins = batch, {}, []

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

    def used(self, marks, place):
        if marks.any():
            raise self.origins[int(marks[np.flatnonzero(marks)[0]]) - 1](place)


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
            targets = f"({', '.join(names)},)" if len(names) > 1 else names[0]
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


def undefined(message, facts):
    """What raises where an undefined value is used; `message` and `facts` are of the shuffle that made it."""
    def error(place):
        return WarpDivergence(f"{message}, and what it got is used at {place}. {ADVICE}", **facts)
    return error
