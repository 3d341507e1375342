"""The stacks of threads: frames of functions that call themselves.

A frame is a piece of the thread's local memory, for the variables of the function, and what its registers held at each call
that it made. Threads at any depth run a function's blocks together; each knows its own frame, and where it goes on.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .decode import Step, opcode
from .errors import StackOverflow, show_index


@dataclass
class Call:
    """One place of the program that calls: in which block it goes on, what it saves, and the bytes of the two frames."""

    back: int
    saved: list
    caller: int
    callee: int


@dataclass
class Saved:
    """What some threads left behind at one call: `before` are the calls that they came from."""

    call: Call
    numbers: Any
    registers: list
    before: Any
    left: int


class Stack:
    """`base` is where each thread's frame begins in its local memory, `top` the call that it is in."""

    def __init__(self, batch):
        self.batch = batch
        self.base = np.full(batch.lane_count, batch.kernel.layout.stack_start, np.uint64)
        self.top = np.zeros(batch.lane_count, np.int64)
        self.calls: dict[int, Saved] = {}
        self.made = 0

    def call(self, number, lanes):
        """Lanes make a frame for the function that block `number` calls."""
        call = self.batch.kernel.code.calls[number]
        numbers = lanes.numbers.copy()
        base = self.base[numbers] + np.uint64(call.caller)
        over = base + np.uint64(call.callee) > self.batch.kernel.layout.stack_end
        if over.any():
            self.overflow(number, lanes, int(np.flatnonzero(over)[0]))
        registers = [(register, np.array(lanes.read(register))) for register in call.saved]
        self.made += 1
        self.calls[self.made] = Saved(call, numbers, registers, self.top[numbers], numbers.size)
        self.base[numbers], self.top[numbers] = base, self.made
        if self.batch.local.initialised is not None:
            self.batch.local.initialised[self.bytes_at(numbers, base, call.callee)] = 0

    def bytes_at(self, numbers, offsets, size):
        """Where `size` bytes at an offset of each thread's local memory stand in the memory of all."""
        return ((numbers * self.batch.frame + offsets.astype(np.int64))[:, None] + np.arange(size)).ravel()

    def leave(self, lanes):
        """Lanes return. Gives the groups that go on: (block, Lanes)."""
        top = self.top[lanes.numbers]
        for made in np.unique(top):
            saved = self.calls[int(made)]
            some = lanes.subset(top == made)
            at = np.searchsorted(saved.numbers, some.numbers)
            for register, values in saved.registers:
                some.write(register, values if values.ndim == 0 else values[at])
            self.top[some.numbers] = saved.before[at]
            self.base[some.numbers] -= np.uint64(saved.call.caller)
            saved.left -= some.count
            if not saved.left:
                del self.calls[int(made)]
            yield saved.call.back, some

    def overflow(self, number, lanes, position):
        block, thread = lanes.coordinates(position)
        place = self.batch.place_of_block(number)
        size = self.batch.kernel.layout.stack_end - self.batch.kernel.layout.stack_start
        raise StackOverflow(
            f"{self.batch.kernel.name}: the frames of a thread must fit into {size} bytes, got one more call by thread "
            f"{show_index(thread)} of block {show_index(block)} at {place}. Look at what ends the recursion; a device has "
            "1024 bytes unless cudaLimitStackSize is raised.",
            kernel=self.batch.kernel.name, block=block, thread=thread, line=place.line, source=place.source, ptx=place.ptx)


@opcode("<pass>", "<take>")
def copy_between_frames(i):
    """An argument that stays in memory goes from the caller's frame to the callee's, a result the other way."""
    target, source, caller = (operand.name for operand in i.operands)
    layout, passing = i.layout, i.parts[0] == "<pass>"
    size = layout.size_of(source)
    behind = np.uint64(layout.frame_size(caller))

    def run(lanes):
        stack, local = lanes.batch.stack, lanes.batch.local
        numbers = lanes.numbers
        base = stack.base[numbers]
        outer, inner = (base - behind, base) if passing else (base, base + behind)

        def places(name, frame):
            offset = np.uint64(layout.address(name))
            return stack.bytes_at(numbers, offset + (frame if layout.in_frame(name) else np.zeros_like(frame)), size)
        to = places(target, inner if passing else outer)
        fro = places(source, outer if passing else inner)
        local.data[to] = local.data[fro]
        if local.initialised is not None:
            local.initialised[to] = local.initialised[fro]
    return Step(run, [], [], "move", lanes=True)
