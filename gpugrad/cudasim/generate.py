"""Basic blocks to Python functions: registers become local variables, instructions become calls of NumPy functions.

Each function takes the Lanes that execute it, reads the registers it needs, and writes back those that are live after it.
A conditional block returns its predicate, a table branch its index, a barrier its operands. The generated source stands on
the kernel as `python_source`.
"""

from collections import Counter
from typing import Any

from . import (
    heap,
    ops_bits,
    ops_control,
    ops_convert,
    ops_float,
    ops_integer,
    ops_matrix,
    ops_mbarrier,
    ops_memory,
    ops_tiles,
    ops_video,
    ops_warp,
    ops_wmma,
    stack,
)
from .decode import Step, decode, place_of
from .definedness import MarkedWriter
from .stack import Call
from .syntax import Immediate, Negated, Register
from .types import NUMPY
from .writer import BlockWriter

# Imported for their handlers.
FAMILIES = (heap, ops_bits, ops_control, ops_convert, ops_float, ops_integer, ops_matrix, ops_mbarrier, ops_memory, ops_tiles,
            ops_video, ops_warp, ops_wmma, stack)


class Generated:
    """The functions of a kernel's blocks, and what the machine must know about each block."""

    def __init__(self):
        self.functions: list = []
        self.register_types: list[str] = []
        self.numbers: dict[Register, int] = {}
        self.source, self.granule, self.global_granule = "", 4, 4
        self.classes: list[Counter] = []
        self.barriers: dict[int, Barrier] = {}
        self.live_in: list[set] = []
        self.defines: list[set] = []
        self.calls: dict[int, Call] = {}
        self.shuffles: set[int] = set()
        self.touches: list[set] = []
        self.write_marked: Any = None
        self.marked_functions: dict[tuple, Any] = {}
        self.steps: list = []

    def marked(self, number, start=None):
        """The function of a block that follows what is undefined; with `start`, of its instructions from there on."""
        if (number, start) not in self.marked_functions:
            self.marked_functions[number, start] = self.write_marked(number, start)
        return self.marked_functions[number, start]

    def position(self, number, access):
        """Which of a block's instructions is the load of an Access; None if none is."""
        decoded, _ = self.steps[number]
        return next((k for k, step in enumerate(decoded) if getattr(step.call, "__self__", None) is access), None)


def generate(blocks, kernel, compiled, files, layout, exact):
    """The Generated code of blocks. Raises PtxError for an instruction that nobody decodes."""
    out, steps = Generated(), []
    for number, block in enumerate(blocks):
        decoded = [decode(instruction, place_of(instruction, kernel, compiled, files), layout, exact)
                   for instruction in block.instructions]
        steps.append((decoded, ending(block, kernel, compiled, files)))
        if block.kind == "barrier":
            out.barriers[number] = Barrier(block.last, place_of(block.last, kernel, compiled, files))
        out.classes.append(Counter(step.kind for step in decoded))
        if block.last is not None:
            out.classes[-1]["barrier" if block.kind == "barrier" else "branch"] += 1
    out.granule = smallest_access(blocks, "global")
    out.global_granule = smallest_access(blocks, "shared")
    numbers = out.numbers
    live, out.live_in, out.defines = liveness(blocks, steps, out.barriers)
    texts: list[str] = []
    namespace: dict = {}
    for number, (decoded, last) in enumerate(steps):
        writer = BlockWriter(number, numbers, namespace, layout, kernel)
        texts.append(writer.write(decoded, blocks[number].instructions, last, live[number]))
    out.source = "\n\n".join(texts)
    exec(compile(out.source, f"<{kernel}>", "exec"), namespace)
    out.shuffles = {n for n, block in enumerate(blocks) if any(i.parts[0] == "shfl" for i in block.instructions)}
    out.touches = [{numbers[r] for r in out.live_in[n] | out.defines[n] if r in numbers} for n in range(len(blocks))]

    def write_marked(number, start):
        def place(instruction):
            return place_of(instruction or blocks[number].last, kernel, compiled, files)
        writer = MarkedWriter(number, numbers, namespace, layout, kernel, place)
        (decoded, last), instructions = steps[number], blocks[number].instructions
        if start is not None:
            plain = BlockWriter(number, numbers, {}, layout, kernel)
            plain.steps(decoded[:start], instructions[:start])
            writer.after(plain)
        text = writer.write(decoded[start:], instructions[start:], last, live[number])
        exec(compile(text, f"<{kernel}>", "exec"), namespace)
        return namespace[f"marked_{number}"]
    out.write_marked, out.steps = write_marked, steps
    out.calls = {n: call_of(n, blocks, out, layout) for n, block in enumerate(blocks) if block.kind == "call"}
    out.functions = [namespace[f"block_{number}"] for number in range(len(blocks))]
    out.register_types = [register.type for register in numbers]
    return out


def call_of(number, blocks, out, layout):
    """What the call that ends a block saves: registers that are read after it, and that the function may change."""
    block = blocks[number]
    back, (*_, callee, results) = block.targets[1], block.last.operands
    own = set().union(*(out.defines[n] for n, b in enumerate(blocks) if b.owner == block.owner)) if block.owner else set()
    kept = [r for r in out.live_in[back] & own if not r.name.startswith(tuple(f"{result.name}+" for result in results.items))]
    return Call(back, [out.numbers[r] for r in kept if r in out.numbers], layout.frame_size(block.owner),
                layout.frame_size(callee.name))


def smallest_access(blocks, elsewhere):
    """The granule of a race detector: 1, 2 or 4 bytes; `elsewhere` is the space that it does not watch."""
    sizes = [NUMPY[part].itemsize for block in blocks for i in block.instructions
             if i.parts[0] in ("ld", "st", "atom", "red") and not {elsewhere, "param", "local", "const"} & set(i.parts)
             for part in i.parts[-1:] if part in NUMPY]
    return min([4, *sizes])


class Barrier:
    """What a barrier instruction does with those who come: sync, arrive, or a reduction of a predicate."""

    def __init__(self, instruction, place):
        self.place, parts = place, instruction.parts
        self.arrive, self.cluster = "arrive" in parts, "cluster" in parts
        self.reduction = next((part for part in ("popc", "and", "or") if "red" in parts and part in parts), None)
        operands = list(instruction.operands)
        self.target = operands.pop(0) if self.reduction else None
        self.predicate = operands.pop() if self.reduction else None
        self.id = operands[0] if operands else Immediate(0, "int")
        self.count = operands[1] if len(operands) > 1 else None


def ending(block, kernel, compiled, files):
    """The reads of a block's last instruction, as a Step without a call; None where it reads nothing."""
    last = block.last
    if last is None or block.kind in ("exit", "jump", "call", "return"):
        return None
    if block.kind == "branch":
        return Step(None, [(last.guard, "pred")], [], "branch")
    if block.kind == "table":
        return Step(None, [(last.operands[0], "u32")], [], "branch")
    barrier = Barrier(last, place_of(last, kernel, compiled, files))
    reads = [(barrier.id, "u32"), (barrier.count or Immediate(0, "int"), "u32")]
    if barrier.reduction:
        reads.append((barrier.predicate, "pred"))
    return Step(None, reads, [], "barrier")


def registers_read(step):
    for operand, _ in step.reads:
        if isinstance(operand, Negated):
            operand = operand.register
        if isinstance(operand, Register):
            yield operand


def liveness(blocks, steps, barriers):
    """Per block: the registers that are read after it, those that it needs, those that it writes."""
    uses: list[set] = []
    defines: list[set] = []
    for number, (decoded, last) in enumerate(steps):
        used, defined = set(), set()
        for step in [*decoded, *([last] if last else [])]:
            used |= {r for r in registers_read(step) if r not in defined}
            defined |= {r for r, _ in step.writes if r is not None}
        if number in barriers and barriers[number].target is not None:
            defined.add(barriers[number].target)
        uses.append(used)
        defines.append(defined)
    live_in = [set(u) for u in uses]
    live_out: list[set] = [set() for _ in blocks]
    changed = True
    while changed:
        changed = False
        for number in reversed(range(len(blocks))):
            after = set().union(*(live_in[target] for target in blocks[number].targets))
            if after != live_out[number]:
                live_out[number], changed = after, True
                live_in[number] = uses[number] | (after - defines[number])
    return live_out, live_in, defines
