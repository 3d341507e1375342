"""Why a function is compiled again: what in a call differs from the calls before."""
from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from gpugrad.arrays import is_array, short
from gpugrad.graph.tensor import Tensor
from gpugrad.trees import flatten

Call = dict[str, str]


def parameters(f: Callable, n: int) -> list[str]:
    """The names of a function's first n parameters; those of *args are numbered, those of a builtin are empty."""
    try:
        signature = inspect.signature(f).parameters
    except (TypeError, ValueError):
        return [""] * n
    names: list[str] = []
    for name, p in signature.items():
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{name}{i}" for i in range(n - len(names))]
        elif p.kind is not p.VAR_KEYWORD:
            names.append(name)
    return (names + [""] * n)[:max(n, len(names))]


def described(f: Callable, args: Sequence, kwargs: dict, static: frozenset[int], record: bool) -> Call:
    """What a program depends on of a call, argument by argument, in words."""
    found: Call = {}
    named = zip(parameters(f, len(args)), args, strict=False)
    for i, (name, value) in enumerate([*named, *kwargs.items()]):
        name = name or f"argument {i}"
        leaves = [value] if i in static and i < len(args) else flatten(value)[0]
        if len(leaves) != 1:
            found[f"the structure of {name}"] = f"{len(leaves)} leaves"
        for k, x in enumerate(leaves):
            found[name if len(leaves) == 1 else f"{name}[{k}]"] = kind(x)
    if not record:
        found["grad mode"] = "off"
    return found


def kind(x: Any) -> str:
    """What a program depends on of one argument."""
    if isinstance(x, Tensor):
        return f"Tensor {kind(x._data)}" + (" that needs a gradient" if x._node is not None else "")
    if isinstance(x, numpy.generic):
        return f"a {x.dtype} scalar"
    return f"{x.dtype}{list(x.shape)}" if is_array(x) else short(x)


def reason(call: Call, before: Sequence[Call]) -> str:
    """The difference from the most similar call before."""
    if not before:
        return "the first call"
    nearest = min(reversed(before), key=lambda old: len(changed(call, old)))
    differ = changed(call, nearest)
    if not differ:
        return "state outside the arguments changed: a gradient, an optimiser's options, or a Tensor that it reads"
    return "; ".join(f"{k}: {nearest.get(k, 'absent')} -> {call.get(k, 'absent')}" for k in differ)


def changed(a: Call, b: Call) -> list[str]:
    return [k for k in {**a, **b} if a.get(k) != b.get(k)]


def varying(calls: Sequence[Call]) -> str:
    """Which arguments differ between calls, with examples."""
    names = dict.fromkeys(k for a, b in zip(calls, calls[1:], strict=False) for k in changed(a, b))
    told = [f"{k} ({', '.join(list(dict.fromkeys(c.get(k, 'absent') for c in calls))[:3])}, …)" for k in names]
    return "; ".join(told) or "state outside the arguments"
