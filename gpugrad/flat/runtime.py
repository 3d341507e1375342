"""The native functions that every program shares: what runs its calls, finds its arrays, and does what is no loop of its own.

A program is a list of calls (function, table, begin, end): 64-bit words each. Loops of programs, products by BLAS, copies and
joins all have the form `function(table, begin, end)`, so that running a program is one loop over its calls. A segment, which
runs without a step of Python's, is six words:

    roots    for each array that is not known before the run: its place in a list of arrays, the number n of words that hold
             an address in it, then n times (address of the word, bytes from the start of the array)
    count    of the roots
    calls    four words each
    count    of the calls
    status   0, or what a call found wrong: the run ends after that call
    kind     the type of the arrays, `numpy.ndarray`
"""
from __future__ import annotations

import ctypes
import functools
import glob
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy

from gpugrad.flat import natives, threads, workers
from gpugrad.flat.llvm import Library

WORKERS = threads.WORKERS if workers.POSIX else 1

#: Where CPython keeps the items of a list, and NumPy the data and the flags of an array: bytes from their start.
LIST_ITEMS, TYPE, DATA, FLAGS = 24, 8, 16, 64
CONTIGUOUS, ALIGNED = 0x1, 0x100

#: gg_bind(list, segment): the place of the first array that is not contiguous, aligned and of the kind; -1 where all are.
#: gg_run(segment): the number of calls that ran. gg_start does both: -2 - the number of calls where a call found something wrong.
TEXT = f"""
define i64 @gg_bind(ptr %list, ptr %segment) {{
entry:
  %items.at = getelementptr i8, ptr %list, i64 {LIST_ITEMS}
  %items = load ptr, ptr %items.at
  %roots = load ptr, ptr %segment
  %count.at = getelementptr i64, ptr %segment, i64 1
  %count = load i64, ptr %count.at
  %kind.at = getelementptr i64, ptr %segment, i64 5
  %kind = load ptr, ptr %kind.at
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %k.next, %filled ]
  %root = phi ptr [ %roots, %entry ], [ %word, %filled ]
  %more = icmp slt i64 %k, %count
  br i1 %more, label %check, label %done
check:
  %place = load i64, ptr %root
  %uses.at = getelementptr i64, ptr %root, i64 1
  %uses = load i64, ptr %uses.at
  %first = getelementptr i64, ptr %root, i64 2
  %array.at = getelementptr ptr, ptr %items, i64 %place
  %array = load ptr, ptr %array.at
  %type.at = getelementptr i8, ptr %array, i64 {TYPE}
  %type = load ptr, ptr %type.at
  %known = icmp eq ptr %type, %kind
  br i1 %known, label %look, label %bad
look:
  %flags.at = getelementptr i8, ptr %array, i64 {FLAGS}
  %flags = load i32, ptr %flags.at
  %asked = and i32 %flags, {CONTIGUOUS | ALIGNED}
  %good = icmp eq i32 %asked, {CONTIGUOUS | ALIGNED}
  br i1 %good, label %fill, label %bad
fill:
  %data.at = getelementptr i8, ptr %array, i64 {DATA}
  %data = load i64, ptr %data.at
  br label %next
next:
  %use = phi i64 [ 0, %fill ], [ %use.next, %put ]
  %word = phi ptr [ %first, %fill ], [ %word.next, %put ]
  %left = icmp slt i64 %use, %uses
  br i1 %left, label %put, label %filled
put:
  %target = load ptr, ptr %word
  %delta.at = getelementptr i64, ptr %word, i64 1
  %delta = load i64, ptr %delta.at
  %address = add i64 %data, %delta
  store i64 %address, ptr %target
  %word.next = getelementptr i64, ptr %word, i64 2
  %use.next = add i64 %use, 1
  br label %next
filled:
  %k.next = add i64 %k, 1
  br label %head
bad:
  ret i64 %place
done:
  ret i64 -1
}}

define i64 @gg_run(ptr %segment) {{
entry:
  %calls.at = getelementptr i64, ptr %segment, i64 2
  %calls = load ptr, ptr %calls.at
  %count.at = getelementptr i64, ptr %segment, i64 3
  %count = load i64, ptr %count.at
  %status.at = getelementptr i64, ptr %segment, i64 4
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %next, %called ]
  %more = icmp slt i64 %k, %count
  br i1 %more, label %do, label %done
do:
  {workers.CALL}
  %status = load i64, ptr %status.at
  %wrong = icmp ne i64 %status, 0
  br i1 %wrong, label %stop, label %called
called:
  br label %head
stop:
  ret i64 %next
done:
  ret i64 %count
}}

define i64 @gg_start(ptr %list, ptr %segment) {{
entry:
  %bound = call i64 @gg_bind(ptr %list, ptr %segment)
  %good = icmp eq i64 %bound, -1
  br i1 %good, label %run, label %bad
bad:
  ret i64 %bound
run:
  %ran = call i64 @gg_run(ptr %segment)
  %status.at = getelementptr i64, ptr %segment, i64 4
  %status = load i64, ptr %status.at
  %wrong = icmp ne i64 %status, 0
  %stopped = sub i64 -2, %ran
  %result = select i1 %wrong, i64 %stopped, i64 -1
  ret i64 %result
}}
"""


class Runtime:
    """The compiled functions. `runtime[name]` is an address, for calls; `bind`, `run` and `start` are for Python."""

    def __init__(self) -> None:
        self.library = Library(natives.written() + "\n" + TEXT + (workers.TEXT if workers.POSIX else ""))
        address, place = ctypes.c_void_p, ctypes.c_int64
        self.bind = ctypes.PYFUNCTYPE(place, ctypes.py_object, address)(self.library["gg_bind"])
        self.start = ctypes.PYFUNCTYPE(place, ctypes.py_object, address)(self.library["gg_start"])
        self.run = ctypes.CFUNCTYPE(place, address)(self.library["gg_run"])
        self.workers = workers.Workers(self.library, WORKERS - 1) if workers.POSIX else None
        self.reads_objects = layout_is_known(self.bind)

    def __getitem__(self, name: str) -> int:
        return self.library[name]


@functools.cache
def runtime() -> Runtime:
    return Runtime()


def layout_is_known(bind: Callable) -> bool:
    """Whether lists and arrays have their addresses where `gg_bind` looks for them."""
    if ctypes.sizeof(ctypes.c_void_p) != 8 or sys.implementation.name != "cpython":         # elsewhere an id is no address
        return False
    arrays = [numpy.arange(6.0), numpy.zeros((2, 3), "f4"), numpy.ones(7)[2:]]
    # every read is of an address in an object at least this long: nothing is followed that was not seen to be right before
    objects = [(id(arrays), LIST_ITEMS, None), *[(id(x), DATA, x.ctypes.data) for x in arrays]]
    if any(wanted is not None and word_at(start + offset) != wanted for start, offset, wanted in objects):
        return False
    if word_at(id(arrays) + TYPE) != id(list) or any(word_at(id(x) + TYPE) != id(numpy.ndarray) for x in arrays):
        return False
    if any(word_at(id(x) + FLAGS) & 0xFFFFFFFF != x.flags.num for x in arrays):
        return False
    found = (ctypes.c_int64 * 3)()
    roots = (ctypes.c_int64 * 12)()
    for i in range(3):
        roots[4 * i:4 * i + 4] = [i, 1, ctypes.addressof(found) + 8 * i, i]
    segment = (ctypes.c_int64 * 6)(ctypes.addressof(roots), 3, 0, 0, 0, id(numpy.ndarray))
    items = word_at(id(arrays) + LIST_ITEMS)
    if not items or [word_at(items + 8 * i) for i in range(3)] != [id(x) for x in arrays]:
        return False
    return bind(arrays, ctypes.addressof(segment)) == -1 and list(found) == [x.ctypes.data + i for i, x in enumerate(arrays)]


def word_at(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


class Blas(NamedTuple):
    """Addresses in the BLAS that NumPy brought: products by element type, with 64-bit sizes; what sets and gets its threads."""

    products: dict[str, int]
    set_threads: int
    get_threads: int


@functools.cache
def blas() -> Blas | None:
    """None where NumPy has none of that kind."""
    folder = os.path.dirname(numpy.__file__)
    names = ("cblas_sgemm", "cblas_dgemm", "openblas_set_num_threads", "openblas_get_num_threads")
    for path in (*glob.glob(folder + ".libs/*openblas*"), *glob.glob(os.path.join(folder, ".dylibs", "*openblas*"))):
        library = ctypes.CDLL(path)
        found: list[Any] = [getattr(library, f"scipy_{name}64_", None) for name in names]
        if all(found):
            single, double, *threads = [ctypes.cast(f, ctypes.c_void_p).value or 0 for f in found]
            return Blas({"f32": single, "f64": double}, *threads)
    return None
