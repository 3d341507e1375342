"""Segments: the calls of `runtime.py` for steps of a program, from one step that only Python can do to the next.

Each value is somewhere: at an address that is known now, or so many bytes into an array that a run brings or makes. Views are
arithmetic on that. `Segment` collects calls and the words of their tables; once loaded, a run of it is one call from Python.
"""
from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy

from gpugrad.flat.reads import joined
from gpugrad.flat.runtime import WORKERS, Blas, blas, runtime
from gpugrad.flat.spots import Spot, as_rows

Env = list[Any]
#: From so much work in a segment on (elements read, written or worked on), other threads may run Python meanwhile.
LONG = 1 << 17
#: Work of products that each thread needs, to pay for being told.
SHARED = 1 << 15


Word = int | Spot
Call = tuple[int, int, int, int]                             # function, position of its table, begin, end


class Product(NamedTuple):
    """y = a @ b of matrices that BLAS can read, see `as_rows`."""

    y: Spot
    a: Spot
    b: Spot
    element: str

    @property
    def work(self) -> int:
        return self.y.shape[0] * self.y.shape[1] * self.a.shape[1] // 16

    def words(self, library: Blas) -> list[Word]:
        (transposed_a, row_a), (transposed_b, row_b) = as_rows(self.a) or (0, 0), as_rows(self.b) or (0, 0)
        (m, k), n = self.a.shape, self.b.shape[1]
        return [library.products[self.element], transposed_a, transposed_b, m, n, k, self.a, row_a, self.b, row_b, self.y,
                max(1, self.y.strides[0] // self.y.itemsize)]

    @property
    def length(self) -> int:
        """That of the longer axis of the result. A cut through it has the smaller factor read twice."""
        return max(self.y.shape)

    def part(self, begin: int, end: int) -> Product:
        """What is from begin to end along the longer axis."""
        rows, cols = self.y.shape
        if rows >= cols:
            return self._replace(y=cut(self.y, 0, begin, end), a=cut(self.a, 0, begin, end))
        return self._replace(y=cut(self.y, 1, begin, end), b=cut(self.b, 1, begin, end))


def cut(x: Spot, axis: int, begin: int, end: int) -> Spot:
    shape = (end - begin, x.shape[1]) if axis == 0 else (x.shape[0], end - begin)
    return x._replace(start=x.start + begin * x.strides[axis], shape=shape)


def shares(products: list[Product], threads: int) -> list[list[Product]]:
    """Equal parts of all the work. Where one ends inside of a product, that is cut, at multiples of 16."""
    found: list[list[Product]] = [[] for _ in range(threads)]
    total, done = sum(p.work for p in products), 0
    for p in products:
        n, begin = p.length, 0
        while begin < n:
            thread = min(threads - 1, (done + p.work * begin // n) * threads // max(1, total))
            room = (thread + 1) * total // threads - done - p.work * begin // n
            end = min(n, begin + max(16, round(room * n / max(1, p.work) / 16) * 16))
            end = n if thread == threads - 1 or n - end < 16 else end
            found[thread].append(p.part(begin, end))
            begin = end
        done += p.work
    return found


class Segment:
    """Calls one after the other. checks[number of calls so far](env) raises the error that a call found a reason for."""

    def __init__(self) -> None:
        self.words: list[int] = [0] * 6
        self.pointers: list[int] = []                        # words that hold a position in `words` until they are loaded
        self.calls: list[Call] = []
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

    def share(self, lists: list[list[Call]], products: bool = False) -> None:
        """Lists of calls on as many threads. products: calls of BLAS are among them."""
        native, library = runtime(), blas() if products else None
        assert native.workers is not None
        native.workers.start()
        start = len(self.words) + sum(4 * len(calls) for calls in lists)
        table: list[int] = [native.workers.address, library.set_threads if library else 0, library.get_threads if library else 0]
        for calls in lists:
            self.pointers.append(start + len(table))
            table += [self.words_of(calls), len(calls)]
        self.words += table
        self.calls.append((native["gg_share"], start, 0, len(lists)))

    def words_of(self, calls: list[Call]) -> int:
        """The position of a list of calls."""
        start = len(self.words)
        for function, table, begin, end in calls:
            self.pointers.append(len(self.words) + 1)
            self.words += [function, table, begin, end]
        return start

    def parallel(self, function: int, parts: list[tuple[list[Word], int, int]], work: int) -> None:
        """One function on tables of their own, on as many threads."""
        self.share([[(function, self.table(words), begin, end)] for words, begin, end in parts])
        self.work += work

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

    def products(self, products: list[Product]) -> None:
        """Products that do not wait for each other: one by one, or on all threads at once.

        BLAS's own threads wait for each other several times in each product; here they do at the end.
        """
        native, library = runtime(), blas()
        assert library is not None
        threads = min(WORKERS, sum(p.work for p in products) // SHARED)
        if threads < 2:
            for p in products:
                self.call(native[f"gg_gemm_{p.element}"], p.words(library), work=p.work)
            return
        lists = [[(native[f"gg_gemm_{p.element}"], self.table(p.words(library)), 0, 0) for p in part]
                 for part in shares(products, threads)]
        self.share([calls for calls in lists if calls], products=True)
        self.work += sum(p.work for p in products)

    def check(self, labels: Spot, count: int, classes: int, element: str) -> None:
        """Sets the status where one of the labels is no class."""
        self.call(runtime()[f"gg_labels_{element}"], [0, labels], count, classes, work=count)
        self.pointers.append(self.calls[-1][1])
        self.words[self.calls[-1][1]] = 4                    # the word of the status

    # the end -------------------------------------------------------------------------------------------------------------

    def load(self) -> Callable[[Env], None]:
        """A step that runs the segment."""
        calls = self.words_of(self.calls)
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
