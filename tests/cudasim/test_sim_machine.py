"""The parser, the order of basic blocks, and the machine itself, on hand-made and on random input."""

import random
import re

import numpy as np
import pytest

from gpugrad.cudasim import Checks, CompileError, PtxError, compile_cuda
from gpugrad.cudasim.coalesce import conflicts, sectors
from gpugrad.cudasim.flow import Block, in_order
from gpugrad.cudasim.ptx import parse
from gpugrad.cudasim.syntax import Address, Group, Immediate, Label, Register

HEADER = ".version 9.0\n.target sm_90\n.address_size 64\n"


def body_of(text):
    return parse(HEADER + ".visible .entry k(.param .u64 k_param_0)\n{\n" + text + "\n}\n").functions["k"].body


def test_scopes_give_repeated_register_names_registers_of_their_own():
    body = body_of("""
      .reg .b32 %r<3>;
      { .reg .b32 t; mov.b32 t, 1; add.s32 %r1, t, 2; }
      { .reg .b64 t; mov.b64 t, 1; }
      mov.b32 %r2, %r1;""")
    first, add, second, last, end = body
    assert first.operands[0].type == "b32"
    assert second.operands[0].type == "b64"
    assert first.operands[0].name != second.operands[0].name
    assert add.operands[1] == first.operands[0]
    assert last.operands == (Register("%r2", "b32"), Register("%r1", "b32"))
    assert end == Label("<end>")


def test_operands_of_every_shape():
    body = body_of("""
      .reg .b32 %r<9>; .reg .pred %p<3>; .reg .b64 %rd<3>; .reg .f32 %f<3>;
      @!%p1 ld.global.v2.f32 {%f1, %f2}, [%rd1+-16];
      shfl.sync.bfly.b32 %r1|%p2, %r2, 0x10, 31, -1;
      mov.f32 %f1, 0f3F800000;
      st.shared.b32 [k_param_0+4], %r1;""")
    load, shuffle, move, store = body[:4]
    assert load.guard.register == Register("%p1", "pred")
    assert load.operands[0] == Group((Register("%f1", "f32"), Register("%f2", "f32")))
    assert load.operands[1] == Address(Register("%rd1", "b64"), -16)
    assert shuffle.operands[0] == Group((Register("%r1", "b32"), Register("%p2", "pred")))
    assert [o.bits for o in shuffle.operands[2:]] == [16, 31, -1]
    assert move.operands[1] == Immediate(0x3F800000, "f32")
    assert store.operands[0].offset == 4


def test_nonsense_is_refused_with_its_line():
    with pytest.raises(PtxError, match="PTX line 6: an instruction was expected, got `%r1 = 5`"):
        body_of("%r1 = 5;")


def random_graph(generator, size):
    blocks = []
    for number in range(size):
        targets = generator.sample(range(1, size), k=min(generator.choice([1, 2, 2]), size - 1))
        kind = "exit" if number == size - 1 else "branch" if len(targets) == 2 else "jump"
        blocks.append(Block([f"n{number}"], kind, None, [] if kind == "exit" else targets))
    return blocks


@pytest.mark.parametrize("seed", range(40))
def test_blocks_are_ordered_so_that_loops_are_contiguous_and_all_else_runs_forwards(seed):
    graph = random_graph(random.Random(seed), 12)
    ordered, loops = in_order(graph)
    assert ordered[0].instructions == ["n0"]
    for header, nodes in loops:
        assert sorted(nodes) == list(range(min(nodes), max(nodes) + 1))
        assert header == min(nodes)
    back = {(n, header) for header, nodes in loops for n in nodes}
    for number, block in enumerate(ordered):
        for target in block.targets:
            assert target > number or (number, target) in back


class Program:
    """A random program over four 32-bit variables, as C and as Python of one meaning."""

    def __init__(self, seed):
        self.random, self.loops = random.Random(seed), 0
        self.c, self.python = [], []
        self.statements(0, 5, None)

    def emit(self, depth, c, python):
        self.c.append("  " * depth + c)
        if python is not None:
            self.python.append("    " * depth + python)

    def expression(self):
        pick = self.random.choice
        x, y = pick("abcd"), pick(["a", "b", "c", "d", str(self.random.randrange(100))])
        return f"({x} {pick('+-*&|^')} {y})"

    def condition(self):
        return f"({self.random.choice('abcd')} & {self.random.choice([1, 3, 4, 6])}) == {self.random.choice([0, 1, 2])}"

    def statements(self, depth, count, loop):
        self.emit(depth, "", "pass")
        for _ in range(self.random.randint(1, count)):
            choice = self.random.random()
            if choice < 0.45 or depth > 4:
                target, value = self.random.choice("abcd"), self.expression()
                self.emit(depth, f"{target} = {value};", f"{target} = {value} & 0xffffffff")
            elif choice < 0.72:
                condition = self.condition()
                self.emit(depth, f"if ({condition}) {{", f"if {condition}:")
                self.statements(depth + 1, 3, loop)
                if self.random.random() < 0.6:
                    self.emit(depth, "} else {", "else:")
                    self.statements(depth + 1, 3, loop)
                self.emit(depth, "}", None)
            elif choice < 0.88:
                self.loops += 1
                k, bound = self.loops, f"{self.random.choice('abcd')} & {self.random.choice([1, 3, 5, 7])}"
                self.emit(depth, f"unsigned n{k} = {bound}; for (unsigned i{k} = 0; i{k} < n{k}; ++i{k}) {{",
                          f"for i{k} in range({bound}):")
                self.statements(depth + 1, 3, k)
                self.emit(depth, "}", None)
            elif loop is not None:
                condition, word = self.condition(), self.random.choice(["break", "continue"])
                self.emit(depth, f"if ({condition}) {word};", f"if {condition}: {word}")


@pytest.mark.parametrize("seed", range(25))
def test_random_programs_agree_with_python(seed):
    program = Program(seed)
    source = """extern "C" __global__ void program(unsigned* y, const unsigned* x) {
      int t = blockIdx.x * blockDim.x + threadIdx.x;
      unsigned a = x[4 * t], b = x[4 * t + 1], c = x[4 * t + 2], d = x[4 * t + 3];
    """ + "\n".join(program.c) + "\ny[4 * t] = a; y[4 * t + 1] = b; y[4 * t + 2] = c; y[4 * t + 3] = d; }"
    x = np.random.default_rng(seed).integers(0, 1 << 32, (150, 4), np.uint32)
    y = np.zeros_like(x)
    compile_cuda(source, arch=("sm_75", "sm_90", "sm_120")[seed % 3])["program"].launch(3, 50, (y, x))
    code, expected = compile("\n".join(program.python), "program", "exec"), []
    for row in x:
        names = dict(zip("abcd", map(int, row), strict=True))
        exec(code, names)
        expected.append([names[n] for n in "abcd"])
    assert y.tolist() == expected


EVERYTHING = r"""
#include <cuda_fp16.h>
extern "C" __global__ void everything(float* y, const float* x, const int* k, __half2* h, double* d) {
  __shared__ float s[64];
  int i = threadIdx.x, q = k[i];
  float v = abs(x[i]), w = -v;
  s[i] = v; __syncthreads();
  v += s[i ^ 1] + __shfl_xor_sync(~0u, w, 3) + (float)__popc(q) + __int_as_float(q & 0x3fffffff);
  unsigned long long packed = ((unsigned long long)q << 32) | (unsigned)i;
  asm("{ .reg .b32 lo, hi; mov.b64 {lo, hi}, %1; mov.b64 %0, {hi, lo}; }" : "=l"(packed) : "l"(packed));
  double e = d[i] + __longlong_as_double(packed & 0xfffff) + fabs(d[i]);
  float g = v;
  for (int n = 0; n < (q & 3); ++n) { g = w; w = v; v = g + 1; if (v > 3) { float z = v; v = w; w = z; } }
  h[i] = __hfma2(h[i], h[i], __hneg2(h[i]));
  if (q & 4) { g = fminf(v, w); v = fmaxf(v, w); w = g; }
  d[i] = e; y[i] = v + w * g;
}"""


def test_no_value_shares_memory_with_another(module, rng):
    """Registers are written in place for a part of the lanes, so no function may return its operand or a view of it."""
    kernel = compile_cuda(EVERYTHING)["everything"]
    namespace = kernel.code.functions[0].__globals__
    watched = 0

    def watching(function):
        def call(*arguments):
            nonlocal watched
            out = function(*arguments)
            results = [v for v in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(v, np.ndarray) and v.ndim]
            operands = [v for v in arguments if isinstance(v, np.ndarray) and v.ndim]
            for k, result in enumerate(results):
                watched += 1
                for other in (*operands, *results[:k]):
                    assert not np.shares_memory(result, other), function
                assert result.flags.writeable
            return out
        return call
    for name, value in list(namespace.items()):
        if re.fullmatch(r"f\d+", name):
            namespace[name] = watching(value)
    x, y = rng.standard_normal((2, 64)).astype(np.float32)
    h, d = rng.standard_normal((64, 2)).astype(np.float16), rng.standard_normal(64)
    kernel.launch(1, 64, (y, x, rng.integers(0, 1 << 20, 64).astype(np.int32), h, d))
    assert watched > 60


@pytest.mark.parametrize("seed", range(5))
def test_sectors_and_conflicts_equal_a_count_by_hand(seed):
    generator = np.random.default_rng(seed)
    size = int(generator.choice([1, 2, 4, 8, 16]))
    spread = int(generator.choice([4, 40, 4000]))
    addresses = generator.integers(0, spread, (50, 32)) * size
    asked = needed = passes = 0
    for row in addresses:
        asked += len(set(row // 32))
        needed += -(-len(set(row)) * size // 32)
        lanes_at_once = 32 if size <= 4 else 128 // size
        for start in range(0, 32, lanes_at_once):
            words = {int(a) // 4 + part for a in row[start: start + lanes_at_once] for part in range(max(size // 4, 1))}
            passes += max(np.bincount([word % 32 for word in words])) - 1
    assert sectors(addresses, size) == (asked, needed)
    assert conflicts(addresses, size) == passes


def test_results_do_not_depend_on_the_size_of_a_batch(module, rng, monkeypatch):
    source = r"""
    extern "C" __global__ void walk(float* y, const float* x, int n) {
      __shared__ float s[96];
      int i = blockIdx.x * 96 + threadIdx.x;
      s[threadIdx.x] = i < n ? x[i] : 0.f;
      __syncthreads();
      float v = 0;
      for (int k = 0; k <= threadIdx.x % 7; ++k) v += s[(threadIdx.x + k) % 96];
      if (i < n) y[i] = v;
    }"""
    x = rng.standard_normal(2000).astype(np.float32)
    kernel, results = module(source)["walk"], []
    for lanes in (96, 300, 65536):
        monkeypatch.setattr("gpugrad.cudasim.module.LANES_PER_BATCH", lanes)
        y = np.zeros_like(x)
        counters = kernel.launch(21, 96, (y, x, np.int32(2000)), checks=Checks())
        results.append((y.tobytes(), counters.global_sectors, counters.divergent_branches, counters.bank_conflicts,
                        counters.instructions, counters.warp_instructions, counters.unique_bytes_read))
    assert results[0] == results[1] == results[2]


def test_ptx_is_kept_between_processes_until_a_header_changes(tmp_path, monkeypatch):
    from gpugrad.cudasim import nvrtc
    monkeypatch.setenv("GPUGRAD_SIM_CACHE_DIR", str(tmp_path / "kept"))
    (tmp_path / "size.cuh").write_text("#define SIZE 3\n")
    source, made = '#include "size.cuh"\nextern "C" __global__ void k(int* y) { y[0] = SIZE; }', []
    compiled = nvrtc.compiled
    monkeypatch.setattr(nvrtc, "compiled", lambda *a: made.append(a) or compiled(*a))
    compile_anew = nvrtc.compile_ptx.__wrapped__
    first, again = (compile_anew(source, options=(f"-I{tmp_path}",)) for _ in range(2))
    assert first == again and len(made) == 1
    (tmp_path / "size.cuh").write_text("#define SIZE 40\n")
    assert compile_anew(source, options=(f"-I{tmp_path}",)).ptx != first.ptx
    for file in (tmp_path / "kept").iterdir():
        file.write_text("{")                                          # a broken entry is made again
    assert compile_anew(source, options=(f"-I{tmp_path}",)).ptx != first.ptx and len(made) == 3
    with pytest.raises(CompileError):
        compile_anew("wrong")
