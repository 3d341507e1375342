"""Readings, as LLVM instructions for a vector of elements of the result.

`w` is the Writer of the loop nest (loops.py), `column` and `place` the first element's, in its row and in the whole result.
"""
from __future__ import annotations

from typing import Any

from gpugrad.flat import reads
from gpugrad.flat.ir import Op, Value
from gpugrad.flat.llvm import Body, Node

START = {"sum": 0.0, "max": float("-inf"), "min": float("inf")}


def read(w: Any, op: Op, how: reads.Reading, get: Any, column: Node, place: Node) -> Node:
    """The elements of op's result from `place` on."""
    outer, inner = coordinates(w, how.sizes, column, place)
    if isinstance(how, reads.View):
        return along(w, op.args[0], summed(w.b, how.offset, outer, how.steps), inner, how.steps[-1])
    if isinstance(how, reads.Placed):
        return boxes(w, op, how, get, outer, inner)
    if isinstance(how, reads.Gathered):
        return gathered(w, op, how, outer, inner)
    if isinstance(how, reads.Chained):
        return chained(w, op, how, outer, inner)
    if isinstance(how, reads.Overlaid):
        return overlaid(w, op, how, get, outer, inner)
    if isinstance(how, reads.Folded):
        return folded(w, op, how, outer, inner)
    offset = w.numbers(inner) - w.b.splat(outer[-1], w.lanes)
    inside = offset.compare("sle" if how.lower else "sge", how.k)
    return inside.where(get(op.args[0]), 0.0 if get(op.args[0]).is_float else 0)


def coordinates(w: Any, sizes: reads.Sizes, column: Node, place: Node) -> tuple[list[Node], Node]:
    """(place in each outer axis, place in the innermost axis) of the first element."""
    if len(sizes) == 1:
        return [], place
    last = sizes[-1]
    if w.group.cols == last:
        rest, inner = w.row_index, column
    else:
        base = w.row_index * w.group.cols
        rest, inner = base.op("udiv", last), base.op("urem", last) + column
    outer: list[Node] = []
    for size in sizes[-2:0:-1]:
        outer.insert(0, rest.op("urem", size))
        rest = rest.op("udiv", size)
    return [rest, *outer], inner


def summed(b: Body, offset: int, places: list[Node], steps: tuple[int, ...]) -> Node:
    total = b.constant(offset, "i64")
    for x, step in zip(places, steps, strict=False):
        if step:
            total = total + x * step
    return total


def along(w: Any, x: Value, start: Node, inner: Node, step: int) -> Node:
    """x.flat[start + inner * step], x.flat[start + (inner + 1) * step], …"""
    if step == 0:
        return w.b.splat(w.load(x, start, 1), w.lanes)
    if step == 1:
        return w.load(x, start + inner, w.lanes)
    return w.pick(x, w.numbers(inner) * step + w.b.splat(start, w.lanes))


def boxes(w: Any, op: Op, how: reads.Placed, get: Any, outer: list[Node], inner: Node) -> Node:
    b, y = w.b, op.outputs[0]
    kind = get(op.args[0]).element if how.rest is None else w.kind(y)
    result = get(op.args[0]) if how.rest is None else b.constant(how.rest, kind, w.lanes)
    for piece in how.pieces:
        inside: Node | None = None
        for at, start, length, size in zip(outer, piece.starts, piece.lengths, how.sizes, strict=False):
            if length < size:
                condition = (at - start).compare("ult", length)
                inside = condition if inside is None else inside & condition
        mask = b.splat(inside, w.lanes) if inside is not None else None
        start, length = piece.starts[-1], piece.lengths[-1]
        if length < how.sizes[-1]:
            there = (w.numbers(inner) - start).compare("ult", length)
            mask = there if mask is None else mask & there
        x = op.args[piece.arg]
        places = [at - begin for at, begin in zip(outer, piece.starts, strict=False)]
        if not isinstance(x, Value):
            value = b.constant(x, kind, w.lanes)
        elif not piece.steps[-1]:
            value = b.splat(w.load(x, b.constant(0, "i64"), 1), w.lanes)
        else:
            value = w.load(x, summed(b, 0, places, piece.steps[:-1]) + inner - start, w.lanes, mask)
        result = value if mask is None else mask.where(value, result)
    return result


def gathered(w: Any, op: Op, how: reads.Gathered, outer: list[Node], inner: Node) -> Node:
    """A row number for each row, or for each element where rows have one."""
    b, (x, rows) = w.b, op.args
    before, n, behind = how.shape
    *first, last = [*outer, inner] if behind == 1 else outer
    start = first[0] * (n * behind) if before > 1 else b.constant(0, "i64")
    if behind == 1:
        return w.pick(x, w.load(rows, last, w.lanes) + b.splat(start, w.lanes))
    return w.load(x, start + w.load(rows, last, 1) * behind + inner, w.lanes)


def folded(w: Any, op: Op, how: reads.Folded, outer: list[Node], inner: Node) -> Node:
    """One loop for each axis that goes, innermost in memory last."""
    b, x = w.b, op.args[0]
    start = summed(b, 0, outer, how.steps)
    total = b.constant(START[op.params["how"]], w.kind(x), w.lanes)
    return fold_axes(w, op, list(zip(how.inner, how.inner_steps, strict=True)), start, inner, how.steps[-1], total)


def fold_axes(w: Any, op: Op, axes: list[tuple[int, int]], start: Node, inner: Node, step: int, total: Node) -> Node:
    b, ((size, jump), *rest) = w.b, axes
    with b.loop(b.constant(0, "i64"), b.constant(size, "i64")) as loop:
        carried = loop.carry(total)
        here = start + loop.index * jump
        if rest:
            new = fold_axes(w, op, rest, here, inner, step, carried)
        else:
            new = w.combine(op.params["how"], carried, along(w, op.args[0], here, inner, step))
        loop.update(carried, new)
    return carried


# chains ----------------------------------------------------------------------------------------------------------------

def chained(w: Any, op: Op, how: reads.Chained, outer: list[Node], inner: Node) -> Node:
    """Elements of one row share a chain, which is a number; else each has its own, all are followed until the last ends."""
    b, (g, chain) = w.b, op.args
    before, count, behind = how.shape
    targets = chain.size - count
    *first, last = [*outer, inner] if behind == 1 else outer
    start = first[0] * (count * behind) if before > 1 else b.constant(0, "i64")
    if behind > 1:
        return follow(w, g, chain, w.load(chain, last, 1), targets,
                      lambda i, _: w.load(g, start + i * behind + inner, w.lanes))
    link = w.load(chain, last, w.lanes)
    link = link if w.mask is None else w.mask.where(link, -1)
    return follow(w, g, chain, link, targets, lambda i, alive: w.pick(g, i + b.splat(start, w.lanes), alive))


def overlaid(w: Any, op: Op, how: reads.Overlaid, get: Any, outer: list[Node], inner: Node) -> Node:
    b, (_, v, last) = w.b, op.args
    before, count, behind = how.shape
    *first, place = [*outer, inner] if behind == 1 else outer
    start = first[0] * (count * behind) if before > 1 else b.constant(0, "i64")
    at = w.load(last, place, 1 if behind > 1 else w.lanes)
    there = b.splat(at.compare("sge", 0), w.lanes)
    if not isinstance(v, Value):
        return there.where(get(op.args[0]).like(v), get(op.args[0]))
    at = b.cast("sext", at, "i64")
    if behind > 1:
        new = w.load(v, start + at * behind + inner, w.lanes, there)
    else:
        new = w.pick(v, at + b.splat(start, w.lanes), there)
    return there.where(new, get(op.args[0]))


def follow(w: Any, g: Value, chain: Value, link: Node, targets: int, value: Any) -> Node:
    """The sum of value(i) over a chain that begins with `link`, whose further links stand behind the `targets` firsts."""
    b, before = w.b, w.b.label
    head, inside, done = b.fresh("head"), b.fresh("link"), b.fresh("done")
    total, at = (Node(b, "%" + b.fresh("c"), kind, lanes) for kind, lanes in ((w.kind(g), w.lanes), ("i32", link.lanes)))
    b.do(f"br label %{head}")
    b.mark(head)
    phis = len(b.lines)
    b.do("")
    alive = at.compare("sge", 0)
    b.do(f"br {w.any(alive)}, label %{inside}, label %{done}")
    b.mark(inside)
    i = b.cast("sext", at, "i64")
    x = value(i, alive)
    following = w.pick(chain, i + targets, alive, -1) if link.lanes > 1 else w.load(chain, i + targets, 1)
    new = total + x
    end = b.label
    b.do(f"br label %{head}")
    zero = b.constant(0, w.kind(g), w.lanes)
    b.lines[phis] = "\n".join(f"  {x.name} = phi {x.type} [ {first.name}, %{before} ], [ {last.name}, %{end} ]"
                              for x, first, last in ((total, zero, new), (at, link, following)))
    b.mark(done)
    return total


def turned(b: Body, rows: str, out: str, count: int, targets: int, linked: bool) -> None:
    """For the targets from %begin to %end: their chains, from the last row number to the first; or the last place of each."""
    begin, end = Node(b, "%begin", "i64", 1), Node(b, "%end", "i64", 1)

    def at(array: str, kind: str, index: Node) -> str:
        name = "%" + b.fresh("at")
        b.do(f"{name} = getelementptr {kind}, ptr {array}, {index}")
        return name
    with b.loop(begin, end) as loop:
        b.do(f"store i32 -1, ptr {at(out, 'i32', loop.index)}")
    with b.loop(b.constant(0, "i64"), b.constant(count, "i64")) as loop:
        i = b.constant(count - 1, "i64") - loop.index if linked else loop.index
        row = b.write(f"load i64, ptr {at(rows, 'i64', i)}", "i64")
        ours = row.compare("sge", begin) & row.compare("slt", end)
        mine, done = b.fresh("mine"), b.fresh("done")
        b.do(f"br {ours}, label %{mine}, label %{done}")
        b.mark(mine)
        first = at(out, "i32", row)
        if linked:
            old = b.write(f"load i32, ptr {first}", "i32")
            b.do(f"store {old}, ptr {at(out, 'i32', i + targets)}")
        b.do(f"store {b.cast('trunc', i, 'i32')}, ptr {first}")
        b.do(f"br label %{done}")
        b.mark(done)
