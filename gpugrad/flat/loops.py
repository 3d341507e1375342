"""The loop nest of a group, as LLVM text: name(pointers, begin, end) over rows begin to end, or elements where there are no rows.

`pointers` holds one address an array, in the order of Nest.arrays. Each inner loop is written twice: for vectors of LANES
elements, and with a mask for what is left over. Sums of rows keep LANES partial sums in their dtype; sums of everything are
kept in float64.
"""
from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

from gpugrad.flat.elements import converted, written
from gpugrad.flat.fuse import BLOCK, REDUCTIONS, Group
from gpugrad.flat.ir import Op, Value
from gpugrad.flat.llvm import HALF, Body, Module, Node, element_of, type_text
from gpugrad.flat.read_loops import START, read, turned
from gpugrad.flat.vector_math import FUNCTIONS

LANES = 16
ACROSS = 32                 # columns of a block in which transposed arrays are read
SHORT = 4096                # loops up to this length are written without the part that they do not need
MOST_COPIES = 24            # of exp, tanh and their like in one loop; with more, compiling takes longer than running


class Nest(NamedTuple):
    """name     of the function in its module
    arrays   what `pointers` holds: values that are read and values that are made, then `scratch`
    scratch  values that wait for a later pass over their row: each needs `cols` elements for each thread
    partial  late values: C ones are added to what is there, S ones are written as one float64 or element
    """

    name: str
    arrays: list[Value]
    scratch: list[Value]
    partial: list[Value]


def element(x: Value) -> str:
    return element_of(x.dtype)


def is_heavy(op: Op) -> bool:
    """Whether the operation takes tens of instructions."""
    return op.name in FUNCTIONS or op.name.startswith(("gelu", "silu", "softplus"))


def partial_element(op: Op) -> str:
    """The element type in which a reduction over everything is kept."""
    return "f64" if op.name == "sum" else element(op.outputs[0])


def nest(group: Group, kept: set[Value], module: Module) -> Nest:
    """Write the group's function; `kept` are the values that someone else reads."""
    if group.closed:
        return turned_nest(group, module)
    made_by = {op.outputs[0]: op for op in group.ops}
    made = [op.outputs[0] for op in group.ops]
    waits = waiting(group)
    read = list(dict.fromkeys(x for op in group.ops for x in op.values if x not in group.made))
    partial = [y for y in made if y in group.late]
    scratch = [y for y in made if y in waits and y not in kept]
    arrays = [*read, *[y for y in made if y in kept or y in group.late], *scratch]
    b = Body(module, inlines=not module.quick and sum(map(is_heavy, group.ops)) <= MOST_COPIES)
    Writer(b, group, made_by, {x: i for i, x in enumerate(dict.fromkeys(arrays))}, kept, set(scratch)).write()
    return Nest(named(b), list(dict.fromkeys(arrays)), scratch, partial)


def named(b: Body) -> str:
    """The name under which the module has the body: the same for the same text."""
    b.do("ret void")
    name = "nest_" + hashlib.sha256("\n".join(b.lines).encode()).hexdigest()[:16]
    if name not in b.module.parts:
        b.module.function(name, "void", "ptr %p, i64 %begin, i64 %end", b)
    return name


def turned_nest(group: Group, module: Module) -> Nest:
    """For each row where it is named, by the ranges of rows that the threads get."""
    b, (op,) = Body(module), group.ops
    turned(b, pointer(b, 0), pointer(b, 1), op.args[0].size, group.n, linked=op.name == "chains")
    return Nest(named(b), [op.args[0], op.outputs[0]], [], [])


def pointer(b: Body, slot: int) -> str:
    """What the table holds at `slot`."""
    place, array = "%" + b.fresh("slot"), "%" + b.fresh("array")
    b.do(f"{place} = getelementptr ptr, ptr %p, i64 {slot}")
    b.do(f"{array} = load ptr, ptr {place}")
    return array


def turn(group: Group, op: Op) -> int:
    """The pass over the row in which an operation is done."""
    y = op.outputs[0]
    if op.name not in REDUCTIONS:
        return group.level[y]
    return group.level[y] - 1 if group.roles[y] == "R" else group.level.get(op.args[0], 0)


def waiting(group: Group) -> set[Value]:
    """F values that are read in a later pass than the one that makes them."""
    return {x for op in group.ops for x in op.values
            if x in group.made and group.roles[x] == "F" and is_full(group, op) and turn(group, op) > group.level[x]}


def is_full(group: Group, op: Op) -> bool:
    return op.name in REDUCTIONS or group.roles[op.outputs[0]] == "F"


class Writer:
    """Writes the loops of one group into a body."""

    lanes = LANES

    def __init__(self, b: Body, group: Group, made_by: dict[Value, Op], slots: dict[Value, int], kept: set[Value],
                 scratch: set[Value]):
        self.b, self.group, self.made_by, self.slots, self.kept, self.scratch = b, group, made_by, slots, kept, scratch
        self.pointers: dict[Value, str] = {}
        self.row: dict[Value, Node] = {}                     # R and S values
        self.totals: dict[Value, Node] = {}                  # S results so far
        self.mask: Node | None = None                        # which lanes there are, in the vector that is not full
        self.row_index: Node | None = None
        self.begin, self.end = Node(b, "%begin", "i64", 1), Node(b, "%end", "i64", 1)

    def write(self) -> None:
        b, g = self.b, self.group
        self.pointers = {x: pointer(b, slot) for x, slot in self.slots.items()}
        for x in self.slots:
            if x not in g.made and g.roles[x] == "S":
                self.row[x] = self.load(x, b.constant(0, "i64"), 1)
        reductions = [op for op in g.ops if op.name in REDUCTIONS]
        everything = [op for op in reductions if g.roles[op.outputs[0]] == "S"]
        for op in everything:
            self.totals[op.outputs[0]] = b.constant(START[op.name], partial_element(op))
        for op in reductions:
            if g.roles[op.outputs[0]] == "C" and op.name != "sum":
                self.prepare(op)
        if not g.cols:
            self.pass_over(0, self.begin, self.end, None)
        elif g.crosses:
            self.blocks()
        else:
            with b.loop(self.begin, self.end) as rows:
                carried = {y: rows.carry(x) for y, x in self.totals.items()}
                self.totals = dict(carried)
                self.one_row(rows.index)
                for y, total in carried.items():
                    rows.update(total, self.totals[y])
            self.totals = carried
        for y, total in self.totals.items():
            b.do(f"store {total}, ptr {self.pointers[y]}")
        if g.passing:
            b.do("fence seq_cst")                            # what passes the caches is there before anyone is told

    def prepare(self, op: Op) -> None:
        """Begin with what the reduction begins with, in every column."""
        b, y = self.b, op.outputs[0]
        with b.loop(b.constant(0, "i64"), b.constant(self.group.cols, "i64")) as loop:
            self.store(y, b.constant(START[op.name], element(y)), loop.index)

    def blocks(self) -> None:
        """Blocks of rows and columns, so that what a row has brought into the caches is there for the rows after it."""
        b, columns = self.b, self.b.constant(self.group.cols, "i64")
        with b.loop(self.begin, self.end, BLOCK) as down, b.loop(b.constant(0, "i64"), columns, ACROSS) as right:
            below = b.intrinsic("smin", down.index + BLOCK, self.end)
            stop = b.intrinsic("smin", right.index + ACROSS, columns)
            with b.loop(down.index, below) as row:
                self.one_row(row.index, right.index, stop)

    def one_row(self, index: Node, begin: Node | None = None, end: Node | None = None) -> None:
        """One row, or the columns of it from `begin` to `end`."""
        g, b = self.group, self.b
        base = index * g.cols
        self.row_index = index
        for x in self.slots:
            if x not in g.made and g.roles[x] == "R":
                self.row[x] = self.load(x, index, 1)
        last = max(g.level.values())
        for level in range(last + 1):
            for op in g.ops:
                y = op.outputs[0]
                if op.name not in REDUCTIONS and g.roles[y] == "R" and g.level[y] == level:
                    self.row[y] = self.row[op.args[0]] if op.name == "reshape" else written(b, op, self.row.__getitem__, 1)
                    self.keep(y, index)
            if begin is None or end is None:
                self.pass_over(level, b.constant(0, "i64"), b.constant(g.cols, "i64"), base, b.constant(g.cols & -LANES, "i64"))
            else:
                self.pass_over(level, begin, end, base)
            for op in g.ops:
                if op.name in REDUCTIONS and g.roles[op.outputs[0]] == "R" and turn(g, op) == level:
                    self.keep(op.outputs[0], index)

    def keep(self, y: Value, index: Node) -> None:
        if y in self.kept:
            self.store(y, self.row[y], index)

    # one pass ------------------------------------------------------------------------------------------------------------

    def pass_over(self, level: int, begin: Node, end: Node, base: Node | None, whole: Node | None = None) -> None:
        """One loop over the columns of a row (or over all elements): its vectors, up to `whole`, then what is left."""
        g, b = self.group, self.b
        ops = [op for op in g.ops if is_full(g, op) and turn(g, op) == level]
        if not ops:
            return
        sums = [op for op in ops if op.name in REDUCTIONS and g.roles[op.outputs[0]] in "RS"]
        values: dict[Value | Op, Node] = {}                  # by value, the results; by operation, where NaN was met
        for op in sums:
            y = op.outputs[0]
            kind = self.totals[y].element if g.roles[y] == "S" else element(y)
            values[y] = b.constant(START[op.name], kind, LANES)
            if op.name != "sum":
                values[op] = b.constant(0, "i1", LANES)
        whole = whole or begin + ((end - begin) & -LANES)
        length = g.cols or (g.n if g.n <= SHORT else 0)      # 0: of any length
        if not length or length >= LANES:
            values = self.inner(ops, begin, whole, base, values)
        if not length or length % LANES:
            values = self.inner(ops, whole, end, base, values, rest=True)
        for op in sums:
            y, x = op.outputs[0], values[op.outputs[0]]
            x = across(b, op, x if op.name == "sum" else values[op].where(math.nan, x))
            if g.roles[y] == "S":
                self.totals[y] = combine(b, op.name, self.totals[y], x)
            else:
                self.row[y] = x

    def inner(self, ops: list[Op], begin: Node, end: Node, base: Node | None, starts: dict[Value | Op, Node],
              rest: bool = False) -> dict[Value | Op, Node]:
        """The operations for vectors from begin to end; with `rest`, for the one vector that is not full."""
        b = self.b
        with b.loop(begin, end, LANES) as loop:
            carried = {y: loop.carry(x) for y, x in starts.items()}
            place = loop.index if base is None else base + loop.index
            self.mask = self.numbers(b.constant(0, "i64")).compare("slt", b.splat(end - loop.index, LANES)) if rest else None
            found: dict[Value, Node] = {}

            def get(x: Value) -> Node:
                if x not in found:
                    found[x] = self.fetch(x, loop.index, place)
                return found[x]

            for op in ops:
                y = op.outputs[0]
                if y in carried:
                    x = converted(get(op.args[0]), carried[y].element)
                    x = x if self.mask is None else self.mask.where(x, START[op.name])
                    if op.name == "sum":
                        loop.update(carried[y], carried[y] + x)
                    else:                                    # one instruction, which forgets NaN, and a note of NaN beside it
                        further = x.compare("ogt" if op.name == "max" else "olt", carried[y])
                        loop.update(carried[y], further.where(x, carried[y]))
                        loop.update(carried[op], carried[op] | x.compare("uno", x))
                elif op.name in REDUCTIONS:                  # C: joined to what the array holds
                    self.store(y, combine(b, op.name, self.load(y, loop.index, LANES), get(op.args[0])), loop.index)
                else:
                    found[y] = self.full(op, get, loop.index, place)
                    if y in self.slots:
                        self.store(y, found[y], loop.index if y in self.scratch else place)
        return carried

    def full(self, op: Op, get: Callable[[Value], Node], column: Node, place: Node) -> Node:
        if op in self.group.readings:
            return read(self, op, self.group.readings[op], get, column, place)
        if op.name == "reshape":
            return get(op.args[0])
        if op.name == "one_hot":
            kind = "i32" if self.group.cols < 1 << 31 else "i64"
            label = get(op.args[0])
            narrow = label.element == "i64" and kind == "i32"
            label = self.b.cast("trunc", label, kind) if narrow else converted(label, kind)
            return self.numbers(column, kind).compare("eq", label)
        return written(self.b, op, get, LANES)

    def numbers(self, column: Node, kind: str = "i64") -> Node:
        """column, column + 1, …"""
        first = column if kind == "i64" else self.b.cast("trunc", column, kind)
        ramp = "<" + ", ".join(f"{kind} {i}" for i in range(LANES)) + ">"
        return self.b.splat(first, LANES) + Node(self.b, ramp, kind, LANES)

    def fetch(self, x: Value, column: Node, place: Node) -> Node:
        if x in self.row:
            return self.b.splat(self.row[x], LANES)
        return self.load(x, column if self.group.roles[x] == "C" or x in self.scratch else place, LANES)

    # memory: where there is a mask, of the lanes that it lets through; the others are 0 -------------------------------------

    def address(self, x: Value, index: Node) -> str:
        name = "%" + self.b.fresh("at")
        self.b.do(f"{name} = getelementptr {type_text(stored_element(x), 1)}, ptr {self.pointers[x]}, {index}")
        return name

    def load(self, x: Value, index: Node, lanes: int, mask: Node | None = None) -> Node:
        """x.flat[index], x.flat[index + 1], …; with a mask, of its lanes only."""
        kind, at, size = stored_element(x), self.address(x, index), x.dtype.itemsize
        whole = type_text(kind, lanes)
        mask = self.there(mask)
        if mask is None or lanes == 1:
            y = self.b.write(f"load {whole}, ptr {at}, align {size}", kind, lanes)
        else:
            function = f"@llvm.masked.load.v{lanes}{kind}.p0"
            self.b.module.declare(f"declare {whole} {function}(ptr, i32, {mask.type}, {whole})")
            y = self.b.write(f"call {whole} {function}(ptr {at}, i32 {size}, {mask}, {whole} zeroinitializer)", kind, lanes)
        return y.compare("ne", 0) if x.dtype == bool else y.floating() if x.dtype == HALF else y

    def pick(self, x: Value, places: Node, mask: Node | None = None, rest: int = 0) -> Node:
        """x.flat at a vector of places; `rest` where there is a mask and it is not set."""
        b, kind, lanes, size = self.b, stored_element(x), places.lanes, x.dtype.itemsize
        pointers, whole, bits = f"<{lanes} x ptr>", type_text(kind, lanes), f"<{lanes} x i1>"
        at = "%" + b.fresh("at")
        b.do(f"{at} = getelementptr {type_text(kind, 1)}, ptr {self.pointers[x]}, {places}")
        function = f"@llvm.masked.gather.v{lanes}{kind}.v{lanes}p0"
        b.module.declare(f"declare {whole} {function}({pointers}, i32, {bits}, {whole})")
        mask = self.there(mask) or b.constant(1, "i1", lanes)
        y = b.write(f"call {whole} {function}({pointers} {at}, i32 {size}, {mask}, {b.constant(rest, kind, lanes)})", kind, lanes)
        return y.compare("ne", 0) if x.dtype == bool else y

    def there(self, mask: Node | None) -> Node | None:
        return self.mask if mask is None else mask if self.mask is None else mask & self.mask

    def any(self, mask: Node) -> Node:
        if mask.lanes == 1:
            return mask
        function = f"@llvm.vector.reduce.or.v{mask.lanes}i1"
        self.b.module.declare(f"declare i1 {function}({mask.type})")
        return self.b.write(f"call i1 {function}({mask})", "i1")

    def kind(self, x: Value) -> str:
        return element(x)

    def combine(self, name: str, x: Node, y: Node) -> Node:
        return combine(self.b, name, x, y)

    def store(self, x: Value, y: Node, index: Node) -> None:
        if x.dtype == bool:
            y = self.b.cast("zext", y, "i8")
        elif x.dtype == HALF:
            y = y.bits()
        at, size = self.address(x, index), x.dtype.itemsize
        if self.mask is None or y.lanes == 1:
            passing = y.lanes > 1 and x in self.group.passing
            self.b.do(f"store {y}, ptr {at}, align {16 if passing else size}" + (", !nontemporal !{i32 1}" if passing else ""))
            return
        function = f"@llvm.masked.store.v{y.lanes}{y.element}.p0"
        self.b.module.declare(f"declare void {function}({y.type}, ptr, i32, {self.mask.type})")
        self.b.do(f"call void {function}({y}, ptr {at}, i32 {size}, {self.mask})")


def stored_element(x: Value) -> str:
    return "i8" if x.dtype == bool else "i16" if x.dtype == HALF else element(x)


def combine(b: Body, name: str, x: Node, y: Node) -> Node:
    return x + y if name == "sum" else b.intrinsic("maximum" if name == "max" else "minimum", x, y)


def across(b: Body, op: Op, x: Node) -> Node:
    """The lanes of x in one; halves are added to halves, so that the order is the same everywhere."""
    while x.lanes > 2:
        half = x.lanes // 2
        low, high = (b.write(f"shufflevector {x}, {x.type} poison, <{half} x i32> <{', '.join(f'i32 {k}' for k in part)}>",
                             x.element, half) for part in (range(half), range(half, x.lanes)))
        x = combine(b, op.name, low, high)
    first, second = (b.write(f"extractelement {x}, i32 {k}", x.element) for k in (0, 1))
    return combine(b, op.name, first, second)
