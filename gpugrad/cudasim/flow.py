"""From a parsed kernel to basic blocks: calls inlined, guards made into branches, blocks in an order that reconverges.

The machine always runs the lowest-numbered block that has threads waiting. So blocks are numbered in a topological order
in which a loop is contiguous: every block between a branch and its immediate post-dominator comes before it, and a loop's
exits come after the loop. Threads that part therefore meet again at the immediate post-dominator, or earlier.
"""

from dataclasses import dataclass, field

from .errors import PtxError
from .ptx import Address, Group, Instruction, Label, Negated, Register, Symbol, size_of

BARRIERS = ("bar", "barrier")
INTRINSICS = ("vprintf", "__assertfail", "malloc", "free")


@dataclass
class Block:
    """Straight-line instructions and how they end.

    kind     jump, branch (targets: taken, not taken), table (targets by index), exit, barrier (target: what follows)
    last     the Instruction that ends it, None for a plain fall-through
    waits    "spins" or "polls" where the block lies on a loop that waits for others (see waiting.py)
    """

    instructions: list
    kind: str = "jump"
    last: Instruction | None = None
    targets: list = field(default_factory=list)
    waits: str | None = None


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


# --- basic blocks ----------------------------------------------------------------------------------------------------


def blocks_of(flat):
    """The basic blocks of a flat kernel; block 0 is the entry."""
    blocks: list[Block] = []
    starts: dict[str, int] = {}
    current: Block | None = None
    for item in flat.body:
        if isinstance(item, Label):
            if current is None or current.instructions:
                current = open_block(blocks)
            starts[item.name] = len(blocks) - 1
            continue
        if current is None:
            current = open_block(blocks)
        if ends_block(item):
            current.kind, current.last = kind_of(item), item
            current = None
        else:
            current.instructions.append(item)
    blocks.append(Block([], "exit"))
    for number, block in enumerate(blocks[:-1]):
        following, last = number + 1, block.last
        if last is None:
            block.targets = [following]
            continue
        match block.kind:
            case "jump":
                block.targets = [starts[last.operands[0].name]]
            case "branch":
                block.targets = [starts[last.operands[0].name], following]
            case "table":
                block.targets = [starts[label] for label in flat.targets[last.operands[-1].name]]
            case "barrier":
                block.targets = [following]
            case "exit" if last.guard is not None:
                block.kind, block.targets = "branch", [len(blocks) - 1, following]
    return in_order(blocks)


def open_block(blocks):
    blocks.append(Block([]))
    return blocks[-1]


def ends_block(item):
    root = item.parts[0]
    return root in ("bra", "brx", "ret", "exit") or (root in BARRIERS and "warp" not in item.parts)


def kind_of(item):
    root = item.parts[0]
    if root == "bra":
        return "branch" if item.guard is not None else "jump"
    return {"brx": "table", "ret": "exit", "exit": "exit"}.get(root, "barrier")


def in_order(blocks):
    """Renumber blocks: topological, loops contiguous, unreachable ones left out; the entry stays first."""
    reachable, stack = {0}, [0]
    while stack:
        for target in blocks[stack.pop()].targets:
            if target not in reachable:
                reachable.add(target)
                stack.append(target)
    order: list[int] = []
    loops: list[tuple[int, set[int]]] = []
    arrange(blocks, reachable, [0], order, loops)
    number = {old: new for new, old in enumerate(order)}
    out = [blocks[old] for old in order]
    for block in out:
        block.targets = [number[target] for target in block.targets]
    return out, [(number[header], {number[n] for n in nodes}) for header, nodes in loops]


def arrange(blocks, nodes, entries, order, loops):
    """Append nodes in topological order of their strongly connected components, headers of loops first."""
    for component in components(blocks, nodes, entries):
        if len(component) == 1 and component[0] not in blocks[component[0]].targets:
            order += component
            continue
        inside = set(component)
        outside_in = {t for n in nodes - inside for t in blocks[n].targets if t in inside}
        header = next((n for n in component if n in entries or n in outside_in), component[0])
        loops.append((header, inside))
        order.append(header)
        rest = inside - {header}
        if rest:
            arrange(blocks, rest, [t for t in blocks[header].targets if t in rest], order, loops)


def components(blocks, nodes, entries):
    """Strongly connected components of a subgraph in topological order (Tarjan, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    on_stack: set[int] = set()
    stack: list[int] = []
    found: list[list[int]] = []
    for root in [*entries, *sorted(nodes)]:
        if root in index:
            continue
        work = [(root, iter(blocks[root].targets))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in nodes:
                    continue
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(blocks[target].targets)))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component: list[int] = []
                    while not component or component[-1] != node:
                        component.append(stack.pop())
                        on_stack.discard(component[-1])
                    found.append(component[::-1])
    return found[::-1]


