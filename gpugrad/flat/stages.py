"""How long each stage of a compilation takes, and whether machine code was found on disk."""
from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Stages:
    """seconds of each stage, what it called taken off; how many libraries were found on disk, and how many were made."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.found = self.made = 0
        self.inner = [0.0]


_OPEN: ContextVar[Stages | None] = ContextVar("gpugrad_stages", default=None)


@contextmanager
def staged() -> Iterator[Stages]:
    """The Stages of a compilation that happens in the body."""
    stages = Stages()
    token = _OPEN.set(stages)
    try:
        yield stages
    finally:
        _OPEN.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """The body is part of this stage of the compilation that is open, if one is."""
    stages = _OPEN.get()
    if stages is None:
        yield
        return
    stages.inner.append(0.0)
    start = time.perf_counter()
    try:
        yield
    finally:
        took = time.perf_counter() - start
        stages.seconds[name] = stages.seconds.get(name, 0.0) + took - stages.inner.pop()
        stages.inner[-1] += took


def library(found: bool) -> None:
    """Note that machine code was found on disk, or made."""
    stages = _OPEN.get()
    if stages is not None:
        stages.found += found
        stages.made += not found
