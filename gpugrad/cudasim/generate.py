"""Basic blocks to Python functions: registers become local variables, instructions become calls of NumPy functions.

Each function takes the Lanes that execute it, reads the registers it needs, and writes back those that are live after it.
A conditional block returns its predicate, a table branch its index, a barrier its operands. The generated source stands on
the kernel as `python_source`.
"""

from collections import Counter

from . import (
    heap,
    ops_control,
    ops_convert,
    ops_float,
    ops_integer,
    ops_matrix,
    ops_mbarrier,
    ops_memory,
    ops_tiles,
    ops_warp,
    ops_wmma,
    stack,
)
from .decode import Step, decode, is_special, place_of
from .errors import PtxError
from .ptx import Group, Immediate, Negated, Register, Symbol
from .specials import SPECIALS
from .stack import Call
from .types import NUMPY, constant, reinterpret, storage, widen

# Imported for their handlers.
FAMILIES = (heap, ops_control, ops_convert, ops_float, ops_integer, ops_matrix, ops_mbarrier, ops_memory, ops_tiles, ops_warp,
            ops_wmma, stack)


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


def generate(blocks, kernel, compiled, files, layout, exact):
    """The Generated code of blocks. Raises PtxError for an instruction that nobody decodes."""
    out, steps = Generated(), []
    for number, block in enumerate(blocks):
        decoded = [decode(instruction, place_of(instruction, kernel, compiled, files), layout, exact)
                   for instruction in block.instructions]
        steps.append((decoded, ending(block, kernel, compiled, files, layout)))
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
        self.arrive = "arrive" in parts
        self.reduction = next((part for part in ("popc", "and", "or") if "red" in parts and part in parts), None)
        operands = list(instruction.operands)
        self.target = operands.pop(0) if self.reduction else None
        self.predicate = operands.pop() if self.reduction else None
        self.id = operands[0] if operands else Immediate(0, "int")
        self.count = operands[1] if len(operands) > 1 else None


def ending(block, kernel, compiled, files, layout):
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


class BlockWriter:
    """One block's source text; constants and functions go into the namespace it will run in."""

    def __init__(self, number, numbers, namespace, layout, kernel):
        self.number, self.numbers, self.namespace = number, numbers, namespace
        self.layout, self.kernel = layout, kernel
        self.lines, self.values, self.fresh = [], {}, 0

    def write(self, decoded, instructions, last, live_out):
        written: dict[Register, None] = {}
        for step, instruction in zip(decoded, instructions, strict=True):
            self.call(step, instruction)
            written |= {r: None for r, _ in step.writes if r is not None}
        answer = ", ".join(self.value(operand, kind) for operand, kind in last.reads) if last else ""
        for register in written:
            if register in live_out:
                name = self.value(register, None)
                self.lines.append(f"lanes.write({self.register(register)}, {name})")
        if last:
            self.lines.append(f"return {answer}")
        return f"def block_{self.number}(lanes):\n" + "".join(f"    {line}\n" for line in self.lines or ["pass"])

    def call(self, step, instruction):
        arguments = [self.value(operand, kind) for operand, kind in step.reads]
        if step.lanes:
            arguments.insert(0, "lanes")
        call = f"{self.bind('f', step.call)}({', '.join(arguments)})"
        names = [self.name() if register is not None else "_" for register, _ in step.writes]
        self.lines.append(f"{', '.join(names)} = {call}" if names else call)
        self.lines[-1] += "  # " + instruction.text
        for name, (register, kind) in zip(names, step.writes, strict=True):
            if register is None:
                continue
            self.forget(register)
            if NUMPY[kind].itemsize != storage(register.type).itemsize:
                wide = self.name()
                self.lines.append(f"{wide} = {self.bind('w', widen(storage(register.type)))}({name})")
                name, dtype = wide, storage(register.type)
            else:
                dtype = NUMPY[kind]
            self.values[register] = {dtype: name}

    def forget(self, register):
        self.values.pop(register, None)

    def value(self, operand, kind):
        """The name of a variable or constant that holds an operand as a type (None: as the register stores it)."""
        match operand:
            case Negated(register):
                name = self.name()
                self.lines.append(f"{name} = ~{self.value(register, 'pred')}")
                return name
            case Register():
                return self.register_value(operand, storage(operand.type) if kind is None else NUMPY[kind])
            case Immediate(bits, written):
                return self.bind("c", constant(bits, written, kind))
            case Symbol(name) if is_special(operand):
                return self.special(name.lstrip("%"), kind)
            case Symbol(name) if self.layout.in_frame(name):
                found = self.name()
                self.lines.append(f"{found} = lanes.of_batch(lanes.batch.stack.base) + {self.layout.address(name)}")
                return found
            case Symbol(name):
                address = self.layout.address(name)
                if address is not None:
                    return self.bind("c", constant(address, "int", kind))
        shown = operand.name if isinstance(operand, Symbol) else "a group" if isinstance(operand, Group) else operand
        raise PtxError(f"{self.kernel}: an operand must be a register, a number or a variable, got `{shown}`. "
                       "The simulated device has no addresses of functions.", kernel=self.kernel)

    def special(self, name, kind):
        if name not in SPECIALS:
            raise PtxError(f"{self.kernel}: a special register must be one of {', '.join(sorted(SPECIALS))}, got "
                           f"`%{name}`. Add it to gpugrad/cudasim/specials.py.", kernel=self.kernel)
        found = self.name()
        self.lines.append(f"{found} = lanes.of_batch({self.bind('s', SPECIALS[name])}(lanes.batch))"
                          if SPECIALS[name].per_lane else f"{found} = {self.bind('s', SPECIALS[name])}(lanes.batch)")
        dtype = NUMPY[kind]
        cast = self.name()
        self.lines.append(f"{cast} = {found}.astype({self.bind('t', dtype)})")
        return cast

    def register_value(self, register, dtype):
        known = self.values.setdefault(register, {})
        if dtype in known:
            return known[dtype]
        if not known:
            name = self.name()
            self.lines.append(f"{name} = lanes.read({self.register(register)})")
            known[storage(register.type)] = name
            if dtype in known:
                return name
        if dtype.itemsize > storage(register.type).itemsize:
            raise PtxError(f"{self.kernel}: a {register.type} register must not be read as {dtype}, got "
                           f"{register.name}. Report it with the PTX.", kernel=self.kernel)
        source_dtype, source = next(iter(known.items()))
        name = self.name()
        if dtype.itemsize == source_dtype.itemsize:
            self.lines.append(f"{name} = {source}.view({self.bind('t', dtype)})")
        else:
            self.lines.append(f"{name} = {self.bind('r', reinterpret(dtype))}({source})")
        known[dtype] = name
        return name

    def register(self, register):
        return self.numbers.setdefault(register, len(self.numbers))

    def name(self):
        self.fresh += 1
        return f"v{self.fresh}"

    def bind(self, prefix, value):
        name = f"{prefix}{len(self.namespace)}"
        self.namespace[name] = value
        return name
