"""Trees of values: lists, tuples, named tuples, dicts, dataclasses and None, nested in any way; anything else is a leaf."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad.errors import ArgumentError

#: Levels of containers, beyond which a tree is taken for endless.
DEEPEST = 100


def flatten(tree: Any) -> tuple[list, Callable[[list], Any]]:
    """The leaves of a tree, in a fixed order, and the function that builds the same tree from other leaves."""
    leaves: list = []
    spec = describe(tree, leaves)
    return leaves, lambda values: _build(spec, iter(values))


def map_tree(function: Callable, tree: Any, *others: Any) -> Any:
    """The tree of function(leaf, other leaves...); ArgumentError where the trees differ in structure."""
    leaves, build = flatten(tree)
    columns = [leaves, *(flatten_like(tree, other) for other in others)]
    return build([function(*row) for row in zip(*columns, strict=True)])


def flatten_like(tree: Any, other: Any, op: str = "tree") -> list:
    """The leaves of `other`, which must have the structure of `tree`."""
    mine: list = []
    theirs: list = []
    expected, got = describe(tree, mine), describe(other, theirs)
    if expected != got:
        raise ArgumentError(f"{op}: expected the structure {_show(expected)}, got {_show(got)}. "
                            "Pass a tree with the same containers.")
    return theirs


def stretched(prefix: Any, tree: Any, op: str) -> list:
    """For each leaf of the tree what stands above it in `prefix`, a tree of lists, tuples and dicts that may end earlier."""
    if not isinstance(prefix, list | tuple | dict):
        return [prefix] * len(flatten(tree)[0])
    if isinstance(prefix, dict):
        fits = isinstance(tree, dict) and prefix.keys() == tree.keys()
        pairs = [(prefix[k], tree[k]) for k in tree] if fits else []
    else:
        fits = isinstance(tree, list | tuple) and len(prefix) == len(tree)
        pairs = list(zip(prefix, tree, strict=True)) if fits else []
    if not fits:
        raise ArgumentError(f"{op}, got {prefix!r} for {_show(describe(tree, []))}. Give one value, or one for each part.")
    return [x for pair in pairs for x in stretched(*pair, op)]


def describe(tree: Any, leaves: list) -> Any:
    """A hashable description of the containers; appends the leaves."""
    try:
        return _describe(tree, leaves)
    except RecursionError as error:
        if not deep(tree):                                # the calls are nested, not the tree
            raise
        raise ArgumentError(f"tree: expected containers that end, got more than {DEEPEST} levels, as of one inside itself. "
                            "Pass the arrays in a list.") from error


def deep(tree: Any) -> bool:
    """Whether there are more levels of lists, tuples and dicts than a program would nest."""
    level = [tree] if isinstance(tree, list | tuple | dict) else []
    for _ in range(DEEPEST):
        inside = [x for t in level for x in (t.values() if isinstance(t, dict) else t) if isinstance(x, list | tuple | dict)]
        level = list({id(x): x for x in inside}.values())
    return bool(level)


def _describe(tree: Any, leaves: list) -> Any:
    if tree is None:
        return None
    kind = type(tree)
    if kind in (list, tuple):
        return kind, tuple([_describe(x, leaves) for x in tree])
    if isinstance(tree, tuple) and hasattr(kind, "_fields"):
        return kind, tuple([_describe(x, leaves) for x in tree])
    if isinstance(tree, dict):
        keys = list(tree)
        return kind, tuple(keys), tuple([_describe(tree[k], leaves) for k in keys])
    if hasattr(kind, "__dataclass_fields__"):
        from dataclasses import fields  # who has a dataclass has paid for it
        names = tuple(f.name for f in fields(tree))
        return kind, names, tuple([_describe(getattr(tree, n), leaves) for n in names])
    leaves.append(tree)
    return LEAF


class _Leaf:
    def __repr__(self) -> str:
        return "*"


LEAF = _Leaf()


def _build(spec: Any, values: Any) -> Any:
    if spec is None:
        return None
    if spec is LEAF:
        return next(values)
    kind, parts = spec[0], spec[-1]
    built = [_build(p, values) for p in parts]
    if len(spec) == 2:
        return kind(*built) if hasattr(kind, "_fields") else kind(built)
    if issubclass(kind, dict):
        return kind(zip(spec[1], built, strict=True)) if kind is dict else _same_dict(kind, spec[1], built)
    new = object.__new__(kind)                             # a dataclass: fields may be frozen or not in __init__
    for name, value in zip(spec[1], built, strict=True):
        object.__setattr__(new, name, value)
    return new


def _same_dict(kind: type, keys: tuple, values: list) -> Any:
    new = kind()                                           # OrderedDict, defaultdict
    new.update(zip(keys, values, strict=True))
    return new


def _show(spec: Any) -> str:
    if spec is None or spec is LEAF:
        return repr(spec)
    parts = spec[-1]
    if len(spec) == 3:
        return f"{spec[0].__name__}({', '.join(f'{k}: {_show(p)}' for k, p in zip(spec[1], parts, strict=True))})"
    return f"{spec[0].__name__}({', '.join(map(_show, parts))})"
