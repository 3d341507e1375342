"""Generated elementwise kernels: launched on the simulated device, they give what the rule gives on NumPy arrays."""
import numpy as np
import pytest

import gpugrad.rules  # noqa: F401 - registers the primitives
from gpugrad.cudasim import compile_cuda, cupy
from gpugrad.cudasim.cupy import raw
from gpugrad.graph.namespace import PRIMITIVES, RAW
from gpugrad.kernels.elementwise import Elementwise, joined
from gpugrad.kernels.expression import SYMBOLS, Body, Inexpressible, Leaf
from gpugrad.kernels.record import recording
from gpugrad.rules.generated import pull_of, push_of

pytestmark = pytest.mark.usefixtures("sim")

NUMPY = RAW[np.ndarray]
TOLERANCE = {"e": 2e-3, "f": 2e-6, "d": 1e-13}


def normal(shape, dtype="f", seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def on_device(x):
    return cupy.asarray(x) if hasattr(x, "dtype") else x


def pulled(name, xs, want=None, g_dtype=None):
    """(cotangents on the device, on NumPy, the launches) of an elementwise operation."""
    prim = PRIMITIVES[name]
    with np.errstate(all="ignore"):
        y = prim.on(NUMPY)(*xs)
        g = np.asarray(normal(y.shape, y.dtype, 9))
        want = [True if hasattr(x, "dtype") else None for x in xs] if want is None else want
        reference = prim.pull(NUMPY, g, want, y, xs, {})
    m = RAW[cupy.ndarray]
    with recording() as log:
        got = m.pulls[prim](m, on_device(g), want, on_device(y), tuple(map(on_device, xs)), {})
    return got, reference, log.launches


def assert_same(got, reference, dtype):
    for a, b in zip(got, reference, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a.get(), np.broadcast_to(b, a.shape), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
            assert a.dtype == dtype


ONE = ["tanh", "sigmoid", "softplus", "silu", "log2", "arctan", "arcsinh", "sin", "tan", "cbrt", "reciprocal", "square"]
TWO = ["divide", "hypot", "arctan2", "maximum", "logaddexp", "fmax"]


@pytest.mark.parametrize("name", ONE)
def test_a_rule_of_one_input_is_one_launch(name):
    x = np.abs(normal(131)) + 0.1
    got, reference, launches = pulled(name, (x,))
    assert_same(got, reference, "f")
    assert [launch.name for launch in launches] == [f"{name}_pull<float, 4>"]


@pytest.mark.parametrize("name", TWO)
def test_a_rule_of_two_inputs_is_one_launch(name):
    got, reference, launches = pulled(name, (normal((5, 7)), normal((5, 7), seed=1)))
    assert_same(got, reference, "f")
    assert [launch.name for launch in launches] == [f"{name}_pull<float, 4>"]


@pytest.mark.parametrize("dtype", "efd")
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 0), (33, 5)])
def test_any_float_and_any_shape(dtype, shape):
    got, reference, _ = pulled("divide", (normal(shape, dtype), normal(shape, dtype, 1) + 3))
    assert_same(got, reference, dtype)
    assert got[0].shape == shape


def test_one_wanted_cotangent_is_computed_alone():
    got, reference, launches = pulled("divide", (normal(8), normal(8, seed=1)), want=[None, True])
    assert got[0] is None
    assert_same(got, reference, "f")
    assert launches[0].bytes_written == 32


def test_inputs_that_broadcast_take_the_strided_kernel():
    got, reference, launches = pulled("divide", (normal((4, 1, 6)), normal((5, 1), seed=1)))
    assert_same(got, reference, "f")
    assert [launch.name for launch in launches] == ["divide_pull<float, int>"]


def test_inputs_with_strides_of_their_own():
    x = Leaf("x")
    kernel = Elementwise("twice", [x + x])
    memory = cupy.asarray(normal((6, 8)))
    for view in (memory.T, memory[::2, ::-3], memory[:, 1:5], memory[3]):
        out, = kernel({"x": view}, view.shape)
        np.testing.assert_array_equal(out.get(), (view + view).get())


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_misaligned_inputs_go_by_elements(shift):
    x = Leaf("x")
    array = cupy.asarray(normal(16))[shift:13]
    with recording() as log:
        out, = Elementwise("twice", [x + x])({"x": array}, array.shape)
    np.testing.assert_array_equal(out.get(), (array + array).get())
    assert log.launches[0].name == "twice<float, 1>"


def test_a_number_of_the_program_is_an_argument(monkeypatch):
    x, compiled = Leaf("x"), []
    monkeypatch.setattr(raw, "compile_cuda", lambda *a, **how: compiled.append(a) or compile_cuda(*a, **how))
    for number in (0.3, 0.7, 123.0):
        out, = Elementwise("scaled", [x * number + 1])({"x": on_device(normal(5))}, (5,))
        np.testing.assert_allclose(out.get(), normal(5) * np.float32(number) + 1, rtol=1e-6)
    assert len(compiled) <= 1


@pytest.mark.parametrize("exponent", [2, 3, 0, 0.5, -1, 2.7])
def test_power_with_a_number(exponent):
    prim, x = PRIMITIVES["power"], np.abs(normal(9)) + 0.5
    y, g = x ** exponent, normal(9, seed=4)
    m = RAW[cupy.ndarray]
    rule = pull_of(prim, (True, False), ("array", (type(exponent).__name__, repr(exponent), exponent)))
    if rule is None:
        assert exponent in (0,)                          # 0 g: no formula of the inputs
        return
    with recording() as log:
        gx, _ = m.pulls[prim](m, on_device(g), [True, None], on_device(y), (on_device(x), exponent), {})
    np.testing.assert_allclose(gx.get(), prim.pull(NUMPY, g, [True, None], y, (x, exponent), {})[0], rtol=2e-6)
    assert len(log.launches) == 1


def test_nan_and_infinity_pass_as_in_numpy():
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -3.5, 1e30], "f")
    a, b = (v.reshape(-1).copy() for v in np.meshgrid(special, special))
    for name in ("maximum", "minimum", "remainder", "floor_divide", "copysign"):
        out, = Elementwise("f", [getattr(SYMBOLS, name)(Leaf("a"), Leaf("b"))])({"a": on_device(a), "b": on_device(b)}, a.shape)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(out.get(), getattr(np, name)(a, b), err_msg=name)
    out, = Elementwise("f", [SYMBOLS.sign(Leaf("a"))])({"a": on_device(special)}, special.shape)
    np.testing.assert_array_equal(out.get(), np.sign(special))


def test_forward_mode_is_one_launch_too():
    prim, m = PRIMITIVES["divide"], RAW[cupy.ndarray]
    a, b, ta, tb = (normal((3, 4), seed=s) + 4 * (s == 1) for s in range(4))
    with recording() as log:
        dy = m.pushes[prim](m, [on_device(ta), on_device(tb)], on_device(a / b), on_device(a), on_device(b))
    np.testing.assert_allclose(dy.get(), (ta - a / b * tb) / b, rtol=1e-5, atol=1e-6)
    assert [launch.name for launch in log.launches] == ["divide_push<float, 4>"]


@pytest.mark.parametrize("dtype", "efd")
@pytest.mark.parametrize(("name", "rest"), [("sigmoid", ()), ("softplus", ()), ("silu", ()), ("silu_slope", ()), ("erf", ()),
                                            ("elu", (0.7,)), ("leaky_relu", (0.01,))])
def test_an_activation_is_one_launch(name, rest, dtype):
    x = np.concatenate([normal(37) * 3, [np.nan, 0, 60, -60]]).astype(dtype)
    with recording() as log:
        y = PRIMITIVES[name].impls[cupy.ndarray](on_device(x), *rest)
    assert len(log.launches) == 1 and log.launches[0].name.startswith(f"{name}<")
    with np.errstate(all="ignore"):
        wanted = PRIMITIVES[name].impls[np.ndarray](x.astype("d"), *rest)
    np.testing.assert_allclose(y.get(), wanted, rtol=4 * TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_what_has_no_text_is_left_to_the_array_module():
    with pytest.raises(Inexpressible, match=r"m\.where"):
        bool(Leaf("x") > 0)
    with pytest.raises(Inexpressible, match="frobnicate"):
        SYMBOLS.frobnicate(Leaf("x"))
    with pytest.raises(Inexpressible, match="complex"):
        Leaf("x") * 1j
    assert pull_of(PRIMITIVES["multiply"], (True, False), ("array", "array")) is None      # g * b is one operation
    assert push_of(PRIMITIVES["add"], (True, False), ("array", "array")) is None


def test_common_parts_are_computed_once():
    x = Leaf("x")
    body = Body([x * x + 1, (x * x + 1) * 2, x > 0])
    assert len(body.lines) == 4
    assert body.inputs == ["x"] and body.results[2] == "A(_3)"


def test_neighbouring_axes_are_joined():
    assert joined((2, 3, 4), [[12, 4, 1], [12, 4, 1]]) == ([24], [[1], [1]])
    assert joined((2, 3, 4), [[12, 4, 1], [0, 4, 1]]) == ([2, 12], [[12, 1], [0, 1]])
    assert joined((1, 1), [[7, 7]]) == ([1], [[0]])
