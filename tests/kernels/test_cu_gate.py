"""The compile gate of kernels/*.cu, and a table of what the hot kernels cost: `python tests/kernels/test_cu_gate.py` prints it.

float32, vector path, aligned shapes; bytes an element and efficiencies counted on the simulated device, registers by NVRTC 13.5
for sm_90, occupancy as threads of 2048 that registers and shared memory leave room for. Nothing here was timed.

Row kernels at (128, 1024), elementwise ones at as many elements; partial sums, labels and tickets included.

kernel                                      B/elem  regs  occupancy  sectors  conflicts
bias_relu<float, 4>                           8.16    24       100%   100.0%          0
relu<float, 4>                                8.00    14       100%   100.0%          0
bias_relu_pull<float, 4>                      9.16    40        75%   100.0%          0
sum_middle<float, 4>                          5.03    38        75%   100.0%          0
sum_last<float, 4>                            4.00    31       100%   100.0%          0
softmax_row<float, 4, 4, false>               8.00    48        66%   100.0%          0
softmax_row_pull<float, 4, 4, false>         12.00    54        56%   100.0%          0
cross_entropy_row<float, 4, 4, long long>     8.01    64        50%   100.0%          0
layer_norm_row<float, 4, 4>                   8.01    56        56%   100.0%          0
layer_norm_row_pull<float, 4, 2>             13.07    79        38%   100.0%          0
gelu<float, 4, true>                          8.00    27       100%   100.0%          0
gelu_pull<float, 4, true>                    12.00    30       100%   100.0%          0
dropout<float, 4>                             8.00    22       100%   100.0%          0
adam<float, 4>                               28.00    56        50%   100.0%          0
sgd<float, 4>                                20.00    35        75%   100.0%          0
scatter_chunks<float, 4, long long>          12.02    38        75%   100.0%          0
gemm<float, 4, false, true, 0>                5.33    80        38%   100.0%          0
"""
import re

import numpy as np
import pytest
import test_cu_cross_entropy as cross_entropy
import test_cu_dropout as dropout
import test_cu_gelu as gelu
import test_cu_gemm as gemm
import test_cu_layer_norm as layer_norm
import test_cu_optim as optim
import test_cu_reduce as reduce
import test_cu_relu as relu
import test_cu_scatter as scatter
import test_cu_softmax as softmax
from cu_instances import INSTANCES, expression
from cu_support import ARCHITECTURES, KERNELS, OPTIONS, blank, cubin_log, flat_grid, i64, launch, placed

from gpugrad.cudasim.nvrtc import compile_ptx


def names(file, dtypes):
    return tuple(expression(kernel, arguments) for kernel, arguments in INSTANCES[file] if arguments[0] in dtypes)


def check_cubin(file, arch, expressions):
    if not expressions:
        return
    figures = cubin_log(file, arch, expressions)
    assert set(figures) == set(expressions)
    assert {name: f for name, f in figures.items() if f[1] or f[2]} == {}            # spills, stack


def test_every_source_is_listed():
    assert set(INSTANCES) == {path.name for path in KERNELS.glob("*.cu")}


@pytest.mark.parametrize("file", INSTANCES)
def test_float32_compiles_for_sm_90_without_spills(file):
    check_cubin(file, "sm_90", names(file, {"float32"}))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("file", INSTANCES)
def test_every_instance_compiles_for_every_architecture_without_spills(file, arch):
    check_cubin(file, arch, tuple(expression(*instance) for instance in INSTANCES[file]))


@pytest.mark.parametrize("file", INSTANCES)
def test_no_local_memory_no_float_atomics_and_wide_loads_only_where_declared(file):
    instances = [i for i in INSTANCES[file] if i[1][0] == "float32"]
    compiled = compile_ptx((KERNELS / file).read_text(), "sm_90", OPTIONS, tuple(expression(*i) for i in instances))
    bodies = dict(re.findall(r"\.entry (\w+)\((.*?)\n}", compiled.ptx, re.DOTALL))
    for kernel, arguments in instances:
        body = bodies[compiled.lowered[expression(kernel, arguments)]]
        assert ".local" not in body, kernel
        atomics = set(re.findall(r"\b(?:atom|red)\.[\w.:]+", body))
        assert all(re.search(r"\.inc\.u32$", a) for a in atomics), (kernel, atomics)
        wide_loads = re.findall(r"ld\.global(?:\.\w+)*\.v4\.\w32", body)
        assert bool(wide_loads) == (arguments[1] > 1) or kernel == "scatter_joins", (kernel, arguments)


# ---- the table -------------------------------------------------------------------------------------------------------

def occupancy(registers, shared, threads):
    """Threads of 2048 that fit on a multiprocessor of sm_90: 65536 registers by 256 a warp, 228 KB shared, 32 blocks."""
    warps = threads // 32
    by_registers = 65536 // (-(-registers * 32 // 256) * 256 * warps)
    blocks = min(2048 // threads, by_registers, 233472 // (shared + 1024), 32)
    return blocks * threads / 2048


def measured():
    """(file, expression, threads a block, elements, counters) of one launch of each hot kernel."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((128, 1024)).astype(np.float32)
    g, n = rng.standard_normal(x.shape).astype(np.float32), x.size
    _, mask, counters = relu.forward(x, x[0], "float32", 4, 0)
    yield "relu.cu", ("bias_relu", ("float32", 4)), 256, n, counters
    counters = launch("relu.cu", "relu", ("float32", 4), flat_grid(n, 4), 256, (placed(x), blank(n, "float32"), i64(n)))
    yield "relu.cu", ("relu", ("float32", 4)), 256, n, counters
    yield "relu.cu", ("bias_relu_pull", ("float32", 4)), 256, n, relu.backward(g, mask, "float32", 4, 0, 8)[2]
    yield "reduce.cu", ("sum_middle", ("float32", 4)), 256, n, reduce.sum_middle(x[None], "float32", 4, 0, 8)[1]
    yield "reduce.cu", ("sum_last", ("float32", 4)), 256, n, reduce.sum_last(x, "float32", 4)[1]
    p, counters = softmax.run("", (x,), "float32", 4, 0, False)
    yield "softmax.cu", ("softmax_row", ("float32", 4, 4, False)), 64, n, counters
    counters = softmax.run("_pull", (g, p), "float32", 4, 0, False)[1]
    yield "softmax.cu", ("softmax_row_pull", ("float32", 4, 4, False)), 64, n, counters
    labels = placed(rng.integers(0, 1024, 128))
    counters = cross_entropy.run(x, labels, "float32", 4, want=("dx",))[1]
    yield "cross_entropy.cu", ("cross_entropy_row", ("float32", 4, 4, "long long")), 64, n, counters
    out, counters = layer_norm.forward(x, "float32", 4)
    yield "layer_norm.cu", ("layer_norm_row", ("float32", 4, 4)), 64, n, counters
    counters = layer_norm.backward(g, x, out["mean"], out["rstd"], "float32", 4, slice_rows=16)[1]
    yield "layer_norm.cu", ("layer_norm_row_pull", ("float32", 4, 2)), 256, n, counters
    flat = x.ravel()
    yield "gelu.cu", ("gelu", ("float32", 4, True)), 256, n, gelu.run("gelu", (flat,), "float32", 4, 0, "tanh")[1]
    counters = gelu.run("gelu_pull", (flat, flat), "float32", 4, 0, "tanh")[1]
    yield "gelu.cu", ("gelu_pull", ("float32", 4, True)), 256, n, counters
    counters = dropout.run(flat, "float32", 4, 0, 0.1, state=placed(np.array([1, 2], np.uint64)))[1]
    yield "dropout.cu", ("dropout", ("float32", 4)), 256, n, counters
    model = optim.Model("float32", 4, 0, 2, lengths=(n,), missing=None)
    hyper = (np.float64(0.9), np.float64(0.999), np.float64(1e-8), np.float64(0), False)
    yield "optim.cu", ("adam", ("float32", 4)), 256, n, model.run("adam", [*model.states, None], hyper)
    model = optim.Model("float32", 4, 0, 1, lengths=(n,), missing=None)
    model.step[0] = 1                                         # the first step does not read v
    hyper = (np.float64(0.9), np.float64(0), np.float64(0), False)
    yield "optim.cu", ("sgd", ("float32", 4)), 256, n, model.run("sgd", model.states, hyper)
    counters = scatter.run(x, rng.permutation(128), 128, "float32", 4)[1]
    yield "scatter.cu", ("scatter_chunks", ("float32", 4, "long long")), 256, n, counters
    a, b = gemm.operands(rng, (128, 128, 64), "float32", False, True)
    yield "gemm.cu", ("gemm", ("float32", 4, False, True, 0)), 256, 3 * 8192, gemm.run(a, b, "float32", 4, False, True)[1]


# (bytes an element, lowest occupancy): what the header says, partial sums, tickets and labels included
EXPECTED = {
    "relu": (8, 1), "bias_relu": (8.16, 1), "bias_relu_pull": (9.2, 0.75), "sum_middle": (5.1, 0.75), "sum_last": (4.01, 1),
    "softmax_row": (8, 0.5), "softmax_row_pull": (12, 0.5), "cross_entropy_row": (8.02, 0.5), "layer_norm_row": (8.01, 0.5),
    "layer_norm_row_pull": (13.1, 0.25), "gelu": (8, 1), "gelu_pull": (12, 0.75), "dropout": (8.001, 1), "adam": (28.01, 0.5),
    "sgd": (20.01, 0.75), "scatter_chunks": (12.1, 0.5), "gemm": (5.4, 0.25),
}


def table():
    for file, (kernel, arguments), threads, elements, counters in measured():
        name = expression(kernel, arguments)
        registers, _, _, shared = cubin_log(file, "sm_90", (name,))[name]
        size = (counters.unique_bytes_read + counters.unique_bytes_written) / elements
        yield kernel, name, size, registers, occupancy(registers, shared, threads), counters


def test_hot_kernels_move_what_their_headers_say_without_waste():
    seen = set()
    for kernel, name, size, _, share, counters in table():
        most, least = EXPECTED[kernel]
        assert size <= most, (name, size)
        assert share >= least, (name, share)
        assert counters.sector_efficiency >= 0.98, name
        assert (counters.bank_conflicts, counters.local_bytes) == (0, 0), name
        seen.add(kernel)
    assert seen == set(EXPECTED)


if __name__ == "__main__":
    print(f"{'kernel':<42}{'B/elem':>8}{'regs':>6}{'occupancy':>11}{'sectors':>9}{'conflicts':>11}")
    for _, name, size, registers, share, counters in table():
        print(f"{name:<42}{size:>8.2f}{registers:>6}{share:>11.0%}{counters.sector_efficiency:>9.1%}{counters.bank_conflicts:>11}")
