"""The derivative rules, one table for each family. Importing this package registers every primitive."""
from gpugrad.rules import (
    attention,
    compare,
    complex,
    contract,
    elementwise,
    fused,
    generated,
    index,
    norms,
    reduce,
    scan,
    series,
    shape,
)

__all__ = ["attention", "compare", "complex", "contract", "elementwise", "fused", "generated", "index", "norms", "reduce", "scan",
           "series", "shape"]
