"""Video instructions, byte permutations and their kin, against plain Python integers."""

import numpy as np
import pytest

M32 = (1 << 32) - 1


def signed(x, bits=32):
    x &= (1 << bits) - 1
    return x - (1 << bits) if x >> bits - 1 else x


def pieces(word, bits, is_signed):
    return [signed(word >> at, bits) if is_signed else word >> at & (1 << bits) - 1 for at in range(0, 32, bits)]


def joined(values, bits):
    return sum((value & (1 << bits) - 1) << bits * k for k, value in enumerate(values))


def clamp(value, is_signed, bits):
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    return min(max(value, low), high)


def each(function, bits, is_signed, saturating=False):
    """The function of (a, b) on all bytes or halves of words."""
    def run(a, b, c):
        values = [function(x, y) for x, y in zip(pieces(a, bits, is_signed), pieces(b, bits, is_signed), strict=True)]
        return joined([clamp(v, is_signed, bits) for v in values] if saturating else values, bits)
    return run


def summed(function, bits, is_signed):
    def run(a, b, c):
        return c + sum(function(x, y) for x, y in zip(pieces(a, bits, is_signed), pieces(b, bits, is_signed), strict=True))
    return run


def permuted(selectors):
    """prmt in one of its modes: which byte of b:a goes to each place, by the two low bits of c."""
    def run(a, b, c):
        source = (b << 32 | a).to_bytes(8, "little")
        return int.from_bytes(bytes(source[k] for k in selectors[c & 3]), "little")
    return run


def nth_set(mask, base, offset):
    if offset == 0:
        return base if mask >> base & 1 else M32
    step = 1 if offset > 0 else -1
    found = [at for at in (range(base, 32) if step > 0 else range(base, -1, -1)) if mask >> at & 1]
    return found[abs(offset) - 1] if abs(offset) <= len(found) else M32


def difference(x, y):
    return abs(x - y)


# C expression over unsigned a, b, c: its value in Python
INTRINSICS = {
    "__vabsdiffu4(a, b)": each(difference, 8, False),
    "__vabsdiffs4(a, b)": each(difference, 8, True),
    "__vabs4(a)": each(lambda x, y: abs(x), 8, True),
    "__vabsss4(a)": each(lambda x, y: abs(x), 8, True, True),
    "__vsadu4(a, b)": lambda a, b, c: summed(difference, 8, False)(a, b, 0),
    "__vsads2(a, b)": lambda a, b, c: summed(difference, 16, True)(a, b, 0),
    "__vadd4(a, b)": each(lambda x, y: x + y, 8, False),
    "__vaddss4(a, b)": each(lambda x, y: x + y, 8, True, True),
    "__vsubus2(a, b)": each(lambda x, y: x - y, 16, False, True),
    "__vavgu4(a, b)": each(lambda x, y: (x + y + 1) >> 1, 8, False),
    "__vmaxs2(a, b)": each(max, 16, True),
    "__vminu4(a, b)": each(min, 8, False),
    "__vcmpgts4(a, b)": each(lambda x, y: -(x > y), 8, True),
    "__vsetleu2(a, b)": each(lambda x, y: int(x <= y), 16, False),
    "__fns(a, b & 31, (int)(c % 9) - 4)": lambda a, b, c: nth_set(a, b & 31, c % 9 - 4),
    "__dp4a((int)a, (int)b, (int)c)": summed(lambda x, y: x * y, 8, True),
}

# PTX over %1, %2, %3 (a, b, c): its value in Python
INSTRUCTIONS = {
    "vadd.s32.s32.s32.sat %0, %1, %2;": lambda a, b, c: clamp(signed(a) + signed(b), True, 32),
    "vadd.u32.u32.u32.min %0, %1.b1, %2.h1, %3;": lambda a, b, c: min((a >> 8 & 255) + (b >> 16), c),
    "vsub.s32.u32.s32.sat %0, %1, %2;": lambda a, b, c: clamp(a - signed(b), True, 32),
    "vabsdiff.u32.s32.s32 %0, %1, %2;": lambda a, b, c: abs(signed(a) - signed(b)),
    "vmax.s32.s32.s32.sat %0.b1, %1.b2, %2.h0, %3;": lambda a, b, c:
        c & ~0xFF00 | (clamp(max(signed(a >> 16, 8), signed(b, 16)), True, 8) & 255) << 8,
    "vshl.u32.u32.u32.clamp %0, %1, %2.b0;": lambda a, b, c: a << min(b & 255, 32),
    "vshr.s32.s32.u32.wrap %0, %1, %2;": lambda a, b, c: signed(a) >> (b & 31),
    "vmad.s32.s32.s32.sat.shr7 %0, %1.h0, %2.h1, %3;":
        lambda a, b, c: clamp(signed(a, 16) * signed(b >> 16, 16) + signed(c) >> 7, True, 32),
    "vset.s32.s32.gt %0, %1, %2;": lambda a, b, c: int(signed(a) > signed(b)),
    "vadd2.s32.s32.s32.sat %0, %1, %2, %3;": each(lambda x, y: x + y, 16, True, True),
    "vavrg4.u32.u32.u32 %0, %1, %2, %3;": each(lambda x, y: (x + y + 1) >> 1, 8, False),
    "vmin4.s32.s32.s32.add %0, %1, %2, %3;": summed(min, 8, True),
    "vset4.u32.u32.ge %0, %1, %2, %3;": each(lambda x, y: int(x >= y), 8, False),
    "vsub4.u32.u32.u32 %0.b20, %1.b0123, %2.b7654, %3;": lambda a, b, c: joined(
        [x - y if k in (0, 2) else z for k, (x, y, z) in
         enumerate(zip(pieces(a, 8, False)[::-1], pieces(b, 8, False), pieces(c, 8, False), strict=True))], 8),
    "mul24.hi.s32 %0, %1, %2;": lambda a, b, c: signed(a, 24) * signed(b, 24) >> 16,
    "mad24.hi.sat.s32 %0, %1, %2, %3;": lambda a, b, c: clamp((signed(a, 24) * signed(b, 24) >> 16) + signed(c), True, 32),
    "mad.hi.sat.s32 %0, %1, %2, %3;": lambda a, b, c: clamp((signed(a) * signed(b) >> 32) + signed(c), True, 32),
    "prmt.b32.f4e %0, %1, %2, %3;": permuted([[k, k + 1, k + 2, k + 3] for k in range(4)]),
    "prmt.b32.b4e %0, %1, %2, %3;": permuted([[k, (k - 1) % 8, (k - 2) % 8, (k - 3) % 8] for k in range(4)]),
    "prmt.b32.rc8 %0, %1, %2, %3;": permuted([[k] * 4 for k in range(4)]),
    "prmt.b32.ecl %0, %1, %2, %3;": permuted([[max(k, n) for n in range(4)] for k in range(4)]),
    "prmt.b32.ecr %0, %1, %2, %3;": permuted([[min(k, n) for n in range(4)] for k in range(4)]),
    "prmt.b32.rc16 %0, %1, %2, %3;": permuted([[0, 1, 0, 1], [2, 3, 2, 3]] * 2),
    "cvt.pack.sat.s16.s32 %0, %1, %2;": lambda a, b, c: joined([clamp(signed(x), True, 16) for x in (b, a)], 16),
    "cvt.pack.sat.u8.s32.b32 %0, %1, %2, %3;": lambda a, b, c:
        c << 16 | clamp(signed(a), False, 8) << 8 | clamp(signed(b), False, 8),
    "{.reg .pred p; setp.gt.s32 p, %3, 0; set.lt.and.u32.s32 %0, %1, %2, p;}": lambda a, b, c:
        M32 if signed(a) < signed(b) and signed(c) > 0 else 0,
    "{.reg .pred p; setp.gt.s32 p, %3, 0; lop3.or.b32 %0|p, %1, %2, %3, 0xe8, p; selp.b32 %0, %0, 7, p;}": lambda a, b, c:
        value if (value := a & b | a & c | b & c) or signed(c) > 0 else 7,
}


def run(module, kernel, rng):
    a, b, c = rng.integers(0, 1 << 32, (3, 128), np.uint32)
    a[:32], b[:16], c[:64] = a[:32] & 0x7F80807F, a[:16] ^ 1, c[:64] & 31
    y = np.zeros(128, np.uint32)
    module(kernel, "sm_90")["k"].launch(1, 128, (y, a, b, c))
    return [tuple(map(int, row)) for row in zip(y, a, b, c, strict=True)]


HEAD = 'extern "C" __global__ void k(unsigned* y, const unsigned* x, const unsigned* z, const unsigned* w) {'
LOAD = "unsigned a = x[threadIdx.x], b = z[threadIdx.x], c = w[threadIdx.x], r = 0;"


@pytest.mark.parametrize("text", INTRINSICS)
def test_intrinsic_of_bytes_and_halves(module, rng, text):
    for got, a, b, c in run(module, f"{HEAD} {LOAD} y[threadIdx.x] = {text}; }}", rng):
        assert got == INTRINSICS[text](a, b, c) & M32, (hex(a), hex(b), hex(c))


@pytest.mark.parametrize("text", INSTRUCTIONS)
def test_instruction_of_bytes_and_halves(module, rng, text):
    body = f'asm("{text}" : "=r"(r) : "r"(a), "r"(b), "r"(c)); y[threadIdx.x] = r;'
    for got, a, b, c in run(module, f"{HEAD} {LOAD} {body} }}", rng):
        assert got == INSTRUCTIONS[text](a, b, c) & M32, (hex(a), hex(b), hex(c))
