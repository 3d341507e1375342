"""The safetensors format: 8 bytes with the header's length, a JSON header, the arrays' bytes one behind the other.

The header maps a name to {"dtype", "shape", "data_offsets": [begin, end]} and "__metadata__" to strings; ours holds the
tree's structure under "gpugrad". See https://huggingface.co/docs/safetensors: arrays lie in C order, little-endian, without gaps.
"""
from __future__ import annotations

import json
import math
import struct
import sys
from io import BufferedIOBase, RawIOBase
from typing import Any, BinaryIO

import numpy

from gpugrad.arrays import short
from gpugrad.errors import ArgumentError, DtypeError, FileFormatError

DTYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8", "I64": "<i8",
          "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8", "BF16": "<u2"}
NAMES = {numpy.dtype(spelling): name for name, spelling in DTYPES.items() if name != "BF16"}

LONGEST_HEADER = 100_000_000       # as the format's own readers have it


def write(file: BinaryIO, arrays: dict[str, numpy.ndarray], structure: Any) -> None:
    """Arrays in the order of their size in bytes an element, so that each starts at a multiple of it."""
    header: dict[str, Any] = {"__metadata__": {"gpugrad": json.dumps(structure, allow_nan=False)}}
    ordered = sorted(arrays.items(), key=lambda item: -item[1].itemsize)
    position = 0
    for name, array in ordered:
        dtype = NAMES.get(array.dtype.newbyteorder("<"))
        if name == "__metadata__":
            raise ArgumentError("save: expected other names than '__metadata__', got an array of that name. Rename it.")
        if dtype is None:
            raise DtypeError(f"save: expected a dtype that safetensors has, got {array.dtype} at {name!r}. Save as .npz.")
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [position, position + array.nbytes]}
        position += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)))
    file.write(text)
    for _, array in ordered:
        file.write(numpy.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)


def read(file: BufferedIOBase | RawIOBase, size: int, path: str) -> tuple[dict[str, numpy.ndarray], Any]:
    """The arrays by name, and the structure or None. `size` is the file's length in bytes."""
    header, start = read_header(file, size, path)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise damaged(path, f"metadata {short(metadata)}")
    entries = sorted((checked(name, entry, path) for name, entry in header.items()), key=lambda entry: entry[3:])
    arrays, position = {}, 0
    for name, dtype, shape, begin, end in entries:
        if begin != position or end > size - start:
            raise damaged(path, f"{name!r} at bytes {begin} to {end} of {size - start}, where {position} come before it")
        position = end
        array = numpy.empty(shape, DTYPES[dtype])
        if array.nbytes and file.readinto(array.reshape(-1).view("u1").data) != array.nbytes:
            raise damaged(path, f"an end of file inside {name!r}")
        arrays[name] = native(array, dtype)
    if position != size - start:
        raise damaged(path, f"{size - start - position} bytes behind the last array")
    structure = metadata.get("gpugrad")
    return {name: arrays[name] for name in header}, None if structure is None else parsed(structure, path)


def read_header(file: BufferedIOBase | RawIOBase, size: int, path: str) -> tuple[dict[str, Any], int]:
    """The header, and where the arrays' bytes start."""
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
    if not 2 <= length <= min(size - 8, LONGEST_HEADER):
        raise FileFormatError(f"load: expected an npz or safetensors file, got {path!r} of {size} bytes that begins with "
                              f"{prefix!r}. Pickles and other formats are not read.")
    text = file.read(length)
    if len(text) != length:
        raise damaged(path, "an end of file inside the header")
    header = parsed(text, path)
    if not isinstance(header, dict):
        raise damaged(path, f"a header that is {short(header)}")
    return header, 8 + length


def parsed(text: Any, path: str) -> Any:
    """JSON in which no name occurs twice."""
    def unique(pairs):
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name occurs twice")
        return found
    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, TypeError, RecursionError) as error:       # UnicodeDecodeError is a ValueError
        raise damaged(path, f"a header that is no JSON ({short(str(error))})") from error


def checked(name: str, entry: Any, path: str) -> tuple[str, str, tuple[int, ...], int, int]:
    """One entry of the header as (name, dtype, shape, begin, end), consistent in itself."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(n) is int and 0 <= n < 2**63 for n in (*shape, begin, end))
        fits = dtype in DTYPES and end - begin == math.prod(shape) * numpy.dtype(DTYPES[dtype]).itemsize
        if whole and fits and len(shape) <= 64:            # 64 is as many axes as NumPy has
            return name, dtype, shape, begin, end
    except (KeyError, TypeError, ValueError):
        pass
    raise damaged(path, f"entry {name!r}: {short(entry)}, where dtype, shape and bytes must agree, of {', '.join(DTYPES)}")


def native(array: numpy.ndarray, dtype: str) -> numpy.ndarray:
    """In the machine's byte order; bfloat16 as the float32 whose upper half it is."""
    if sys.byteorder == "big":
        array = array.astype(array.dtype.newbyteorder("="))
    if dtype == "BOOL":
        return array.view("u1") != 0
    if dtype != "BF16":
        return array
    return (array.astype(numpy.uint32) << 16).view(numpy.float32)


def damaged(path: str, got: str) -> FileFormatError:
    return FileFormatError(f"load: expected a whole safetensors file, got {path!r} with {got}. Save or download it again.")
