"""gpugrad.random: reproducible, of the right distribution, and loud about bad arguments."""
from __future__ import annotations

import threading

import numpy as np
import pytest
from on_device import close, equal, xp

import gpugrad as gg
from gpugrad.errors import ArgumentError, DtypeError

pytestmark = pytest.mark.usefixtures("device")


def test_a_seed_gives_the_same_numbers():
    def draw(g):
        return [g.normal(size=3), g.uniform(size=(2, 2), dtype="float32"), g.integers(10, size=4), g.permutation(5),
                g.choice(7, size=3), g.bernoulli(0.3, size=8)]
    a, b, other = (draw(gg.random.generator(seed)) for seed in (3, 3, 4))
    assert all(equal(x.numpy(), y.numpy()) for x, y in zip(a, b))
    assert not all(equal(x.numpy(), y.numpy()) for x, y in zip(a, other))


def test_the_numbers_are_those_of_numpys_philox():
    ours, numpys = gg.random.generator(11), np.random.Generator(np.random.Philox(11))
    assert equal(ours.normal(size=(2, 3)).numpy(), numpys.standard_normal((2, 3)))
    assert equal(ours.uniform(size=4, dtype="f4").numpy(), numpys.random(4, dtype="f4"))
    assert equal(ours.integers(-3, 9, size=5).numpy(), numpys.integers(-3, 9, 5))
    assert equal(ours.permutation(6).numpy(), numpys.permutation(6))


def test_seed_starts_the_default_generator_again():
    gg.random.seed(1)
    first = [gg.random.normal(size=2), gg.random.uniform(size=2), gg.random.integers(5, size=2), gg.random.permutation(4),
             gg.random.choice(5, size=2), gg.random.bernoulli(size=9)]
    gg.random.seed(1)
    again = [gg.random.normal(size=2), gg.random.uniform(size=2), gg.random.integers(5, size=2), gg.random.permutation(4),
             gg.random.choice(5, size=2), gg.random.bernoulli(size=9)]
    assert all(equal(x.numpy(), y.numpy()) for x, y in zip(first, again))
    assert gg.random.default_generator() is gg.random.default_generator()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_moments(dtype):
    g, n = gg.random.generator(0), 100_000
    z = g.normal(2.0, 3.0, size=n, dtype=dtype).numpy().astype("f8")
    u = g.uniform(-1.0, 3.0, size=n, dtype=dtype).numpy().astype("f8")
    assert abs(z.mean() - 2) < 5 * 3 / n**0.5
    assert abs(z.std() - 3) < 5 * 3 / (2 * n) ** 0.5
    assert abs(u.mean() - 1) < 5 * 4 / (12 * n) ** 0.5
    assert u.min() >= -1
    assert u.max() <= 3
    assert abs(g.bernoulli(0.3, size=n).numpy().mean() - 0.3) < 5 * (0.21 / n) ** 0.5
    counts = np.bincount(g.integers(0, 10, size=n).numpy(), minlength=10)
    assert np.all(np.abs(counts - n / 10) < 5 * (n * 0.09) ** 0.5)


def test_dtype_and_shape():
    g = gg.random.generator(0)
    for dtype in ("float16", "float32", "float64"):
        x = g.normal(1, 2, size=(2, 3), dtype=dtype)
        assert (x.dtype, x.shape, x.requires_grad, str(x.device)) == (np.dtype(dtype), (2, 3), False, str(gg.default_device()))
    assert g.normal().shape == ()
    assert g.uniform(size=4).shape == (4,)
    assert g.integers(3, size=(2,), dtype="uint8").dtype == np.uint8
    assert g.bernoulli(size=2).dtype == np.bool_
    assert g.bernoulli(size=2, dtype="float32").dtype == np.float32
    assert g.normal(size=(0, 3)).shape == (0, 3)


def test_normal_is_differentiable_in_its_parameters():
    loc, scale = gg.tensor([1.0, 2.0], requires_grad=True), gg.tensor([0.5, 3.0], requires_grad=True)
    z = gg.random.generator(0).normal(size=2).numpy()
    y = gg.random.generator(0).normal(loc, scale)
    assert close(y.detach().numpy(), loc.detach().numpy() + scale.detach().numpy() * z)
    y.sum().backward()
    assert equal(loc.grad.numpy(), [1, 1])
    assert close(scale.grad.numpy(), z)
    high = gg.tensor(4.0, requires_grad=True)
    u = gg.random.generator(0).uniform(size=3).numpy()
    gg.random.generator(0).uniform(1.0, high, size=3).sum().backward()
    assert close(high.grad.numpy(), u.sum())


def test_permutation_and_choice_of_rows():
    x = gg.tensor(xp.arange(12.0).reshape(4, 3), requires_grad=True)
    p = gg.random.generator(0).permutation(x)
    assert sorted(p.detach().numpy()[:, 0].tolist()) == [0, 3, 6, 9]
    (p * p).sum().backward()
    assert equal(x.grad.numpy(), 2 * xp.arange(12.0).reshape(4, 3))
    rows = gg.random.generator(0).choice(xp.arange(10) * 10, size=(2, 5), replace=False)
    assert sorted(rows.numpy().ravel().tolist()) == list(range(0, 100, 10))
    assert np.all(gg.random.generator(0).choice(3, size=50, p=[0, 1, 0]).numpy() == 1)


def test_state_goes_on_where_it_was_taken():
    g = gg.random.generator(0)
    g.normal(size=7)
    g.integers(5, dtype="int32")                           # half of a 64-bit number is left for the next
    state = g.state_dict()
    first = g.integers(100, size=9, dtype="int32")
    g.load_state_dict(state)
    assert equal(first.numpy(), g.integers(100, size=9, dtype="int32").numpy())


def test_spawned_generators_differ_from_each_other_and_can_be_had_again():
    a, b = gg.random.generator(0).spawn(2)
    c, _ = gg.random.generator(0).spawn(2)
    x, y, z = (g.normal(size=4).numpy() for g in (a, b, c))
    assert equal(x, z)
    assert not equal(x, y)


def test_threads_share_a_generator_without_drawing_a_number_twice():
    g, drawn = gg.random.generator(0), []
    threads = [threading.Thread(target=lambda: drawn.extend(g.uniform().item() for _ in range(200))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(drawn) == sorted(gg.random.generator(0).uniform(size=800).numpy().tolist())


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda g: gg.random.generator(-1), ArgumentError, "random: expected a seed of at least 0, got -1"),
    (lambda g: gg.random.seed(1.5), ArgumentError, "seed of at least 0, got 1.5"),
    (lambda g: g.normal(0, -1.0), ArgumentError, "normal: expected a scale of at least 0, got -1.0"),
    (lambda g: g.normal(size=-2), ArgumentError, "normal: expected lengths of at least 0"),
    (lambda g: g.normal(size=2.5), ArgumentError, "normal: expected size as an int"),
    (lambda g: g.uniform(size="ab"), ArgumentError, "uniform: expected size as an int"),
    (lambda g: g.normal(dtype=int), DtypeError, "normal: expected float16, float32 or float64, got int64"),
    (lambda g: g.integers(3, 3), ArgumentError, "integers: expected low below high, got 3 and 3"),
    (lambda g: g.integers(0, 300, dtype="uint8"), DtypeError, "integers: expected an integer dtype that holds 0 to 299"),
    (lambda g: g.integers(3, dtype=float), DtypeError, "integers: expected an integer dtype"),
    (lambda g: g.bernoulli(1.5), ArgumentError, "bernoulli: expected a probability from 0 to 1, got 1.5"),
    (lambda g: g.permutation(-1), ArgumentError, "permutation: expected a length of at least 0"),
    (lambda g: g.permutation(1.5), ArgumentError, "permutation: expected an int or an array"),
    (lambda g: g.choice(3, size=5, replace=False), ArgumentError, "choice: expected at most draws from 3 rows"),
    (lambda g: g.choice(3, p=[0.5, 0.5]), ArgumentError, "choice: "),
    (lambda g: g.load_state_dict({"key": 1}), ArgumentError, "random: expected the state of a generator"),
])
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(gg.random.generator(0))


# inside vmap -------------------------------------------------------------------------------------------------------------

DRAWS = {
    "normal": lambda x: gg.random.normal(x, 2.0), "uniform": lambda x: gg.random.uniform(size=3) + x,
    "integers": lambda x: gg.random.integers(1 << 40, size=3) + x,
    "bernoulli": lambda x: gg.random.bernoulli(0.5, size=50)[:, None] + x,
    "permutation": lambda x: gg.random.permutation(20)[:, None] + x, "choice": lambda x: gg.random.choice(9, size=(30, 3)) + x,
    "rows": lambda x: gg.random.permutation(xp.arange(20.0))[:, None] + x,
    "dropout": lambda x: gg.dropout(x[None] + xp.ones((30, 3)), 0.5),
    "dropout of what is shared": lambda x: gg.dropout(xp.ones((30, 3)), 0.5) + x,
}


@pytest.mark.parametrize("name", DRAWS)
def test_vmap_draws_the_same_numbers_or_different_ones_as_it_is_told(name):
    x = xp.zeros((4, 3))
    with pytest.raises(ArgumentError, match="expected a vmap that says what random numbers do in it"):
        gg.vmap(DRAWS[name])(x)
    same = gg.Tensor(gg.vmap(DRAWS[name], randomness="same")(x)).numpy()
    assert all(equal(same[0], row) for row in same)
    different = gg.Tensor(gg.vmap(DRAWS[name], randomness="different")(x)).numpy()
    assert different.shape == same.shape
    assert not any(equal(different[i], different[j]) for i in range(4) for j in range(i))


def test_numbers_of_nested_vmaps_are_of_the_axes_that_have_their_own():
    def drawn(outer, inner):
        return gg.vmap(gg.vmap(lambda x: gg.random.uniform() + x, randomness=inner), randomness=outer)(xp.zeros((2, 3)))
    y = drawn("different", "different")
    assert len(np.unique(gg.Tensor(y).numpy())) == 6
    y = gg.Tensor(drawn("same", "different")).numpy()
    assert equal(y[0], y[1])
    assert len(np.unique(y)) == 3
    y = gg.Tensor(drawn("different", "same")).numpy()
    assert equal(y[:, 0], y[:, 2])
    assert len(np.unique(y)) == 2


def test_jacobian_sees_one_draw():
    for mode in ("forward", "reverse"):
        j = gg.Tensor(gg.jacobian(lambda x: gg.dropout(x, 0.5), mode=mode)(xp.ones(40))).numpy()
        assert equal(j, np.diag(np.diag(j)))
        assert set(np.diag(j)) == {0.0, 2.0}


def test_vmap_refuses_other_words():
    with pytest.raises(ArgumentError, match="vmap: expected randomness 'error', 'same' or 'different', got 'all'"):
        gg.vmap(np.sin, randomness="all")
