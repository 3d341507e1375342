"""libcublasLt through ctypes: descriptors, heuristics, and the one call that multiplies. Knows nothing of arrays.

Descriptors can be created, set and read with no GPU and no driver; a `Handle` needs both. Numbers are those of cublasLt.h and
library_types.h, the same since CUDA 11.4.
"""
from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import sys
from collections.abc import Iterator
from ctypes import byref, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from gpugrad.errors import GpugradError

INSTALL = "pip install nvidia-cublas, or gpugrad[cuda13]"

DATA_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
COMPUTE_TYPES = {"32F": 68, "32F_FAST_16BF": 75, "32F_FAST_TF32": 77, "64F": 70}
NOT_SUPPORTED = 15
#: Split sums go through the workspace in the compute type: never through a half-precision output, always in one order.
REDUCTIONS = 2

LAYOUT = {"BATCH_COUNT": (5, c_int32), "STRIDED_BATCH_OFFSET": (6, c_int64),
          "TYPE": (0, c_uint32), "ROWS": (2, c_uint64), "COLS": (3, c_uint64), "LD": (4, c_int64)}
PRODUCT = {"COMPUTE_TYPE": (0, c_int32), "SCALE_TYPE": (1, c_int32), "TRANSA": (3, c_int32), "TRANSB": (4, c_int32),
           "EPILOGUE": (7, c_uint32), "BIAS_POINTER": (8, c_void_p), "EPILOGUE_AUX_POINTER": (11, c_void_p),
           "EPILOGUE_AUX_LD": (12, c_int64)}
PREFERENCE = {"MAX_WORKSPACE_BYTES": (1, c_uint64), "REDUCTION_SCHEME_MASK": (3, c_uint32),
              "MIN_ALIGNMENT_A_BYTES": (5, c_uint32), "MIN_ALIGNMENT_B_BYTES": (6, c_uint32),
              "MIN_ALIGNMENT_C_BYTES": (7, c_uint32), "MIN_ALIGNMENT_D_BYTES": (8, c_uint32)}


class LtError(GpugradError, RuntimeError):
    """cuBLASLt refused a call. `status` is its number."""

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


class Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t: opaque, may be kept and used again."""

    _fields_ = (("data", c_uint64 * 8),)


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (("algo", Algorithm), ("workspace_bytes", c_size_t), ("state", c_int), ("waves", c_float), ("reserved", c_int * 4))


class Library:
    """The entry points we need, each checked. `lib` is a CDLL, or anything with functions of those names."""

    def __init__(self, lib: Any, path: str = ""):
        self.lib, self.path = lib, path
        if isinstance(lib, ctypes.CDLL):
            lib.cublasLtGetStatusName.restype = ctypes.c_char_p
            lib.cublasLtGetVersion.restype = c_size_t

    def __str__(self) -> str:
        major, rest = divmod(int(self.lib.cublasLtGetVersion()), 10000)
        return f"cuBLASLt {major}.{rest // 100}.{rest % 100}" + (f" ({self.path})" if self.path else "")

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.lib, name)(*arguments)
        if status:
            said = self.lib.cublasLtGetStatusName(status)
            raise LtError(f"{name}: expected cuBLASLt to accept the call, got {said.decode() if said else status}. "
                          "See `gpugrad info`.", status)


class Described:
    """An opaque cuBLASLt object with attributes; destroyed with its owner."""

    kind, attributes = "", {}                                           # type: tuple[str, dict]

    def __init__(self, library: Library, *arguments: Any):
        self.library, self.pointer = library, c_void_p()
        library.call(f"cublasLt{self.kind}Create", byref(self.pointer), *arguments)

    def __setitem__(self, name: str, value: int | None) -> None:
        number, c_type = self.attributes[name]
        held = c_type(value)
        self.library.call(f"cublasLt{self.kind}SetAttribute", self.pointer, c_int(number), byref(held),
                          c_size_t(ctypes.sizeof(held)))

    def __getitem__(self, name: str) -> int:
        number, c_type = self.attributes[name]
        held, written = c_type(), c_size_t()
        self.library.call(f"cublasLt{self.kind}GetAttribute", self.pointer, c_int(number), byref(held),
                          c_size_t(ctypes.sizeof(held)), byref(written))
        return held.value or 0

    def __del__(self) -> None:
        if getattr(self, "pointer", None) and not sys.is_finalizing():
            getattr(self.library.lib, f"cublasLt{self.kind}Destroy")(self.pointer)


class Layout(Described):
    """A column-major matrix, or a batch of them."""

    kind, attributes = "MatrixLayout", LAYOUT

    def __init__(self, library: Library, dtype: str, rows: int, cols: int, ld: int, batch: int = 1, batch_stride: int = 0):
        super().__init__(library, c_int(DATA_TYPES[dtype]), c_uint64(rows), c_uint64(cols), c_int64(ld))
        if batch > 1:
            self["BATCH_COUNT"], self["STRIDED_BATCH_OFFSET"] = batch, batch_stride


class Product(Described):
    """What is computed: precision, transposes, epilogue."""

    kind, attributes = "MatmulDesc", PRODUCT

    def __init__(self, library: Library, compute: str, scale: str):
        super().__init__(library, c_int(COMPUTE_TYPES[compute]), c_int(DATA_TYPES[scale]))


class Preference(Described):
    """What an algorithm may use."""

    kind, attributes = "MatmulPreference", PREFERENCE


class Handle:
    """cuBLASLt on the current device. LtError where there is none."""

    def __init__(self, library: Library):
        self.library, self.pointer = library, c_void_p()
        library.call("cublasLtCreate", byref(self.pointer))

    def best(self, product: Product, layouts: tuple[Layout, ...], preference: Preference) -> Heuristic | None:
        """The algorithm that cuBLASLt's heuristics put first, or None where it has none."""
        result, count = Heuristic(), c_int()
        try:
            self.library.call("cublasLtMatmulAlgoGetHeuristic", self.pointer, product.pointer, *(x.pointer for x in layouts),
                              preference.pointer, c_int(1), byref(result), byref(count))
        except LtError as error:
            if error.status == NOT_SUPPORTED:
                return None
            raise
        return result if count.value and result.state == 0 else None

    def multiply(self, product: Product, layouts: tuple[Layout, ...], pointers: tuple[int, ...], alpha: Any, beta: Any,
                 algorithm: Algorithm, workspace: tuple[int, int], stream: int) -> None:
        """Enqueue D = alpha op(A) op(B) + beta C. alpha, beta: ctypes numbers of the scale type; workspace: (address, bytes)."""
        (la, lb, lc, ld), (a, b, c, d) = layouts, pointers
        self.library.call("cublasLtMatmul", self.pointer, product.pointer, byref(alpha), c_void_p(a), la.pointer, c_void_p(b),
                          lb.pointer, byref(beta), c_void_p(c), lc.pointer, c_void_p(d), ld.pointer, byref(algorithm),
                          c_void_p(workspace[0]), c_size_t(workspace[1]), c_void_p(stream))


@cache
def library() -> Library:
    """The installed libcublasLt. LtError names every place that was tried, and the wheel to install."""
    tried = []
    for path in candidates():
        try:
            return Library(ctypes.CDLL(path), path)
        except OSError as error:
            tried.append(str(error))
    raise LtError(f"cublasLt: expected libcublasLt to be installed, got none ({'; '.join(tried)}). Use {INSTALL}.")


def candidates() -> Iterator[str]:
    """Where the library may be: what cuda-pathfinder finds, the NVIDIA wheels (newest CUDA first), the system's loader."""
    if importlib.util.find_spec("cuda") and importlib.util.find_spec("cuda.pathfinder"):
        from cuda.pathfinder import load_nvidia_dynamic_lib
        found = None
        with contextlib.suppress(Exception):                            # its own DynamicLibNotFoundError: look further ourselves
            found = load_nvidia_dynamic_lib("cublasLt").abs_path
        if found:
            yield found
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for pattern in ("*/lib/libcublasLt.so.*", "*/bin/**/cublasLt64_*.dll"):
            yield from sorted(map(str, Path(root).glob(pattern)), reverse=True)
    windows = sys.platform == "win32"
    yield from ("cublasLt64_13.dll", "cublasLt64_12.dll") if windows else ("libcublasLt.so.13", "libcublasLt.so.12")
