"""The recording mode, one immutable value in a context variable, so threads and async tasks do not disturb each other."""
from __future__ import annotations

import itertools
from contextlib import ContextDecorator
from contextvars import ContextVar
from sys import _getframe
from typing import NamedTuple

from gpugrad.errors import ArgumentError, DtypeError
from gpugrad.held import Held, enter, leave, stepped

#: Creation order of nodes, start of transforms, time of in-place changes: one clock, so that any two can be compared.
clock = itertools.count(1).__next__


class Mode(NamedTuple):
    record: bool = True      # make nodes for reverse mode
    levels: bool = False     # a jvp or vmap is running: Tensors may be layered
    anomaly: bool = False    # look for NaN after every operation and remember the line that made each node


MODES: dict[tuple, Mode] = {}


RECORD = MODES.setdefault(Mode(), Mode())
LEVELS = MODES.setdefault(Mode(levels=True), Mode(levels=True))
_MODE: ContextVar[Mode] = ContextVar("gpugrad_mode", default=RECORD)

#: The mode, or one held apart, which `effective` makes a mode of. For the hot path, which compares it with RECORD and LEVELS.
current = _MODE.get


def effective(mode: Mode | Held) -> Mode:
    return mode.value() if type(mode) is Held else mode    # type: ignore[return-value]


def mode_now() -> Mode:
    """The mode that is in effect."""
    return effective(current())


class switch(ContextDecorator):
    """Context manager and decorator that changes the mode; re-entrant, and restored on any exit."""

    def __init__(self, **change: bool):
        self.change = change
        self.tokens: list = []

    def changed(self, now: Mode) -> Mode:
        """A mode with our fields changed. Equal modes are one object: the hot path compares with `is`."""
        get = self.change.get                             # not now._replace(**change): it leaks a dict a call in Python 3.11
        fields = get("record", now[0]), get("levels", now[1]), get("anomaly", now[2])
        return MODES.get(fields) or MODES.setdefault(mode := Mode(*fields), mode)

    def __enter__(self):
        self.tokens.append(enter(_MODE, self.changed, None))
        return self

    def __exit__(self, *exc):
        leave(_MODE, self.tokens, None)


class setting(switch):
    """A switch for users, whose code may stop at a yield inside: see `gpugrad.held`."""

    def __enter__(self):
        self.tokens.append(enter(_MODE, self.changed, _getframe(1)))
        return self

    def __exit__(self, *exc):
        leave(_MODE, self.tokens, _getframe(1))

    def __new__(cls, *misplaced):
        if misplaced:
            raise ArgumentError(f"{cls.__name__}: expected no arguments, got {misplaced[0]!r}. As a decorator it is "
                                f"@{cls.__name__}(), with brackets.")
        return super().__new__(cls)

    def __call__(self, function):
        if not callable(function):
            raise DtypeError(f"{type(self).__name__}: expected a function to decorate, got {function!r}. Or use `with`.")
        return stepped(type(self), function) or super().__call__(function)

    def _recreate_cm(self):          # each call of a decorated function gets tokens of its own
        return type(self)()


class no_grad(setting):
    """Inside, operations record no graph: results need no gradient. Also a decorator.

    with gg.no_grad():
        w -= 0.1 * w.grad
    """

    def __init__(self):
        super().__init__(record=False)


class enable_grad(setting):
    """Inside, operations record their graph, also within `no_grad`. Also a decorator."""

    def __init__(self):
        super().__init__(record=True)


class detect_anomaly(setting):
    """Inside, the first NaN raises AnomalyError naming the forward line that made it, in forward and in backward. Slow."""

    def __init__(self):
        super().__init__(anomaly=True)


def is_grad_enabled() -> bool:
    """True where operations record their graph."""
    return mode_now().record
