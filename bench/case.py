"""What is measured: cases (timed steps) and gauges (numbers that measure themselves, such as bytes held).

A case states its inputs, its cost and how each library writes it; the libraries stand side by side in one file:

    CASE = Case(name="w06_matmul", title=..., params={"n": 1024}, small={"n": 8}, inputs=..., outputs=("y", "da", "db"))

    @CASE.variant("torch", "torch-compile")
    def torch_matmul(peer, d):
        ...
        return step            # or (step, read), where read(result) finds the outputs after a step

`d` holds the case's parameters and its own fresh copy of the inputs, as NumPy arrays.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from gpugrad.errors import ArgumentError

REGISTRY: dict[str, "Case | Gauge"] = {}


def register(entry: "Case | Gauge") -> None:
    """Enter a case or gauge under its name, once."""
    if entry.name in REGISTRY:
        raise ArgumentError(f"bench: expected a new case name, got {entry.name!r} twice. Rename one of them.")
    REGISTRY[entry.name] = entry


def zero(d: SimpleNamespace) -> float:
    return 0.0


@dataclass
class Case:
    """A timed step, with a hand-written NumPy variant ("numpy") that serves as reference when run in float64."""

    name: str  # "w03_mlp": number, then a word; either part selects it
    title: str
    params: dict[str, Any]
    small: dict[str, Any]  # the same case in miniature, for tests and for warming a library up
    inputs: Callable[[SimpleNamespace, np.random.Generator], dict[str, Any]]  # (params, rng) -> arrays by name
    outputs: tuple[str, ...]  # what a step's outputs are called
    dtype: str = "float32"
    terms: Callable[[SimpleNamespace], float | Iterable[float]] = lambda d: 1.0  # roundings to an output; see verify.py
    bytes: Callable[[SimpleNamespace], float] = zero  # that have to be moved: inputs once, outputs once
    flops: Callable[[SimpleNamespace], float] = zero
    per: Callable[[SimpleNamespace], int] = lambda d: 1  # parts a step has; the time is reported per part
    part: str = "step"
    variants: dict[str, Callable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        register(self)

    def variant(self, *peers: str) -> Callable[[Callable], Callable]:
        """Decorator: the function builds this case's step for these peers."""

        def enter(build: Callable) -> Callable:
            for peer in peers:
                if peer in self.variants:
                    raise ArgumentError(f"bench: expected one {peer} variant of {self.name}, got two. Remove one.")
                self.variants[peer] = build
            return build

        return enter

    def data(self, seed: int = 0, small: bool = False, dtype: str | None = None) -> SimpleNamespace:
        """Parameters and fresh inputs; the same seed gives the same numbers, in `dtype` where they are floating."""
        params = SimpleNamespace(**(self.params | self.small if small else self.params))
        arrays = self.inputs(params, np.random.default_rng(seed))
        return SimpleNamespace(**vars(params), **{name: cast(value, dtype or self.dtype) for name, value in arrays.items()})

    def build(self, peer: Any, d: SimpleNamespace) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """The step of one peer on these inputs, and the function that reads the outputs from its result."""
        built = self.variants[peer.name](peer, d)
        return built if isinstance(built, tuple) else (built, lambda result: result)

    def expected(self, seed: int = 0, small: bool = False) -> list[np.ndarray]:
        """The reference: the hand-written NumPy step in float64, from the inputs as rounded to the case's dtype."""
        d = self.data(seed, small)
        exact = SimpleNamespace(**{name: cast(value, "float64") for name, value in vars(d).items()})
        built = self.variants["numpy"](SimpleNamespace(name="numpy"), exact)
        step, read = built if isinstance(built, tuple) else (built, lambda result: result)
        return [np.asarray(a, dtype=np.float64) for a in leaves(read(step()))]


@dataclass
class Gauge:
    """A number that is not the time of a step: bytes held, time per node, milliseconds of import.

    readings    peer name -> function of the params that returns the number, in `unit`
    better      "lower" for every gauge so far
    """

    name: str
    title: str
    unit: str
    params: dict[str, Any] = field(default_factory=dict)
    small: dict[str, Any] = field(default_factory=dict)
    method: str = ""  # how it is measured, for the report's footnotes
    readings: dict[str, Callable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        register(self)

    def reading(self, *peers: str) -> Callable[[Callable], Callable]:
        """Decorator: the function (peer, params) -> number measures this gauge for these peers."""

        def enter(read: Callable) -> Callable:
            self.readings.update(dict.fromkeys(peers, read))
            return read

        return enter


def cast(value: Any, dtype: str) -> Any:
    """Floating arrays in `dtype`, lists and tuples of them too; everything else as it is."""
    if isinstance(value, list | tuple):
        return type(value)(cast(v, dtype) for v in value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(dtype)
    return value


def leaves(tree: Any) -> list[Any]:
    """The arrays of nested tuples, lists and dicts, left to right."""
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in leaves(value)]
    if isinstance(tree, list | tuple):
        return [leaf for value in tree for leaf in leaves(value)]
    return [tree]


def select(wanted: Iterable[str] = ()) -> list["Case | Gauge"]:
    """The cases and gauges of these names, cases first and in their numbers' order. Without names: all of them.

    A name is whole ("w03_mlp"), or the case's number ("w3", "W03"), or its words ("mlp").

    Raises ArgumentError for a name that nothing bears.
    """
    wanted = list(wanted)
    chosen = set()
    for word in wanted:
        found = [name for name in REGISTRY if bears(name, word)]
        if not found:
            raise ArgumentError(f"bench: no case named {word!r}. Choose from {', '.join(REGISTRY)}.")
        chosen.update(found)
    entries = [entry for name, entry in REGISTRY.items() if not wanted or name in chosen]
    cases = sorted((e for e in entries if isinstance(e, Case)), key=lambda e: e.name)
    return [*cases, *(e for e in entries if not isinstance(e, Case))]


def bears(name: str, word: str) -> bool:
    """Whether `word` names the case: "w3" and "mlp" both name "w03_mlp"; a gauge has its whole name only."""
    numbered = re.fullmatch(r"(w0*(\d+[a-z]?))_(.*)", name)
    names = [name, numbered[1], "w" + numbered[2], numbered[3]] if numbered else [name]
    return word.lower() in map(str.lower, names)
