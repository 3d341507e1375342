"""Matrix products by cuBLASLt: any leading dimension, accumulation, fused epilogues, no copies, fit for capture in a CUDA graph.

    matmul(x, w, out=y, epilogue="bias", vector=b)                      y  = x w + b
    matmul(dy, w.T, out=dx)                                             dx = dy wᵀ
    matmul(x.T, dy, out=dw, beta=1, epilogue="sum_b", vector=db)        dw += xᵀ dy, db = the sum of dy over its rows

CuPy's own products refuse to run inside a stream capture, copy sliced operands, and cannot accumulate. `why_not` says beforehand
whether cuBLASLt takes a product; `matmul` raises LtUnsupportedError with that reason, `product` goes to CuPy instead. Epilogues:

    bias                vector is added to each row                     relu, gelu     then the function (gelu: the tanh form)
    ..._aux             aux keeps what the pullback needs, for          drelu, dgelu   times the slope found in aux
    ..._bgrad           vector becomes the sum over rows of out         sum_a, sum_b   vector becomes a, or b, summed over K

A vector that is written is overwritten, whatever beta is. The mask that relu_aux writes is for drelu alone: its layout is Lt's.
The ReLU epilogues turn NaN into 0, where numpy.maximum, and our own kernels, keep NaN; they are refused unless nan_to_zero=True.
With beta, drelu gives drelu(alpha a b + beta c): right where c is the gradient so far of the same, not yet masked, output.
"""
from __future__ import annotations

import ctypes
import importlib
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

from gpugrad.arrays import module_of
from gpugrad.errors import ArgumentError, DeviceError
from gpugrad.kernels.lt_library import REDUCTIONS, Algorithm, Handle, Layout, Library, LtError, Preference, Product, library
from gpugrad.kernels.lt_plan import LtUnsupportedError, Plan, aux_shape, batch_axes, check_shapes, plan
from gpugrad.kernels.record import note, open_logs

__all__ = ["LtUnsupportedError", "WORKSPACE_ALIGNMENT", "WORKSPACE_BYTES", "aux_shape", "batch_axes", "matmul", "plan",
           "product", "reasons", "status", "why_not"]

WORKSPACE_BYTES = 32 << 20              # what cuBLAS itself takes on Hopper
WORKSPACE_ALIGNMENT = 256
SCALES = {"float32": ctypes.c_float, "float64": ctypes.c_double}

_handles: dict[tuple[Any, int], Handle] = {}
_prepared: dict[tuple, Prepared] = {}
_workspaces: dict[tuple[Any, int, int], Any] = {}
_reasons: Counter[str] = Counter()


@dataclass(slots=True)
class Prepared:
    """A product ready to run: descriptors and an algorithm. The lock keeps two threads' pointers apart in one descriptor."""

    plan: Plan
    handle: Handle
    product: Product
    layouts: tuple[Layout, ...]
    algorithm: Algorithm
    lock: Any


def matmul(a: Any, b: Any, out: Any, *, alpha: float = 1.0, beta: float = 0.0, c: Any = None, epilogue: str | None = None,
           vector: Any = None, aux: Any = None, compute: str | None = None, nan_to_zero: bool = False,
           workspace: Any = None) -> Any:
    """out = epilogue(alpha a @ b + beta c), on the current stream of the arrays' device.

    a, b       (..., M, K) and (..., K, N), float32, float64, float16 or bfloat16, rows or columns contiguous
    out        (..., M, N), same dtype, or float32 for half precision; may not overlap a or b
    c          like out; by default out itself, so that beta=1 accumulates. Not read where beta = 0.
    epilogue   see above; vector and aux as it says, aux of aux_shape(epilogue, rows, N)
    compute    None: full precision; "tf32" or "bf16": float32 inputs rounded to that, summed in float32
    workspace  uint8, at a multiple of 256 bytes, the caller's for as long as products on this stream, or a graph, use it; by
               default one of WORKSPACE_BYTES per device and stream, made at the first call: make that call before a capture
    return     out

    alpha and beta are read on the host: a captured graph repeats their values. Nothing is copied or synchronised. An algorithm is
    chosen once for each shape, layout, dtype, alignment and epilogue. Raises LtUnsupportedError with the reason where cuBLASLt is
    missing or has no way, ShapeError, DtypeError, DeviceError and ArgumentError for wrong arguments.
    """
    c = out if c is None else c
    arrays = [x for x in (a, b, c, out, vector, aux) if x is not None]
    xp, device = home(arrays)
    if out.size == 0 and epilogue is None:
        check_shapes(a, b, out, c)
        return out
    if xp.cuda.runtime.getDevice() != device:
        with xp.cuda.Device(device):
            return matmul(a, b, out, alpha=alpha, beta=beta, c=c, epilogue=epilogue, vector=vector, aux=aux, compute=compute,
                          nan_to_zero=nan_to_zero, workspace=workspace)
    stream = xp.cuda.get_current_stream().ptr
    room = own_workspace(xp, device, stream) if workspace is None else workspace
    if room.data.ptr % WORKSPACE_ALIGNMENT:
        raise ArgumentError(f"matmul: expected a workspace at a multiple of {WORKSPACE_ALIGNMENT} bytes, got {room.data.ptr:#x}. "
                            "Allocate it by itself.")
    ready = prepared(xp, device, a, b, out, c, epilogue, vector, aux, compute, nan_to_zero, room.nbytes)
    scale = SCALES[ready.plan.scale]
    left, right = (b, a) if ready.plan.swapped else (a, b)
    with ready.lock:
        point(ready.product, vector, aux)
        pointers = (left.data.ptr, right.data.ptr, c.data.ptr, out.data.ptr)
        ready.handle.multiply(ready.product, ready.layouts, pointers, scale(alpha), scale(beta), ready.algorithm,
                              (room.data.ptr, room.nbytes), stream)
    if open_logs():
        record(ready.plan, epilogue, a, b, c if beta else None, out, vector, aux)
    return out


def why_not(a: Any, b: Any, out: Any, *, c: Any = None, epilogue: str | None = None, vector: Any = None, aux: Any = None,
            compute: str | None = None, nan_to_zero: bool = False) -> str | None:
    """Why cuBLASLt cannot take this product, or None where it can: matmul's arguments, nothing is run."""
    try:
        xp, device = home([x for x in (a, b, out, c, vector, aux) if x is not None])
        with xp.cuda.Device(device):
            prepared(xp, device, a, b, out, out if c is None else c, epilogue, vector, aux, compute, nan_to_zero,
                     WORKSPACE_BYTES)
    except LtUnsupportedError as error:
        return str(error)
    return None


def product(a: Any, b: Any, out: Any, *, alpha: float = 1.0, beta: float = 0.0, compute: str | None = None) -> Any:
    """out = alpha a @ b + beta out by cuBLASLt, or by CuPy where it has no way; `reasons` counts why."""
    try:
        return matmul(a, b, out, alpha=alpha, beta=beta, compute=compute)
    except LtUnsupportedError as error:
        _reasons[str(error)] += 1
    xp, _ = home([a, b, out])
    gemm = cupy_gemm(xp) if beta and a.ndim == b.ndim == 2 and out.dtype.char in "fd" and out.flags.c_contiguous else None
    if gemm is not None and a.shape[1]:
        gemm("N", "N", a, b, out=out, alpha=alpha, beta=beta)
    elif alpha == 1 and beta == 0 and out.dtype == a.dtype:
        xp.matmul(a, b, out=out)
    else:
        total = xp.matmul(a, b).astype(out.dtype, copy=False)
        total *= alpha
        if beta:
            out *= beta
            out += total
        else:
            out[...] = total
    return by_cupy(out, a, b, *([out] if beta else []))


def cupy_gemm(xp: Any) -> Any:
    """CuPy's own product with beta, or None where a module like CuPy has none."""
    try:
        return importlib.import_module(xp.__name__ + ".cublas").gemm
    except ModuleNotFoundError:
        return None


def by_cupy(out: Any, a: Any, b: Any, *more: Any) -> Any:
    """Note a product that CuPy has made in the launch log; more: what else was read. Returns out."""
    if open_logs():
        note("gemm", "cupy", reads=(a, b, *more), writes=(out,), flops=2 * out.size * (a.shape[-1] if a.ndim else 1))
    return out


def status() -> str:
    """One line for `gpugrad info`: the library's version and place, or why there is none."""
    try:
        return str(library())
    except LtError as error:
        return str(error)


def reasons() -> dict[str, int]:
    """Why products went to CuPy instead so far, and how often."""
    return dict(_reasons)


def prepared(xp: Any, device: int, a: Any, b: Any, out: Any, c: Any, epilogue: str | None, vector: Any, aux: Any,
             compute: str | None, nan_to_zero: bool, workspace_bytes: int) -> Prepared:
    """The product's descriptors and algorithm, from the cache where its shape, layout, alignment and epilogue were met before."""
    arrays = (a, b, c, out, vector, aux)
    key = (xp, device, epilogue, compute, nan_to_zero, workspace_bytes,
           *((x.shape, x.strides, x.dtype, alignment(x)) if x is not None else None for x in arrays))
    found = _prepared.get(key)
    if found is None:
        one = plan(a, b, out, c, epilogue=epilogue, vector=vector, aux=aux, compute=compute, nan_to_zero=nan_to_zero)
        found = _prepared[key] = prepare(handle_of(xp, device), one, a, b, out, c, vector, aux, workspace_bytes)
    return found


def prepare(handle: Handle, one: Plan, a: Any, b: Any, out: Any, c: Any, vector: Any, aux: Any, workspace_bytes: int) -> Prepared:
    """Descriptors of a Plan, and the algorithm that cuBLASLt's heuristics choose."""
    described, layouts = describe(handle.library, one)
    point(described, vector, aux)                                       # the heuristics ask how these two are aligned
    preference = Preference(handle.library)
    preference["MAX_WORKSPACE_BYTES"], preference["REDUCTION_SCHEME_MASK"] = workspace_bytes, REDUCTIONS
    left, right = (b, a) if one.swapped else (a, b)
    for name, x in zip("ABCD", (left, right, c, out)):
        preference[f"MIN_ALIGNMENT_{name}_BYTES"] = alignment(x)
    best = handle.best(described, layouts, preference)
    if best is None:
        raise LtUnsupportedError(f"cuBLASLt has no algorithm for {one}")
    return Prepared(one, handle, described, layouts, best.algo, threading.Lock())


def describe(lt: Any, one: Plan) -> tuple[Product, tuple[Layout, ...]]:
    """A Plan as cuBLASLt's own objects. Needs the library, but no GPU."""
    described = Product(lt, one.compute, one.scale)
    described["TRANSA"], described["TRANSB"] = int(one.transpose_a), int(one.transpose_b)
    described["EPILOGUE"] = one.epilogue
    if one.aux_ld:
        described["EPILOGUE_AUX_LD"] = one.aux_ld
    return described, tuple(Layout(lt, m.dtype, m.rows, m.cols, m.ld, one.batch, m.batch_stride)
                            for m in (one.a, one.b, one.c, one.d))


def point(described: Product, vector: Any, aux: Any) -> None:
    if vector is not None:
        described["BIAS_POINTER"] = vector.data.ptr
    if aux is not None:
        described["EPILOGUE_AUX_POINTER"] = aux.data.ptr


def alignment(x: Any) -> int:
    """The power of two, at most 256, that divides the address of every matrix of a batch."""
    address = x.data.ptr | WORKSPACE_ALIGNMENT
    for step, size in zip(x.strides[:-2], x.shape[:-2]):
        address |= step if size > 1 else 0
    return address & -address


def handle_of(xp: Any, device: int) -> Handle:
    """The handle of a device, which must be the current one. LtUnsupportedError where cuBLASLt is missing or finds no GPU."""
    try:
        return _handles.get((xp, device)) or _handles.setdefault((xp, device), Handle(library_of(xp)))
    except LtError as error:
        raise LtUnsupportedError(str(error)) from error


def library_of(xp: Any) -> Library:
    """The library behind an array module: a simulated device brings its own."""
    return Library(xp.cublaslt) if hasattr(xp, "cublaslt") else library()


def own_workspace(xp: Any, device: int, stream: int) -> Any:
    key = (xp, device, stream)
    if key not in _workspaces:
        _workspaces[key] = xp.empty(WORKSPACE_BYTES, "uint8")
    return _workspaces[key]


def home(arrays: list) -> tuple[Any, int]:
    """(array module, device id) that all arrays share."""
    xps = {module_of(x) for x in arrays}
    if len(xps) > 1 or not hasattr(xp := xps.pop(), "cuda"):
        raise DeviceError(f"matmul: expected arrays of one GPU, got {', '.join(type(x).__module__ for x in arrays)}. "
                          "Move them with gpugrad.asarray(x, device='cuda').")
    devices = [x.device.id for x in arrays]
    if len({*devices}) > 1:
        raise DeviceError(f"matmul: expected arrays of one GPU, got cuda:{', cuda:'.join(map(str, devices))}. "
                          "Move them with gpugrad.asarray(x, device=...).")
    return xp, devices[0]


def record(one: Plan, epilogue: str | None, a: Any, b: Any, c: Any, out: Any, vector: Any, aux: Any) -> None:
    """The launch in the log: vectors and aux count as read or written as the epilogue says."""
    name = epilogue or ""
    reads, writes = [a, b, c], [out]
    (writes if "bgrad" in name or "sum" in name else reads).append(vector)
    (reads if name.startswith("d") else writes).append(aux)
    operations = f"{'T' if one.transpose_a else 'N'}{'T' if one.transpose_b else 'N'}"
    note(f"gemm_{operations} {one.d.dtype}{' ' * bool(name)}{name}", "cublaslt", reads=reads, writes=writes, flops=one.flops)
