"""gg.profile: operations and times on the CPU, launches of the device."""
import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.graph.namespace import PRIMITIVES
from gpugrad.kernels.record import Launch, note
from gpugrad.profiling import unseen


def step(w, x):
    loss = gg.sum(gg.tanh(x @ w) ** 2)
    loss.backward()
    return loss


@pytest.fixture
def model():
    rng = np.random.default_rng(0)
    return gg.tensor(rng.standard_normal((4, 3)), requires_grad=True, device="cpu"), rng.standard_normal((5, 4))


def test_operations_forward_and_backward_are_counted_with_bytes_and_time(model):
    with gg.profile() as p:
        step(*model)
    found = {o.name: o for o in p.operations}
    assert {"tanh", "tanh backward", "matmul", "matmul backward", "sum"} <= set(found)
    assert (found["tanh"].calls, found["tanh"].bytes_read, found["tanh"].bytes_written) == (1, 120, 120)
    assert found["matmul"].bytes_read == 8 * (20 + 12)
    assert 0 < sum(o.seconds for o in p.operations) <= p.seconds
    assert p.launches == [] and p.flops == 0 and p.syncs == 0
    assert p.bytes == sum(o.bytes_read + o.bytes_written for o in p.operations)


def test_result_is_the_same_and_nothing_is_left_behind(model):
    w, x = model
    before = {name: (p.pull, dict(p.impls)) for name, p in PRIMITIVES.items()}
    plain = step(w, x).data
    expected, w.grad = w.grad.data.copy(), None
    with gg.profile():
        np.testing.assert_array_equal(step(w, x).data, plain)
        np.testing.assert_array_equal(w.grad.data, expected)
    with pytest.raises(gg.ShapeError), gg.profile():
        gg.matmul(w, w)
    for name, p in PRIMITIVES.items():
        pull, impls = before[name]
        assert p.pull is pull, name
        assert {t: f for t, f in p.impls.items() if t in impls} == impls, name


def test_a_traced_sweep_counts_each_inner_operation_once():
    with gg.profile() as p:
        gg.hessian(lambda x: gg.sum(gg.sin(x) * x))(np.ones(3))
    assert sum(o.seconds for o in p.operations) <= p.seconds
    assert {"sin", "cos"} <= {o.name for o in p.operations}


def test_other_threads_and_outer_profiles_keep_their_own(model):
    seen = []
    with gg.profile() as outer:
        gg.tanh(model[0])
        with gg.profile() as inner:
            gg.exp(model[0])
        thread = threading.Thread(target=lambda: seen.append(gg.sin(np.ones(3))))
        thread.start()
        thread.join()
    assert [o.name for o in outer.operations] == ["tanh"]
    assert [o.name for o in inner.operations] == ["exp"]
    assert len(seen) == 1


def test_launches_have_bytes_flops_and_a_modelled_floor():
    with gg.profile() as p:
        note("relu<float, 4>", "kernel", (8, 1, 1), (256, 1, 1), [3_350_000], [0], 10)
        note("gemm", "cublaslt", reads=[1000], writes=[1000], flops=67_000_000)
    assert (len(p.launches), p.bytes, p.flops) == (2, 3_352_000, 67_000_010)
    assert p.floor_us == pytest.approx(1 + 1)
    text = str(p)
    assert "2 launches" in text and "modelled floor 2 us" in text and "256" in text
    assert json.loads(p.to_json())["floor_us_modelled"] == p.floor_us


def test_table_and_json_of_the_cpu_name_the_slowest_first(model):
    with gg.profile() as p:
        gg.exp(model[0])
        slow = PRIMITIVES["tanh"].impls[np.ndarray]
        p.run("slow", lambda x: time.sleep(0.02) or slow(x), (np.ones(2),), {}, ())
    assert p.operations[0].name == "slow" and p.operations[0].seconds > 0.01
    assert str(p).splitlines()[1].startswith("slow")
    assert json.loads(p.to_json())["operations"][0]["calls"] == 1


def test_optimisers_are_operations_too(model):
    w, x = model
    adam = gg.optim.Adam([w])
    step(w, x)
    with gg.profile() as p:
        adam.step()
    assert [o.name for o in p.operations] == ["Adam step"]


def test_nothing_ran():
    with gg.profile() as p:
        pass
    assert str(p) == "nothing ran" and p.bytes == 0 and p.floor_us == 0


def test_what_only_the_simulated_device_saw_is_cupys_own():
    def seen(name, kind):
        return SimpleNamespace(name=name, kind=kind, grid=(1, 1, 1), block=(128, 1, 1), bytes_read=8, bytes_written=4)

    ours = [Launch("relu<float, 4>"), Launch("cublaslt 4x4x4", "cublaslt"), Launch("matmul", "cupy")]
    relu = seen("relu<float, 4>", "kernel")
    theirs = [relu, relu, seen("cupy_add", "cupy"), seen("matmul", "gemm"), seen("dot", "gemm")]
    rest = unseen(ours, theirs)
    assert [(x.name, x.kind) for x in rest] == [("relu<float, 4>", "kernel"), ("cupy_add", "cupy"), ("dot", "gemm")]
