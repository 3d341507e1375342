"""Where the variables of a kernel live: parameters, shared and local memory by offset, module variables by address."""

import numpy as np

from . import memory
from .errors import PtxError
from .names import short
from .syntax import Address, Group, Negated, Part, Register, size_of
from .types import UNSIGNED

FUNCTIONS = 4 << 40  # functions have addresses only to be compared
STACK = 16 << 10  # bytes of a thread's stack; a device has 1 KB unless it is asked for more
SHARED_GAP = 128  # between shared variables, so that an overrun is seen; a multiple of all banks moves no conflict


class Variables:
    """Variables laid out one after the other in a window, with gaps that belong to none."""

    def __init__(self, gap=0):
        self.gap, self.end, self.spans, self.table = gap, 0, [], None

    def place(self, name, size, align):
        start = -(-self.end // align) * align
        if self.gap and self.spans:
            start = -(-(self.end + self.gap) // max(align, self.gap)) * max(align, self.gap)
        self.spans.append((start, start + size, name))
        self.end = start + size
        return start

    @property
    def gaps(self):
        return self.gap and len(self.spans) > 1

    def owners(self):
        """The ordinal, from one, of the variable that each byte belongs to; 0 for gaps."""
        if self.table is None or self.table.size != self.end:
            self.table = np.zeros(self.end, np.int16)
            for ordinal, (start, stop, _) in enumerate(self.spans, 1):
                self.table[start:stop] = ordinal
        return self.table

    def covers(self, at, size, low, high):
        """Whether every access lies in one variable; low and high are the extremes of at, within the window."""
        if any(start <= low and high + size <= stop for start, stop, _ in self.spans):
            return True
        table = self.owners()
        owner = table[at]
        return bool((owner != 0).all() and (owner == table[at + (size - 1)]).all())

    def inside(self, at, size):
        within = (at >= 0) & (at + size <= self.end)
        if not self.spans or not self.end:
            return within & False
        table, safe = self.owners(), np.clip(at, 0, max(self.end - size, 0))
        owner = table[safe]
        return within & (owner != 0) & (owner == table[np.minimum(safe + size - 1, self.end - 1)])

    def at(self, offset):
        """(name, offset within it) of the variable at or before an offset, or (None, offset)."""
        found = [(start, name) for start, _, name in self.spans if start <= offset]
        return (found[-1][1], offset - found[-1][0]) if found else (None, offset)

    def describe(self, offset, size):
        if not self.spans:
            return "and there are no such variables"
        start, stop, name = min(self.spans, key=lambda s: max(s[0] - offset, offset + size - s[1]))
        past = f"{offset - stop} bytes past the end of" if offset >= stop else (
            f"{start - offset} bytes before" if offset < start else "over the end of")
        return f"{past} `{short(name)}` ({stop - start} bytes)"


class ModuleVariables:
    """The __device__ and __constant__ variables of a module, as NumPy buffers in device memory."""

    def __init__(self, program):
        self.buffers, self.spaces = {}, {}
        self.functions = {name: FUNCTIONS + 16 * k for k, name in enumerate(program.functions, 1)}
        for variable in program.variables.values():
            if variable.space in ("global", "const") and variable.size:
                buffer = np.zeros(variable.size, np.uint8)
                self.buffers[variable.name] = buffer
                self.spaces[variable.name] = variable.space
                allocation = memory.SPACE.allocation_of(buffer)
                allocation.title = f"{'__constant__ ' * (variable.space == 'const')}variable `{short(variable.name)}`"
                allocation.constant = variable.space == "const"
        for variable in program.variables.values():
            if variable.name in self.buffers and variable.values:
                self.initialise(variable)

    def initialise(self, variable):
        size = size_of(variable.type)
        cells = self.buffers[variable.name].view(UNSIGNED[size])
        for k, text in enumerate(variable.values):
            cells[k] = self.value(text, variable.type) & (256**size - 1)

    def value(self, text, kind):
        name = text.removeprefix("generic(").rstrip(")")
        address = self.address(name)
        if address is not None:
            return address
        if text[:2] in ("0f", "0F", "0d", "0D") and kind[0] in "fb" and len(text) in (10, 18):
            return int(text[2:], 16)
        try:
            return int(text.rstrip("U"), 0)
        except ValueError:
            raise PtxError(f"module: initial values must be numbers or variables, got `{text}`. Initialise it in a "
                           "kernel.") from None

    def address(self, name):
        return memory.address(self.buffers[name]) if name in self.buffers else self.functions.get(name)


WINDOWS = {"shared": memory.SHARED, "local": memory.LOCAL, "param": memory.PARAM}


class Layout:
    """Every symbol of one kernel: its space and its offset or address."""

    def __init__(self, entry, flat, program, module_variables):
        self.symbols, self.module_variables = {}, module_variables
        self.params = Variables()
        for parameter in entry.params:
            self.symbols[parameter.name] = ("param", self.params.place(parameter.name, parameter.size, parameter.align))
        self.locals = Variables()
        for name, variable in flat.locals.items():
            self.symbols[name] = ("local", self.locals.place(name, variable.size, variable.align))
        self.frames = {"": 0}
        for function, variables in flat.frames.items():
            frame = Variables()
            for name, variable in variables.items():
                self.symbols[name] = ("frame", frame.place(name, variable.size, variable.align))
            self.frames[function] = -(-max(frame.end, 1) // 16) * 16
        self.stack_start = self.locals.place("the stack", STACK, 16) if flat.frames else 0
        self.stack_end = self.stack_start + STACK
        self.sizes = {name: v.size for names in (flat.locals, *flat.frames.values()) for name, v in names.items()}
        self.shared = Variables(SHARED_GAP)
        self.dynamic = None
        named = {o.name for i in flat.body if hasattr(i, "operands") for o in symbols_in(i.operands)}
        shared = {**flat.shared, **{n: v for n, v in program.variables.items() if v.space == "shared" and n in named}}
        for name, variable in shared.items():
            if variable.size is not None and name in named:
                self.symbols[name] = ("shared", self.shared.place(name, variable.size, variable.align))
        self.dynamic_names = [name for name, variable in shared.items() if variable.size is None]
        if self.dynamic_names:
            # All `extern __shared__` arrays start at one place, behind the static ones.
            self.dynamic = self.shared.place(self.dynamic_names[0], 0, 128)
            self.symbols |= dict.fromkeys(self.dynamic_names, ("shared", self.dynamic))
        # Where atomics go: a plain load of the same place is the first guess of a loop of compare-and-swap, or its filter.
        self.atomic_places = {o for i in flat.body if hasattr(i, "operands") and i.parts[0] in ("atom", "red")
                              for o in i.operands if isinstance(o, Address)}
        self.occurrences: dict[str, int] = {}
        for item in flat.body:
            for register in registers_in(getattr(item, "operands", ())):
                self.occurrences[register.name] = self.occurrences.get(register.name, 0) + 1

    def with_dynamic_shared(self, size):
        """The shared variables of a launch with so many bytes of dynamic shared memory."""
        shared = Variables(SHARED_GAP)
        shared.spans, shared.end = list(self.shared.spans), self.shared.end
        if self.dynamic is not None:
            start, _, name = shared.spans[-1]
            shared.spans[-1] = (start, start + size, name)
            shared.end = start + size
        return shared

    def space(self, name):
        if name not in self.symbols:
            return self.module_variables.spaces.get(name)
        return "local" if self.in_frame(name) else self.symbols[name][0]

    def in_frame(self, name):
        """Whether the address of a variable is an offset from wherever the thread's frame begins."""
        return name in self.symbols and self.symbols[name][0] == "frame"

    def size_of(self, name):
        """Bytes of a local variable."""
        return self.sizes[name]

    def frame_size(self, function):
        """Bytes of the frame of a function, 0 for the kernel ("")."""
        return self.frames[function]

    def address(self, name):
        """The number that a symbol stands for in its own space; None if it is no variable."""
        return self.symbols[name][1] if name in self.symbols else self.module_variables.address(name)

    def unused(self, register):
        return self.occurrences.get(getattr(register, "name", ""), 0) <= 1


def registers_in(operands):
    for operand in operands:
        match operand:
            case Register():
                yield operand
            case Negated(register) | Part(register, _):
                yield register
            case Address(base, _) if isinstance(base, Register):
                yield base
            case Group(items):
                yield from registers_in(items)


def symbols_in(operands):
    for operand in operands:
        match operand:
            case Address(base, _):
                yield from symbols_in((base,))
            case Group(items):
                yield from symbols_in(items)
            case _ if hasattr(operand, "name") and not isinstance(operand, Register):
                yield operand
