"""The picture of a compiled program: what it does step by step, each fused group a frame round its operations."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpugrad.draw import Edge, Picture, collapse
from gpugrad.draw import Node as Drawn
from gpugrad.draw.trace import SYMBOLS
from gpugrad.kernels.record import scaled

INSIDE = 40                        # operations of a group that are drawn; longer ones are folded


def picture(program: Any) -> Picture:
    """A node for each argument, step and result; lines are arrays, with their shapes."""
    graph = program.graph
    names = dict(zip(graph.inputs, program.names, strict=False))
    labels = {v: names.get(v) or "state" for v in graph.inputs} | dict.fromkeys(graph.constants, "constant")
    kernels = program.kernels
    made = {y: k.number for k in kernels for y in k.writes}
    labels |= dict.fromkeys([x for k in kernels for x in k.reads if x not in made and x not in labels], "constant")
    used = {x for k in kernels for x in k.reads} | set(graph.outputs)
    nodes = [Drawn(v, labels[v], "leaf" if v in names or labels[v] == "state" else "constant", shape(v), summary(v))
             for v in labels if v in used]
    edges = []
    for k in kernels:
        nodes.append(step(k, labels, made))
        edges += [edge(made.get(x, x), k.number, x) for x in k.reads]
    known = {node.id for node in nodes}
    for i, v in enumerate(graph.outputs):
        source = made.get(v, v)
        if source in known:
            label = f"result {i}" if len(graph.outputs) > 1 else "result"
            nodes.append(Drawn(("result", i), label, "output", shape(v), summary(v)))
            edges.append(edge(source, ("result", i), v))
    return Picture(nodes, [e for e in edges if e.source in known], title=f"{program.name}, {program.backend}")


def step(kernel: Any, labels: dict, made: dict) -> Drawn:
    """A single operation as a circle, a group as a frame."""
    detail = "\n".join([f"step {kernel.number}: {scaled(kernel.bytes, 'B')}, {scaled(kernel.flops, 'flop')}, "
                        f"{kernel.time_us:.3g} us modelled", *lines(kernel.ops)])
    if len(kernel.ops) == 1:
        op = kernel.ops[0]
        return Drawn(kernel.number, SYMBOLS.get(op.name, op.name), "op", "backward" if op.forward else "", detail)
    return Drawn(kernel.number, f"{kernel.number}: {len(kernel.ops)} operations", "group", "", detail, len(kernel.ops),
                 inside(kernel, labels, made))


def inside(kernel: Any, labels: dict, made: dict) -> Picture:
    """The operations of a group, and what comes in from outside, by name or by the number of its step."""
    own = {y: op for op in kernel.ops for y in op.outputs}
    nodes, edges, seen = [], [], set()
    for op in kernel.ops:
        for x in op.values:
            if x not in own and x not in seen:
                seen.add(x)
                source = x
                while source not in labels and source not in made and source.op is not None:       # a view
                    source = source.op.args[0]
                label = f"from {made[source]}" if source in made else labels.get(source, "constant")
                nodes.append(Drawn(x, label, "constant", shape(x), summary(x)))
        numbers = [repr(x) for x in op.args if isinstance(x, int | float | complex)]
        nodes.append(Drawn(op, " ".join([SYMBOLS.get(op.name, op.name), *numbers]), "op", "", "\n".join(lines([op]))))
        edges += [Edge(own.get(x, x), op, detail=summary(x)) for x in op.values]
    return collapse(Picture(nodes, edges), INSIDE)


def lines(ops: Any) -> Iterator[str]:
    """The operations with the user's lines that asked for them."""
    for op in ops:
        yield f"{op!r}" + (f"    {op.line}" if op.line else "")


def edge(source: Any, target: Any, v: Any) -> Edge:
    return Edge(source, target, shape=shape(v) or None, detail=summary(v))


def shape(v: Any) -> str:
    return str(v.shape) if v.shape not in ((), (1,)) else ""


def summary(v: Any) -> str:
    return f"{v.shape} {v.dtype}, {scaled(v.nbytes, 'B')}"
