"""float16 on the host, whose sums NumPy rounds at every step."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any


def in_float32(run: Callable) -> Callable:
    """run, with float16 taken as float32 and the result rounded once: a sum of 70000 ones is no float16, beyond 2048 it has none.

    The first argument decides; numbers and arrays of whole numbers among the others stay as they are.
    """
    def wide(x: Any, *rest: Any, **params: Any) -> Any:
        if x.dtype.char != "e":
            return run(x, *rest, **params)
        rest = tuple([a.astype("f") if hasattr(a, "dtype") and a.dtype.kind == "f" else a for a in rest])
        return run(x.astype("f"), *rest, **params).astype("e")
    return wide
