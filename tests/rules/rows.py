"""A row says how one primitive is tested: inputs, parameters, reference. `test_rules.py` runs every check on every row.

Each family has `rows_<family>.py` with ROWS = [Row("sin"), Row("log", sample=positive), ...].
"""
from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from gpugrad.graph.namespace import PRIMITIVES
from gpugrad.graph.primitive import Elementwise

Sampler = Callable[[np.random.Generator, tuple], Any]

UNARY_SHAPES = [(5,), (), (3, 4), (0, 3), (7, 1, 3)]
BINARY_SHAPES = [(5,), (), ((3, 1), (1, 4)), ((), (4,)), ((2, 3), ()), ((4,), (2, 1, 4)), (0, 3), ((0, 3), (1, 3))]


@dataclass(frozen=True)
class Row:
    """One primitive with one choice of parameters.

    name        the primitive's name on m
    label       tells rows of one primitive apart
    sample      sampler(rng, shape) for every input, or a tuple of one for each; it keeps away from kinks by 1e-3
    shapes      for each case the shape of all inputs, or a tuple of one shape for each; where it says nothing, the usual
    args        args(rng) -> the inputs themselves, instead of sample and shapes; ints and bools are not differentiated
    params      keyword arguments of the primitive
    ref         the same function in NumPy, called with the inputs and params; by default numpy.<name>
    wrt         numbers of the inputs to differentiate; by default all of a float or complex dtype
    complex_ok  also run with complex inputs
    order       2, or 1 where second derivatives are not defined
    smooth      False leaves out finite differences of the gradient: their step would cross a kink
    edges       ((inputs, gradients), ...): awkward points, and the derivative that is due there, exactly
    dtypes      the precisions to run; float64 is needed for finite differences
    keeps_dtype False where params choose the dtype of the result
    loose       multiplies every tolerance: say why
    contracted  multiplies that between raw and traced sweeps off the CPU: one kernel contracts a product and a sum, two do not
    """

    name: str
    label: str = ""
    sample: Sampler | tuple[Sampler, ...] | None = None
    shapes: Sequence[tuple] | None = None
    args: Callable[[np.random.Generator], tuple] | None = None
    params: dict = field(default_factory=dict)
    ref: Callable | None = None
    wrt: tuple[int, ...] | None = None
    complex_ok: bool = False
    order: int = 2
    smooth: bool = True
    edges: Sequence[tuple[tuple, tuple]] = ()
    dtypes: tuple[str, ...] = ("float64", "float32")
    keeps_dtype: bool = True
    loose: float = 1
    contracted: float = 1

    @property
    def id(self) -> str:
        return f"{self.name}-{self.label}" if self.label else self.name

    @property
    def primitive(self) -> Any:
        return PRIMITIVES[self.name]

    @property
    def reference(self) -> Callable:
        return self.ref or getattr(np, self.name)

    @property
    def inputs(self) -> int:
        """How many inputs there are to sample."""
        if isinstance(self.sample, tuple):
            return len(self.sample)
        if isinstance(self.primitive, Elementwise):
            return len(self.primitive.partials)
        return getattr(self.reference, "nin", 1)

    def cases(self, seed: int = 0) -> Iterator[tuple]:
        """The inputs of every case, as float64 arrays (ints, bools and complex numbers stay what they are)."""
        rng = np.random.default_rng((crc32(self.id.encode()), seed))
        if self.args:
            yield tuple(map(np.asarray, self.args(rng)))
            return
        n = self.inputs
        for shape in self.shapes or (UNARY_SHAPES if n == 1 else BINARY_SHAPES if n == 2 else UNARY_SHAPES[:4]):
            shapes = shape if shape and isinstance(shape[0], tuple) else (shape,) * n
            samplers = self.sample if isinstance(self.sample, tuple) else (self.sample or normal,) * n
            yield tuple(np.asarray(draw(rng, s)) for draw, s in zip(samplers, shapes, strict=True))

    def moving(self, args: tuple) -> tuple[int, ...]:
        """The numbers of the inputs that are differentiated."""
        return self.wrt if self.wrt is not None else tuple(i for i, x in enumerate(args) if x.dtype.kind in "fc")


# samplers --------------------------------------------------------------------------------------------------------------

def normal(rng, shape):
    return rng.normal(size=shape)


def positive(rng, shape):
    return rng.uniform(0.3, 3, size=shape)


def unit(rng, shape):
    """Inside (-1, 1)."""
    return rng.uniform(-0.9, 0.9, size=shape)


def above_one(rng, shape):
    return rng.uniform(1.2, 4, size=shape)


def nonzero(rng, shape):
    """Of either sign, at least 0.3 away from 0."""
    return rng.uniform(0.3, 3, size=shape) * rng.choice([-1.0, 1.0], size=shape)


def off_grid(rng, shape):
    """Away from integers and halves, where rounding functions jump."""
    return rng.integers(-4, 4, size=shape) + rng.choice([0.2, 0.3, 0.7, 0.8], size=shape)


def integers(low: int, high: int) -> Sampler:
    return lambda rng, shape: rng.integers(low, high, size=shape)


def booleans(rng, shape):
    return rng.random(size=shape) < 0.5


def all_rows() -> list[Row]:
    """The rows of every family beside this file."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("rows_*.py"))
    return [row for name in names for row in importlib.import_module(name).ROWS]
