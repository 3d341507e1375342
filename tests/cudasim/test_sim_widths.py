"""Integer instructions of every width, and comparisons of every type of float, against plain Python."""

import math

import numpy as np
import pytest

from gpugrad.cudasim import Checks

KINDS = [f"{sign}{bits}" for bits in (16, 32, 64) for sign in "su"]
CTYPE = {16: ("unsigned short", "h", np.uint16), 32: ("unsigned", "r", np.uint32), 64: ("unsigned long long", "l", np.uint64)}


def number(x, kind):
    bits = int(kind[1:])
    x &= (1 << bits) - 1
    return x - (1 << bits) if kind[0] == "s" and x >> bits - 1 else x


def divided(a, b):
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def field(x, position, length, kind):
    bits = int(kind[1:])
    position, length = position & 255, length & 255
    if kind[0] == "u":
        return x >> position & (1 << length) - 1 if position < bits else 0
    if length == 0:
        return 0
    sign = x >> min(position + length - 1, bits - 1) & 1
    return sum((x >> position + k & 1 if k < length and position + k < bits else sign) << k for k in range(bits))


def inserted(a, b, position, length, kind):
    bits, position, length = int(kind[1:]), position & 255, length & 255
    mask = ((1 << length) - 1) << position & (1 << bits) - 1
    return b & ~mask | a << position & mask


# instruction over a, b, c and a small n of a kind: what it gives. KIND, BITS and WIDE stand for types of the kind's width.
OPERATIONS = {
    "add.KIND %0, a, b;": lambda a, b, c, n, kind: a + b, "sub.KIND %0, a, b;": lambda a, b, c, n, kind: a - b,
    "mul.lo.KIND %0, a, b;": lambda a, b, c, n, kind: a * b,
    "mul.hi.KIND %0, a, b;": lambda a, b, c, n, kind: a * b >> int(kind[1:]),
    "mad.lo.KIND %0, a, b, c;": lambda a, b, c, n, kind: a * b + c,
    "mad.hi.KIND %0, a, b, c;": lambda a, b, c, n, kind: (a * b >> int(kind[1:])) + c,
    "div.KIND %0, a, b;": lambda a, b, c, n, kind: divided(a, b) if b else -1,
    "rem.KIND %0, a, b;": lambda a, b, c, n, kind: a - divided(a, b) * b if b else a,
    "sad.KIND %0, a, b, c;": lambda a, b, c, n, kind: c + abs(a - b),
    "min.KIND %0, a, b;": lambda a, b, c, n, kind: min(a, b), "max.KIND %0, a, b;": lambda a, b, c, n, kind: max(a, b),
    "and.bBITS %0, a, b;": lambda a, b, c, n, kind: a & b, "or.bBITS %0, a, b;": lambda a, b, c, n, kind: a | b,
    "xor.bBITS %0, a, b;": lambda a, b, c, n, kind: a ^ b, "not.bBITS %0, a;": lambda a, b, c, n, kind: ~a,
    "cnot.bBITS %0, a;": lambda a, b, c, n, kind: int(a == 0), "shl.bBITS %0, a, n;": lambda a, b, c, n, kind: a << n,
    "shr.KIND %0, a, n;": lambda a, b, c, n, kind: a >> n,
    "abs.sBITS %0, a;": lambda a, b, c, n, kind: abs(number(a, "s" + kind[1:])), "neg.sBITS %0, a;": lambda a, b, c, n, kind: -a,
    "selp.bBITS %0, a, b, p;": lambda a, b, c, n, kind: a if n & 1 else b,
    "slct.KIND.s32 %0, a, b, n;": lambda a, b, c, n, kind: a if n >= 0 else b,
    "setp.le.KIND p, a, b; selp.bBITS %0, 1, 0, p;": lambda a, b, c, n, kind: int(a <= b),
    "setp.gt.and.KIND p|q, a, b, p; selp.bBITS %0, 1, 0, q;": lambda a, b, c, n, kind: int(a <= b and n & 1),
}
WIDE_ONLY = {
    "bfe.KIND %0, a, n, m;": lambda a, b, c, n, kind: field(a & (1 << int(kind[1:])) - 1, n, n * 3 % 70, kind),
    "bfi.bBITS %0, a, b, n, m;": lambda a, b, c, n, kind: inserted(a, b, n, n * 3 % 70, kind),
    "brev.bBITS %0, a;": lambda a, b, c, n, kind: int(f"{a & (1 << int(kind[1:])) - 1:0{kind[1:]}b}"[::-1], 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_integer_instructions_of_a_width(module, rng, kind):
    bits = int(kind[1:])
    ctype, letter, dtype = CTYPE[bits]
    table = OPERATIONS | (WIDE_ONLY if bits > 16 else {})
    body = []
    for k, text in enumerate(table):
        text = text.replace("KIND", kind).replace("BITS", str(bits))
        setup = f"mov.b{bits} a, %1; mov.b{bits} b, %2; mov.b{bits} c, %3; and.b32 m, %4, 1; setp.ne.b32 p, m, 0;"
        setup = f"{{.reg .pred p, q; .reg .b{bits} a, b, c; .reg .b32 n, m; {setup} mov.b32 n, %4; mov.b32 m, %5; {text}}}"
        inputs = f'"{letter}"(x[t]), "{letter}"(x[128 + t]), "{letter}"(x[256 + t]), "r"(n), "r"(m)'
        body.append(f'case {k}: asm("{setup}" : "={letter}"(r) : {inputs}); break;')
    source = f"""extern "C" __global__ void k({ctype}* y, const {ctype}* x, const int* s) {{
      int t = threadIdx.x, n = s[t], m = n * 3 % 70; {ctype} r = 0; switch (blockIdx.x) {{ {" ".join(body)} }}
      y[blockIdx.x * 128 + t] = r; }}"""
    x = rng.integers(0, 1 << bits, (3, 128), np.uint64) >> rng.integers(0, bits, (3, 128)).astype(np.uint64)
    x = np.where(rng.random(x.shape) < 0.4, ~x, x).astype(dtype)
    x[1, :8], x[0, 8:16] = 0, 1 << bits - 1
    x[1, 12:16] = (1 << bits) - 1
    n = rng.integers(0, 70, 128).astype(np.int32)
    y = np.zeros((len(table), 128), dtype)
    module(source, "sm_90")["k"].launch(len(table), 128, (y, x, n), checks=Checks(division=False))
    for row, (text, function) in zip(y, table.items(), strict=True):
        for got, *numbers, amount in zip(row, *x, n, strict=True):
            a, b, c = (number(int(v), kind) for v in numbers)
            want = function(a, b, c, int(amount), kind) & (1 << bits) - 1
            assert int(got) == want, (text, a, b, c, int(amount))


TESTS = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b and a == a and b == b,
    "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b, "equ": lambda a, b: not a < b and not a > b, "neu": lambda a, b: a != b,
    "ltu": lambda a, b: not a >= b, "leu": lambda a, b: not a > b, "gtu": lambda a, b: not a <= b, "geu": lambda a, b: not a < b,
    "num": lambda a, b: a == a and b == b, "nan": lambda a, b: a != a or b != b,
}
EDGES = [0.0, -0.0, 1.0, -1.0, 1.5, math.inf, -math.inf, math.nan, 2.0**-24, -(2.0**-24), 65504.0, 3.0]


@pytest.mark.parametrize("kind", ["f16", "bf16", "f32", "f64"])
def test_comparisons_and_extrema_of_floats(module, kind):
    ctype, letter, dtype = {"f16": ("unsigned short", "h", np.float16), "bf16": ("unsigned short", "h", None),
                            "f32": ("float", "f", np.float32), "f64": ("double", "d", np.float64)}[kind]
    a, b = (v.ravel() for v in np.meshgrid(EDGES, EDGES))
    if kind == "bf16":
        a, b = ((v.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) for v in (a, b))
        read = (lambda v: (v.astype(np.uint32) << 16).view(np.float32).astype(np.float64))
    else:
        a, b = a.astype(dtype), b.astype(dtype)
        read = (lambda v: v.astype(np.float64))
    bits = a.dtype.itemsize * 8
    statements = [f'asm("{{.reg .pred p; setp.{name}.{kind} p, %1, %2; selp.b32 %0, 1, 0, p;}}" : "=r"(r) : "{letter}"(x[t]), '
                  f'"{letter}"(z[t])); y[{k * a.size} + t] = r;' for k, name in enumerate(TESTS)]
    extrema = [f'{{ {ctype} e; asm("{name}.{kind} %0, %1, %2;" : "={letter}"(e) : "{letter}"(x[t]), "{letter}"(z[t])); '
               f'w[{k * a.size} + t] = e; }}' for k, name in enumerate(("min", "max", "min.NaN", "max.NaN"))]
    source = f"""extern "C" __global__ void k(int* y, {ctype}* w, const {ctype}* x, const {ctype}* z) {{
      int t = threadIdx.x, r; {" ".join(statements)} {" ".join(extrema)} }}"""
    y, w = np.zeros((len(TESTS), a.size), np.int32), np.zeros((4, a.size), a.dtype)
    module(source, "sm_90")["k"].launch(1, a.size, (y, w, a, b))
    pairs = list(zip(read(a).tolist(), read(b).tolist(), strict=True))
    for row, (name, function) in zip(y, TESTS.items(), strict=True):
        assert row.tolist() == [int(function(p, q)) for p, q in pairs], name

    def key(v):
        return v, math.copysign(1, v)
    for row, low, keeps in zip(read(w), (True, False) * 2, (False, False, True, True), strict=True):
        for got, (p, q) in zip(row.tolist(), pairs, strict=True):
            if p != p or q != q:
                want = math.nan if keeps or (p != p and q != q) else q if p != p else p
            else:
                want = (min if low else max)(p, q, key=key)
            assert (got != got) == (want != want), (p, q, got)
            assert got != got or key(got) == key(want), (bits, p, q, got)
