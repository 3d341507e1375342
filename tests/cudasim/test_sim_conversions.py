"""cvt between all numbers in every rounding, against exact arithmetic of fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest

FLOATS = {"f16": (11, -14, 15), "bf16": (8, -126, 127), "f32": (24, -126, 127), "f64": (53, -1022, 1023)}
INTEGERS = {f"{sign}{bits}": (sign == "s", bits) for sign in "su" for bits in (8, 16, 32, 64)}
REGISTER = {"f16": ("unsigned short", "h"), "bf16": ("unsigned short", "h"), "f32": ("float", "f"), "f64": ("double", "d"),
            **{kind: {8: ("int", "r"), 16: ("short", "h"), 32: ("int", "r"), 64: ("long long", "l")}[bits]
               for kind, (_, bits) in INTEGERS.items()}}
DTYPE = {"unsigned short": np.uint16, "float": np.float32, "double": np.float64, "int": np.int32, "short": np.int16,
         "long long": np.int64}
TO_WHOLE = {"rn": lambda q: round(q), "rz": math.trunc, "rm": math.floor, "rp": math.ceil}


def rounded(value, kind, mode):
    """A fraction as a float of a kind, itself as a fraction; infinities as floats."""
    precision, lowest, highest = FLOATS[kind]
    if value == 0:
        return value
    size = abs(value)
    exponent = max(math.frexp(float(size))[1] - 1 if size > Fraction(2) ** -1000 else lowest, lowest)
    exponent += size >= Fraction(2) ** (exponent + 1)
    exponent -= size < Fraction(2) ** exponent and exponent > lowest
    unit = Fraction(2) ** (exponent - precision + 1)
    out = TO_WHOLE[mode](value / unit) * unit
    largest = (2 - Fraction(2) ** (1 - precision)) * Fraction(2) ** highest
    if abs(out) > largest:
        towards_zero = mode == "rz" or (mode == "rm") == (value > 0) and mode != "rn"
        return math.copysign(1, value) * (largest if towards_zero else math.inf)
    return out


def whole(value, kind, mode):
    """A fraction as an integer of a kind, clamped to its range."""
    is_signed, bits = INTEGERS[kind]
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    return min(max(TO_WHOLE[mode](value), low), high)


def read(raw, kind):
    """What registers hold, as fractions."""
    if kind == "f16":
        return [Fraction(float(v)) for v in raw.view(np.float16)]
    if kind == "bf16":
        return [Fraction(float(v)) for v in (raw.astype(np.uint32) << 16).view(np.float32)]
    if kind in FLOATS:
        return [Fraction(float(v)) for v in raw]
    is_signed, bits = INTEGERS[kind]
    values = [int(v) & (1 << bits) - 1 for v in raw]
    return [Fraction(v - (1 << bits) if is_signed and v >> bits - 1 else v) for v in values]


def samples(kind, rng, n):
    """Registers with finite numbers of every size, ties among them."""
    dtype = DTYPE[REGISTER[kind][0]]
    if kind in INTEGERS:
        raw = rng.integers(0, 1 << 64, n, np.uint64) >> rng.integers(0, 64, n).astype(np.uint64)
        raw[: n // 8] = (1 << INTEGERS[kind][1] - 1) - 3 + np.arange(n // 8, dtype=np.uint64)
        raw = np.where(rng.random(n) < 0.5, raw, ~raw + np.uint64(1))
        if kind in ("s64", "u64"):
            raw[n // 2:] = (rng.integers(1, 1 << 12, n - n // 2).astype(np.uint64) * np.uint64(2) + np.uint64(1)) << rng.integers(
                0, 50, n - n // 2).astype(np.uint64)
        return raw.astype(dtype)
    x = rng.standard_normal(n) * 2.0 ** rng.integers(-30, 40, n)
    x[: n // 4] = rng.integers(-600, 600, n // 4) / 2
    x[n // 4: n // 3] = np.ldexp(2 * rng.integers(1, 1 << 11, n // 3 - n // 4) + 1, rng.integers(-26, 6, n // 3 - n // 4))
    with np.errstate(over="ignore"):
        if kind == "f16":
            x = np.clip(x, -65504, 65504).astype(np.float16).view(np.uint16)
        elif kind == "bf16":
            x = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return x.astype(dtype)


def matching(got, value, kind):
    """Whether a register holds a value, a fraction or an infinity."""
    if isinstance(value, float) or kind in FLOATS:
        if kind == "f16":
            return float(got.view(np.float16)) == float(value)
        return float((got.astype(np.uint32) << 16).view(np.float32) if kind == "bf16" else got) == float(value)
    return read(np.array([got]), kind)[0] == value


PAIRS = [(result, source, mode) for result in (*FLOATS, *INTEGERS) for source in (*FLOATS, *INTEGERS) for mode in TO_WHOLE
         if (result in FLOATS or source in FLOATS) and result != source
         and not (mode != "rn" and result in FLOATS and source in FLOATS and FLOATS[result][0] >= FLOATS[source][0]
                  and FLOATS[result][1] <= FLOATS[source][1])]


def instruction(result, source, mode):
    if result in INTEGERS:
        return f"cvt.{mode}i.{result}.{source}"
    exact = source in FLOATS and FLOATS[result][0] >= FLOATS[source][0] and FLOATS[result][1] <= FLOATS[source][1]
    return f"cvt.{result}.{source}" if exact else f"cvt.{mode}.{result}.{source}"


@pytest.mark.parametrize("source", [*FLOATS, *INTEGERS])
def test_conversions_from(module, rng, source):
    pairs = [pair for pair in PAIRS if pair[1] == source]
    n, (ctype, letter), body = 192, REGISTER[source], []
    for k, (result, _, mode) in enumerate(pairs):
        out_type, out_letter = REGISTER[result]
        asm = f'asm("{instruction(result, source, mode)} %0, %1;" : "={out_letter}"(r) : "{letter}"(x[t]));'
        place = f"{n * k} * (8 / sizeof({out_type})) + t"
        body.append(f"if (blockIdx.x == {k}) {{ {out_type} r; {asm} (({out_type}*)y)[{place}] = r; }}")
    text = f'extern "C" __global__ void k(long long* y, const {ctype}* x) {{ int t = threadIdx.x; {" ".join(body)} }}'
    x, y = samples(source, rng, n), np.zeros((len(pairs), n), np.int64)
    module(text)["k"].launch(len(pairs), n, (y, x))
    values = read(x, source)
    wrong = []
    for row, (result, _, mode) in zip(y, pairs, strict=True):
        got = row.view(DTYPE[REGISTER[result][0]])[:n]
        convert = whole if result in INTEGERS else rounded
        bad = [(float(v), g) for v, g in zip(values, got, strict=True) if not matching(g, convert(v, result, mode), result)]
        if bad:
            wrong.append((instruction(result, source, mode), len(bad), bad[:3]))
    assert not wrong
