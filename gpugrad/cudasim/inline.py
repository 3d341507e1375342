"""Calls inlined: a kernel and every function it calls become one list of instructions and labels.

Parameters of calls become registers where they can, and guards of instructions become branches.
"""

from dataclasses import dataclass

from .errors import PtxError
from .ptx import Address, Group, Instruction, Label, Negated, Register, Symbol, size_of

INTRINSICS = ("vprintf", "__assertfail", "malloc", "free")


@dataclass
class Flat:
    """A kernel with all its calls inlined: instructions and labels, and its local variables."""

    body: list
    locals: dict
    shared: dict
    targets: dict


def flatten(program, kernel):
    """The Flat form of one entry. Raises PtxError on recursion."""
    flat = Flat([], {}, {}, {})
    Inliner(program, flat).walk(kernel, "", {}, None, (kernel.name,))
    promote_parameters(flat)
    return flat


class Inliner:
    def __init__(self, program, flat):
        self.program, self.flat, self.copies = program, flat, 0

    def walk(self, function, prefix, names, back, stack):
        """Append a function's body; `names` maps its parameters to the caller's variables, `back` is where ret leads."""
        for variable in function.variables.values():
            names[variable.name] = prefix + variable.name if variable.space != "shared" else variable.name
            kept = self.flat.shared if variable.space == "shared" else self.flat.locals
            kept[names[variable.name]] = variable
        for name, labels in function.targets.items():
            self.flat.targets[prefix + name] = [prefix + label for label in labels]
        for item in function.body:
            if isinstance(item, Label):
                self.flat.body.append(Label(prefix + item.name))
                continue
            root = item.opcode.split(".")[0]
            operands = item.operands
            if root in ("bra", "brx"):
                operands = tuple(Symbol(prefix + o.name) if isinstance(o, Symbol) else rename(o, prefix, names)
                                 for o in operands)
            elif root != "call":
                operands = tuple(rename(o, prefix, names) for o in operands)
            guard = rename(item.guard, prefix, names) if item.guard is not None else None
            step = Instruction(item.opcode, operands, guard, item.line, item.locs, item.text)
            if root == "call":
                self.guarded(step, lambda step=step: self.call(step, prefix, names, stack))
            elif root == "ret" and back is not None:
                self.flat.body.append(Instruction("bra", (Symbol(back),), guard, item.line, item.locs, item.text))
            elif guard is not None and root not in ("bra", "ret", "exit"):
                plain = Instruction(item.opcode, operands, None, item.line, item.locs, item.text)
                self.guarded(step, lambda plain=plain: self.flat.body.append(plain))
            else:
                self.flat.body.append(step)

    def guarded(self, step, emit):
        """Emit something under the step's guard: a branch round it."""
        if step.guard is None:
            emit()
            return
        self.copies += 1
        skip = f"<skip {self.copies}>"
        inverse = step.guard.register if isinstance(step.guard, Negated) else Negated(step.guard)
        self.flat.body.append(Instruction("bra", (Symbol(skip),), inverse, step.line, step.locs, step.text))
        emit()
        self.flat.body.append(Label(skip))

    def call(self, step, prefix, names, stack):
        at = next(k for k, o in enumerate(step.operands) if not isinstance(o, Group))
        callee, after = step.operands[at], step.operands[at + 1: at + 2]
        returned = [names.get(o.name, o.name) for group in step.operands[:at] for o in group.items]
        passed = [names.get(o.name, o.name) for group in after if isinstance(group, Group) for o in group.items]
        if isinstance(callee, Register):
            self.call_through(callee, step, prefix, names, stack, len(returned), len(passed))
            return
        if callee.name in INTRINSICS and callee.name not in self.program.functions:
            operands = tuple(Address(Symbol(name), 0) for name in passed)
            returns = tuple(Address(Symbol(name), 0) for name in returned)
            self.flat.body.append(Instruction(callee.name, operands + returns, None, step.line, step.locs, step.text))
            return
        function = self.program.functions.get(callee.name)
        if function is None:
            raise PtxError(f"{stack[0]}: every called function must be in the PTX, got `{callee.name}`. Define it.")
        if function.name in stack:
            raise PtxError(f"{stack[0]}: functions must not call themselves on the simulated device, got "
                           f"{' -> '.join((*stack, function.name))}. Write the recursion as a loop.")
        self.copies += 1
        inner = f"{function.name}@{self.copies}:"
        bound = {v.name: actual for v, actual in zip(function.params, passed, strict=True)}
        bound |= {v.name: actual for v, actual in zip(function.returns, returned, strict=True)}
        back = f"<back {self.copies}>"
        self.walk(function, inner, bound, back, (*stack, function.name))
        self.flat.body.append(Label(back))


    def call_through(self, pointer, step, prefix, names, stack, returns, params):
        """A call through a pointer: compare it with every function of this many parameters, and trap if none is it."""
        pointer = rename(pointer, prefix, names)
        self.copies += 1
        number = self.copies
        done = Label(f"<called {number}>")
        for function in self.program.functions.values():
            fitting = not function.entry and function.name not in stack
            if not fitting or len(function.params) != params or len(function.returns) != returns:
                continue
            test, other = Register(f"<is {number} {function.name}>", "pred"), f"<not {number} {function.name}>"
            where = (step.line, step.locs, step.text)
            self.flat.body.append(Instruction("setp.eq.u64", (test, pointer, Symbol(function.name)), None, *where))
            self.flat.body.append(Instruction("bra", (Symbol(other),), Negated(test), *where))
            operands = tuple(Symbol(function.name) if isinstance(o, Register) else o for o in step.operands)
            self.call(Instruction(step.opcode, operands, None, *where), prefix, names, stack)
            self.flat.body.append(Instruction("bra", (Symbol(done.name),), None, *where))
            self.flat.body.append(Label(other))
        self.flat.body.append(Instruction("trap", (), None, step.line, step.locs, step.text))
        self.flat.body.append(done)


def rename(operand, prefix, names):
    match operand:
        case Register(name, kind):
            return Register(prefix + name, kind) if prefix else operand
        case Negated(register):
            return Negated(rename(register, prefix, names))
        case Symbol(name):
            return Symbol(names.get(name, name))
        case Address(base, offset):
            return Address(rename(base, prefix, names), offset)
        case Group(items):
            return Group(tuple(rename(item, prefix, names) for item in items))
    return operand


def promote_parameters(flat):
    """Turn the st.param and ld.param of inlined calls into moves between registers.

    A parameter whose bytes are always accessed in the same pieces becomes one register per piece; any other stays in
    local memory, where ld.param and st.param reach it like any variable.
    """
    pieces: dict[str, set] = {}
    taken: set[str] = set()
    for step in instructions(flat):
        here = {id(o) for o in step.operands if isinstance(o, Address)}
        for name, offset, size in parameter_pieces(step, flat.locals):
            pieces.setdefault(name, set()).add((offset, size))
        taken |= {o.name for o in step.operands if isinstance(o, Symbol)}
        if step.opcode.split(".")[0] not in ("ld", "st", *INTRINSICS):
            taken |= {o.base.name for o in step.operands if id(o) in here and isinstance(o.base, Symbol)}
    promoted = {name for name, found in pieces.items() if name not in taken and separate(found)}
    body = []
    for item in flat.body:
        found = [] if isinstance(item, Label) else parameter_pieces(item, promoted)
        if found and item.opcode in INTRINSICS:
            registers = tuple(piece_register(*piece) for piece in found)
            body.append(Instruction(item.opcode, registers, None, item.line, item.locs, item.text))
        elif found:
            store = item.opcode.startswith("st")
            values = item.operands[1 if store else 0]
            values = values.items if isinstance(values, Group) else (values,)
            kind = item.parts[-1]
            for piece, value in zip(found, values, strict=True):
                pair = (piece_register(*piece), value) if store else (value, piece_register(*piece))
                body.append(Instruction(f"mov.{kind}", pair, None, item.line, item.locs, item.text))
        else:
            body.append(item)
    flat.body = body
    for name in promoted:
        flat.locals.pop(name, None)


def instructions(flat):
    return [item for item in flat.body if isinstance(item, Instruction)]


def parameter_pieces(step, names):
    """(variable, offset, size) of each element of a parameter that a step loads or stores."""
    if step.opcode in INTRINSICS:
        sizes = [8, 8, 4] if step.opcode == "vprintf" else [8] * len(step.operands)
        if step.opcode == "__assertfail":
            sizes = [8, 8, 4, 8, 8]
        return [(o.base.name, 0, size) for o, size in zip(step.operands, sizes, strict=False)
                if isinstance(o, Address) and isinstance(o.base, Symbol) and o.base.name in names]
    if step.parts[0] not in ("ld", "st") or "param" not in step.parts:
        return []
    place = step.operands[0 if step.parts[0] == "st" else 1]
    if not isinstance(place.base, Symbol) or place.base.name not in names:
        return []
    other = step.operands[1 if step.parts[0] == "st" else 0]
    count = len(other.items) if isinstance(other, Group) else 1
    size = size_of(step.parts[-1])
    return [(place.base.name, place.offset + k * size, size) for k in range(count)]


def separate(pieces):
    """Whether no two pieces (offset, size) overlap."""
    ordered = sorted(pieces)
    return all(a + size <= b for (a, size), (b, _) in zip(ordered, ordered[1:], strict=False))


def piece_register(name, offset, size):
    return Register(f"{name}+{offset}", f"b{size * 8}")
