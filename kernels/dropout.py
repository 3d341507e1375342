"""Dropout: y = x scale where kept, else 0, for a mask of one byte an element. Linear in x, and its own transpose."""
from __future__ import annotations


def dropout(xp):
    def run(x, kept, scale):
        y = x * kept
        y *= scale
        return y
    return run
