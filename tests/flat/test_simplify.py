"""Each pass gives an equal program: bit for bit, on every special number, for special programs and random ones."""
import numpy as np
import pytest
from flat_support import ROW, V, X

import gpugrad as gg
from gpugrad.flat.ir import Graph, Value
from gpugrad.flat.simplify import PASSES, simplify

SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.5, 3e38, 1e-45, -1e-30])
PAIRS = np.array([(a, b) for a in SPECIAL for b in SPECIAL])


def graph_of(f, *args) -> Graph:
    return gg.compile(f, backend="numpy").program(*args).passes["traced"]


def run(graph: Graph, inputs: list) -> list:
    """What a program means: its operations in order, by NumPy."""
    known: dict[Value, np.ndarray] = {**dict(zip(graph.inputs, inputs, strict=True)), **graph.constants}
    with np.errstate(all="ignore"):
        for op in graph.ops:
            y = op.function(*[known[x] if isinstance(x, Value) else x for x in op.args], **op.params)
            known.update(zip(op.outputs, map(np.asarray, y if op.several else (y,)), strict=True))
    return [known[y] for y in graph.outputs]


def bits(x: np.ndarray) -> np.ndarray:
    """The array, so that -0 is not 0 and any NaN is the same."""
    parts = np.ascontiguousarray(x).view(x.real.dtype) if x.dtype.kind == "c" else x
    return np.stack([np.where(np.isnan(parts), np.inf, parts), np.signbit(parts) & ~np.isnan(parts), np.isnan(parts)])


def every_pass_keeps(f, *args) -> None:
    graph = graph_of(f, *args)
    expected = run(graph, list(args))
    for name, apply in PASSES.items():
        for before in (graph, *simplify(graph).values()):
            for a, b in zip(run(apply(before), list(args)), expected, strict=True):
                assert (a.dtype, a.shape) == (b.dtype, b.shape), name
                np.testing.assert_array_equal(bits(a), bits(b), err_msg=name)


ONE = {
    "x*0": lambda x: x * 0,
    "x*0.0": lambda x: x * 0.0, "x+0": lambda x: x + 0, "0.0+x": lambda x: 0.0 + x, "x-0": lambda x: x - 0,
    "x-0.0": lambda x: x - 0.0, "x+-0.0": lambda x: x + -0.0, "x--0.0": lambda x: x - -0.0, "0.0-x": lambda x: 0.0 - x,
    "x*1": lambda x: x * 1, "1.0*x": lambda x: 1.0 * x, "x*-1": lambda x: x * -1, "x/1": lambda x: x / 1, "1/x": lambda x: 1 / x,
    "0/x": lambda x: 0 / x, "x/x": lambda x: x / x, "x-x": lambda x: x - x, "-(-x)": lambda x: gg.negative(-x),
    "x+-x": lambda x: x + -x,
    "x**1": lambda x: x ** 1, "x**2": lambda x: x ** 2, "x**0": lambda x: x ** 0, "x**-1": lambda x: x ** -1.0,
    "x+1-1": lambda x: (x + 1) - 1, "x*2/2": lambda x: x * 2 / 2, "x*ones": lambda x: x * np.ones(10),
    "x+zeros": lambda x: x + np.zeros(10), "x-zeros": lambda x: x - np.zeros(10), "where": lambda x: gg.where(x == x, x, 0.0),
    "x!=x": lambda x: (x != x) * 1.0, "conj": lambda x: gg.conj(gg.conj(x)), "astype": lambda x: x.astype(x.dtype),
    "positive": lambda x: gg.positive(x), "sum of none": lambda x: gg.sum(gg.broadcast_to(x, (0, 10)), 0),
}


@pytest.mark.parametrize("dtype", ["f8", "f4", "c16"])
@pytest.mark.parametrize("name", ONE)
def test_special_numbers_come_out_as_they_were(name, dtype):
    f, x = ONE[name], SPECIAL.astype(dtype)
    if dtype == "c16":
        x.imag = np.roll(SPECIAL, 3)
    with np.errstate(all="ignore"):
        every_pass_keeps(f, x)
        compiled = gg.compile(f, backend="numpy")(x)
        np.testing.assert_array_equal(bits(np.asarray(getattr(compiled, "data", compiled))),
                                      bits(np.asarray(getattr(y := f(x), "data", y))))


@pytest.mark.parametrize("f", [
    lambda a, b: a - (-b), lambda a, b: a + (-b), lambda a, b: -b + a, lambda a, b: -(a - b), lambda a, b: a * b - b * a,
    lambda a, b: (a + b) - b, lambda a, b: a / b * b, lambda a, b: gg.maximum(a, b) - gg.maximum(b, a),
])
def test_special_pairs(f):
    with np.errstate(all="ignore"):
        every_pass_keeps(f, *PAIRS.T.copy())


def random_program(seed: int):
    """A function of two arrays: some thirty operations that passes know, over earlier results, with repeats and constants."""
    rng = np.random.default_rng(seed)
    unary = [lambda x: -x, lambda x: x * 1.0, lambda x: x - 0.0, lambda x: x / 1, lambda x: gg.sin(x), lambda x: x.T.T,
             lambda x: x.T.reshape(-1).reshape(x.T.shape).T, lambda x: x ** 2, lambda x: x * np.ones((3, 1)), lambda x: x + 0.5,
             lambda x: gg.broadcast_to(gg.sum(x, axis=0, keepdims=True), x.shape), lambda x: x.astype("f8"),
             lambda x: gg.exp(-gg.abs(x)), lambda x: gg.broadcast_to(x[0], (3, 4)) * 0.5, lambda x: x * (np.ones(4) + np.ones(4))]
    binary = [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a + (-b), lambda a, b: a - (-b),
              lambda a, b: gg.maximum(a, b), lambda a, b: gg.where(a > b, a, b), lambda a, b: (a @ b.T) @ b * 0.01]
    plan = [(rng.integers(len(unary) + len(binary)), rng.integers(1 << 30), rng.integers(1 << 30)) for _ in range(30)]

    def f(x, y):
        values = [gg.asarray(x), gg.asarray(y)]
        for kind, i, j in plan:
            a, b = values[i % len(values)], values[j % len(values)]
            values.append(gg.tanh(unary[kind](a) if kind < len(unary) else binary[kind - len(unary)](a, b)))
        return values[-1], values[-2] + values[-7]
    return f


@pytest.mark.parametrize("seed", range(25))
def test_random_programs_are_equal_after_every_pass(seed):
    f = random_program(seed)
    every_pass_keeps(f, X, V)
    graph = graph_of(lambda x, y: gg.grad(lambda z: gg.sum(f(z, y)[0]))(x), X, V)
    small = simplify(graph)["simplified"]
    assert len(small.ops) <= len(graph.ops)
    for a, b in zip(run(small, [X, V]), run(graph, [X, V]), strict=True):       # a sum of equal numbers may become a product
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_passes_do_what_their_names_say():
    def names(name, f, *args):
        return [op.name for op in gg.compile(f, backend="numpy").program(*args).passes[name].ops]
    assert names("dead_code", lambda x: (gg.sin(x), gg.cos(x))[0], X) == ["sin"]
    assert names("common_subexpressions", lambda x: gg.sin(x) + gg.sin(x) * gg.sin(x), X) == ["sin", "multiply", "add"]
    assert names("algebra", lambda x: gg.sin(gg.negative(-x)) * 1.0, X) == ["sin"]
    assert names("broadcasts", lambda x, r: gg.broadcast_to(r, x.shape) * x, X, ROW) == ["multiply"]
    program = gg.compile(lambda x: gg.sin(x) + gg.sin(x), backend="numpy").program(X)
    assert [program.show(name).count("= sin(") for name in ("traced", "common_subexpressions", "simplified")] == [2, 1, 1]
    assert set(program.passes) == {"traced", *PASSES, "simplified"}


@pytest.mark.parametrize("dtype", ["f8", "c16"])
def test_a_sum_of_broadcasts_keeps_infinities(dtype):
    x = np.array([np.inf, -np.inf, np.nan, 2.0, 0.0], dtype)
    f = lambda x: gg.sum(gg.broadcast_to(x, (5, 5)), 0)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(bits(gg.compile(f)(x).data), bits(f(x).data))


def test_what_users_register_is_neither_merged_nor_moved():
    seen = []
    noisy = gg.primitive(lambda x: (seen.append(1), x + len(seen))[1], name="noisy_in_a_program",
                         vjp=lambda m, g, want, y, x: (g,))
    compiled = gg.compile(lambda x: noisy(x) - noisy(x), backend="numpy")
    compiled(gg.tensor(X))
    seen.clear()
    np.testing.assert_allclose(compiled(gg.tensor(X)).data, np.full(X.shape, -1.0), rtol=0, atol=1e-12)
    assert len(seen) == 2
