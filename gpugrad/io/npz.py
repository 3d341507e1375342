"""The npz format: a zip archive of .npy files. The tree's structure is JSON in one more entry, as bytes in a .npy.

NumPy's own reader allocates what a header asks for; this one first looks whether the file can hold it. Entries are never
unpacked to disk: their names are names in a dict and no paths.
"""
from __future__ import annotations

import io
import json
import math
import struct
import warnings
import zipfile
import zlib
from typing import Any, BinaryIO

import numpy
from numpy.lib import format as npy

from gpugrad.arrays import short
from gpugrad.errors import ArgumentError, FileFormatError

STRUCTURE = "gpugrad.json"
LARGEST_RATIO = 1040               # of unpacked to packed bytes: deflate reaches 1032


def write(file: BinaryIO, arrays: dict[str, numpy.ndarray], structure: Any) -> None:
    """One uncompressed entry for each array, dated 1980 as zip's calendar begins: equal trees give equal files."""
    if STRUCTURE in arrays:
        raise ArgumentError(f"save: expected other names than {STRUCTURE!r}, got an array of that name. Rename it.")
    described = numpy.frombuffer(json.dumps(structure, allow_nan=False).encode(), numpy.uint8)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in {**arrays, STRUCTURE: described}.items():
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as entry:
                npy.write_array(entry, array, allow_pickle=False)


def read(file: BinaryIO, size: int, path: str) -> tuple[dict[str, numpy.ndarray], Any]:
    """The arrays by name, and the structure or None. `size` is the file's length in bytes."""
    arrays: dict[str, numpy.ndarray] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(info.compress_size for info in archive.infolist()) > size:
                raise damaged(path, "entries that overlap")
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name in arrays:
                    raise damaged(path, f"two entries named {name!r}")
                if info.file_size > LARGEST_RATIO * info.compress_size + 1000:
                    raise damaged(path, f"{name!r} of {info.file_size} bytes packed into {info.compress_size}")
                arrays[name] = read_entry(archive, info, name, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, RuntimeError, ValueError, OSError,
            OverflowError, MemoryError, KeyError, IndexError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise damaged(path, f"{type(error).__name__}: {short(str(error))}") from error
    described = arrays.pop(STRUCTURE, None)
    if described is None:
        return arrays, None
    try:
        return arrays, json.loads(described.tobytes())
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"a structure that is no JSON ({short(str(error))})") from error


def read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, path: str) -> numpy.ndarray:
    """One .npy file; refused where it holds objects, whose pickles would run."""
    with archive.open(info) as entry:
        content = entry.read(info.file_size + 1)           # at most one byte more than it says it has
    if len(content) != info.file_size:
        raise damaged(path, f"{name!r} of {len(content)} bytes where {info.file_size} were named")
    head = io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")                 # a header in an old spelling is no header of ours
            version = npy.read_magic(head)
            reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
            if reader is None:
                raise ValueError(f"npy version {version}")
            shape, fortran, dtype = reader(head)
    except Exception as error:                             # NumPy parses the header as a Python literal: anything may come
        raise damaged(path, f"{name!r} that is no array ({short(str(error))})") from error
    if dtype.kind not in "biufc":
        raise FileFormatError(f"load: expected arrays of numbers in {path!r}, got {name!r} of dtype {short(dtype)}. Objects are "
                              "pickles, which could run code: they are never loaded. Save numbers.")
    count = math.prod(shape)
    if not all(n >= 0 for n in shape) or len(content) - head.tell() != count * dtype.itemsize:
        raise damaged(path, f"{name!r} of shape {short(shape)} and {dtype} in {len(content) - head.tell()} bytes")
    array = numpy.frombuffer(content, dtype, count, head.tell()).astype(dtype.newbyteorder("="))
    return array.reshape(shape, order="F" if fortran else "C")


def damaged(path: str, got: str) -> FileFormatError:
    return FileFormatError(f"load: expected a whole npz file, got {path!r} with {got}. Save or download it again.")
