"""wmma.load, wmma.mma and wmma.store, as mma.h writes them, against NumPy."""

import numpy as np
import pytest

from gpugrad.cudasim import Misaligned, WarpDivergence


def kernel(shape, types, words, letters, layouts, modifier=""):
    """d = 2 (a b + c) with one warp: types of memory in C and in PTX, registers of each fragment and their letters."""
    m, n, k = shape
    (ctype, element), (ptx_type, ptx_result) = types
    (a, b, c), (la, lb, lc) = words, layouts
    names = {"a": [f"a{j}" for j in range(a)], "b": [f"b{j}" for j in range(b)], "c": [f"c{j}" for j in range(c)]}
    register = {"r": "int", "f": "float", "d": "double"}
    size = f"m{m}n{n}k{k}"

    def load(role, layout, letter, kind):
        outs, count = names[role], len(names[role])
        places = ", ".join(f"%{j}" for j in range(count))
        return (f'asm volatile("wmma.load.{role}.sync.aligned.{layout}.{size}.{kind} {{{places}}}, [%{count}], %{count + 1};" : '
                + ", ".join(f'"={letter}"({name})' for name in outs) + f' : "l"(p{role}), "r"(ld{role}) : "memory");')
    accumulators = ", ".join(f"%{j}" for j in range(c))
    left, right = (", ".join(f"%{j}" for j in range(start, start + count)) for start, count in ((c, a), (c + a, b)))
    kinds = {"f16": f"{ptx_result}.{ptx_result}"}.get(ptx_type, f"{ptx_result}.{ptx_type}.{ptx_type}.{ptx_result}")
    kinds, operation = (kinds, f"{modifier}.") if ptx_type == "b1" else (kinds + modifier, "")
    declarations = " ".join(f"{register[letter]} {', '.join(names[role])};" for role, letter in zip("abc", letters, strict=True))
    double = " ".join(f"{name} += {name};" for name in names["c"]) if letters[2] != "r" or ptx_result == "s32" else ""
    return f"""
    extern "C" __global__ void k({ctype}* pc, const {element}* pa, const {element}* pb, int lda, int ldb, int ldc) {{
      {declarations}
      {load("c", lc, letters[2], ptx_result)}
      {load("a", la, letters[0], ptx_type)}
      {load("b", lb, letters[1], ptx_type)}
      asm volatile("wmma.mma{"." if operation else ""}{operation[:-1].lstrip(".")}.sync.aligned.{la}.{lb}.{size}.{kinds} "
          "{{{accumulators}}}, {{{left}}}, {{{right}}}, {{{accumulators}}};"
          : {", ".join(f'"+{letters[2]}"({name})' for name in names["c"])}
          : {", ".join([f'"{letters[0]}"({name})' for name in names["a"]] + [f'"{letters[1]}"({name})' for name in names["b"]])});
      {double}
      asm volatile("wmma.store.d.sync.aligned.{lc}.{size}.{ptx_result} [%{c}], {{{accumulators}}}, %{c + 1};" ::
          {", ".join(f'"{letters[2]}"({name})' for name in names["c"])}, "l"(pc), "r"(ldc) : "memory");
    }}"""


LAYOUTS = [("row", "row", "row"), ("row", "col", "row"), ("col", "row", "col"), ("col", "col", "row")]
BF16 = "bf16"
CASES = {  # shape, types, registers, letters, NumPy's type of A and B, of C
    "f16 to f32": ((16, 16, 16), (("float", "short"), ("f16", "f32")), (8, 8, 8), "rrf", np.float16, np.float32),
    "f16 to f32, tall": ((32, 8, 16), (("float", "short"), ("f16", "f32")), (8, 8, 8), "rrf", np.float16, np.float32),
    "f16 to f16, wide": ((8, 32, 16), (("short", "short"), ("f16", "f16")), (8, 8, 4), "rrr", np.float16, np.float16),
    "bf16": ((16, 16, 16), (("float", "short"), ("bf16", "f32")), (4, 4, 8), "rrf", BF16, np.float32),
    "tf32": ((16, 16, 8), (("float", "float"), ("tf32", "f32")), (4, 4, 8), "rrf", np.float32, np.float32),
    "f64": ((8, 8, 4), (("double", "double"), ("f64", "f64")), (1, 1, 2), "ddd", np.float64, np.float64),
    "s8": ((16, 16, 16), (("int", "char"), ("s8", "s32")), (2, 2, 8), "rrr", np.int8, np.int32),
    "u8, tall": ((32, 8, 16), (("int", "char"), ("u8", "s32")), (4, 1, 8), "rrr", np.uint8, np.int32),
}


@pytest.mark.parametrize("layouts", LAYOUTS, ids="-".join)
@pytest.mark.parametrize("name", CASES)
def test_wmma_multiplies_matrices_of_every_layout(module, rng, name, layouts):
    (m, n, k), types, words, letters, dtype, result = CASES[name]
    if dtype == BF16:
        a, b = ((rng.standard_normal(s).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) for s in ((m, k), (k, n)))
        wide = [(v.astype(np.uint32) << 16).view(np.float32).astype(np.float64) for v in (a, b)]
    elif np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        a, b = (rng.integers(info.min, info.max, s, endpoint=True).astype(dtype) for s in ((m, k), (k, n)))
        wide = [a.astype(np.int64), b.astype(np.int64)]
    else:
        a, b = (rng.standard_normal(s).astype(np.float16).astype(dtype) for s in ((m, k), (k, n)))
        wide = [a.astype(np.float64), b.astype(np.float64)]
    c = (9 * rng.standard_normal((m, n))).astype(result)
    a, b, memory = (np.array(v if layout == "row" else v.T, order="C") for v, layout in zip((a, b, c), layouts, strict=True))
    leading = [np.int32(v.shape[1]) for v in (a, b, memory)]
    source = kernel((m, n, k), types, words, letters, layouts)
    module(source, "sm_80")["k"].launch(1, 32, (memory, a, b, *leading))
    got = memory if layouts[2] == "row" else memory.T
    scale = 1 if name == "f16 to f16, wide" else 2  # packed halves are not doubled by the kernel
    expected = scale * (wide[0] @ wide[1] + c.astype(np.float64))
    tolerance = 0 if result == np.int32 else np.finfo(result).eps * 4 * np.abs(expected).max()
    assert not (np.abs(got - expected) > tolerance).any()


@pytest.mark.parametrize(("kind", "bits", "operation"), [("s4", 4, ""), ("u4", 4, ".satfinite"), ("b1", 1, ".xor.popc")])
def test_wmma_of_less_than_a_byte(module, rng, kind, bits, operation):
    m, n, k = 8, 8, 128 // bits
    a, b = rng.integers(0, 1 << bits, (m, k)), rng.integers(0, 1 << bits, (n, k))  # B by columns
    c = rng.integers(-99, 99, (m, n)).astype(np.int32)
    expected = c.astype(np.int64)

    def packed(x):
        return sum(x[:, e:: 8 // bits] << bits * e for e in range(8 // bits)).astype(np.uint8)
    if kind == "b1":
        expected = 2 * (expected + (a[:, None] ^ b[None]).sum(2))
    else:
        wide = [np.where((v >> 3 == 1) & (kind == "s4"), v - 16, v) for v in (a, b)]
        expected = 2 * (expected + wide[0] @ wide[1].T)
    source = kernel((m, n, k), (("int", "char"), (kind, "s32")), (1, 1, 2), "rrr", ("row", "col", "row"), operation)
    module(source, "sm_80")["k"].launch(1, 32, (c, packed(a), packed(b), np.int32(k), np.int32(k), np.int32(n)))
    np.testing.assert_array_equal(c, expected)


def half_kernel(module):
    shape, types, words, letters, *_ = CASES["f16 to f32"]
    return module(kernel(shape, types, words, letters, ("row", "row", "row")), "sm_80")["k"]


def test_wmma_wants_aligned_matrices_and_whole_warps(module):
    a, c = np.zeros(300, np.float16), np.zeros((16, 16), np.float32)
    with pytest.raises(Misaligned, match="of a matrix needs the pointer as a multiple of 32"):
        half_kernel(module).launch(1, 32, (c, a[8:], a, *(np.int32(16),) * 3))
    with pytest.raises(Misaligned, match="needs the leading dimension in bytes as a multiple of 16"):
        half_kernel(module).launch(1, 32, (c, a, a, np.int32(17), *(np.int32(16),) * 2))
    with pytest.raises(WarpDivergence, match="all 32 lanes of a warp must execute it"):
        half_kernel(module).launch(1, 16, (c, a, a, *(np.int32(16),) * 3))
