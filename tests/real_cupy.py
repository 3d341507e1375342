"""The real CuPy over the simulated device: no driver, no GPU, and its own argument checks, dtypes and generated kernels.

    PYTHONPATH=tests pytest -p real_cupy -k cuda tests/rules         the tests of the device "cuda"
    import real_cupy                                                 before CuPy is imported: then gg.device("cuda") is there

CuPy's modules call each other through C pointers that lie in `__pyx_capi__`; those to the CUDA runtime and driver are replaced
here, as is what Python calls of cuBLAS and Thrust. Kernels are CuPy's own, compiled by NVRTC to PTX and run by the simulator.
What the host asked for is noted in LOG. cuFFT, cuSOLVER and cuRAND are not there.
"""
from __future__ import annotations

import atexit
import ctypes
import gc
import itertools
import os
import re
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np

os.environ.update(CUPY_COMPILE_WITH_PTX="1", CUPY_ACCELERATORS="")
from cupy_backends.cuda.api import driver, runtime

from gpugrad.cudasim import Checks, memory, module
from gpugrad.cudasim.cupy.device import TOTAL_BYTES, properties
from gpugrad.cudasim.nvrtc import Compiled

LOG: list[tuple] = []
COUNT = 2
CHECKS = Checks(counters=False, early_exit=True)            # CuPy's scans have a barrier that some threads never reach
HOST, DEVICE = 1, 2                                         # cudaMemoryType
_local = threading.local()
_numbers = itertools.count(0x1000, 16)
_kept: list = []
_live: dict[int, np.ndarray] = {}
_pinned: dict[int, np.ndarray] = {}
_modules: dict[int, Any] = {}
_functions: dict[int, Any] = {}
_limits: dict[int, int] = {}
_captures: dict[int, list] = {}                             # stream -> work; and graphs by their handles
_graphs: dict[int, list] = {}

# C functions -------------------------------------------------------------------------------------------------------------

C_TYPES = {"PyObject *": ctypes.py_object, "int": ctypes.c_int, "intptr_t": ctypes.c_ssize_t, "size_t": ctypes.c_size_t,
           "unsigned int": ctypes.c_uint, "float": ctypes.c_float, "CUdevice": ctypes.c_int}
new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype, new_capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
hold = ctypes.pythonapi.Py_IncRef
hold.restype, hold.argtypes = None, [ctypes.py_object]


def replace(place: Any, name: str, function: Callable) -> None:
    """Let C and Python call this function in the place of the module's own. The capsule's name is its C signature."""
    signature = re.match(r'<capsule object "(.*)" at', repr(place.__pyx_capi__[name]))[1]            # type: ignore[index]
    result, given = re.match(r"(.*?)\s*\((.*)\)$", signature).groups()                              # type: ignore[union-attr]
    parameters = [p for p in re.split(r",\s*", given) if p != "void"]
    count = sum("skip_dispatch" not in p and "opt_args" not in p for p in parameters)
    is_object = "PyObject *" in result or "PointerAttributes" in result
    restype = ctypes.py_object if is_object else C_TYPES.get(result, ctypes.c_void_p)
    argtypes = [C_TYPES.get(re.sub(r"\s*__pyx_\w+$", "", p), ctypes.c_void_p) for p in parameters]

    def called(*args: Any, is_over: Callable = sys.is_finalizing) -> Any:
        if is_over():                                       # memory is freed when there is nothing left to note it
            return True if is_object else 0
        y = function(*args[:count])
        if y is None and is_object:
            hold(None)                                      # ctypes hands a callback's None over without a reference of its own
        return y
    pointer = ctypes.PYFUNCTYPE(restype, *argtypes)(called)
    text = signature.encode()
    _kept.extend([pointer, text])
    place.__pyx_capi__[name] = new_capsule(ctypes.cast(pointer, ctypes.c_void_p), text, None)
    setattr(place, name, function)


def ignored(*args: Any) -> None:
    """Nothing to do: work is done at once."""


def handle(*args: Any) -> int:
    return next(_numbers)


# memory ------------------------------------------------------------------------------------------------------------------

def malloc(size: int) -> int:
    array = memory.empty(size, np.uint8)
    address = memory.address(array)
    _live[address] = array
    return address


def free(address: int) -> None:
    _live.pop(address, None)
    _pinned.pop(address, None)


def on_device(address: int) -> bool:
    return address >= memory.FIRST_GLOBAL


def piece(address: int, size: int) -> np.ndarray:
    """The bytes at an address of the device or the host."""
    if not size:
        return np.empty(0, np.uint8)
    if not on_device(address):
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
    found = memory.SPACE.find(address)
    assert found is not None and address + size <= found.start + found.size, f"no memory of {size} bytes at {address:#x}"
    return memory.raw_bytes(found.owner())[address - found.start:][:size]


def elements(address: int, dtype: Any, count: int) -> np.ndarray:
    return piece(address, count * np.dtype(dtype).itemsize).view(dtype)


def do(stream: int, what: tuple, work: Callable) -> None:
    """Do the work, or keep it where the stream is captured."""
    LOG.append(what)
    if stream in _captures:
        _captures[stream].append(work)
    else:
        work()


def copy(into: int, source: int, size: int, kind: int = 4, stream: int = 0) -> None:
    name = "hd"[on_device(source)] + "2" + "hd"[on_device(into)]
    do(stream, (name, size), lambda: np.copyto(piece(into, size), piece(source, size).copy()))


def fill(address: int, value: int, size: int, stream: int = 0) -> None:
    do(stream, ("memset", size), lambda: piece(address, size).fill(value))


def pinned(size: int, flags: int) -> int:
    array = np.empty(max(size, 1), np.uint8)
    _pinned[array.ctypes.data] = array
    return array.ctypes.data


# the runtime and the driver ----------------------------------------------------------------------------------------------

def waited(*args: Any) -> None:
    LOG.append(("wait",))


def end_capture(stream: int) -> int:
    graph = handle()
    _graphs[graph] = _captures.pop(stream)
    return graph


def launch_graph(graph: int, stream: int) -> None:
    work = list(_graphs[graph])
    do(stream, ("graph", len(work)), lambda: [step() for step in work])


def load(image: bytes) -> int:
    found = handle()
    _modules[found] = module.Module(Compiled(bytes(image).decode().rstrip("\0"), "", {}, "", "cupy.cu"), "sm_90")
    return found


def function_of(loaded: int, name: str) -> int:
    found = handle()
    _functions[found] = _modules[loaded][name]
    return found


def launch(f: int, gx: int, gy: int, gz: int, bx: int, by: int, bz: int, shared: int, stream: int, params: int,
           extra: int = 0) -> None:
    kernel = _functions[f]
    wanted = kernel.entry.params
    pointers = (ctypes.c_void_p * len(wanted)).from_address(params) if wanted else []
    args = [ctypes.string_at(p, parameter.size) for p, parameter in zip(pointers, wanted, strict=True)]
    do(stream, ("kernel", kernel.name), lambda: kernel.launch((gx, gy, gz), (bx, by, bz), args, shared, CHECKS))


def set_limit(f: int, attribute: int, value: int) -> None:
    _limits[f] = value


def describe_device(device: int) -> dict:
    return {**properties(device), "maxThreadsPerBlock": 1024, "maxGridSize": (2**31 - 1, 65535, 65535), "pciBusID": 0,
            "maxThreadsPerMultiProcessor": 2048, "sharedMemPerMultiprocessor": 228 << 10, "regsPerMultiprocessor": 65536}


HANDLES = "streamCreate streamCreateWithFlags streamCreateWithPriority eventCreate eventCreateWithFlags"
IGNORED = """_ensure_context streamDestroy streamQuery eventDestroy eventRecord eventQuery streamWaitEvent graphUpload
graphDestroy graphExecDestroy check_status _deviceEnsurePeerAccess"""
RUNTIME = {
    "getDevice": lambda: getattr(_local, "device", 0), "setDevice": lambda n: setattr(_local, "device", n),
    "getDeviceCount": lambda: COUNT, "driverGetVersion": lambda: 13000, "runtimeGetVersion": lambda: 13000,
    "deviceGetAttribute": lambda kind, device: {75: 9, 76: 0, 10: 32, 16: 132, 39: 2048}.get(kind, 1024),
    "getDeviceProperties": describe_device, "memGetInfo": lambda: (TOTAL_BYTES, TOTAL_BYTES),
    "deviceCanAccessPeer": lambda a, b: 0, "malloc": malloc, "free": free, "hostAlloc": pinned, "freeHost": free,
    "memcpy": copy, "memcpyAsync": copy, "memset": fill, "memsetAsync": fill,
    "memcpyPeer": lambda into, i, source, s, size: copy(into, source, size),
    "memcpyPeerAsync": lambda into, i, source, s, size, stream: copy(into, source, size, 4, stream),
    "pointerGetMemoryType": lambda address: DEVICE if on_device(address) else HOST * (address in _pinned),
    "pointerGetAttributes": lambda a: runtime.PointerAttributes(runtime.getDevice(), a, 0, DEVICE if on_device(a) else 0),
    "streamSynchronize": waited, "deviceSynchronize": waited, "eventSynchronize": waited, "eventElapsedTime": lambda a, b: 1.0,
    "streamBeginCapture": lambda stream, *mode: _captures.update({stream: []}), "streamEndCapture": end_capture,
    "streamIsCapturing": lambda stream: int(stream in _captures), "graphInstantiate": lambda graph: graph,
    "graphLaunch": launch_graph, **dict.fromkeys(HANDLES.split(), handle), **dict.fromkeys(IGNORED.split(), ignored)}
DRIVER = {"moduleLoadData": load, "moduleGetFunction": function_of, "moduleUnload": ignored, "launchKernel": launch,
          "funcSetAttribute": set_limit, "funcGetAttribute": lambda kind, f: _limits.get(f, 48 << 10), "ctxGetCurrent": lambda: 1,
          "ctxGetDevice": RUNTIME["getDevice"], "ctxSetCurrent": ignored,
          "occupancyMaxActiveBlocksPerMultiprocessor": lambda *a: 2}


# cuBLAS and Thrust -------------------------------------------------------------------------------------------------------

TYPES = {"s": "f4", "d": "f8", "c": "c8", "z": "c16", 0: "f4", 1: "f8", 2: "f2", 4: "c8", 5: "c16"}


def matrix(address: int, dtype: str, rows: int, columns: int, lead: int) -> np.ndarray:
    """A matrix in cuBLAS's order: column behind column."""
    flat = elements(address, dtype, (columns - 1) * lead + rows)
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), (flat.itemsize, flat.itemsize * lead))


def product(ta: int, tb: int, m: int, n: int, k: int, alpha: int, a: tuple, b: tuple, beta: int, c: tuple) -> None:
    """C = alpha op(A) op(B) + beta C; a, b and c are (address, dtype, leading dimension)."""
    wide = {"f2": "f4"}.get(c[1], c[1])
    left = turned(matrix(a[0], a[1], *((m, k) if not ta else (k, m)), a[2]), ta).astype(wide)
    right = turned(matrix(b[0], b[1], *((k, n) if not tb else (n, k)), b[2]), tb).astype(wide)
    y, scale, kept = matrix(c[0], c[1], m, n, c[2]), elements(alpha, wide, 1)[0], elements(beta, wide, 1)[0]
    y[...] = scale * (left @ right) + (kept * y if kept else 0)


def turned(x: np.ndarray, how: int) -> np.ndarray:
    return (x, x.T, x.conj().T)[how]


class Cublas(types.ModuleType):
    """The functions of cuBLAS that CuPy calls through Python."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("CUBLAS_"):
            return {"CUBLAS_OP_T": 1, "CUBLAS_OP_C": 2}.get(name, 0)
        if name in ("create", "getStream", "getMathMode", "getPointerMode"):
            return lambda *args: 0
        if name in ("destroy", "setStream", "setMathMode", "setPointerMode"):
            return ignored
        found = re.fullmatch(r"([sdcz])(gemm|gemmBatched|geam|dot|dotu|gemv|ger|geru)", name)
        if not found:
            raise AttributeError(name)
        return lambda handle, *args: self.call(found[2], TYPES[found[1]], *args)

    def call(self, name: str, t: str, *args: Any) -> None:
        LOG.append((name,))
        if runtime.streamIsCapturing(sys.modules["cupy"].cuda.get_current_stream().ptr):
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        getattr(self, name.rstrip("u") if name != "gemm" else "multiplied")(t, *args)

    def multiplied(self, t, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        product(ta, tb, m, n, k, alpha, (a, t, lda), (b, t, ldb), beta, (c, t, ldc))

    def gemmEx(self, handle, ta, tb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, compute, algorithm):
        product(ta, tb, m, n, k, alpha, (a, TYPES[a_type], lda), (b, TYPES[b_type], ldb), beta, (c, TYPES[c_type], ldc))

    def gemmStridedBatchedEx(self, handle, ta, tb, m, n, k, alpha, a, a_type, lda, sa, b, b_type, ldb, sb, beta, c, c_type, ldc,
                             sc, count, compute, algorithm):
        (x, p), (y, q), (z, r) = [(TYPES[kind], np.dtype(TYPES[kind]).itemsize * step)
                                  for kind, step in ((a_type, sa), (b_type, sb), (c_type, sc))]
        for i in range(count):
            product(ta, tb, m, n, k, alpha, (a + i * p, x, lda), (b + i * q, y, ldb), beta, (c + i * r, z, ldc))

    def gemmBatched(self, t, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, count):
        for x, y, z in zip(*(elements(p, "u8", count).tolist() for p in (a, b, c)), strict=True):
            product(ta, tb, m, n, k, alpha, (x, t, lda), (y, t, ldb), beta, (z, t, ldc))

    def geam(self, t, ta, tb, m, n, alpha, a, lda, beta, b, ldb, c, ldc):
        matrix(c, t, m, n, ldc)[...] = elements(alpha, t, 1) * turned(matrix(a, t, *((m, n) if not ta else (n, m)), lda), ta)

    def dot(self, t, n, x, step_x, y, step_y, result):
        a, b = elements(x, t, (n - 1) * step_x + 1)[::step_x], elements(y, t, (n - 1) * step_y + 1)[::step_y]
        elements(result, t, 1)[...] = a @ b

    def gemv(self, t, ta, m, n, alpha, a, lda, x, step_x, beta, y, step_y):
        left = turned(matrix(a, t, m, n, lda), ta)
        rows, columns = left.shape
        out = elements(y, t, (rows - 1) * step_y + 1)[::step_y]
        kept, given = elements(beta, t, 1)[0], elements(x, t, (columns - 1) * step_x + 1)[::step_x]
        out[...] = elements(alpha, t, 1) * (left @ given) + (kept * out if kept else 0)

    def ger(self, t, m, n, alpha, x, step_x, y, step_y, a, lda):
        a = matrix(a, t, m, n, lda)
        a += elements(alpha, t, 1) * np.outer(elements(x, t, (m - 1) * step_x + 1)[::step_x],
                                              elements(y, t, (n - 1) * step_y + 1)[::step_y])


def sort(dtype, data, keys, shape):
    x = elements(data, dtype, int(np.prod(shape))).reshape(shape)
    x[...] = np.sort(x, axis=-1, kind="stable")


def argsort(dtype, places, data, keys, shape):
    x = elements(data, dtype, int(np.prod(shape))).reshape(shape)
    elements(places, "i8", x.size).reshape(shape)[...] = np.argsort(x, axis=-1, kind="stable")
    x[...] = np.sort(x, axis=-1, kind="stable")


def lexsort(dtype, places, keys, count, n):
    elements(places, "i8", n)[...] = np.lexsort(elements(keys, dtype, count * n).reshape(count, n))


def install() -> None:
    """Put all of it in its place, and import CuPy."""
    assert "cupy" not in sys.modules, "real_cupy: expected to be imported before CuPy"
    module.fits = lambda kind, declared: True               # arguments come as bytes
    for place, functions in ((runtime, RUNTIME), (driver, DRIVER)):
        for name, function in functions.items():
            replace(place, name, function)
    driver.get_build_version = lambda: 13000
    from cupy_backends.cuda import libs
    libs.cublas = sys.modules["cupy_backends.cuda.libs.cublas"] = Cublas("cupy_backends.cuda.libs.cublas")
    from cupy.cuda import thrust
    thrust.sort, thrust.argsort, thrust.lexsort = sort, argsort, lexsort
    atexit.register(gc.disable)                             # modules that are taken down must not be called


install()
