"""Compiled loops give what the NumPy program gives: values, dtypes, NaN, shapes with remainders, empty arrays."""
import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="extra jit is not installed")
import gpugrad as gg
from gpugrad.arrays.levelled import ARRAY
from gpugrad.flat.emit_llvm import emit
from gpugrad.flat.expand import expand
from gpugrad.flat.fuse import Group, fuse
from gpugrad.graph.namespace import TRACED as m

RNG = np.random.default_rng(7)


def draw(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def program(f, *args):
    return gg.compile(f, backend="numpy").program(*args)


def both(f, *args):
    """(NumPy's outputs, ours): of the second run, when every buffer has been used before."""
    with np.errstate(all="ignore"):
        p = program(f, *args)
        inputs = [read(gg.trees.flatten(args)[0]) for read in p._reads]
        expected = p._run(inputs)
        run = emit(p.graph).run
        first = [y.copy() for y in run(inputs)]
        again = run(inputs)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    return [np.asarray(y) for y in expected], again


def agree(f, *args, rtol=3e-5, atol=1e-6):
    for a, b in zip(*both(f, *args), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(b, a, rtol=rtol, atol=atol)


def steps(f, *args):
    return fuse(expand(program(f, *args).graph))


def xent(x, labels):
    return gg.sum(m.cross_entropy(x, labels)[0])


def norm_gelu(x, w, b):
    n, _, _ = m.standardize(x, axis=(x.ndim - 1,), eps=1e-5)
    return gg.sum(m.gelu(n * w + b) * x)


def mlp(w1, b1, w2, b2, x, labels):
    return gg.mean(m.cross_entropy(m.linear(m.relu(m.linear(x, w1, b1)), w2, b2), labels)[0])


def replaced(x, index, v):
    y = x * 1
    y[index] = v
    return y


ROWS = RNG.integers(-40, 40, 100)
LABELS = RNG.integers(0, 10, 37)
TABLE = {
    "chain": (gg.value_and_grad(lambda x: gg.sum(gg.sin(gg.tanh(x * x + x) * x))), draw(1000)),
    "four gradients": (gg.value_and_grad(lambda a, b, c, d: gg.sum(gg.tanh(a * b + c) * gg.sigmoid(d) - a * a),
                                         argnums=(0, 1, 2, 3)), *[draw(400_001) for _ in range(4)]),
    "0-d": (lambda x: gg.exp(x) * 2 + 1, np.float32(0.3).reshape(())),
    "softmax last": (lambda x: m.softmax(x, axis=(1,)), draw(19, 77)),
    "softmax first": (lambda x: m.softmax(x, axis=(0,)), draw(19, 77)),
    "softmax one row": (lambda x: m.softmax(x, axis=(0,)), draw(33)),
    "softmax short rows": (gg.value_and_grad(lambda x: gg.sum(m.softmax(x, axis=(1,)) ** 2)), draw(50, 3)),
    "log_softmax": (gg.value_and_grad(lambda x: gg.sum(m.log_softmax(x, axis=(1,)) * x)), draw(9, 40)),
    "cross-entropy": (gg.value_and_grad(lambda x: xent(x, LABELS)), draw(37, 10)),
    "cross-entropy, many classes": (gg.value_and_grad(lambda x: xent(x, LABELS)), draw(37, 3001)),
    "smoothed cross-entropy": (gg.value_and_grad(lambda x: gg.sum(m.cross_entropy(x, LABELS, smoothing=0.1)[0])), draw(37, 10)),
    "norm and gelu": (gg.value_and_grad(norm_gelu, argnums=(0, 1, 2)), draw(6, 70, 48), draw(48), draw(48)),
    "norm and gelu, float64": (gg.value_and_grad(norm_gelu, argnums=(0, 1, 2)),
                               *[draw(*s, dtype=np.float64) for s in ((6, 7, 41), (41,), (41,))]),
    "mlp": (gg.value_and_grad(lambda *ws: mlp(*ws[:4], ws[4], LABELS), argnums=(0, 1, 2, 3)),
            draw(30, 20), draw(30), draw(10, 30), draw(10), draw(37, 20)),
    "reductions": (lambda x: (gg.sum(x, axis=0), gg.sum(x, axis=1), gg.max(x, axis=1), gg.min(x), gg.mean(x, axis=(0, 1)),
                              gg.sum(x * 2, axis=(0,), keepdims=True)), draw(37, 29)),
    "spread about the mean": (gg.value_and_grad(lambda x: gg.sum(gg.var(x, axis=1) * gg.std(x, axis=1, ddof=1))), draw(13, 37)),
    "spread of channels": (gg.value_and_grad(lambda x: gg.sum(gg.sin(x / gg.std(x, axis=(0, 2), keepdims=True)))),
                           draw(4, 5, 23)),
    "logsumexp": (gg.value_and_grad(lambda x: gg.sum(gg.logsumexp(x, axis=1) ** 2)), draw(13, 37)),
    "rms norm": (gg.value_and_grad(lambda x, w: gg.sum(gg.tanh(gg.nn.rms_norm(x, w))), argnums=(0, 1)), draw(13, 37), draw(37)),
    "batch norm": (gg.value_and_grad(lambda x: gg.sum(gg.tanh(m.standardize(x, axis=(0, 2, 3), eps=1e-5)[0]))),
                   draw(3, 4, 5, 7)),
    "middle axis": (lambda x: gg.sum(gg.exp(x), axis=1), draw(5, 6, 7)),
    "square, both ways": (lambda x: (x - gg.sum(x, axis=0)) * gg.sum(x, axis=1), draw(20, 20)),
    "row and column": (lambda x, r, c: gg.exp(x * r + c), draw(30, 50), draw(30, 1), draw(50)),
    "reshape between": (lambda x: gg.sum((gg.exp(x) + 1).reshape(6, 10) * 3, axis=1), draw(60)),
    "transposed": (lambda x: gg.exp(x.T) + 1, draw(12, 17)),
    "mixed dtypes": (lambda a, b: gg.tanh(a) * b, draw(40), draw(40, dtype=np.float64)),
    "masks": (lambda a, b: gg.where((a > b) & (a > 0), a, b * 2), draw(45), draw(45)),
    "mask out": (lambda a, b: (a > b, ~(a <= b)), draw(45), draw(45)),
    "integers": (lambda i, x: (i + 1) * x, np.arange(45, dtype=np.int32), draw(45)),
    "powers": (lambda x: (x ** 2, x ** 3, x ** 4, abs(x) ** 0.5, x ** -1), draw(45)),
    "input is output": (lambda x: (x, x + 1, x.reshape(3, 15)), draw(45)),
    "empty": (lambda x: (gg.exp(x) + 1, gg.sum(x, axis=0)), draw(0, 5)),
    "slices": (gg.value_and_grad(lambda x: gg.sum((x[1:] - x[:-1] ** 2) ** 2)), draw(300)),
    "slices of rows": (gg.value_and_grad(lambda x: gg.sum(gg.tanh(x[1:, 2:-1] * x[:-1, :-3]) * x[3, 3:])), draw(12, 40)),
    "slices of a middle axis": (gg.value_and_grad(lambda x: gg.sum(x[:, 1:4] ** 2 * x[:, ::-1][:, :3])), draw(5, 6, 7)),
    "steps": (lambda x: (x[::2] * 2, x[:, ::-3] + 1, x[..., None, 3] * 1), draw(7, 20)),
    "transposed twice": (lambda x, y: gg.exp(x.T) * y + x.T, draw(12, 17), draw(17, 12)),
    "transposed in blocks": (lambda x, y, r: (x.T * y + r, gg.tanh(y).reshape(70, 9, 5) * x.reshape(5, 9, 70).transpose(2, 1, 0)),
                             draw(45, 70), draw(70, 45), draw(70, 1)),
    "extremes of columns": (lambda x: (gg.max(x, axis=0), gg.min(x * 2, axis=0), gg.max(x, axis=(0, 1))), draw(2500, 3, 117)),
    "pads": (lambda x: np.pad(x * 2, ((1, 2), (0, 3))) + 1, draw(5, 9)),
    "concatenated": (gg.value_and_grad(lambda x, y: gg.sum(gg.concatenate([x, y, x], axis=1) ** 2), argnums=(0, 1)),
                     draw(9, 4), draw(9, 33)),
    "stacked": (gg.value_and_grad(lambda x, y: gg.sum(gg.stack([x, y, x * y], axis=1) ** 3), argnums=(0, 1)),
                draw(9, 14), draw(9, 14)),
    "middle broadcast": (gg.value_and_grad(lambda x, y: gg.sum(gg.tanh(x * y)), argnums=(0, 1)), draw(5, 6, 17), draw(5, 1, 17)),
    "outer and inner sums": (lambda x: (gg.sum(x, axis=(0, 2)), gg.max(x, axis=1), gg.min(x, axis=(0, 1)), gg.max(x, axis=0)),
                             draw(5, 6, 7)),
    "softmax of a middle axis": (gg.value_and_grad(lambda x: gg.sum(m.softmax(x, axis=(1,)) ** 2)), draw(5, 6, 17)),
    "rows by number": (gg.value_and_grad(lambda t, b: gg.sum(gg.tanh(t[ROWS] + b)), argnums=(0, 1)), draw(40, 23), draw(23)),
    "elements by number": (gg.value_and_grad(lambda t: gg.sum(gg.tanh(t[ROWS]) * 2)), draw(40)),
    "columns by number": (gg.value_and_grad(lambda t: gg.sum(gg.tanh(t[:, ROWS]) * 2)), draw(6, 40)),
    "middle by number": (gg.value_and_grad(lambda t: gg.sum(gg.tanh(t[:, ROWS]) * 2)), draw(3, 40, 5)),
    "pairs by number": (gg.value_and_grad(lambda t: gg.sum(t[ROWS, ROWS % 7] ** 2)), draw(40, 7)),
    "grid of rows": (gg.value_and_grad(lambda t: gg.sum(t[ROWS.reshape(25, 4)] ** 2)), draw(40, 16)),
    "along an axis": (gg.value_and_grad(lambda x: gg.sum(np.take_along_axis(x, ROWS[:30].reshape(3, 10) % 8, 1) ** 2)),
                      draw(3, 8)),
    "rows replaced": (gg.value_and_grad(lambda t, v: gg.sum(gg.sin(replaced(t, ROWS, v))), argnums=(0, 1)), draw(40, 23),
                      draw(100, 23)),
    "columns replaced": (lambda t, v: replaced(t, (slice(None), ROWS), v) * 2, draw(6, 40), draw(6, 100)),
    "elements replaced": (lambda t: replaced(t * 3, ROWS, 0.5) + 1, draw(40)),
    "pairs replaced": (lambda t, v: replaced(t, (ROWS, ROWS % 7), v), draw(40, 7), draw(100)),
    "triangles": (gg.value_and_grad(lambda x: gg.sum(gg.tril(x * 2) ** 2 + gg.triu(x, 1))), draw(3, 18, 18)),
    "set": (lambda x, v: gg.where(x > 0, np.concatenate([v, v]), x), draw(40), draw(20)),
    "hvp": (lambda x, v: gg.hvp(lambda x: gg.sum(gg.tanh(x) * x * x), x, v), draw(33), draw(33)),
}


@pytest.mark.parametrize("name", TABLE)
def test_equals_the_numpy_program(name):
    f, *args = TABLE[name]
    agree(f, *args)


@pytest.mark.parametrize("f", [lambda x: m.relu(x), lambda x: gg.maximum(x, 0.5), lambda x: gg.max(x, axis=1),
                               lambda x: gg.where(x > 0, x, -1.0), lambda x: m.softmax(x, axis=(1,)),
                               lambda x: (gg.isnan(x), gg.isfinite(x), x == x), lambda x: gg.sum(x, axis=0),
                               lambda x: gg.min(x, axis=0), lambda x: gg.max(x.reshape(4, 5, 21), axis=1)])
def test_nan_and_infinities(f):
    x = draw(20, 21)
    x[3, 4], x[5, 20], x[7, 2], x[9] = np.nan, np.inf, -np.inf, -np.inf
    agree(f, x)


EDGES = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 3.0, -2.5, 1e-30, 1e30, np.nan, np.inf, -np.inf])
UNARY = ("exp2", "log2", "log10", "tan", "sinh", "cosh", "arctanh", "arcsinh", "sign", "deg2rad", "rad2deg", "abs", "conj",
         "real", "logical_not", "isnan", "isinf")
BINARY = ("hypot", "logaddexp", "heaviside", "maximum", "minimum", "less", "equal", "greater_equal")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", UNARY + BINARY)
def test_elements_at_the_edges(name, dtype):
    f = getattr(m, name)
    args = [EDGES.astype(dtype)] if name in UNARY else [a.reshape(-1).astype(dtype) for a in np.meshgrid(EDGES, EDGES)]
    if name == "logical_not":
        args = [args[0] > 0]
    with np.errstate(all="ignore"):
        assert all(isinstance(s, Group) for s in steps(f, *args))
    agree(f, *args, rtol=1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_integers(dtype):
    a, b = np.arange(-60, 67, dtype=dtype), np.arange(66, -61, -1, dtype=dtype)

    def f(a, b):
        return (m.maximum(a, b), m.minimum(a, 3), abs(a), -a + b * 2, a < b, a == -b, a >= 5, (a > 0) == (b > 0),
                (a > 0) > (b > 0), m.where(a > b, a, b), (a > 3) ^ (b > 3), a * 0.5, a != 0.5)
    assert all(isinstance(s, Group) for s in steps(f, a, b))
    agree(f, a, b, rtol=0, atol=0)


@pytest.mark.parametrize("x", [np.arange(3), np.arange(3.0)], ids=["int64", "float64"])
def test_comparison_with_a_complex_number(x):
    agree(lambda x: (x == 1 + 0j, x != 2j, x < 1 + 1j, x >= 1 - 1j), x, rtol=0, atol=0)


def test_bools():
    def f(x, y):
        a, b = x > 0, y > x
        return (m.where(a, b, a ^ b), m.where(a, b, True), m.discretise(x, dtype=np.dtype(bool)), a < b,
                m.discretise(m.astype(a, dtype=np.dtype("i4")) * 2, dtype=np.dtype(bool)), gg.concatenate([a, b]))
    x = draw(45)
    x[::5] = 0.0
    x[3], x[10] = np.nan, -0.0
    assert all(isinstance(s, Group) for s in steps(f, x, draw(45)))
    agree(f, x, draw(45), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int32, np.int64])
def test_other_elements_are_moved_too(dtype):
    x = RNG.integers(0, 2, (40, 9)).astype(dtype)

    def f(x):
        y = x & True if dtype is bool else x + 1
        moved = y[ROWS], y[1:, ::2].T, gg.concatenate([y, y], axis=1), np.pad(y, 2), y[:, 3][ROWS]
        return moved if dtype is bool else (*moved, replaced(x, ROWS, 1), gg.tril(y[:9] * 1))
    agree(f, x, rtol=0, atol=0)
    if dtype is not bool:
        agree(lambda x: m.scatter_add(x, gg.tensor(ROWS[:40]), index=(ARRAY, slice(None)), shape=(40, 9)), x, rtol=0, atol=0)


def random_function(seed):
    """A random expression over a matrix, a row, a column and a number, with reductions that are broadcast again."""
    rng = np.random.default_rng(seed)
    plan = [(rng.integers(0, 9), rng.integers(0, 100), rng.integers(0, 100)) for _ in range(14)]

    def f(x, row, column, number):
        pool = [x, row, column, number]
        for kind, i, j in plan:
            a, b = pool[i % len(pool)], pool[j % len(pool)]
            pool.append([lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, lambda a, b: gg.tanh(a),
                         lambda a, b: gg.sigmoid(a) * b, lambda a, b: gg.where(a > b, a, b),
                         lambda a, b: gg.mean(a, axis=a.ndim - 1, keepdims=True) if a.ndim == 2 else gg.exp(-a * a),
                         lambda a, b: gg.max(a, axis=0, keepdims=True) if a.ndim == 2 else gg.sin(a),
                         lambda a, b: a / (b * b + 1)][kind](a, b))
        return sum([gg.mean(gg.tanh(p)) for p in pool[4:]], 0.0)
    return f


@pytest.mark.parametrize("seed", range(25))
def test_random_gradients(seed):
    dtype = np.float64 if seed % 2 else np.float32
    args = [draw(*s, dtype=dtype) for s in ((13, 21), (21,), (13, 1), ())]
    agree(gg.value_and_grad(random_function(seed), argnums=(0, 1, 2, 3)), *args,
          rtol=1e-10 if seed % 2 else 1e-3, atol=1e-12 if seed % 2 else 2e-5)


@pytest.mark.parametrize("shape", [(1_100_003,), (1001, 1052), (1001, 1051)])
def test_results_past_the_caches(shape):
    x = draw(*shape)
    found = steps(lambda x: gg.exp(x) - gg.sum(x, axis=-1, keepdims=True), x)
    assert any(g.passing for g in found) == (len(shape) == 1 or not shape[1] % 4)
    agree(lambda x: (gg.tanh(x) * 2, gg.exp(x) - gg.sum(x, axis=-1, keepdims=True)), x, atol=2e-4)


@pytest.mark.parametrize(("name", "groups", "alone"), [
    ("softmax last", 1, 0), ("four gradients", 1, 0), ("log_softmax", 1, 0), ("transposed twice", 1, 0), ("triangles", 1, 0),
    ("slices", 2, 0), ("rms norm", 1, 0), ("spread about the mean", 2, 0), ("logsumexp", 2, 0), ("batch norm", 10, 0),
    ("middle broadcast", 2, 0), ("rows by number", 3, 1), ("columns by number", 3, 1)])
def test_is_in_loops(name, groups, alone):
    """`alone` operations are NumPy's: the check of row numbers."""
    f, *args = TABLE[name]
    found = steps(f, *args)
    assert len([s for s in found if isinstance(s, Group)]) == groups
    assert len(found) == groups + alone


def test_a_vector_of_row_numbers_reads_a_bare_array():
    x, rows = draw(5, 3), np.array([4, 0])
    np.testing.assert_array_equal(gg.compile(lambda x: x[rows] * 2, backend="llvm")(x), x[rows] * 2)


def test_row_numbers_are_checked():
    f = gg.compile(lambda t, rows: t[rows] * 2, backend="llvm")
    t = draw(5, 3)
    np.testing.assert_array_equal(f(t, np.array([0, -5, 4])), t[[0, 0, 4]] * 2)
    for wrong in (5, -6):
        with pytest.raises(IndexError, match=f"index {wrong} is out of bounds"):
            f(t, np.array([0, wrong, 4]))


def test_outputs_are_the_callers():
    p = program(lambda x: (gg.exp(x) + 1).reshape(5, 9), draw(45))
    run = emit(p.graph).run
    first = run([np.zeros(45, np.float32)])[0]
    run([np.ones(45, np.float32)])
    np.testing.assert_array_equal(first, 2)


def test_labels_are_checked():
    p = program(lambda x, labels: m.cross_entropy(x, labels)[0], draw(4, 3), np.array([0, 1, 2, 0]))
    run = emit(p.graph).run
    with pytest.raises(gg.errors.ArgumentError, match="expected labels from 0 to 2"):
        run([draw(4, 3), np.array([0, 1, 3, 0])])


def test_objects_come_from_the_cache(tmp_path, monkeypatch):
    from gpugrad.flat import llvm
    monkeypatch.setenv("GPUGRAD_CACHE_DIR", str(tmp_path))
    p = program(lambda x: gg.exp(x) * 3, draw(45))
    emit(p.graph)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(llvm, "compile_object", None)
    np.testing.assert_allclose(emit(p.graph).run([np.zeros(45, np.float32)])[0], 3)


def test_threads_may_share_a_program():
    from concurrent.futures import ThreadPoolExecutor
    f = gg.compile(gg.grad(lambda x: gg.sum(gg.tanh(x) * x) * gg.sum(x)), backend="llvm")
    xs = [np.full(200_000, i / 4, np.float32) for i in range(4)]
    expected = [f(x) for x in xs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            for a, b in zip(pool.map(f, xs), expected, strict=True):
                np.testing.assert_array_equal(a, b)


def test_results_keep_their_memory_while_someone_sees_it():
    f = gg.compile(lambda x: (gg.exp(x), (x * 2).reshape(2, -1)), backend="llvm")
    x = draw(1 << 18)
    first = list(map(np.asarray, f(x)))
    places = [y.ctypes.data for y in first]
    view = first[1][0, 5:]
    expected = view.copy()
    del first
    second = list(map(np.asarray, f(x + 1)))                      # exp's memory is free again, the other's is in view
    third = list(map(np.asarray, f(x + 2)))
    assert places[0] in (second[0].ctypes.data, third[0].ctypes.data)
    assert places[1] not in (second[1].ctypes.data, third[1].ctypes.data)
    np.testing.assert_array_equal(view, expected)
    np.testing.assert_allclose(second[0], np.exp(x + 1), rtol=1e-6)


def test_a_gradient_that_is_returned_is_the_gradient():
    table, rows = gg.tensor(draw(30, 4), requires_grad=True), np.array([1, 2, 1])

    def step():
        table.zero_grad()
        gg.sum(table[rows] ** 2).backward()
        return table.grad, table.grad * 1
    step = gg.compile(step, backend="llvm")
    for _ in range(2):
        g, twin = step()
        assert np.shares_memory(g.data, table.grad.data)
        assert not np.shares_memory(twin.data, g.data)


def test_readings_of_one_element():
    """In a group of one element, boxes have no axes."""
    x = np.array(0.5, np.float32)
    agree(lambda x: gg.setitem(m.setitem(x * 2, 1.0, index=()), ..., x) + gg.sum(gg.setitem(gg.reshape(x, (1,)), 0, x)), x)
    agree(lambda x: gg.hvp(lambda x: gg.exp(x[()]) / x, x, x), x)


@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "i2", "i4", "i8"])
def test_quotients_and_remainders_are_numpys(name, dtype):
    if dtype[0] == "f":
        edge = [0.0, -0.0, 1, -1, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 3, -3, 7.5, 0.1, 0.3, 1e30]
    else:
        least = np.iinfo(dtype).min
        edge = [0, 1, -1, 2, -2, 3, -3, 7, -7, least, least + 1, -1 - least, 10]
    a, b = (x.ravel() for x in np.meshgrid(np.array(edge, dtype), np.array(edge, dtype)))
    f = lambda a, b: (getattr(m, name)(a, b), getattr(m, name)(a, 3), getattr(m, name)(a, -1))
    for wanted, found in zip(*both(f, gg.tensor(a), gg.tensor(b)), strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
        if dtype[0] == "f":
            np.testing.assert_array_equal(np.signbit(found) & (found == 0), np.signbit(wanted) & (wanted == 0))
    with np.errstate(all="ignore"):
        assert all(isinstance(step, Group) for step in steps(f, gg.tensor(a), gg.tensor(b)))


def test_a_constant_decides_the_shape_of_what_is_empty():
    agree(lambda x: np.full((3, 1, 2, 1), 2.0) + gg.concatenate([x[:0], x[:0]]), draw(5, dtype="f8"))


def test_labels_that_are_all_the_same():
    agree(lambda x: gg.cross_entropy(x, np.zeros(6, int)), draw(6, 5))


def test_a_value_is_put_into_itself():
    x = draw(20, 16)

    def f(x):
        y = x * 2
        z = y * 1.5
        z[:, 2:] = z[:, 2:]
        return y, gg.numpy.setitem(y, slice(None), y), z, gg.numpy.setitem(z, (slice(None), 1), z[:, 0])
    agree(f, x)


def test_nothing_is_put_into_an_empty_part():
    def f(x):
        put = gg.numpy.setitem
        return (put(x * 2, (slice(1, 1), 2), 9.0), put(x * 3, (0, slice(3, 1)), 9.0), put(x * 4, (slice(0, 0), 1), x[:0, 0]),
                gg.grad(lambda x: gg.sum(x[0, 2:1]) + gg.sum(x))(x))
    agree(f, draw(1, 5))
    agree(f, draw(3, 5))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("a", "b"), [((20, 3, 3), (20, 3, 3)), ((4, 6, 2, 5), (6, 5, 1)), ((3, 1, 8, 4), (1, 7, 4, 8)),
                                      ((17, 1, 1), (17, 1, 4)), ((5, 3, 3), (5, 3, 3)), ((20, 3, 9), (20, 9, 3))])
def test_many_small_matrices(a, b, dtype):
    x, y = draw(*a, dtype=dtype), draw(*b, dtype=dtype)
    agree(lambda x, y: (x @ y, gg.tanh(x * 2 @ y) + 1, x.swapaxes(-1, -2) @ (x @ y)), x, y, atol=1e-5)
    agree(gg.grad(lambda x, y: gg.sum(gg.sin(x @ y)), argnums=(0, 1)), x, y, atol=1e-5)


def test_few_or_large_matrices_are_multiplied_whole():
    for x in (draw(5, 3, 3), draw(20, 9, 9)):
        assert [op.name for op in steps(lambda x: x @ x, x) if not isinstance(op, Group)] == ["matmul"]
    assert all(isinstance(step, Group) for step in steps(lambda x: x @ x, draw(20, 3, 3)))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_rounding_and_replacing_are_numpys(dtype):
    x = np.array([0.0, -0.0, 0.5, 1.5, 2.675, -2.5, 1234.5678, 1e30, -1e30, np.nan, np.inf, -np.inf] * 3, dtype)
    for f in (lambda x: gg.round(x, 2), lambda x: gg.round(x, -2), gg.round, gg.nan_to_num,
              lambda x: gg.nan_to_num(x, nan=1.5, posinf=2.0, neginf=np.nan)):
        expected, found = both(f, x)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(np.signbit(found[0]), np.signbit(expected[0]))
        assert all(isinstance(step, Group) for step in steps(f, x))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("shape", "axis"), [((7,), 0), ((9, 5), 1), ((9, 5), 0), ((3, 4, 37), 1), ((2, 3, 16), -1), ((1, 1), 0),
                                             ((300, 500), 1), ((300, 500), 0), ((5, 0), 1), ((1, 9), 0)])
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_running_sums_and_products_are_numpys(name, shape, axis, dtype):
    x = draw(*shape, dtype=dtype)
    x.flat[::7] = -0.0
    run = getattr(gg, name)
    turned = -1 - axis % x.ndim
    for f in (lambda x: run(x, axis=axis), lambda x: run(gg.abs(x[..., ::-1]), axis=axis), lambda x: run(x.T, axis=turned)):
        expected, found = both(f, x)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(np.signbit(found[0]), np.signbit(expected[0]))


HALVES = {
    "chain": lambda x, y: gg.tanh(x * y + 0.1) - x / (1 + y * y),
    "numbers": lambda x, y: (x * 1e6, x + 3, 2 - y, x ** 2, x ** -0.5),
    "row": lambda x, y: gg.exp(x - gg.max(x, axis=1, keepdims=True)) * y[0], "choice": lambda x, y: gg.where(x < 0.1, x, y * 2),
    "compare": lambda x, y: (x < y, x == 0.1, gg.isnan(x)),
    "casts": lambda x, y: (x.astype("f4") * 2, gg.round(y * 3).astype("f8")),
    "mixed": lambda x, y: (x * y.astype("f4"), gg.maximum(x, y) + (x > 0)),
    "sums": lambda x, y: (gg.sum(x * y, axis=1), gg.mean(x)),
    "softmax": lambda x, y: gg.nn.softmax(x) * y, "gelu": lambda x, y: gg.nn.gelu(x) + gg.nn.relu(y) + gg.nn.sigmoid(x),
    "gradient": lambda x, y: gg.grad(lambda x, y: gg.sum(gg.sin(x * y) * x), argnums=(0, 1))(x, y),
    "views": lambda x, y: x.T @ y * 2,
}


@pytest.mark.parametrize("shape", [(5, 33), (3, 16), (40, 7), (1, 1)])
@pytest.mark.parametrize("name", HALVES)
def test_halves_are_computed_in_single_and_rounded_each_time(name, shape):
    x, y = draw(*shape, dtype="f2"), draw(*shape, dtype="f2")
    x.flat[::11] = np.inf
    y.flat[::13] = np.nan
    agree(HALVES[name], x, y, rtol=3e-3, atol=3e-3)


def test_halves_are_in_loops():
    x = draw(64, 64, dtype="f2")
    assert all(isinstance(step, Group) for step in steps(lambda x: gg.tanh(x * 2) + x, x))
    agree(lambda x: (x * 2 + 1) / 3, x, rtol=0, atol=0)                # bit for bit
