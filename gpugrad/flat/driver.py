"""Segments: the calls of `runtime.py` for steps of a program, from one step that only Python can do to the next.

Each value is somewhere: at an address that is known now, or so many bytes into an array that a run brings or makes. Views are
arithmetic on that. `Segment` collects calls and the words of their tables; once loaded, a run of it is one call from Python.
"""
from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

import numpy

from gpugrad.flat.reads import joined
from gpugrad.flat.runtime import blas, runtime
from gpugrad.flat.spots import Spot, as_rows

Env = list[Any]
#: From so much work in a segment on (elements read, written or worked on), other threads may run Python meanwhile.
LONG = 1 << 17


Word = int | Spot


class Segment:
    """Calls one after the other. checks[number of calls so far](env) raises the error that a call found a reason for."""

    def __init__(self) -> None:
        self.words: list[int] = [0] * 6
        self.pointers: list[int] = []                        # words that hold a position in `words` until they are loaded
        self.calls: list[tuple[int, int, int, int]] = []
        self.roots: dict[int, list[tuple[int, int]]] = {}
        self.checks: dict[int, Callable[[Env], None]] = {}
        self.alive: list[Any] = []
        self.work = 0

    def table(self, words: Iterable[Word]) -> int:
        """The position of a new table."""
        start = len(self.words)
        for i, word in enumerate(words, start):
            if isinstance(word, int):
                self.words.append(word)
            else:
                self.words.append(word.start)
                if word.place is not None:
                    self.roots.setdefault(word.place, []).append((i, word.start))
        return start

    def call(self, function: int, words: Iterable[Word], begin: int = 0, end: int = 0, work: int = 0) -> None:
        self.calls.append((function, self.table(words), begin, end))
        self.work += work

    def parallel(self, function: int, parts: list[tuple[list[Word], int, int]], work: int) -> None:
        """One function on tables of their own, on as many threads."""
        tables = [self.table(words) for words, _, _ in parts]
        start = len(self.words)
        for table, (_, begin, end) in zip(tables, parts, strict=True):
            self.pointers.append(len(self.words) + 1)
            self.words += [function, table, begin, end]
        self.calls.append((runtime()["gg_parallel"], start, 0, len(parts)))
        self.work += max(work, LONG)                         # its threads need Python's lock

    # operations that are no loops ----------------------------------------------------------------------------------------

    def copy(self, y: Spot, x: Spot) -> bool:
        """y = x, of the same shape; False where the strides are too many or the elements too large."""
        lengths, steps = joined(y.shape, y.strides, x.strides)
        axes = list(zip(lengths, *steps, strict=True))
        size = y.itemsize
        work = y.nbytes // size
        if axes[-1][1:] == (size, size):
            axes[-1] = axes[-1][0] * size, 1, 1
            name = "gg_rows"
        else:
            name = f"gg_copy{size}"
        if len(axes) > 4 or size not in (1, 2, 4, 8):
            return False
        axes = [(1, 0, 0)] * (4 - len(axes)) + axes
        self.call(runtime()[name], [y, x, *[a[0] for a in axes], *[a[1] for a in axes], *[a[2] for a in axes]], work=work)
        return True

    def zero(self, y: Spot) -> None:
        self.call(runtime()["gg_zero"], [y], end=y.nbytes, work=y.nbytes // 16)

    def matmul(self, y: Spot, a: Spot, b: Spot, element: str) -> bool:
        """y = a @ b of matrices by BLAS; False where it cannot read them as they are."""
        rows_a, rows_b = as_rows(a), as_rows(b)
        if rows_a is None or rows_b is None or not blas():
            return False
        (m, k), n = a.shape, b.shape[1]
        words = [blas()[element], rows_a[0], rows_b[0], m, n, k, a, rows_a[1], b, rows_b[1], y, max(1, n)]
        self.call(runtime()[f"gg_gemm_{element}"], words, work=m * n * k // 16)
        return True

    def check(self, labels: Spot, count: int, classes: int, element: str) -> None:
        """Sets the status where one of the labels is no class."""
        self.call(runtime()[f"gg_labels_{element}"], [0, labels], count, classes, work=count)
        self.pointers.append(self.calls[-1][1])
        self.words[self.calls[-1][1]] = 4                    # the word of the status

    # the end -------------------------------------------------------------------------------------------------------------

    def load(self) -> Callable[[Env], None]:
        """A step that runs the segment."""
        calls = len(self.words)
        for function, table, begin, end in self.calls:
            self.pointers.append(len(self.words) + 1)
            self.words += [function, table, begin, end]
        roots = len(self.words)
        for place, uses in self.roots.items():
            self.words += [place, len(uses)]
            for word, delta in uses:
                self.pointers.append(len(self.words))
                self.words += [word, delta]
        self.words[:6] = [roots, len(self.roots), calls, len(self.calls), 0, id(numpy.ndarray)]
        self.pointers += [0, 2]
        memory = (ctypes.c_int64 * len(self.words))(*self.words)
        base = ctypes.addressof(memory)
        for i in self.pointers:
            memory[i] = base + 8 * self.words[i]
        return runner(base, memory, self.roots, self.checks, self.work, self.alive)


def runner(base: int, memory: Any, roots: dict[int, list[tuple[int, int]]], checks: dict[int, Callable], work: int,
           alive: list) -> Callable[[Env], None]:
    native = runtime()
    bind = native.bind if native.reads_objects else binder(memory, roots)

    def failed(env: Env, calls: int) -> None:
        memory[4] = 0
        checks[calls](env)
        raise AssertionError("a check of the program failed, and its function says that nothing is wrong")

    def slowly(env: Env) -> None:
        """For arrays that are not as they have to be, and for long segments."""
        while (place := bind(env, base)) >= 0:
            env[place] = numpy.array(env[place], order="C", subok=False)
        ran = native.run(base)
        if memory[4]:
            failed(env, ran)

    def start(env: Env) -> None:
        found = quick(env, base)
        if found != -1:
            if found >= 0:
                slowly(env)
            else:
                failed(env, -2 - found)
    quick = native.start
    step = start if native.reads_objects and work < LONG else slowly
    setattr(step, "alive", (memory, alive))  # noqa: B010 - addresses in `memory` are of what must live as long
    return step


def binder(memory: Any, roots: dict[int, list[tuple[int, int]]]) -> Callable[[Env, int], int]:
    """`gg_bind` for a Python whose objects are laid out in another way."""
    def bind(env: Env, base: int) -> int:
        for place, uses in roots.items():
            x = env[place]
            if type(x) is not numpy.ndarray or not (x.flags.c_contiguous and x.flags.aligned):
                return place
            start = x.ctypes.data
            for word, delta in uses:
                memory[word] = start + delta
        return -1
    return bind
