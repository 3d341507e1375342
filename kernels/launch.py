"""The one launcher: everything of ours that reaches a GPU goes through `launch`.

CUDA checks nothing about a launch: a Python float read as `float`, a strided view, an array of another device or an odd
address give wrong numbers, or a context that must be thrown away. So each argument is compared with the kernel's own signature
first. Then the kernel runs on the current stream of the arrays' device: no copy, no synchronisation, nothing allocated.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NoReturn

import numpy

from gpugrad.arrays import module_of, short
from gpugrad.errors import ArgumentError, DeviceError, DtypeError, GpugradError
from gpugrad.kernels.load import Source
from gpugrad.kernels.record import note, open_logs
from gpugrad.kernels.signature import VECTOR_BYTES, Bound

GRID_LIMITS = (2**31 - 1, 65535, 65535)
BLOCK_LIMITS = (1024, 1024, 64)
THREADS_PER_BLOCK = 1024
SHARED_WITHOUT_ASKING = 48 << 10          # bytes of dynamic shared memory beyond which a kernel must be told


class LaunchError(GpugradError, RuntimeError):
    """The device refused a launch."""


def launch(source: Source, kernel: str, template_args: tuple, grid: int | tuple[int, ...], block: int | tuple[int, ...],
           args: Sequence, *, shared: int = 0, reads: Iterable | None = None, writes: Iterable | None = None, flops: int = 0,
           strided: Sequence[str] = ()) -> None:
    """Run `kernel<template_args>` of a .cu file on the current stream of the arrays' device.

    template_args   dtypes (x.dtype), ints, bools: what the kernel's template takes
    grid, block     ints or up to three; the grid's big dimension is x (2^31-1 blocks; y and z take 65535)
    args            one for each parameter: arrays for pointers (None where the kernel says null), numbers for the rest
    shared          bytes of dynamic shared memory a block
    reads, writes   for the log: arrays (counted whole) or numbers of bytes; by default every `const T*`, and every `T*`
    flops           for the log
    strided         parameters whose arrays may have any strides, since the kernel is told them

    Returns at once where every array to be written is empty. Raises DtypeError, DeviceError or ArgumentError before anything
    runs, KernelCompileError or MissingExtraError on the first use, LaunchError where the device refuses.
    """
    instance = source.bind(kernel, template_args)
    where, parameters = instance.where, instance.parameters
    if len(args) != len(parameters):
        args = with_defaults(where, parameters, args)
    values, arrays, written = [], [], instance.never_empty
    for p, value in zip(parameters, args):
        if not p.pointer:
            values.append(p.convert(value, where))
        elif value is not None:
            check_array(where, p, value, strided)
            arrays.append(value)
            values.append(value)
            written = written or (p.written and value.size > 0)
        elif p.nullable:
            values.append(None)
        else:
            raise ArgumentError(f"{where} needs an array as `{p.name}`, got None. Pass one, or declare it `= nullptr`.")
    xp, device = home(where, parameters, args, arrays)
    if not written:
        return
    grid, block = shape_of(where, grid, block)
    if xp.cuda.runtime.getDevice() == device:
        run(source.function(xp, device, instance.expression), where, grid, block, tuple(values), shared)
    else:
        with xp.cuda.Device(device):
            run(source.function(xp, device, instance.expression), where, grid, block, tuple(values), shared)
    if open_logs():
        pointers = [(p, a) for p, a in zip(parameters, args) if p.pointer]
        note(instance.expression, "kernel", grid, block,
             [a for p, a in pointers if not p.written] if reads is None else reads,
             [a for p, a in pointers if p.written] if writes is None else writes, flops)


def run(function: Any, where: str, grid: tuple, block: tuple, values: tuple, shared: int) -> None:
    try:
        if shared > SHARED_WITHOUT_ASKING and function.max_dynamic_shared_size_bytes < shared:
            function.max_dynamic_shared_size_bytes = shared
        function(grid, block, values, shared_mem=shared)
    except Exception as error:
        if type(error).__name__ != "CUDADriverError":      # CuPy's class for what cuLaunchKernel and cuFuncSetAttribute answer
            raise
        raise LaunchError(f"{where} needs a launch that the device accepts, got {str(error).splitlines()[0]} for grid {grid}, "
                          f"block {block}, {shared} bytes of shared memory. Use smaller blocks or tiles.") from error


def check_array(where: str, p: Bound, array: Any, strided: Sequence[str]) -> None:
    """One array against the parameter it is passed as."""
    try:
        if (array.dtype == p.dtype or p.dtype is None) and array.data.ptr % p.alignment == 0 \
                and (array.flags.c_contiguous or p.name in strided):
            return
    except AttributeError:
        pass
    refuse(where, p, array, p.name in strided)


def refuse(where: str, p: Bound, array: Any, any_strides: bool) -> NoReturn:
    if isinstance(array, numpy.ndarray | numpy.generic):
        raise DeviceError(f"{where} needs an array on the GPU as `{p.name}`, got a NumPy array of shape {array.shape}. "
                          "Move it with gpugrad.asarray(x, device='cuda').")
    if not all(hasattr(array, name) for name in ("dtype", "flags", "data", "device")):
        raise DtypeError(f"{where} needs a CuPy array as `{p.name}`, got {type(array).__name__} {short(array)}. "
                         "Pass the array of a Tensor as x.data.")
    if p.dtype is not None and array.dtype != p.dtype:
        raise DtypeError(f"{where} needs {p.dtype} as `{p.name}`, got {array.dtype}. Use x.astype({str(p.dtype)!r}).")
    if not (array.flags.c_contiguous or any_strides):
        raise ArgumentError(f"{where} needs a contiguous array as `{p.name}`, got strides {array.strides}. "
                            "Use gpugrad.ascontiguous(x).")
    raise ArgumentError(f"{where} needs `{p.name}` at a multiple of {p.alignment} bytes, got address {array.data.ptr:#x}. "
                        "Choose the kernel by vector_width(x).")


def home(where: str, parameters: Sequence[Bound], args: Sequence, arrays: list) -> tuple[Any, int]:
    """(array module, device id) that all arrays share."""
    if not arrays:
        raise ArgumentError(f"{where} needs an array to know its device, got none. Pass one.")
    first = arrays[0]
    xp, device = module_of(first), first.device.id
    for array in arrays:
        if array is not first and (array.device.id != device or type(array) is not type(first) and module_of(array) is not xp):
            found = ", ".join(f"{p.name} on cuda:{a.device.id}" for p, a in zip(parameters, args) if p.pointer and a is not None)
            raise DeviceError(f"{where} needs all arrays on one device, got {found}. Use gpugrad.asarray(x, device=...).")
    return xp, device


def with_defaults(where: str, parameters: Sequence[Bound], args: Sequence) -> tuple:
    """The arguments, with trailing ones taken from `= value` in the signature."""
    missing = parameters[len(args):]
    if len(args) > len(parameters) or any(p.parameter.default is None for p in missing):
        names = ", ".join(f"{p.parameter.base}{'*' * p.parameter.pointers} {p.name}" for p in parameters)
        raise ArgumentError(f"{where} needs {len(parameters)} arguments ({names}), got {len(args)}. Pass one for each parameter.")
    return (*args, *(constant(where, p) for p in missing))


def constant(where: str, p: Bound) -> Any:
    text = p.parameter.default or ""
    if p.pointer:
        return None
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text.rstrip("fF")) if p.dtype is not None and p.dtype.kind == "f" else int(text.rstrip("uUlL"), 0)
    except ValueError:
        raise ArgumentError(f"{where} needs `{p.name}`, whose default {text!r} is no number, got nothing. Pass it.") from None


@lru_cache(maxsize=1024)
def shape_of(where: str, grid: int | tuple[int, ...], block: int | tuple[int, ...]) -> tuple[tuple, tuple]:
    """Grid and block as three ints each, within CUDA's limits."""
    grid, block = three(where, "grid", grid, GRID_LIMITS), three(where, "block", block, BLOCK_LIMITS)
    if math.prod(block) > THREADS_PER_BLOCK:
        raise ArgumentError(f"{where} needs at most {THREADS_PER_BLOCK} threads a block, got {block}. Use smaller blocks.")
    return grid, block


def three(where: str, what: str, shape: int | tuple[int, ...], limits: tuple[int, int, int]) -> tuple[int, int, int]:
    sizes = (shape,) if isinstance(shape, int | numpy.integer) else tuple(shape)
    padded = (*(int(n) for n in sizes), 1, 1)[:3]
    if not 1 <= len(sizes) <= 3 or not all(1 <= n <= most for n, most in zip(padded, limits)):
        raise ArgumentError(f"{where} needs a {what} of 1 to {limits}, got {shape}. Put the big dimension on x.")
    return padded                                                       # type: ignore[return-value]


def vector_width(*arrays: Any, length: int | None = None, most: int | None = None) -> int:
    """How many elements one load may take: the most, in powers of two, within 16 bytes, at these addresses, without a tail.

    arrays   those that the kernel reads or writes by vectors; None is passed over
    length   what each vector must stay within, as the row length; by default the size of each array
    most     the widest width that the kernel is instantiated for
    return   8, 4, 2 or 1: 4 for aligned float32, 2 for float64, 8 for float16
    """
    present = [a for a in arrays if a is not None]
    width = VECTOR_BYTES // max((a.dtype.itemsize for a in present), default=VECTOR_BYTES)
    for array in present:
        address = array.data.ptr // array.dtype.itemsize if array.data.ptr % array.dtype.itemsize == 0 else 1
        width = math.gcd(width, address, array.size if length is None else length)
    return width if most is None else min(width, 1 << (most.bit_length() - 1))


def grid_for(n: int, block: int, per_thread: int = 1, most: int | None = None) -> int:
    """Blocks for n elements: ceil(n / (block * per_thread)); at most `most`, where the kernel strides over the grid.

    Raises ArgumentError beyond 2^31-1 blocks. n = 0 gives 1 block: the launcher returns early where there is nothing to write.
    """
    blocks = max(1, -(-n // (block * per_thread)))
    if most is not None:
        return min(blocks, most)
    if blocks > GRID_LIMITS[0]:
        raise ArgumentError(f"grid_for: expected at most {GRID_LIMITS[0]} blocks, got {blocks} for {n} elements. "
                            "Give each thread more of them.")
    return blocks
