"""Integer and bit instructions against plain Python integers."""

import numpy as np
import pytest

from gpugrad.cudasim import PtxError, compile_cuda

M32, M64 = (1 << 32) - 1, (1 << 64) - 1


def signed(x, bits=32):
    x &= (1 << bits) - 1
    return x - (1 << bits) if x >> (bits - 1) else x


def truncated(a, b):
    """a / b towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def bfe(value, position, length, is_signed, bits=32):
    length = min(length, bits - position) if position < bits else 0
    field = value >> position & ((1 << length) - 1)
    if is_signed and length:
        field = signed(field, length)
    return field


def bytes_permuted(a, b, selector):
    source, out = (b << 32 | a).to_bytes(8, "little"), 0
    for k in range(4):
        chosen = selector >> 4 * k & 15
        byte = source[chosen & 7]
        out |= ((255 if byte & 128 else 0) if chosen & 8 else byte) << 8 * k
    return out


def dot4(a, b, c):
    return c + sum(signed(a >> 8 * k, 8) * signed(b >> 8 * k, 8) for k in range(4))


# C expression over unsigned a, b, c: its value in Python
EXPRESSIONS = {
    "a + b": lambda a, b, c: a + b,
    "a - b": lambda a, b, c: a - b,
    "a * b + c": lambda a, b, c: a * b + c,
    "a / (b | 1)": lambda a, b, c: a // (b | 1),
    "a % (b | 1)": lambda a, b, c: a % (b | 1),
    "(int)a / ((int)b | 1)": lambda a, b, c: truncated(signed(a), signed(b | 1)),
    "(int)a % ((int)b | 1)": lambda a, b, c: signed(a) - truncated(signed(a), signed(b | 1)) * signed(b | 1),
    "__umulhi(a, b)": lambda a, b, c: a * b >> 32,
    "__mulhi((int)a, (int)b)": lambda a, b, c: signed(a) * signed(b) >> 32,
    "__mul24((int)a, (int)b)": lambda a, b, c: signed(a, 24) * signed(b, 24),
    "(unsigned)(((unsigned long long)a * b) >> 17)": lambda a, b, c: a * b >> 17,
    "a << (c & 31)": lambda a, b, c: a << (c & 31),
    "a >> (c & 31)": lambda a, b, c: a >> (c & 31),
    "(int)a >> (c & 31)": lambda a, b, c: signed(a) >> (c & 31),
    "__funnelshift_l(a, b, c)": lambda a, b, c: (b << 32 | a) << (c & 31) >> 32,
    "__funnelshift_rc(a, b, c)": lambda a, b, c: (b << 32 | a) >> min(c, 32),
    "(a & b) | (~a & c)": lambda a, b, c: (a & b) | (~a & c),
    "a ^ b ^ c": lambda a, b, c: a ^ b ^ c,
    "__popc(a)": lambda a, b, c: a.bit_count(),
    "__clz(a)": lambda a, b, c: 32 - a.bit_length(),
    "__ffs(a)": lambda a, b, c: (a & -a).bit_length(),
    "__brev(a)": lambda a, b, c: int(f"{a:032b}"[::-1], 2),
    "__byte_perm(a, b, c & 0x7777)": lambda a, b, c: bytes_permuted(a, b, c & 0x7777),
    "__usad(a, b, c)": lambda a, b, c: abs(a - b) + c,
    "__sad((int)a, (int)b, c)": lambda a, b, c: abs(signed(a) - signed(b)) + c,
    "min(a, b)": lambda a, b, c: min(a, b),
    "max((int)a, (int)b)": lambda a, b, c: max(signed(a), signed(b)),
    "abs((int)a)": lambda a, b, c: abs(signed(a)),
    "__dp4a((int)a, (int)b, (int)c)": lambda a, b, c: dot4(a, b, c),
    "(unsigned char)a + (signed char)b": lambda a, b, c: (a & 255) + signed(b, 8),
    "(short)a * (unsigned short)b": lambda a, b, c: signed(a, 16) * (b & 0xFFFF),
    "__vadd2(a, b)": lambda a, b, c: (a + b & 0xFFFF) | ((a >> 16) + (b >> 16) & 0xFFFF) << 16,
    "a > b ? c : ~c": lambda a, b, c: c if a > b else ~c,
    "(int)a < (int)b": lambda a, b, c: signed(a) < signed(b),
}

# PTX that C++ seldom compiles to: inline text and its value
INLINE = {
    "bfe.u32 %0, %1, 5, 9;": lambda a, b, c: bfe(a, 5, 9, False),
    "bfe.s32 %0, %1, 27, 9;": lambda a, b, c: bfe(a, 27, 9, True),
    "bfe.s32 %0, %1, %2, 7;": lambda a, b, c: bfe(a, b & 255, 7, True) if (b & 255) < 32 else -(a >> 31),
    "bfi.b32 %0, %1, %2, 3, 11;": lambda a, b, c: b & ~(2047 << 3) | (a & 2047) << 3,
    "prmt.b32 %0, %1, %2, %3;": lambda a, b, c: bytes_permuted(a, b, c),
    "lop3.b32 %0, %1, %2, %3, 0xE8;": lambda a, b, c: (a & b) | (a & c) | (b & c),
    "lop3.b32 %0, %1, %2, %3, 0x1B;": lambda a, b, c: (
        sum(1 << k for k in range(32) if 0x1B >> ((a >> k & 1) * 4 + (b >> k & 1) * 2 + (c >> k & 1)) & 1)),
    "shl.b32 %0, %1, %2;": lambda a, b, c: a << b if b < 32 else 0,
    "shr.s32 %0, %1, %2;": lambda a, b, c: signed(a) >> min(b, 31),
    "bfind.u32 %0, %1;": lambda a, b, c: a.bit_length() - 1,
    "bfind.s32 %0, %1;": lambda a, b, c: (a if a >> 31 == 0 else ~a & M32).bit_length() - 1,
    "add.sat.s32 %0, %1, %2;": lambda a, b, c: max(-(1 << 31), min((1 << 31) - 1, signed(a) + signed(b))),
    "cnot.b32 %0, %1;": lambda a, b, c: a == 0,
    "slct.b32.s32 %0, %1, %2, %3;": lambda a, b, c: a if signed(c) >= 0 else b,
    "set.lt.u32.u32 %0, %1, %2;": lambda a, b, c: M32 if a < b else 0,
    "mad.hi.u32 %0, %1, %2, %3;": lambda a, b, c: (a * b >> 32) + c,
    "{ .reg .u32 t; mad.lo.cc.u32 t, %1, %2, %3; madc.hi.u32 %0, %1, %2, 7; }":
        lambda a, b, c: (a * b >> 32) + 7 + ((a * b & M32) + c >> 32),
    "{ .reg .u32 t; add.cc.u32 t, %1, %2; addc.u32 %0, %3, 0; }": lambda a, b, c: c + (a + b >> 32),
    "{ .reg .u32 t; sub.cc.u32 t, %1, %2; subc.u32 %0, %3, 0; }": lambda a, b, c: c - (a < b),
    "{ .reg .pred p; setp.lt.and.u32 p, %1, %2, 1; @!p mov.u32 %0, 5; @p add.u32 %0, %1, %3; }":
        lambda a, b, c: a + c if a < b else 5,
    "bmsk.clamp.b32 %0, 3, 9;": lambda a, b, c: 511 << 3,
    "szext.clamp.s32 %0, %1, 12;": lambda a, b, c: signed(a, 12),
}

# the same over unsigned long long
WIDE = {
    "a * b + c": lambda a, b, c: a * b + c,
    "a / (b >> 20 | 1)": lambda a, b, c: a // (b >> 20 | 1),
    "(long long)a / ((long long)b >> 30 | 1)": lambda a, b, c: truncated(signed(a, 64), signed(b, 64) >> 30 | 1),
    "a % (c | 1)": lambda a, b, c: a % (c | 1),
    "__umul64hi(a, b)": lambda a, b, c: a * b >> 64,
    "__mul64hi((long long)a, (long long)b)": lambda a, b, c: signed(a, 64) * signed(b, 64) >> 64,
    "a << (c & 63)": lambda a, b, c: a << (c & 63),
    "(long long)a >> (c & 63)": lambda a, b, c: signed(a, 64) >> (c & 63),
    "__popcll(a)": lambda a, b, c: a.bit_count(),
    "__clzll(a)": lambda a, b, c: 64 - a.bit_length(),
    "__brevll(a)": lambda a, b, c: int(f"{a:064b}"[::-1], 2),
    "a < b ? a : b": lambda a, b, c: min(a, b),
    "(unsigned)a * (unsigned long long)(int)b": lambda a, b, c: (a & M32) * signed(b),
    "((a >> 7) & 0xff) | (b << 60)": lambda a, b, c: a >> 7 & 255 | b << 60,
}


def check(module, table, statements, ctype, dtype, mask, rng, arch="sm_90"):
    body = "\n".join(f"{{ {ctype} out; {statement} y[{k} * n + i] = out; }}" for k, statement in enumerate(statements))
    source = f"""extern "C" __global__ void bits({ctype}* y, const {ctype}* pa, const {ctype}* pb, const {ctype}* pc, int n) {{
      int i = threadIdx.x; {ctype} a = pa[i], b = pb[i], c = pc[i];
      {body} }}"""
    edges = np.array([0, 1, 2, 31, 32, 33, 255, mask, mask >> 1, (mask >> 1) + 1, mask - 1], dtype)
    triples = rng.integers(0, mask, (3, 200), dtype, endpoint=True)
    triples[:, :50] >>= dtype(np.iinfo(dtype).bits - 7)
    triples[0, 50:61], triples[1, 61:72], triples[2, 72:83], triples[1, 83:94] = edges, edges, edges, edges[::-1]
    y = np.zeros((len(table), 200), dtype)
    module(source, arch)["bits"].launch(1, 200, (y, *triples, np.int32(200)))
    for text, got, function in zip(table, y, table.values(), strict=True):
        want = [int(function(*(int(v) for v in column))) & mask for column in triples.T]
        assert got.tolist() == want, text


def test_expressions_of_32_bits(module, rng, arch):
    check(module, EXPRESSIONS, [f"out = {text};" for text in EXPRESSIONS], "unsigned", np.uint32, M32, rng, arch)


def test_instructions_that_only_inline_assembly_uses(module, rng):
    statements = [f'asm volatile("{text}" : "=r"(out) : "r"(a), "r"(b), "r"(c));' for text in INLINE]
    check(module, INLINE, statements, "unsigned", np.uint32, M32, rng)


def test_expressions_of_64_bits(module, rng, arch):
    check(module, WIDE, [f"out = {text};" for text in WIDE], "unsigned long long", np.uint64, M64, rng, arch)


@pytest.mark.parametrize("text", ["sparkle.b32 %0, %1;", "add.wobbly.u32 %0, %1, %1;", "mul.lo.cc.u32 %0, %1, %1;",
                                  "add.u32 nowhere, %1, %1;"])
def test_unknown_instruction_fails_loudly_with_its_line(module, text):
    source = f"""extern "C" __global__ void strange(unsigned* y) {{
      unsigned out;
      asm volatile("{text}" : "=r"(out) : "r"(y[0]));
      y[0] = out; }}"""
    with pytest.raises(PtxError, match=rf"strange: .* got `{text.split()[0]}.*kernel.cu:3") as caught:
        module(source)["strange"]
    assert caught.value.line == 3


def test_arithmetic_of_128_bits(rng):
    source = """extern "C" __global__ void k(unsigned long long* y, const unsigned long long* x) {
      x += 4 * threadIdx.x; y += 10 * threadIdx.x;
      unsigned __int128 a = (unsigned __int128)x[1] << 64 | x[0], b = (unsigned __int128)x[3] << 64 | x[2], r[5];
      r[0] = a * b + a; r[1] = a / b; r[2] = a % b; r[3] = a - b; r[4] = (__int128)a >> 5;
      for (int k = 0; k < 5; ++k) { y[2 * k] = (unsigned long long)r[k]; y[2 * k + 1] = r[k] >> 64; } }"""
    x, y = rng.integers(0, 1 << 64, (128, 4), np.uint64), np.zeros((128, 5, 2), np.uint64)
    x[:64] >>= rng.integers(0, 64, (64, 4)).astype(np.uint64)
    x[:32, 3] = 0
    x[:, 2] |= np.uint64(1)
    compile_cuda(source, options=("-device-int128",))["k"].launch(1, 128, (y, x))
    m = (1 << 128) - 1
    for row, got in zip(x.tolist(), y.tolist(), strict=True):
        a, b = row[1] << 64 | row[0], row[3] << 64 | row[2]
        assert [high << 64 | low for low, high in got] == [
            a * b + a & m, a // b, a % b, a - b & m, signed(a, 128) >> 5 & m]
