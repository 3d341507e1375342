"""Any nesting of forward and reverse mode, to any order, without one level's perturbation reaching another's."""
import itertools

import numpy as np
import pytest
from on_device import assert_close, assert_equal, xp

import gpugrad as gg

pytestmark = pytest.mark.usefixtures("device")


def forward(f):
    return lambda x: gg.jvp(f, (x,), (1.0,))[1]


MODES = {"forward": forward, "reverse": gg.grad}


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_every_nesting_of_the_modes_gives_the_same_derivative(order):
    # the n-th derivative of exp(x) sin(x) is 2**(n/2) exp(x) sin(x + n pi/4)
    x = 0.3
    expected = 2 ** (order / 2) * np.exp(x) * np.sin(x + order * np.pi / 4)
    for modes in itertools.product(MODES.values(), repeat=order):
        f = lambda x: np.sin(x) * np.exp(x)
        for mode in modes:
            f = mode(f)
        assert_close(f(x), expected, rtol=1e-12)


@pytest.mark.parametrize("modes", list(itertools.product(MODES, repeat=3)))
@pytest.mark.parametrize(("f", "third"), [
    (np.sin, lambda x: -np.cos(x)),                  # one operation: its own variable is all that a sweep meets
    (lambda x: np.exp(x) * 1.0, np.exp),
    (lambda x: 1.0 / x, lambda x: -6 / x ** 4),
    (lambda x: x * x * x, lambda x: 6.0),
], ids=["sin", "exp", "reciprocal", "cube"])
def test_the_third_derivative_of_few_operations(modes, f, third):
    for mode in modes:
        f = MODES[mode](f)
    assert_close(f(0.7), third(0.7), rtol=1e-12)


@pytest.mark.parametrize("outer", MODES)
@pytest.mark.parametrize("inner", MODES)
def test_the_inner_derivative_keeps_the_outer_variable_apart(outer, inner):
    d, e = MODES[outer], MODES[inner]
    assert d(lambda x: x * e(lambda y: x + y)(1.0))(1.0) == 1              # Siskind and Pearlmutter's example
    assert d(lambda x: x * e(lambda y: x * y)(x))(3.0) == 6                # d/dx x**2, the term through y = x is constant
    assert d(lambda x: x * e(lambda y: x * y * y)(2.0))(3.0) == 24         # d/dx 4x**2
    assert d(lambda x: e(lambda y: y ** 3)(x ** 2))(2.0) == 3 * 4 * 2 ** 3   # d/dx 3x**4
    assert d(lambda x: e(lambda y: x)(1.0) + x)(5.0) == 1                  # the inner function ignores its argument


@pytest.mark.parametrize("modes", list(itertools.product(MODES, repeat=3)))
def test_three_levels_that_use_all_variables(modes):
    a, b, c = (MODES[m] for m in modes)
    f = lambda x: x * b(lambda y: y * c(lambda z: x * y * z * z)(y))(x)      # 6 x**4
    assert_close(a(f)(2.0), 24 * 8, rtol=1e-12)


@pytest.mark.parametrize("modes", list(itertools.product(MODES, repeat=2)))
def test_a_derivative_inside_a_derivative_of_a_vector_function(modes):
    outer, inner = modes
    a = xp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
    x, v = xp.asarray(np.random.default_rng(1).normal(size=(2, 3)))
    h = lambda x: np.sum(np.tanh(a @ x) ** 2)
    slope = {"forward": lambda x: gg.jvp(h, (x,), (v,))[1], "reverse": lambda x: np.sum(gg.grad(h)(x) * v)}[inner]
    got = gg.grad(slope)(x) if outer == "reverse" else xp.array([gg.jvp(slope, (x,), (e,))[1] for e in xp.eye(3)])
    eps = 1e-6
    hv = (gg.grad(h)(x + eps * v) - gg.grad(h)(x - eps * v)) / (2 * eps)
    assert_close(got, hv, rtol=1e-7, atol=1e-8)


def test_reverse_over_forward_reaches_parameters_from_outside():
    w = gg.tensor([0.5, -0.3], requires_grad=True)
    x = xp.array([0.2, 0.7])
    slope = gg.jvp(lambda x: np.sum(np.sin(w * x)), (x,), (xp.ones(2),))[1]      # sum w cos(w x)
    slope.backward()
    assert_close(w.grad.numpy(), np.cos(w.data * x) - w.data * x * np.sin(w.data * x), rtol=1e-12)


def test_grad_of_a_bare_array_still_reaches_tensors_it_closes_over():
    w = gg.tensor(3.0, requires_grad=True)
    slope = gg.grad(lambda x: w * x ** 2)(2.0)           # 2 w x, a function of w
    assert isinstance(slope, gg.Tensor)
    slope.backward()
    assert w.grad.item() == 4.0


def test_two_reverse_sweeps_make_a_jvp():
    # the dual of the pullback in its cotangent (Townsend, "A new trick for calculating Jacobian vector products")
    rng = np.random.default_rng(2)
    a, x, v = xp.asarray(rng.normal(size=(5, 4))), xp.asarray(rng.normal(size=4)), xp.asarray(rng.normal(size=4))
    f = lambda x: np.tanh(a @ x) * np.exp(-np.sum(x * x))
    y, _ = gg.vjp(f, x)
    transposed = gg.grad(lambda g: np.sum(gg.vjp(f, x)[1](g)[0] * v))(xp.zeros_like(y))
    assert_close(transposed, gg.jvp(f, (x,), (v,))[1], rtol=1e-13)


def test_vmap_nests_with_both_modes():
    rng = np.random.default_rng(3)
    xs = xp.asarray(rng.normal(size=(5, 3)))
    f = lambda x: np.sum(np.sin(x) * x[0])
    rows = np.stack([gg.grad(f)(x) for x in xs])
    assert_close(gg.vmap(gg.grad(f))(xs), rows, rtol=1e-14)
    assert_close(gg.grad(lambda xs: np.sum(gg.vmap(f)(xs)))(xs), rows, rtol=1e-14)
    assert_close(gg.vmap(lambda x: gg.jvp(f, (x,), (xp.ones(3),))[1])(xs), rows.sum(1), rtol=1e-13)
    assert_close(gg.jvp(lambda xs: gg.vmap(f)(xs), (xs,), (xp.ones_like(xs),))[1], rows.sum(1), rtol=1e-13)
    assert_close(gg.vmap(gg.hessian(f))(xs), np.stack([gg.hessian(f)(x) for x in xs]), rtol=1e-13, atol=1e-15)
    assert_close(gg.vmap(gg.vmap(lambda x: x * x))(xs), xs * xs)


def test_a_pullback_inside_vmap_gives_plain_arrays():
    def f(x):
        y, pull = gg.vjp(lambda w: w * x, xp.array(2.0))
        return pull(y * y)[0]                                 # (2 x)**2 x
    x = xp.arange(3.0)
    got = gg.vmap(f)(x)
    assert type(got) is xp.ndarray
    assert_equal(got, 4 * x ** 3)


def test_an_inner_gradient_of_a_constant_is_zero():
    assert gg.grad(lambda x: gg.grad(lambda y: y * 0 + 7.0)(x) * x)(2.0) == 0
    assert gg.grad(lambda x: 3.0)(2.0) == 0
    assert gg.jvp(lambda x: 3.0, (2.0,), (1.0,)) == (3.0, 0.0)


def test_a_python_complex_times_a_single_number_has_tangents():
    z = 0.3 + 0.4j
    f = lambda z: np.imag(z * z)                              # its gradient is 2j conj(z), whose tangent along 1 is 2j
    assert gg.jvp(gg.grad(f), (z,), (1.0 + 0j,))[1] == 2j
    assert gg.jvp(lambda x: 1j * x, (0.5,), (2.0,))[1] == 2j


@pytest.mark.parametrize("inner", [lambda f, x: gg.jvp(f, (x,), (x,)), lambda f, x: gg.grad(f)(x), lambda f, x: gg.hvp(f, x, x)],
                         ids=["jvp", "grad", "hvp"])
def test_what_an_inner_derivative_leaves_behind_still_has_its_own(inner):
    def kept(x):
        box = []
        inner(lambda z: (box.append(z * z), np.sum(z * z))[1], x)
        return np.sum(box[0] * x)

    def assigned(x):
        y = x * 1.0

        def f(z):
            y[...] = y * z
            return np.sum(z * z)
        inner(f, x)
        return np.sum(y * x)
    x = xp.asarray([1.0, 2.0, 3.0])
    for f in (kept, assigned):                                # both are the sum of x**3
        assert_equal(gg.grad(f)(x), 3 * x * x)
        assert gg.jvp(f, (x,), (xp.ones(3),))[1] == 42
        assert gg.hvp(f, x, xp.ones(3))[2] == 18


def test_a_tensor_kept_from_a_vmap_is_refused():
    def f(x):
        box = []
        gg.vmap(lambda z: (box.append(z * z), z)[1])(x)
        return np.sum(box[0] * x)
    for derivative in (gg.grad(f), lambda x: gg.jvp(f, (x,), (x,)), lambda x: gg.vjp(f, x)):
        with pytest.raises(gg.GraphError, match="expected a Tensor of a running vmap, got one kept from an earlier vmap"):
            derivative(xp.ones(3))
    from gpugrad.graph.layers import OPEN
    assert not OPEN
