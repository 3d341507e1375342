"""What a program says that it costs is what counting by hand gives, on either machine, and adds up."""
import importlib.util
import json

import numpy as np
import pytest
from flat_support import ROW, X

import gpugrad as gg
from gpugrad.kernels.card import H100, TWO_CORES

LLVM = importlib.util.find_spec("llvmlite") is not None


@pytest.fixture(params=["numpy", pytest.param("llvm", marks=pytest.mark.skipif(not LLVM, reason="needs the extra jit"))])
def backend(request):
    return request.param


def cost_of(f, *args, backend="numpy"):
    return gg.compile(f, backend=backend).program(*args).cost


def test_a_product_reads_and_writes_each_array_once(backend):
    cost = cost_of(lambda a, b: a @ b, np.ones((8, 16)), np.ones((16, 4)), backend=backend)
    moved = 8 * (8 * 16 + 16 * 4 + 8 * 4)
    assert (cost.operations, cost.flops) == (1, 2 * 8 * 16 * 4)
    for side in (cost.on_cpu, cost.on_gpu):
        assert (side.launches, side.bytes, side.saved, side.peak) == (1, moved, 0, 8 * 8 * 4)
        assert side.floor_us == pytest.approx(1e6 * max(moved / side.card.bandwidth, cost.flops / side.card.float32))
        assert side.time_us == pytest.approx(side.card.start_us + side.card.step_us + side.floor_us)
    assert (cost.on_cpu.card, cost.on_gpu.card) == (TWO_CORES, H100)


def test_a_fused_chain_moves_what_goes_in_and_out():
    x = np.ones(1000)
    fused = cost_of(lambda x: gg.exp(gg.sin(x) * 2 + x), x)
    assert (fused.on_gpu.launches, fused.on_gpu.bytes) == (1, 2 * x.nbytes)
    assert (fused.on_cpu.launches, fused.on_cpu.bytes) == (4, (2 + 2 + 3 + 2) * x.nbytes)          # NumPy goes over it each time
    assert fused.flops == 4 * x.size


@pytest.mark.skipif(not LLVM, reason="needs the extra jit")
def test_loops_move_less_than_numpy():
    def f(x):
        return gg.sum(gg.exp(gg.sin(x) * 2 + x))
    x = np.ones((64, 64))
    loops, plain = (cost_of(gg.grad(f), x, backend=b) for b in ("llvm", "numpy"))
    assert loops.launches < plain.launches and loops.bytes < plain.bytes and loops.saved <= plain.saved
    assert loops.on_gpu == plain.on_gpu


def test_views_cost_nothing_and_keep_what_they_look_at():
    x = np.ones((10, 20))
    cost = cost_of(lambda x: gg.sin(x).reshape(200).reshape(20, 10).T, x)
    assert (cost.launches, cost.bytes, cost.peak) == (1, 2 * x.nbytes, x.nbytes)


def test_saved_is_what_backward_reads_of_forward():
    def loss(w, x):
        return gg.sum(gg.tanh(x @ w) ** 2)
    w, x = np.ones((5, 6)), np.ones((7, 5))
    hidden = 7 * 6 * 8
    assert cost_of(loss, w, x).saved == 0
    assert cost_of(gg.grad(loss), w, x).saved == hidden                       # tanh keeps its output; x is an argument


def test_peak_counts_what_is_alive_together():
    x = np.ones(1000)
    assert cost_of(lambda x: gg.sin(gg.sin(gg.sin(x))), x).peak == 2 * x.nbytes
    assert cost_of(lambda x: gg.sin(x) + gg.cos(x) * gg.tan(x), x).peak in (3 * x.nbytes, 4 * x.nbytes)
    w = gg.tensor(np.ones(1000), requires_grad=True)
    optimiser = gg.optim.SGD([w], lr=0.1)

    def step(x):
        optimiser.zero_grad()
        (w * x).sum().backward()
        optimiser.step()
    assert cost_of(step, x).peak <= 3 * x.nbytes                              # w is made where it was


def test_constants_of_one_number_are_small():
    big = np.random.default_rng(0).standard_normal(5000)
    assert cost_of(lambda x: x * gg.ones(5000), big[:1]).constants <= 16
    assert cost_of(lambda x: x * big, big).constants == big.nbytes


def test_the_table_names_its_machines_and_what_is_modelled():
    cost = cost_of(gg.grad(lambda x: gg.sum(gg.tanh(x) * 2)), X)
    for text in ("for numpy", "launches", "bytes moved", "saved for backward", "peak memory", "time, modelled", "floor, modelled",
                 "H100 SXM: advertised 3,350 GB/s", "2 CPU cores: assumed 20 GB/s"):
        assert text in str(cost)
    found = json.loads(json.dumps(cost.as_dict()))
    assert found["on_gpu"]["modelled_time_us"] == pytest.approx(cost.on_gpu.time_us)
    assert "time_us" not in found["on_gpu"]


def test_kernels_are_the_steps_with_their_text(backend):
    program = gg.compile(gg.grad(lambda x: gg.sum(gg.exp(gg.tanh(x) * 2) @ ROW)), backend=backend).program(X)
    kernels = program.kernels
    assert len(kernels) == program.cost.launches
    assert sum(k.bytes for k in kernels) == program.cost.bytes
    assert sum(k.time_us for k in kernels) == pytest.approx(program.cost.here.time_us - TWO_CORES.start_us)
    assert any("tanh" in k.name for k in kernels)
    fused = [k for k in kernels if len(k.ops) > 1]
    assert all("define void" in k.text for k in fused) if backend == "llvm" else all("tanh(" in k.text for k in kernels[:1])
    assert "modelled" in str(kernels[0])


def test_a_program_for_a_gpu_is_counted_by_its_launches():
    w = gg.tensor(np.ones((16, 32), "f4"), device="sim", requires_grad=True)

    def step(x):
        loss = gg.sum(gg.tanh(gg.linear(x, w)) ** 2)
        loss.backward()
        return loss
    program = gg.compile(step).program(gg.tensor(np.ones((64, 32), "f4"), device="sim"))
    cost, kernels = program.cost, program.kernels
    assert cost.backend == "cuda" and cost.here is cost.on_gpu
    assert cost.launches == len(kernels) and cost.bytes == sum(k.bytes for k in kernels)
    assert cost.saved == 0                                                     # tanh and its pullback are one kernel
    fused = [k for k in kernels if len(k.ops) > 1]
    assert fused and all("__global__" in k.text for k in fused)
    assert cost.on_cpu.launches >= cost.on_gpu.launches
