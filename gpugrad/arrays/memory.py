"""Who else can see an array: what makes in-place work safe.

Two questions decide every in-place operation. May this buffer be overwritten without anybody noticing (`exclusive`)?
Has a buffer been overwritten since it was saved (`changed_since`)?
"""
from __future__ import annotations

import sys
import weakref
from typing import Any

import numpy

#: id of the array that owns a buffer -> (weak reference to it, clock time of the last in-place change)
CHANGED: dict[int, tuple[weakref.ref, int]] = {}

#: The time of the last change of any: what was saved later needs no look.
LAST = [0]


def exclusive(array: Any, holders: int = 1) -> bool:
    """True where nobody but the caller, who has `holders` references to the array, can see its memory.

    CPython counts references, and a view counts because it keeps its base alive. Counts that are not exact are too high,
    and the answer is then a cautious False. The array must be in a local variable of the caller, one of the holders.
    """
    if sys.getrefcount(array) > CALL + holders:
        return False
    base = array.base
    if base is None:
        return array.flags.owndata
    if type(array) is numpy.ndarray and not array.flags.writeable:                 # broadcast along axes of one
        return False
    return type(base) is type(array) and base.size == array.size and exclusive(base, 2)      # `base` here, and the view


def held_only(thing: Any, holders: int) -> bool:
    """True where nobody holds the object but the caller, by `holders` references."""
    return sys.getrefcount(thing) <= CALL + holders


def _references_of_a_call() -> int:
    """How many references a call like `exclusive(array)` adds in this Python: 3.14 passes some without counting."""
    def count(array):
        return sys.getrefcount(array)
    array = numpy.empty(0)
    return count(array) - 1


CALL = _references_of_a_call()


def owner(array: Any) -> Any:
    """The array that owns the memory of a view."""
    while type(array.base) is type(array):
        array = array.base
    return array


def mark_changed(array: Any, time: int) -> None:
    """Note that the memory of `array` was overwritten at `time`."""
    root = owner(array)
    key = id(root)
    LAST[0] = max(LAST[0], time)
    known = CHANGED.get(key)                              # an entry goes when its array does, so a known id is this array
    CHANGED[key] = (known[0] if known else weakref.ref(root, lambda _: CHANGED.pop(key, None)), time)


def changed_since(array: Any, time: int) -> bool:
    """True where the memory of `array` was overwritten after `time`."""
    entry = CHANGED.get(id(owner(array)))
    return entry is not None and entry[1] > time
