"""PTX types as NumPy dtypes, and how a register of one type is read or written as another."""

import numpy as np

_KINDS = {
    "pred": np.bool_,
    "b8": np.uint8, "u8": np.uint8, "s8": np.int8,
    "b16": np.uint16, "u16": np.uint16, "s16": np.int16, "f16": np.float16, "bf16": np.uint16,
    "b32": np.uint32, "u32": np.uint32, "s32": np.int32, "f32": np.float32,
    "f16x2": np.uint32, "bf16x2": np.uint32, "tf32": np.uint32, "u16x2": np.uint32, "s16x2": np.uint32,
    "e4m3x2": np.uint16, "e5m2x2": np.uint16, "e3m2x2": np.uint16, "e2m3x2": np.uint16, "e2m1x2": np.uint8, "f32x2": np.uint64,
    "b128": np.complex128,  # 16 bytes that NumPy moves as one; nobody computes with them
    "b64": np.uint64, "u64": np.uint64, "s64": np.int64, "f64": np.float64,
}
NUMPY: dict[str, np.dtype] = {name: np.dtype(kind) for name, kind in _KINDS.items()}
UNSIGNED: dict[int, np.dtype] = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
SIGNED: dict[int, np.dtype] = {size: np.dtype(f"i{size}") for size in (1, 2, 4, 8)}


def storage(declared):
    """The dtype in which a register of this declared type is kept: floats as floats, the rest unsigned."""
    dtype = NUMPY[declared]
    return dtype if declared in ("pred", "f32", "f64", "b128") else UNSIGNED[dtype.itemsize]


def constant(value, kind, ptx_type):
    """An immediate as a NumPy scalar of a PTX type; kind says how PTX wrote it: "int", "f32" or "f64"."""
    dtype = NUMPY[ptx_type]
    if ptx_type == "pred":
        return np.bool_(value != 0)
    if kind != "int":
        exact = np.array([value], UNSIGNED[4 if kind == "f32" else 8]).view(NUMPY[kind])[0]
        if dtype.kind == "f":
            return dtype.type(exact)
        value = int(exact.view(UNSIGNED[exact.itemsize]))
    elif dtype.kind == "f" and ptx_type != "f16":
        return dtype.type(value)
    return np.array([value & (256**dtype.itemsize - 1)], UNSIGNED[dtype.itemsize]).view(dtype)[0]


def reinterpret(dtype):
    """A function that reads a value's bits as dtype, of the same or of a smaller size (the low bits)."""
    def cast(value):
        if value.dtype == dtype:
            return value
        if value.dtype.itemsize == dtype.itemsize:
            return value.view(dtype)
        bits = value if value.dtype.kind in "ui" else value.view(UNSIGNED[value.dtype.itemsize])
        return bits.astype(UNSIGNED[dtype.itemsize]).view(dtype)
    return cast


def widen(dtype):
    """A function that extends an integer to the register dtype: signed sources by their sign, others by zeros."""
    def cast(value):
        if value.dtype.kind == "i":
            return value.astype(SIGNED[dtype.itemsize]).view(dtype)
        bits = value if value.dtype.kind == "u" else value.view(UNSIGNED[value.dtype.itemsize])
        return bits.astype(UNSIGNED[dtype.itemsize]).view(dtype)
    return cast


def joined128(low, high):
    """Two 64-bit halves as one 128-bit value."""
    return np.stack(np.broadcast_arrays(low, high), axis=-1).view(np.complex128)[..., 0]


def halves128(value):
    """The two 64-bit halves of a 128-bit value, the low one first."""
    halves = np.ascontiguousarray(value).reshape(*value.shape, 1).view(np.uint64)
    return halves[..., 0].copy()[()], halves[..., 1].copy()[()]


def low_half(packed):
    return (packed & np.uint32(0xFFFF)).astype(np.uint16)


def high_half(packed):
    return (packed >> np.uint32(16)).astype(np.uint16)


def pack(low, high):
    """Two 16-bit values as one 32-bit word."""
    low, high = (half.view(np.uint16).astype(np.uint32) for half in (low, high))
    return low | (high << np.uint32(16))
