"""Settings that hold inside a `with`, in a context variable, and do not leak out of a generator that stops there.

A generator has no context of its own: one that yields inside a `with` would leave its setting to whoever called it. So what a
generator enters is held apart, with the generator's frame, and is in effect only while that frame runs. One that is suspended,
or over, has no caller: its `f_back` is None.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import FrameType
from typing import Any

#: The flags of functions whose body runs later (inspect's, which takes long to import).
GENERATOR, COROUTINE, ASYNC_GENERATOR = 0x20, 0x80, 0x200


class Held:
    """The value of a context variable beneath settings that are not always in effect."""

    __slots__ = ("base", "entries")

    def __init__(self, base: Any, entries: tuple[Entry, ...]):
        self.base = base
        self.entries = entries

    def value(self) -> Any:
        """What holds here and now."""
        value = self.base
        for entry in self.entries:
            if entry.in_effect():
                value = entry.change(value)
        return value


class Entry:
    """One setting: `change` makes the new value of the old. With a frame, it is in effect while that runs."""

    __slots__ = ("change", "frame")

    def __init__(self, change: Callable[[Any], Any], frame: FrameType | None):
        self.change = change
        self.frame = frame

    def in_effect(self) -> bool:
        return self.frame is None or self.frame.f_back is not None


def enter(variable: ContextVar, change: Callable[[Any], Any], frame: FrameType | None) -> Any:
    """Change the value of the variable until `leave`. Returns what that needs. frame: of a caller who may be a generator."""
    now, frame = variable.get(), holder(frame)
    if frame is None and type(now) is not Held:
        return variable.set(change(now))
    base, entries = (now.base, now.entries) if type(now) is Held else (now, ())
    place = len(entries)
    while place and not entries[place - 1].in_effect():   # a generator that goes on inside this has the last word
        place -= 1
    entry = Entry(change, frame)
    variable.set(Held(base, (*entries[:place], entry, *entries[place:])))
    return entry


def leave(variable: ContextVar, tokens: list, frame: FrameType | None) -> None:
    """Undo the last `enter` of this caller, thread and task among the tokens. Others may have entered since, and go on."""
    now, token = variable.get(), tokens[-1]
    if type(now) is not Held and type(token) is Token and restored(variable, token):
        tokens.remove(token)                              # the commonest case
        return
    entries = now.entries if type(now) is Held else ()
    frame, held = holder(frame), [token for token in tokens if token in entries]
    mine = [entry for entry in held if entry.frame is frame]
    plain = [] if mine else [token for token in tokens if type(token) is Token]
    token = next((token for token in reversed(plain) if restored(variable, token)), None)
    base = now.base if token is None and entries else variable.get()
    token = token or (mine or held or tokens)[-1]         # the last: what another thread closes may hold nothing here
    tokens.remove(token)
    if entries:
        rest = tuple([entry for entry in entries if entry is not token])
        variable.set(Held(base, rest) if rest else base)


def restored(variable: ContextVar, token: Any) -> bool:
    """Whether the variable could be set back: not by the token of another thread, which has entered the same object."""
    try:
        variable.reset(token)
    except ValueError:
        return False
    return True


def holder(frame: FrameType | None) -> FrameType | None:
    """The frame of the generator that enters a setting in `frame`, None where a function does.

    What `contextlib` steps, such as the generator of a `@contextmanager`, enters it for the `with` that it serves, and a
    fixture of pytest for its test.
    """
    while frame is not None:
        flags, name = frame.f_code.co_flags, frame.f_globals.get("__name__", "")
        if flags & (GENERATOR | ASYNC_GENERATOR):
            caller = frame.f_back
            if name == __name__ or caller is None:
                return frame
            stepper = caller.f_globals.get("__name__", "")
            if stepper.startswith("_pytest."):
                return None
            if stepper != "contextlib":
                return frame
            frame = caller
        elif name != "contextlib":
            return None
        frame = frame.f_back
    return None


def stepped(setting: Callable[[], Any], function: Callable) -> Callable | None:
    """A function whose body runs later with a setting in effect whenever it runs, but not while it waits; None for others."""
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    if flags & GENERATOR:
        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Any:
            with setting():
                return (yield from function(*args, **kwargs))
        return generator
    if flags & COROUTINE:
        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with setting():
                return await function(*args, **kwargs)
        return coroutine
    if flags & ASYNC_GENERATOR:
        @functools.wraps(function)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            inner = function(*args, **kwargs)
            step, given = inner.asend, None               # there is no `yield from` for these
            with setting():
                while True:
                    try:
                        item = await step(given)
                    except StopAsyncIteration:
                        return
                    try:
                        step, given = inner.asend, (yield item)
                    except GeneratorExit:
                        await inner.aclose()
                        raise
                    except BaseException as error:
                        step, given = inner.athrow, error
        return asynchronous
    return None
