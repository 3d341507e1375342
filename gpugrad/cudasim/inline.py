"""Calls inlined: a kernel and every function it calls become one list of instructions and labels.

Functions that may call themselves, directly or not, stand there once, and are called with a frame on the thread's stack (see
stack.py). Parameters of calls become registers where they can, and guards of instructions become branches.
"""

from dataclasses import dataclass, field

from .errors import PtxError
from .flow import Block, components
from .syntax import Address, Group, Instruction, Label, Negated, Part, Register, Symbol, parts_of, size_of

INTRINSICS = ("vprintf", "__assertfail", "malloc", "free")
COPIES = ("<pass>", "<take>")  # (to, from, who calls)


@dataclass
class Flat:
    """A kernel with its calls inlined: instructions and labels, and its local variables.

    frames   the local variables of each function that is called with a frame
    owners   the label where each such function begins: its name
    """

    body: list
    locals: dict
    shared: dict
    targets: dict
    frames: dict = field(default_factory=dict)
    owners: dict = field(default_factory=dict)


def flatten(program, kernel):
    """The Flat form of one entry."""
    flat = Flat([], {}, {}, {})
    Inliner(program, kernel, flat).run()
    promote_parameters(flat)
    return flat


class Inliner:
    def __init__(self, program, kernel, flat):
        self.program, self.kernel, self.flat, self.copies = program, kernel, flat, 0
        self.pointed = address_taken(program)
        self.recursive = self.on_cycles()
        self.owner = ""  # the function with a frame, or the kernel, in which everything stands that is appended now
        self.queue = []

    def run(self):
        self.walk(self.kernel, "", {}, "ret")
        for name in self.queue:  # which grows meanwhile
            function = self.program.functions[name]
            self.owner, label = name, begin(name)
            self.flat.owners[label] = name
            self.flat.frames[name] = {}
            self.flat.body += [Instruction("ret", (), None, 0, (), "ret"), Label(label)]
            for variable in (*function.params, *function.returns):
                self.flat.frames[name][formal(function, variable)] = variable
            names = {v.name: formal(function, v) for v in (*function.params, *function.returns)}
            self.walk(function, f"{name}:", names, "<return>")

    def on_cycles(self):
        """The names of the functions that can come to call themselves."""
        names = list(self.program.functions)
        number = {name: k for k, name in enumerate(names)}
        nodes = [Block([], targets=[number[callee] for callee in self.callees(function)])
                 for function in self.program.functions.values()]
        return {names[k] for group in components(nodes, set(range(len(nodes))), []) for k in group
                if len(group) > 1 or k in nodes[k].targets}

    def callees(self, function):
        for step in function.body:
            if isinstance(step, Label) or step.parts[0] != "call":
                continue
            callee, returned, passed = parts_of_call(step)
            if isinstance(callee, Register):
                yield from (other.name for other in self.fitting(len(returned), len(passed)))
            elif callee.name in self.program.functions:
                yield callee.name

    def fitting(self, returns, params):
        """The functions that a pointer may lead to."""
        return [function for function in self.program.functions.values() if function.name in self.pointed
                and not function.entry and len(function.params) == params and len(function.returns) == returns]

    def walk(self, function, prefix, names, back):
        """Append a function's body; `names` maps its parameters to the caller's variables, `back` says how it returns."""
        local = self.flat.frames[self.owner] if self.owner else self.flat.locals
        for variable in function.variables.values():
            names[variable.name] = prefix + variable.name if variable.space != "shared" else variable.name
            kept = self.flat.shared if variable.space == "shared" else local
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
                self.guarded(step, lambda step=step: self.call(step, prefix, names))
            elif root == "ret" and back == "<return>":
                self.guarded(step, lambda step=step: self.emit(step, back, Symbol(self.owner)))
            elif root == "ret" and back != "ret":
                self.flat.body.append(Instruction("bra", (Symbol(back),), guard, item.line, item.locs, item.text))
            elif guard is not None and root not in ("bra", "ret", "exit"):
                self.guarded(step, lambda step=step: self.emit(step, step.opcode, *step.operands))
            else:
                self.flat.body.append(step)

    def emit(self, step, opcode, *operands, guard=None):
        """Append an instruction that stands where `step` does."""
        self.flat.body.append(Instruction(opcode, operands, guard, step.line, step.locs, step.text))

    def guarded(self, step, emit):
        """Emit something under the step's guard: a branch round it."""
        if step.guard is None:
            emit()
            return
        self.copies += 1
        skip = f"<skip {self.copies}>"
        inverse = step.guard.register if isinstance(step.guard, Negated) else Negated(step.guard)
        self.emit(step, "bra", Symbol(skip), guard=inverse)
        emit()
        self.flat.body.append(Label(skip))

    def call(self, step, prefix, names):
        callee, returned, passed = parts_of_call(step)
        returned, passed = ([names.get(name, name) for name in group] for group in (returned, passed))
        if isinstance(callee, Register):
            self.call_through(rename(callee, prefix, names), step, prefix, names)
            return
        if callee.name in INTRINSICS and callee.name not in self.program.functions:
            self.emit(step, callee.name, *(Address(Symbol(name), 0) for name in (*passed, *returned)))
            return
        function = self.program.functions.get(callee.name)
        if function is None and callee.name.startswith("__cudaCDP"):
            raise PtxError(f"{self.kernel.name}: kernels must be launched by the host on the simulated device, got a launch "
                           "by a kernel. Launch it from Python, or call its body as a function.", kernel=self.kernel.name)
        if function is None:
            raise PtxError(f"{self.kernel.name}: every called function must be in the PTX, got `{callee.name}`. Define it.")
        self.copies += 1
        if function.name in self.recursive:
            self.call_with_frame(step, function, passed, returned)
            return
        bound = {v.name: actual for v, actual in zip(function.params, passed, strict=True)}
        bound |= {v.name: actual for v, actual in zip(function.returns, returned, strict=True)}
        back = f"<back {self.copies}>"
        self.walk(function, f"{function.name}@{self.copies}:", bound, back)
        self.flat.body.append(Label(back))

    def call_with_frame(self, step, function, passed, returned):
        """`<call>` makes the frame, `<pass>` fills its parameters; after the return `<take>` copies the results."""
        if function.name not in self.queue:
            self.queue.append(function.name)
        filled, back = f"<pass {self.copies}>", f"<back {self.copies}>"
        results = [Symbol(formal(function, v)) for v in function.returns]
        self.emit(step, "<call>", Symbol(filled), Symbol(back), Symbol(function.name), Group(tuple(results)))
        self.flat.body.append(Label(filled))
        for variable, actual in zip(function.params, passed, strict=True):
            self.emit(step, "<pass>", Symbol(formal(function, variable)), Symbol(actual), Symbol(self.owner))
        self.emit(step, "bra", Symbol(begin(function.name)))
        self.flat.body.append(Label(back))
        for result, actual in zip(results, returned, strict=True):
            self.emit(step, "<take>", Symbol(actual), result, Symbol(self.owner))

    def call_through(self, pointer, step, prefix, names):
        """A call through a pointer: compare it with every function that it may lead to, and trap if none is it."""
        self.copies += 1
        number = self.copies
        done = f"<called {number}>"
        _, returned, passed = parts_of_call(step)
        for function in self.fitting(len(returned), len(passed)):
            test, other = Register(f"<is {number} {function.name}>", "pred"), f"<not {number} {function.name}>"
            self.emit(step, "setp.eq.u64", test, pointer, Symbol(function.name))
            self.emit(step, "bra", Symbol(other), guard=Negated(test))
            operands = tuple(Symbol(function.name) if isinstance(o, Register) else o for o in step.operands)
            self.call(Instruction(step.opcode, operands, None, step.line, step.locs, step.text), prefix, names)
            self.emit(step, "bra", Symbol(done))
            self.flat.body.append(Label(other))
        self.emit(step, "trap")
        self.flat.body.append(Label(done))


def begin(function):
    """The label at which a function with a frame begins."""
    return f"<function {function}>"


def formal(function, variable):
    """The name of a parameter, or of a result, of a function with a frame."""
    return f"{function.name}:{variable.name}"


def parts_of_call(step):
    """(callee, names of the results, names of the arguments) of a call instruction."""
    at = next(k for k, o in enumerate(step.operands) if not isinstance(o, Group))
    after = step.operands[at + 1: at + 2]
    return (step.operands[at], [o.name for group in step.operands[:at] for o in group.items],
            [o.name for group in after if isinstance(group, Group) for o in group.items])


def address_taken(program):
    """The names of the functions whose address some instruction or variable holds."""
    held = {o.name for function in program.functions.values() for step in function.body
            if isinstance(step, Instruction) and step.parts[0] != "call" for o in step.operands if isinstance(o, Symbol)}
    held |= {text.removeprefix("generic(").rstrip(")") for v in program.variables.values() for text in v.values}
    return held & program.functions.keys()


def rename(operand, prefix, names):
    match operand:
        case Register(name, kind):
            return Register(prefix + name, kind) if prefix else operand
        case Negated(register):
            return Negated(rename(register, prefix, names))
        case Part(register, selector):
            return Part(rename(register, prefix, names), selector)
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
    variables = {name: names for names in (flat.locals, *flat.frames.values()) for name in names}
    pieces: dict[str, set] = {}
    taken: set[str] = set()
    pairs = [tuple(o.name for o in step.operands[:2]) for step in instructions(flat) if step.opcode in COPIES]
    for step in instructions(flat):
        if step.opcode in (*COPIES, "<call>"):
            continue
        here = {id(o) for o in step.operands if isinstance(o, Address)}
        for name, offset, size in parameter_pieces(step, variables):
            pieces.setdefault(name, set()).add((offset, size))
        taken |= {o.name for o in step.operands if isinstance(o, Symbol)}
        if step.opcode.split(".")[0] not in ("ld", "st", *INTRINSICS):
            taken |= {o.base.name for o in step.operands if id(o) in here and isinstance(o.base, Symbol)}
    share(pairs, pieces, taken)
    promoted = {name for name, found in pieces.items() if name not in taken and separate(found)}
    body = []
    for item in flat.body:
        found = [] if isinstance(item, Label) else parameter_pieces(item, promoted)
        if isinstance(item, Instruction) and item.opcode in COPIES and item.operands[0].name in promoted:
            to, fro = (o.name for o in item.operands[:2])
            for offset, size in sorted(pieces[to]):
                pair = piece_register(to, offset, size), piece_register(fro, offset, size)
                body.append(Instruction(f"mov.b{8 * size}", pair, None, item.line, item.locs, item.text))
        elif found and item.opcode in INTRINSICS:
            registers = tuple(piece_register(*piece) for piece in found)
            body.append(Instruction(item.opcode, registers, None, item.line, item.locs, item.text))
        elif found:
            store = item.opcode.startswith("st")
            values = parts_of(item.operands[1 if store else 0])
            kind = item.parts[-1]
            for piece, value in zip(found, values, strict=True):
                pair = (piece_register(*piece), value) if store else (value, piece_register(*piece))
                body.append(Instruction(f"mov.{kind}", pair, None, item.line, item.locs, item.text))
        else:
            body.append(item)
    flat.body = body
    for name in promoted:
        variables[name].pop(name, None)


def share(pairs, pieces, taken):
    """Both sides of every copy are accessed in the pieces of either, and stay in memory if one of them does."""
    changed = True
    while changed:
        changed = False
        for a, b in pairs:
            both = pieces.get(a, set()) | pieces.get(b, set())
            held = {a, b} if {a, b} & taken else set()
            if pieces.get(a, set()) != both or pieces.get(b, set()) != both or not held <= taken:
                pieces[a], pieces[b], changed = set(both), set(both), True
                taken |= held


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
