"""The kernel of a group: generated from its formulas, one launch.

A group without reductions is an `Elementwise` of kernels/elementwise.py. One with reductions over its last axes is a kernel whose
threads go over a row once for each reduction that waits for another, and once more for what is stored; a row that was read stays
in the cache. Sums are taken in an order that the launch shape fixes.
"""
from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from gpugrad.arrays import module_of
from gpugrad.flat.cuda_fuse import REDUCTIONS, Group
from gpugrad.flat.formulas import expression_of
from gpugrad.flat.ir import Op, Value
from gpugrad.kernels.elementwise import Elementwise, pointers, scalars
from gpugrad.kernels.expression import Body, Expression, Leaf, Number
from gpugrad.kernels.launch import launch
from gpugrad.kernels.load import Source

WARP_ROW = 1024                   # columns up to which a warp takes a row
FOLDS = {"sum": ("A(0)", "{0} += {1}", "Add{{}}"), "max": ("-infinity<A>()", "{0} = larger({0}, {1})", "Most{{}}"),
         "min": ("infinity<A>()", "{0} = smaller({0}, {1})", "Least{{}}")}
LOOKS = frozenset(("reshape", "alias", "spread"))


def kernel_of(group: Group, stored: list[Value], numbers: dict[Value, float]) -> Callable[[dict[Value, Any]], list]:
    """run(array of each value that is read) -> arrays of the stored values. numbers: constants that are one number."""
    formulas = Formulas(group, numbers)
    if group.tail:
        return RowKernel(group, formulas, stored)
    kernel = Elementwise(name_of(group), [formulas.of(y) for y in stored])
    names, shape = formulas.names, group.shape

    def run(arrays: dict[Value, Any]) -> list:
        return kernel({name: arrays[x] for x, name in names.items() if name in kernel.inputs}, shape)
    return run


def name_of(group: Group) -> str:
    """What the launch log calls it: its first and last operations."""
    names = [op.name for op in group.ops if op.name not in LOOKS]
    shown = names if len(names) < 4 else [names[0], names[1], names[-1]]
    return re.sub(r"\W", "_", "_".join(["fused", *shown]))


class Formulas:
    """The Expression of each value of a group. Arrays are Leafs x0, x1, ...; a row's numbers are r0, r1, ..."""

    def __init__(self, group: Group, numbers: dict[Value, float]):
        self.names: dict[Value, str] = {}
        self.rows: dict[Value, str] = {}
        self.known: dict[Value, Expression] = {}
        for x in group.read:
            if x in numbers:
                self.known[x] = Number(numbers[x])
            else:
                self.names[x] = f"x{len(self.names)}"
                self.known[x] = Leaf(self.names[x])
        self.own: dict[Value, Expression] = {}               # of a row's numbers that are formulas of others
        for op in group.ops:
            y = op.outputs[0]
            if group.made[y] == "R":
                self.rows[y] = f"r{len(self.rows)}"
                if op.name not in REDUCTIONS:
                    self.own[y] = self.known[op.args[0]] if op.name == "reshape" else self.written(op)
                self.known[y] = Leaf(self.rows[y])
            else:
                self.known[y] = self.written(op)

    def written(self, op: Op) -> Expression:
        found = expression_of(op, self.of)
        return found if isinstance(found, Expression) else Number(float(found))

    def of(self, x: Value) -> Expression:
        return self.known[x]


class RowKernel:
    """A kernel over rows. Pass by pass: the reductions that can be done, then what follows from them for the row."""

    def __init__(self, group: Group, formulas: Formulas, stored: list[Value]):
        self.group, self.formulas, self.stored = group, formulas, stored
        self.numbers: list[float] = []
        self.arrays = list(formulas.names)
        self.kinds = {formulas.names[x]: group.kind(x, group.tail) for x in self.arrays}
        self.name = name_of(group)
        self.flops = 0
        text = self.text()
        self.source = row_source(self.name, text)

    def __call__(self, arrays: dict[Value, Any]) -> list:
        given = [arrays[x] for x in self.arrays]
        xp = module_of(given[0])
        given = [xp.ascontiguousarray(x) for x in given]
        outs = [xp.empty(y.shape, y.dtype) for y in self.stored]
        rows, cols = self.group.rows, self.group.cols
        block = (32, 8) if cols <= WARP_ROW else (256, 1)
        launch(self.source, self.name, (self.group.dtype,), -(-rows // block[1]), block,
               (*given, *outs, rows, cols, *self.numbers), flops=self.flops * rows * cols)
        return outs

    def text(self) -> str:
        passes = self.passes()
        parts = [self.row_values(None)]
        levels = self.levels()
        for number, found in enumerate(passes):
            parts.append(self.loop(found))
            parts.append(self.row_values({y for y, level in levels.items() if level == number + 1}))
        names = [self.formulas.names[x] for x in self.arrays]
        outs = [f"out{i}" for i in range(len(self.stored))]
        casts = "".join(f"  const A _c{k} = A(c{k});\n" for k in range(len(self.numbers)))
        stores = "".join(f"    {out}[row] = T({self.formulas.rows[y]});\n" for out, y in zip(outs, self.stored, strict=True)
                         if self.group.made[y] == "R")
        return f"""#include "elementwise.cuh"

struct Most {{ template <typename A> __device__ A operator()(A a, A b) const {{ return larger(a, b); }} }};
struct Least {{ template <typename A> __device__ A operator()(A a, A b) const {{ return smaller(a, b); }} }};

template <typename T>
__global__ void __launch_bounds__(256)
    {self.name}({pointers(names, outs)}, long long rows, int cols{scalars(len(self.numbers))}) {{
  using A = acc_t<T>;
  __shared__ A room[32];
{casts}  const long long row = static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= rows) return;                                    // whole warps, and only where a row is a warp's
{"".join(parts)}  if (threadIdx.x == 0) {{
{stores}  }}
}}
"""

    # the passes ------------------------------------------------------------------------------------------------------------

    def levels(self) -> dict[Value, int]:
        """The pass before which each value of the group can be had."""
        level: dict[Value, int] = {}
        for op in self.group.ops:
            y = op.outputs[0]
            first = max((level.get(x, 0) for x in op.values), default=0)
            level[y] = first + (op.name in REDUCTIONS)
        return level

    def passes(self) -> list[Pass]:
        level = self.levels()
        count = 1 + max(level.values())
        found = [Pass([], []) for _ in range(count)]
        for op in self.group.ops:
            if op.name in REDUCTIONS:
                found[level.get(op.args[0], 0)].reductions.append(op)
        for i, y in enumerate(self.stored):
            if self.group.made[y] == "F":
                found[level[y]].stores.append((i, y))
        return found

    def loop(self, found: Pass) -> str:
        """One pass over the row."""
        if not found.reductions and not found.stores:
            return ""
        formulas = self.formulas
        body = Body([*(formulas.of(op.args[0]) for op in found.reductions), *(formulas.of(y) for _, y in found.stores)])
        loads = "".join(f"    const A {x} = A({x}_[{'base + c' if self.kinds[x] == 'F' else 'c'}]);\n" for x in body.inputs
                        if self.kinds.get(x) in ("F", "C"))
        lines = self.renumbered(body)
        starts, steps, ends = [], [], []
        for op, result in zip(found.reductions, body.results, strict=False):
            name = formulas.rows[op.outputs[0]]
            start, step, fold = FOLDS[op.name]
            starts.append(f"  A {name} = {start};\n")
            steps.append(f"    {step.format(name, self.renamed(result))};\n")
            ends.append(f"  {name} = row_fold({name}, {fold.format()}, room);\n")
        for (i, _), result in zip(found.stores, body.results[len(found.reductions):], strict=True):
            steps.append(f"    out{i}[base + c] = T({self.renamed(result)});\n")
        self.numbers += body.numbers
        return (f"{''.join(starts)}  for (int c = threadIdx.x; c < cols; c += blockDim.x) {{\n"
                f"    const long long base = row * cols;\n{loads}{lines}{''.join(steps)}  }}\n{''.join(ends)}")

    def row_values(self, wanted: set[Value] | None) -> str:
        """What is one number a row: read from memory where wanted is None, else computed from others."""
        formulas = self.formulas
        if wanted is None:
            found = {name: "row" if k == "R" else "0" for name, k in self.kinds.items() if k in ("R", "S")}
            return "".join(f"  const A {name} = A({name}_[{at}]);\n" for name, at in found.items())
        text = ""
        for op in self.group.ops:
            y = op.outputs[0]
            if y in formulas.own and y in wanted:
                body = Body([formulas.own[y]])
                lines = self.renumbered(body, "    ")
                text += f"  A {formulas.rows[y]};\n  {{\n{lines}    {formulas.rows[y]} = {self.renamed(body.results[0])};\n  }}\n"
                self.numbers += body.numbers
        return text

    def renumbered(self, body: Body, indent: str = "    ") -> str:
        """The statements, with their numbers behind those that the kernel has already."""
        self.flops += len(body.lines)
        return "".join(f"{indent}{self.renamed(line)}\n" for line in body.lines)

    def renamed(self, text: str) -> str:
        return re.sub(r"\b_c(\d+)\b", lambda m: f"_c{len(self.numbers) + int(m[1])}", text)


class Pass(NamedTuple):
    """What one pass over a row does: reductions, and (place, value) of what it stores."""

    reductions: list[Op]
    stores: list[tuple[int, Value]]


@functools.lru_cache(maxsize=1024)
def row_source(name: str, text: str) -> Source:
    return Source(f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.cu", text=text)
