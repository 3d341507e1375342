"""The recording mode, one immutable value in a context variable, so threads and async tasks do not disturb each other."""
from __future__ import annotations

import itertools
from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import NamedTuple

from gpugrad.errors import ArgumentError

#: Creation order of nodes, start of transforms, time of in-place changes: one clock, so that any two can be compared.
clock = itertools.count(1).__next__


class Mode(NamedTuple):
    record: bool = True      # make nodes for reverse mode
    levels: bool = False     # a jvp or vmap is running: Tensors may be layered
    anomaly: bool = False    # look for NaN after every operation and remember the line that made each node


MODES: dict[Mode, Mode] = {}

#: The flags of generators, coroutines and asynchronous generators (inspect's, which takes long to import).
LATE = 0x20 | 0x80 | 0x200


def mode_for(**change: bool) -> Mode:
    """The current mode with some fields changed. Equal modes are one object: the hot path compares with `is`."""
    now, get = current(), change.get          # not now._replace(**change): it leaks a dict a call in Python 3.11
    mode = Mode(get("record", now.record), get("levels", now.levels), get("anomaly", now.anomaly))
    return MODES.setdefault(mode, mode)


RECORD = MODES.setdefault(Mode(), Mode())
LEVELS = MODES.setdefault(Mode(levels=True), Mode(levels=True))
_MODE: ContextVar[Mode] = ContextVar("gpugrad_mode", default=RECORD)
current = _MODE.get


class switch(ContextDecorator):
    """Context manager and decorator that changes the mode; re-entrant, and restored on any exit."""

    def __init__(self, **change: bool):
        self.change = change
        self.tokens: list = []

    def __enter__(self):
        self.tokens.append(_MODE.set(mode_for(**self.change)))
        return self

    def __exit__(self, *exc):
        _MODE.reset(self.tokens.pop())

    def __call__(self, function):
        if getattr(getattr(function, "__code__", None), "co_flags", 0) & LATE:
            raise ArgumentError(f"{type(self).__name__}: expected a function that runs when it is called, got {function!r}, "
                                "which runs later. Use `with` inside it.")
        return super().__call__(function)

    def _recreate_cm(self):          # each call of a decorated function gets tokens of its own
        return type(self)()


class no_grad(switch):
    """Inside, operations record no graph: results need no gradient. Also a decorator.

    with gg.no_grad():
        w -= 0.1 * w.grad
    """

    def __init__(self):
        super().__init__(record=False)


class enable_grad(switch):
    """Inside, operations record their graph, also within `no_grad`. Also a decorator."""

    def __init__(self):
        super().__init__(record=True)


class detect_anomaly(switch):
    """Inside, the first NaN raises AnomalyError naming the forward line that made it, in forward and in backward. Slow."""

    def __init__(self):
        super().__init__(anomaly=True)


def is_grad_enabled() -> bool:
    """True where operations record their graph."""
    return current().record
