"""The native functions that calls of a program name: `function(table, begin, end)`, each made of LLVM text. See runtime.py."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad.flat.llvm import Body, Module, Node, type_text

#: Running reductions, and what each begins with: -0.0 plus x is x, whatever its sign.
RUNNING: dict[str, tuple[float, Callable[[Node, Node], Node]]] = {
    "cumsum": (-0.0, lambda x, y: x + y), "cumprod": (1.0, lambda x, y: x * y)}
#: Rows whose sums run side by side, because each waits for the one before it; columns that are one vector.
ABREAST, LANES = 4, 16


def written() -> str:
    """The text of all native functions."""
    module = Module()
    for size in (1, 2, 4, 8):
        define(module, f"gg_copy{size}", copy, size)
    define(module, "gg_rows", rows)
    define(module, "gg_zero", zero)
    for element in ("f32", "f64"):
        for name in ("sum", "max", "min"):
            define(module, f"gg_{name}_{element}", fold, name, element)
        define(module, f"gg_gemm_{element}", gemm, element)
        for name in RUNNING:
            define(module, f"gg_{name}_rows_{element}", running_rows, name, element)
            define(module, f"gg_{name}_columns_{element}", running_columns, name, element)
    define(module, "gg_round", rounded)
    for element in ("i32", "i64"):
        define(module, f"gg_labels_{element}", labels, element)
    return module.text()


def define(module: Module, name: str, write: Callable[..., None], *given: Any) -> None:
    b = Body(module)
    write(b, *given)
    b.do("ret void")
    module.function(name, "void", "ptr %p, i64 %begin, i64 %end", b)


def word(b: Body, i: int, kind: str = "i64") -> Node:
    """Word i of the table."""
    at = "%" + b.fresh("at")
    b.do(f"{at} = getelementptr i64, ptr %p, i64 {i}")
    return b.write(f"load {kind}, ptr {at}", kind)


def at(b: Body, start: Node, offset: Node) -> Node:
    """The address `offset` bytes after start."""
    return b.write(f"getelementptr i8, {start}, {offset}", "ptr")


def bounds(b: Body) -> tuple[Node, Node]:
    return Node(b, "%begin", "i64", 1), Node(b, "%end", "i64", 1)


def each(b: Body, level: int, y: Node, x: Node, depth: int, inner: Callable[[Node, Node], None]) -> None:
    """Loops over four axes: the table has y, x, four lengths, the bytes from one to the next in y, and those in x."""
    if level == depth:
        inner(y, x)
        return
    with b.loop(b.constant(0, "i64"), word(b, 2 + level)) as loop:
        each(b, level + 1, at(b, y, loop.index * word(b, 6 + level)), at(b, x, loop.index * word(b, 10 + level)), depth, inner)


def copy(b: Body, size: int) -> None:
    """y = x, four axes of any strides."""
    kind = f"i{8 * size}"

    def inner(y: Node, x: Node) -> None:
        b.do(f"store {b.write(f'load {kind}, {x}, align {size}', kind)}, {y}, align {size}")
    each(b, 0, word(b, 0, "ptr"), word(b, 1, "ptr"), 4, inner)


def rows(b: Body) -> None:
    """y = x, where the last axis is so many bytes in a row."""
    b.module.declare("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")

    def inner(y: Node, x: Node) -> None:
        b.do(f"call void @llvm.memcpy.p0.p0.i64({y}, {x}, {word(b, 5)}, i1 false)")
    each(b, 0, word(b, 0, "ptr"), word(b, 1, "ptr"), 3, inner)


def zero(b: Body) -> None:
    """`end` bytes of y become 0."""
    b.module.declare("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
    b.do(f"call void @llvm.memset.p0.i64({word(b, 0, 'ptr')}, i8 0, i64 %end, i1 false)")


def fold(b: Body, name: str, element: str) -> None:
    """y = y + x, or the larger or smaller of the two: a thread's part joins another's."""
    y, x = word(b, 0, "ptr"), word(b, 1, "ptr")
    size = int(element[1:]) // 8
    with b.loop(*bounds(b)) as loop:
        here, there = at(b, y, loop.index * size), at(b, x, loop.index * size)
        one, other = (b.write(f"load {'float' if size == 4 else 'double'}, {place}", element) for place in (here, there))
        both = one + other if name == "sum" else b.intrinsic(name + "imum", one, other)
        b.do(f"store {both}, {here}")


def rounded(b: Body) -> None:
    """One float32 y from a float64 x."""
    x = b.write(f"load double, {word(b, 1, 'ptr')}", "f64")
    b.do(f"store {b.cast('fptrunc', x, 'f32')}, {word(b, 0, 'ptr')}")


def gemm(b: Body, element: str) -> None:
    """y = a @ b by cblas; the table: function, transposes (111 or 112), m, n, k, a, its row length, b, its, y, its."""
    function, ta, tb = word(b, 0, "ptr"), word(b, 1, "i32"), word(b, 2, "i32")
    m, n, k, a, lda, x, ldb, y, ldy = (word(b, i, "ptr" if i in (6, 8, 10) else "i64") for i in range(3, 12))
    one, nothing = b.constant(1.0, element), b.constant(0.0, element)
    arguments = ", ".join(map(str, (b.constant(101, "i32"), ta, tb, m, n, k, one, a, lda, x, ldb, nothing, y, ldy)))
    b.do(f"call void {function.name}({arguments})")


def labels(b: Body, element: str) -> None:
    """Word 0 of the table is where 1 goes if one of `begin` labels is not from 0 to end - 1; negative ones are large unsigned."""
    found, x = word(b, 0, "ptr"), word(b, 1, "ptr")
    count, classes = bounds(b)
    size = int(element[1:]) // 8
    with b.loop(b.constant(0, "i64"), count) as loop:
        wrong = loop.carry(b.constant(0, "i64"))
        label: Any = b.write(f"load {element}, {at(b, x, loop.index * size)}", element)
        label = label if size == 8 else b.cast("sext", label, "i64")
        loop.update(wrong, wrong | b.cast("zext", label.compare("uge", classes), "i64"))
    b.do(f"store {wrong}, {found}")


def element_at(b: Body, array: Node, index: Node, element: str, lanes: int = 1) -> tuple[Node, Callable[[], Node], str]:
    """(address, a function that loads what is there, its alignment)"""
    place = at(b, array, index * (int(element[1:]) // 8))
    aligned = f"align {int(element[1:]) // 8}"
    return place, lambda: b.write(f"load {type_text(element, lanes)}, {place}, {aligned}", element, lanes), aligned


def running_rows(b: Body, name: str, element: str) -> None:
    """y[r, i] = x[r, 0] + … + x[r, i] for rows r from begin to end; the table: y, x, the length of a row."""
    y, x, n = word(b, 0, "ptr"), word(b, 1, "ptr"), word(b, 2)
    begin, end = bounds(b)
    start, join = RUNNING[name]

    def rows_of(count: int, first: Node) -> None:
        with b.loop(b.constant(0, "i64"), n) as loop:
            totals = [loop.carry(b.constant(start, element)) for _ in range(count)]
            for k, total in enumerate(totals):
                index = (first + k) * n + loop.index
                _, load, aligned = element_at(b, x, index, element)
                new = join(total, load())
                b.do(f"store {new}, {element_at(b, y, index, element)[0]}, {aligned}")
                loop.update(total, new)
    whole = begin + ((end - begin) & -ABREAST)
    with b.loop(begin, whole, ABREAST) as several:
        rows_of(ABREAST, several.index)
    with b.loop(whole, end) as one:
        rows_of(1, one.index)


def running_columns(b: Body, name: str, element: str) -> None:
    """y[p, i, q] = x[p, 0, q] + … + x[p, i, q] for columns q from begin to end; the table: y, x, and the three lengths."""
    y, x, outer, n, behind = word(b, 0, "ptr"), word(b, 1, "ptr"), word(b, 2), word(b, 3), word(b, 4)
    begin, end = bounds(b)
    _, join = RUNNING[name]

    def across(row: Node, before: Node | None) -> None:
        def part(column: Node, lanes: int) -> None:
            _, load, aligned = element_at(b, x, row + column, element, lanes)
            new = load() if before is None else join(element_at(b, y, before + column, element, lanes)[1](), load())
            b.do(f"store {new}, {element_at(b, y, row + column, element)[0]}, {aligned}")
        whole = begin + ((end - begin) & -LANES)
        with b.loop(begin, whole, LANES) as wide:
            part(wide.index, LANES)
        with b.loop(whole, end) as one:
            part(one.index, 1)
    with b.loop(b.constant(0, "i64"), outer) as block:
        first = block.index * n * behind
        across(first, None)
        with b.loop(b.constant(1, "i64"), n) as loop:
            row = first + loop.index * behind
            across(row, row - behind)
