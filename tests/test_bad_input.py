"""Bad input: every row is a call, the class it raises and a part of its message, which names the operation, what was expected,
what it got and the next step. Messages end in a sentence that says what to do.
"""
import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from on_device import on_cpu, xp

import gpugrad as gg

X = lambda: gg.tensor([1.0, 2.0, 3.0], requires_grad=True)
A = lambda: gg.tensor(xp.ones((2, 3)), requires_grad=True)
N = lambda: gg.tensor([1, 2, 3])


def changed_in_place():
    x = X()
    y = np.sin(x)
    with gg.no_grad():
        x += 1.0
    y.sum().backward()


def twice():
    y = (X() * 2.0).sum()
    y.backward()
    y.backward()


#: A GPU would have to wait for the values, so these are the CPU's alone.
OF_VALUES = [
    (lambda: X()[np.array([0, 9])], gg.IndexingError, "gather: expected valid indices"),
    (lambda: gg.nn.cross_entropy(A(), np.array([0, 3])), gg.ArgumentError, "cross_entropy: expected labels from 0 to 2"),
]
#: NumPy's own types, which other devices do not have.
OF_NUMPY = [
    (lambda: X() * np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]), gg.DtypeError, "multiply: expected an array, got a masked"),
    (lambda: np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]) * X(), gg.ConversionError, "expected no masked array beside it"),
    (lambda: gg.grad(np.sum)(np.ma.array([1.0, 2.0])), gg.DtypeError, "expected an array, got a masked array"),
    (lambda: gg.grad(np.sum)(np.ones((1, 2)).view(np.matrix)), gg.DtypeError, "expected an array, got a matrix"),
    (lambda: np.ones((1, 3)).view(np.matrix) * X(), gg.DtypeError, "multiply: expected an array, got a matrix"),
    (lambda: X() * np.array([1.0, 2.0, 3.0], dtype=object), gg.DtypeError, "multiply: expected numbers, got dtype object"),
    (lambda: gg.sum(np.array(["a"])), gg.DtypeError, "sum: expected numbers, got dtype <U1"),
    (lambda: X() + np.zeros(3, dtype=[("a", float)]), gg.DtypeError, "add: expected numbers, got dtype"),
    (lambda: N() * 10 ** 30, gg.ArgumentError, "multiply: expected numbers within the dtype, got"),
    (lambda: gg.tensor(np.ones(2, "u1")) - 300, gg.ArgumentError, "subtract: expected numbers within the dtype, got"),
]
ROWS = [
    # making Tensors
    (lambda: gg.tensor([1, 2], requires_grad=True), gg.DtypeError, "requires_grad: expected a float or complex dtype, got int64"),
    (lambda: gg.tensor(["a"]), gg.ArgumentError, "tensor: expected numbers, got dtype"),
    (lambda: gg.tensor([[1, 2], [3]]), gg.ArgumentError, "tensor: expected numbers in a regular shape"),
    (lambda: gg.tensor([1.0], dtype="spam"), gg.GpugradError, "tensor: expected"),
    (lambda: gg.tensor(None), gg.ArgumentError, "tensor: expected numbers"),
    (lambda: gg.tensor([X()[0], 1.0]), gg.ConversionError, "expected one outside the graph"),
    (lambda: gg.tensor([1.0], device="tpu"), gg.DeviceError, "device: expected 'cpu', 'cuda', 'cuda:N' or 'sim', got 'tpu'"),
    (lambda: gg.device("cuda:x"), gg.DeviceError, "got 'cuda:x'"),
    # backward
    (lambda: X().backward(), gg.ShapeError, r"backward: expected one element, got shape (3,)"),
    (lambda: (X() * 2).backward(), gg.ShapeError, "Sum it first, or pass gradient="),
    (lambda: gg.tensor(1.0).backward(), gg.GraphError, "backward: expected a Tensor that needs a gradient"),
    (lambda: X().backward(xp.ones(2)), gg.ShapeError, r"backward: expected a gradient of shape (3,), got (2,)"),
    (lambda: X().backward(xp.ones(3) * 1j), gg.DtypeError, "backward: expected a gradient of dtype float64, got complex128"),
    (lambda: X().backward("ones"), gg.GpugradError, "backward: expected a gradient"),
    (lambda: (X() * 1j).sum().backward(), gg.DtypeError, "backward: expected a real output, got complex128"),
    (twice, gg.GraphError, "an earlier backward has freed"),
    (changed_in_place, gg.GraphError, "sin: expected its saved array of shape (3,) as it was"),
    (lambda: gg.tensor([1.0]).register_hook(print), gg.GraphError, "register_hook: expected a Tensor that needs a gradient"),
    (lambda: X().register_hook(3), gg.DtypeError, "register_hook: expected a function, got 3"),
    # implicit conversion
    (lambda: xp.asarray(X()), gg.ConversionError, "which a NumPy array would drop"),
    (lambda: float(X()[0]), gg.ConversionError, "which float would drop. Use .item()"),
    (lambda: X().numpy(), gg.ConversionError, "Use .detach().numpy()"),
    (lambda: bool(A()), gg.ShapeError, "bool: expected one element, got shape (2, 3). Use .any() or .all()"),
    (lambda: X().item(), gg.ShapeError, "item: expected one element, got shape (3,)"),
    (lambda: len(gg.tensor(1.0)), gg.DtypeError, "len: expected at least one axis"),
    (lambda: iter(gg.tensor(1.0)), gg.DtypeError, "iter: expected at least one axis"),
    (lambda: pickle.dumps(X()), gg.ConversionError, "Use gpugrad.save"),
    (lambda: np.add(xp.ones(3), X(), out=xp.ones(3)), gg.ConversionError, "expected a Tensor to write to"),
    # shapes
    (lambda: X() + xp.ones(4), gg.ShapeError, "add: expected shapes that fit, got (3,) float64, (4,) float64"),
    (lambda: X() @ xp.ones(4), gg.ShapeError, "matmul: inner sizes must agree, got a (3,) and b (4,)"),
    (lambda: A() @ A(), gg.ShapeError, "matmul: inner sizes must agree, got a (2, 3) and b (2, 3). Transpose b"),
    (lambda: X() @ 2.0, gg.ShapeError, "matmul: expected operands with at least one axis"),
    (lambda: A().reshape(4), gg.ShapeError, "reshape: expected"),
    (lambda: A().reshape(-1, -1), gg.ShapeError, "reshape: expected"),
    (lambda: gg.concatenate([A(), xp.ones((2, 2, 2))]), gg.ShapeError, "concatenate: expected"),
    (lambda: gg.stack([]), gg.ArgumentError, "stack: expected at least one array"),
    (lambda: gg.broadcast_to(X(), (2, 2)), gg.ShapeError, "expected"),
    (lambda: gg.squeeze(A(), axis=0), gg.ShapeError, "squeeze: expected"),
    (lambda: X().__iadd__(xp.ones((2, 3))), gg.ShapeError, "add: expected a result of shape (3,) to assign in place, got (2, 3)"),
    (lambda: X().__setitem__(slice(0, 2), xp.ones(3)), gg.ShapeError, "setitem: expected"),
    (lambda: setattr(X(), "grad", xp.ones(2)), gg.ShapeError, "grad: expected shape (3,), got (2,)"),
    (lambda: setattr(X(), "data", xp.ones(2)), gg.ShapeError, "data: expected shape (3,)"),
    # axes and indices
    (lambda: A().sum(axis=2), gg.AxisError, "sum: expected an axis from -2 to 1, got 2"),
    (lambda: A().sum(axis=(0, 0)), gg.AxisError, "sum: expected different axes"),
    (lambda: A().mean(axis=1.5), gg.DtypeError, "mean: expected an int as axis, got 1.5"),
    (lambda: np.transpose(A(), (0, 0)), gg.AxisError, "transpose: expected"),
    (lambda: gg.concatenate([A(), A()], axis=5), gg.AxisError, "concatenate: expected an axis"),
    (lambda: gg.nn.softmax(A(), axis=7), gg.AxisError, "softmax: expected an axis"),
    (lambda: X()[3], gg.IndexingError, "getitem: expected"),
    (lambda: X()[0, 0], gg.IndexingError, "getitem: expected"),
    (lambda: X()["a"], gg.IndexingError, "getitem: expected"),
    (lambda: X()[xp.array([True, False])], gg.IndexingError, "getitem: expected"),
    # dtypes
    (lambda: N().__iadd__(0.5), gg.DtypeError, "add: expected a result that fits dtype int64 in place, got float64"),
    (lambda: X() + "one", gg.DtypeError, "add: expected arrays or numbers, got str"),
    (lambda: X() * object(), gg.DtypeError, "multiply: expected arrays or numbers, got object"),
    (lambda: ~X(), gg.DtypeError, "invert: expected dtypes that NumPy accepts"),
    (lambda: X() & X(), gg.DtypeError, "bitwise_and: expected dtypes"),
    (lambda: gg.sin("x"), gg.DtypeError, "sin: expected"),
    # NumPy's protocols
    (lambda: np.linalg.slogdet(gg.tensor(xp.eye(2), requires_grad=True)), gg.NoRuleError, "slogdet: no rule for Tensors"),
    (lambda: np.busday_count(X(), X()), gg.NoRuleError, "no rule for Tensors. Compose it"),
    (lambda: np.less.reduce(X()), gg.NoRuleError, "np.less.reduce: no rule for Tensors"),
    (lambda: np.frompyfunc(lambda a, b: a, 2, 1).outer(X(), X()), gg.NoRuleError, "no rule for Tensors. Compose it"),
    (lambda: np.add.at(xp.zeros(3), [0], X()[:1]), gg.ConversionError, "np.add.at: expected a Tensor to write to"),
    # transforms
    (lambda: gg.grad(3)(1.0), gg.DtypeError, "grad: expected a function, got 3"),
    (lambda: gg.grad(np.sin)(xp.ones(2)), gg.ShapeError, "grad: expected a function with one output element, got shape (2,)"),
    (lambda: gg.grad(np.sum)(xp.ones(2, int)), gg.DtypeError, "grad: expected a float or complex dtype, got int64"),
    (lambda: gg.grad(np.sum)("x"), gg.ArgumentError, "expected numbers"),
    (lambda: gg.grad(np.sum, argnums=1)(xp.ones(2)), gg.ArgumentError, "expected argnums within the 1 positional arguments"),
    (lambda: gg.grad(lambda x: "no")(1.0), gg.DtypeError, "grad: expected a function that returns arrays, got 'no'"),
    (lambda: gg.grad(np.sum, has_aux=True)(xp.ones(2)), gg.ArgumentError, "grad: expected (output, aux) with has_aux=True"),
    (lambda: gg.jvp(np.sin, (xp.ones(2),), (xp.ones(3),)), gg.ShapeError, "jvp: expected a gradient of shape (2,), got (3,)"),
    (lambda: gg.jvp(np.sin, (xp.ones(2),), ()), gg.ArgumentError, "jvp: expected the structure tuple(*), got tuple()"),
    (lambda: gg.vjp(np.sin, xp.ones(2))[1](xp.ones(3)), gg.ShapeError, "vjp: expected a gradient of shape (2,), got (3,)"),
    (lambda: gg.jacobian(np.sin, mode="up")(1.0), gg.ArgumentError, "jacobian: expected mode 'auto', 'reverse' or 'forward'"),
    (lambda: gg.vmap(np.sin)(1.0), gg.ArgumentError, "vmap: expected axis 0 to map over, got shape ()"),
    (lambda: gg.vmap(np.add)(xp.ones(2), xp.ones(3)), gg.ArgumentError, "expected one length of the mapped axis, got [2, 3]"),
    (lambda: gg.vmap(lambda x: x.item())(xp.ones(2)), gg.ConversionError, "item: expected a value, got a Tensor inside vmap"),
    (lambda: gg.hvp(np.sum, xp.ones(2), xp.ones(3)), gg.ShapeError, "expected a gradient of shape (2,)"),
    (lambda: gg.check_grads(np.sin, (1,)), gg.ArgumentError, "check_grads: expected at least one float or complex argument"),
    (lambda: gg.check_grads(np.sin, (1.0,), modes=("up",)), gg.ArgumentError, "check_grads: expected modes"),
    # networks and optimisers
    (lambda: gg.nn.cross_entropy(A(), xp.array([0.0, 1.0])), gg.GpugradError, "cross_entropy: expected"),
    (lambda: gg.nn.linear(A(), xp.ones((4, 5))), gg.ShapeError, "linear: expected x (..., in), weight (out, in)"),
    (lambda: gg.nn.dropout(A(), p=1.5), gg.ArgumentError, "dropout: expected"),
    (lambda: gg.optim.SGD([X()], lr=-1.0), gg.ArgumentError, "SGD: expected"),
    (lambda: gg.grad(np.sum, argnums=(0, 0))(xp.ones(2)), gg.ArgumentError, "grad: expected different argnums, got (0, 0)"),
    (lambda: gg.vmap(np.sum, in_axes=({"a": 0.5},))({"a": xp.ones(2)}), gg.ArgumentError, "vmap: expected in_axes of ints"),
    (lambda: gg.optim.SGD([N()], lr=0.1), gg.GpugradError, "SGD: expected"),
    (lambda: gg.optim.Adam([], lr=0.1), gg.ArgumentError, "Adam: expected"),
    (lambda: gg.random.normal(scale=-1.0), gg.ArgumentError, "normal: expected a scale"),
]


@pytest.mark.parametrize(("call", "error", "message"), ROWS, ids=[f"{i}: {row[2][:50]}" for i, row in enumerate(ROWS)])
@pytest.mark.usefixtures("device")
def test_bad_input_is_refused_by_class_and_message(call, error, message):
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert message in text
    assert ": expected" in text or ": no rule" in text or "must agree" in text
    assert text.rstrip().endswith((".", ")")), "the last sentence says what to do next"


@on_cpu
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("call", "error", "message"), [*OF_VALUES, *OF_NUMPY])
def test_bad_values_are_refused_by_class_and_message(call, error, message):
    test_bad_input_is_refused_by_class_and_message(call, error, message)


def test_there_are_at_least_sixty():
    assert len(ROWS) >= 60


@pytest.mark.skipif(gg.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("call", [lambda: gg.device("cuda"), lambda: gg.tensor([1.0], device="cuda:0"), lambda: X().cuda(),
                                  lambda: X().to("cuda"), lambda: gg.zeros(3, device="cuda")])
def test_asking_for_cuda_where_there_is_none_gives_cupys_reason(call):
    with pytest.raises(gg.DeviceError, match=r"device: expected a usable CUDA device for 'cuda.*', got none: .+\. Install CuPy"):
        call()


class Trap:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_pickle_in_a_checkpoint_is_refused_and_never_run(tmp_path, suffix):
    canary, path = tmp_path / "canary", tmp_path / f"bad.{suffix}"
    payload = pickle.dumps(Trap(canary))
    if suffix == "npz":
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.array([Trap(canary)], dtype=object), allow_pickle=True)
        with zipfile.ZipFile(path, "w") as z:
            z.writestr("w.npy", buffer.getvalue())
    else:
        path.write_bytes(payload)
    with pytest.raises(gg.FileFormatError, match="load: expected"):
        gg.load(path)
    assert not canary.exists()


@pytest.mark.parametrize("damage", [lambda b: b[:20], lambda b: b"", lambda b: b"\xff" * 8 + b[8:],
                                    lambda b: b[:8] + b"x" + b[9:]])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "w.safetensors"
    gg.save(path, {"w": gg.tensor([1.0, 2.0])})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(gg.FileFormatError):
        gg.load(path)


def test_a_size_that_does_not_match_the_file_is_refused(tmp_path):
    header = json.dumps({"w": {"dtype": "F64", "shape": [1000], "data_offsets": [0, 8000]}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 16)
    with pytest.raises(gg.FileFormatError):
        gg.load(path)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_an_interrupted_save_leaves_the_old_file_whole(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"w.{suffix}"
    gg.save(path, {"w": gg.tensor([1.0, 2.0])})
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        gg.save(path, {"w": gg.tensor([9.0, 9.0])})
    np.testing.assert_array_equal(gg.load(path)["w"].data, [1, 2])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_float_is_no_index_as_for_arrays():
    with pytest.raises(TypeError, match="integer"):
        [1, 2][gg.asarray(1.0)]


def test_a_number_format_wants_one_element():
    assert f"{gg.asarray(1.5):.2f}" == "1.50"
    with pytest.raises(gg.ShapeError, match=r"format: expected one element for '.2f', got shape \(2,\)"):
        f"{gg.asarray([1.0, 2.0]):.2f}"


@pytest.mark.eager("the functions are not the package's own then")
def test_functions_survive_a_pickle():
    for f in (gg.sin, gg.add, gg.sum, gg.nn.relu):
        assert pickle.loads(pickle.dumps(f)) is f


def endless():
    xs = [np.ones(2)]
    xs.append(xs)
    return xs


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: gg.jacobian(np.sin)(np.ones((1,) * 33)), gg.ShapeError, "jacobian: expected at most 64 axes of outputs and inputs"),
    (lambda: gg.jacobian(np.sin)(np.ones((1,) * 64)), gg.ShapeError, "jacobian: expected fewer than 64 axes, got 64"),
    (lambda: gg.grad(lambda x: x[0].sum())(endless()), gg.ArgumentError, "tree: expected containers that end, got"),
    (lambda: gg.vjp(lambda x: endless(), 1.0), gg.ArgumentError, "tree: expected containers that end, got"),
    (lambda: gg.load(None), gg.DtypeError, "load: expected a path, got None"),
    (lambda: gg.save(3, {"a": 1.0}), gg.DtypeError, "save: expected a path, got 3"),
    (lambda: gg.save("no such folder/a.npz", {"a": 1.0}), FileNotFoundError, "save: expected a folder that is there, got"),
    (lambda: gg.check_grads(np.sin, (1.0,), order="two"), gg.ArgumentError, "check_grads: expected order >= 1, got 'two'"),
    (lambda: gg.check_grads(np.sin, (1.0,), modes=3), gg.ArgumentError, "check_grads: expected modes out of"),
    (lambda: gg.check_grads(3, (1.0,)), gg.DtypeError, "check_grads: expected a function, got 3"),
    (lambda: gg.checkpoint(3), gg.DtypeError, "checkpoint: expected a function, got 3"),
    (lambda: gg.cond(True, 1, 2), gg.DtypeError, "cond: expected a function, got 1"),
    (lambda: gg.scan(1, 2.0, np.ones(3)), gg.DtypeError, "scan: expected a function, got 1"),
    (lambda: gg.no_grad(np.sin), gg.ArgumentError, "As a decorator it is @no_grad(), with brackets"),
    (lambda: gg.enable_grad()(3), gg.DtypeError, "enable_grad: expected a function to decorate, got 3"),
])
def test_misuse_is_refused_by_class_and_message(call, error, message):
    test_bad_input_is_refused_by_class_and_message(call, error, message)
