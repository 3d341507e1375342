"""Functions that were made of functions, and can be pickled, as those of other processes must be."""
from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import MethodType
from typing import Any


class Transformed:
    """What `make(f, *options)` returns: calls `run`, is a method where f would be one, and is pickled as how it was made."""

    def __init__(self, run: Callable, make: Callable, f: Callable, *options: Any):
        self.__name__ = make.__name__                     # of a callable object, which has none
        functools.update_wrapper(self, f)
        self._run = run
        self._made = make, (f, *options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        make, (f, *_) = self._made
        return f"<{make.__name__} of {getattr(f, '__qualname__', f)}>"

    def __reduce__(self) -> Any:
        return global_name(self) or self._made


def global_name(thing: Any) -> str | None:
    """The name under which pickle finds an object in the module that it says it is from: that of a decorated function."""
    found: Any = sys.modules.get(getattr(thing, "__module__", None) or "")
    name = getattr(thing, "__qualname__", "")
    for part in name.split("."):
        found = getattr(found, part, None)
    return name if found is thing else None
