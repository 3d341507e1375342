"""The text of the Python function that executes one basic block."""

from .decode import is_special
from .errors import PtxError
from .specials import SPECIALS
from .syntax import Group, Immediate, Negated, Register, Symbol
from .types import NUMPY, constant, reinterpret, storage, widen


class BlockWriter:
    """One block's source text; constants and functions go into the namespace it will run in."""

    prefix = "block"

    def __init__(self, number, numbers, namespace, layout, kernel):
        self.number, self.numbers, self.namespace = number, numbers, namespace
        self.layout, self.kernel = layout, kernel
        self.lines, self.values, self.fresh = [], {}, 0
        self.written: dict[Register, None] = {}
        self.signature = f"{self.prefix}_{number}(lanes)"

    def steps(self, decoded, instructions):
        for step, instruction in zip(decoded, instructions, strict=True):
            self.call(step, instruction)
            self.written |= {r: None for r, _ in step.writes if r is not None}

    def write(self, decoded, instructions, last, live_out):
        self.steps(decoded, instructions)
        answer = ", ".join(self.value(operand, kind) for operand, kind in last.reads) if last else ""
        for register in self.written:
            if register in live_out:
                self.write_back(register)
        if last:
            self.before_the_end(last)
            self.lines.append(f"return {answer}")
        return f"def {self.signature}:\n" + "".join(f"    {line}\n" for line in self.lines or ["pass"])

    def call(self, step, instruction):
        arguments = [self.value(operand, kind) for operand, kind in step.reads]
        if step.lanes:
            arguments.insert(0, "lanes")
        names = [self.name() if register is not None else "_" for register, _ in step.writes]
        self.invoke(step, arguments, names, instruction)
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

    def invoke(self, step, arguments, names, instruction):
        call = f"{self.bind('f', step.call)}({', '.join(arguments)})  # {instruction.text}"
        self.lines.append(f"{', '.join(names)} = {call}" if names else call)

    def write_back(self, register):
        self.lines.append(f"lanes.write({self.register(register)}, {self.value(register, None)})")

    def before_the_end(self, last):
        """Whatever must happen before the block returns what its last instruction reads."""

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
