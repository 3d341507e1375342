"""gg.profile() tells when and why a program was made, and leaves no timers in it."""
import importlib.util
import json

import numpy as np
from flat_support import ROW, X

import gpugrad as gg
from gpugrad.flat.reasons import described, parameters, reason, varying
from gpugrad.graph.namespace import PRIMITIVES

LLVM = importlib.util.find_spec("llvmlite") is not None


def test_each_program_has_its_reason():
    compiled = gg.compile(lambda x, n: x * n, backend="numpy")
    with gg.profile() as found:
        for x, n in ((X, 2), (X, 2), (ROW, 2), (ROW.astype("f4"), 2), (gg.tensor(ROW), 2), (ROW * 1, 3)):
            compiled(x, n)
    assert [c.reason for c in found.compilations] == [
        "the first call", "x: float64[3, 4] -> float64[4]", "x: float64[4] -> float32[4]", "x: float32[4] -> Tensor float64[4]",
        "n: 2 -> 3"]
    assert [c.number for c in found.compilations] == [1, 2, 3, 4, 5]
    assert [o.name for o in found.operations] == ["<lambda> (compiled)"] and found.operations[0].calls == 6


def test_state_and_modes_are_reasons():
    w = gg.tensor(ROW, requires_grad=True)
    compiled = gg.compile(lambda x: (w * x).sum().backward(), backend="numpy")
    with gg.profile() as found:
        compiled(X)
        compiled(X)
    assert found.compilations[1].reason.startswith("state outside the arguments changed")
    compiled = gg.compile(lambda tree: tree["a"] + tree["b"])
    with gg.profile() as found:
        compiled({"a": ROW, "b": ROW})
        with gg.no_grad():
            compiled({"a": ROW, "b": ROW})
        compiled({"a": ROW, "b": X})
    assert [c.reason for c in found.compilations] == [
        "the first call", "grad mode: absent -> off", "tree[1]: float64[4] -> float64[3, 4]"]


def test_arguments_in_words():
    def f(a, *rest, flag=False):
        return a
    assert parameters(f, 3) == ["a", "rest0", "rest1", "flag"]
    call = described(f, (gg.tensor(ROW, requires_grad=True), np.float32(1), [X, 2.5]), {"flag": True}, frozenset(), True)
    assert call == {"a": "Tensor float64[4] that needs a gradient", "rest0": "a float32 scalar",
                    "the structure of rest1": "2 leaves", "rest1[0]": "float64[3, 4]", "rest1[1]": "2.5", "flag": "True"}
    assert reason(call, [{**call, "flag": "False"}, {"a": "1"}]) == "flag: False -> True"
    assert varying([{"a": "1"}, {"a": "2"}]) == "a (1, 2, …)"


def test_stages_are_timed_and_the_disk_cache_is_told(tmp_path, monkeypatch):
    with gg.profile() as found:
        gg.compile(gg.grad(lambda x: gg.sum(gg.sin(x))), backend="numpy")(X)
    stages = found.compilations[0].seconds
    assert set(stages) == {"trace", "simplify", "emit"} and all(s > 0 for s in stages.values())
    assert (found.compilations[0].found, found.compilations[0].made) == (0, 0)
    if LLVM:
        from gpugrad.flat import llvm
        monkeypatch.setattr(llvm, "cache_folder", lambda: tmp_path)
        for expected in ("miss", "hit"):
            with gg.profile() as found:
                gg.compile(lambda x: gg.exp(x) * 3 + gg.tanh(x), backend="llvm")(X)
            assert found.compilations[0].cells[-1] == expected and found.compilations[0].seconds["compile"] > 0


def test_the_table_and_json_show_compilations():
    with gg.profile() as found:
        gg.compile(lambda x: gg.sin(x), backend="numpy")(X)
    assert "trace ms" in str(found) and "<lambda> #1: the first call" in str(found)
    assert json.loads(found.to_json())["compilations"][0]["backend"] == "numpy"


def test_programs_made_under_a_profile_keep_no_timers():
    f = gg.grad(lambda x: gg.sum(gg.tanh(x) * 1.0))
    with gg.profile(), gg.profile() as inner:
        under = gg.compile(f, backend="numpy").program(X)
        gg.sin(gg.tensor(X))
    assert [o.name for o in inner.operations] == ["sin"]
    plain = gg.compile(f, backend="numpy").program(X)
    assert under.source.split("\n", 3)[0] == plain.source.split("\n", 3)[0]
    assert [op.function for op in under.graph.ops] == [op.function for op in plain.graph.ops]
    assert all(op.function is PRIMITIVES[op.name].impls[np.ndarray] for op in under.graph.ops)
