"""The 1 that reverse sweeps begin with, one array for each device and dtype: whoever multiplies by it may see that and not.

On a GPU it saves a launch for the array and one for the product.
"""
from __future__ import annotations

from typing import Any

_ONES: dict[tuple, Any] = {}


def one(xp: Any, dtype: Any) -> Any:
    """1 as a 0-d array of a GPU's module on the current device. Nobody may write to it; the sweep writes only to its own."""
    key = (xp, xp.cuda.runtime.getDevice(), dtype)
    found = _ONES.get(key)
    if found is None:
        stream = xp.cuda.get_current_stream()
        found = xp.ones((), dtype=dtype)
        if stream.is_capturing():                         # filled by each replay of that graph, and not before
            return found
        stream.synchronize()                              # once: other streams will read it
        _ONES[key] = found
    return found


def is_one(g: Any) -> bool:
    """Whether g is the array that `one` gave."""
    return any(g is known for known in _ONES.values())
