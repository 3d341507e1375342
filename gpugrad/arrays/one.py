"""The 1 that reverse sweeps begin with, one array for each device and dtype: whoever multiplies by it may see that and not.

It saves the array and the product: on a GPU a launch for each.
"""
from __future__ import annotations

from typing import Any

import numpy

_ONES: dict[Any, Any] = {}
_KNOWN: set[int] = set()          # the id of each: they live as long as the process


def one(xp: Any, dtype: Any) -> Any:
    """1 as a 0-d array of the module, on the current device. Nobody may write to it; the sweep writes only to its own."""
    key = dtype if xp is numpy else (xp, xp.cuda.runtime.getDevice(), dtype)
    found = _ONES.get(key)
    if found is None:
        found = xp.ones((), dtype=dtype)
        if xp is not numpy:
            stream = xp.cuda.get_current_stream()
            if stream.is_capturing():                     # filled by each replay of that graph, and not before
                return found
            stream.synchronize()                          # once: other streams will read it
        _ONES[key] = found
        _KNOWN.add(id(found))
    return found


def is_one(g: Any) -> bool:
    """Whether g is the array that `one` gave."""
    return id(g) in _KNOWN
