"""Random functions of every kind of operation, dtype and shape, with transforms, branches and loops inside: compiled is eager.

Kinds, dtypes, shapes, errors, and values: to the roundings that an eager run has itself, when its inputs change in the last bits.
"""
import importlib.util

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.trees import flatten

m = gg.numpy
LLVM = importlib.util.find_spec("llvmlite") is not None
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:Casting complex")

DTYPES = ["f8", "f8", "f4", "f4", "f2", "c8", "c16", "i8", "i4", "i2", "i1", "u1", "?"]
SHAPES = [(), (1,), (5,), (3, 4), (1, 5), (3, 1), (2, 3, 4), (0,), (0, 3), (33,), (5, 18), (20, 16)]
MOST = 2000                                                   # elements of one value

UNARY = [
    "abs", "negative", "conj", "sqrt", "exp", "expm1", "log", "log1p", "sin", "tan", "arctan", "sinh", "tanh", "arcsinh",
    "deg2rad", "reciprocal", "square", "sign", "floor", "rint", "isnan", "isfinite", "signbit", "logical_not", "invert",
    "nan_to_num", "cumsum", "cumprod", "sort", "argsort", "flip", "tril", "real", "imag", "angle", "ravel"]
BINARY = [
    "add", "subtract", "multiply", "divide", "power", "remainder", "floor_divide", "fmod", "maximum", "fmin", "arctan2", "hypot",
    "copysign", "logaddexp", "equal", "less_equal", "logical_and", "bitwise_xor", "left_shift", "heaviside", "matmul", "outer",
    "inner"]
REDUCTIONS = ["sum", "mean", "var", "std", "max", "min", "prod", "any", "all", "count_nonzero", "logsumexp", "nansum", "median",
              "argmax", "argmin"]
OF_NN = ["relu", "gelu", "silu", "sigmoid", "softplus", "elu", "leaky_relu", "softmax", "log_softmax"]
ALONG = ("cumsum", "cumprod", "sort", "argsort", "flip")      # of the unary ones, those with an axis


def sample(rng, dtype, shape):
    dtype = np.dtype(dtype)
    if dtype.kind in "biu":
        return np.asarray(rng.integers(0 if dtype.kind != "i" else -4, 6, shape)).astype(dtype)
    x = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype.kind == "c" else 0)
    return np.asarray(x).astype(dtype)


def some_index(rng, shape):
    items = []
    for n in shape:
        start, stop = sorted(map(int, rng.integers(0, n + 1, 2)))
        items.append([slice(None), slice(start, stop), slice(None, None, -1), int(rng.integers(-n, n)) if n else slice(None),
                      rng.integers(-n, n, 3) if n and not any(isinstance(i, np.ndarray) for i in items) else slice(None)]
                     [rng.integers(5)])
    return tuple(items[:rng.integers(len(items) + 1)])


# steps: (the inputs' places, function) or None -------------------------------------------------------------------------------

def unary(rng, x, i, j):
    name = UNARY[rng.integers(len(UNARY))]
    axis = {"axis": int(rng.integers(-x.ndim, x.ndim))} if x.ndim and name in ALONG else {}
    return (i,), lambda a: getattr(m, name)(a, **axis)


def binary(rng, x, i, j):
    function = getattr(m, BINARY[rng.integers(len(BINARY))])
    number = [2, 0.5, -1, True, np.float32(2), np.float64(1.5), np.int8(3)][rng.integers(7)]
    return [((i, j), function), ((i,), lambda a: function(a, number)), ((i,), lambda a: function(number, a))][rng.integers(3)]


def reduction(rng, x, i, j):
    name, axis, keep = REDUCTIONS[rng.integers(len(REDUCTIONS))], None, bool(rng.random() < 0.5)
    if x.ndim and rng.random() < 0.8:
        axis = int(rng.integers(-x.ndim, x.ndim))
    return (i,), lambda a: getattr(m, name)(a, axis=axis, keepdims=keep)


def network(rng, x, i, j):
    function = getattr(gg.nn, OF_NN[rng.integers(len(OF_NN))])
    return (i,), function if rng.random() < 0.7 else lambda a: gg.nn.layer_norm(a, a.shape[-1:])


def indexed(rng, x, i, j):
    index = some_index(rng, x.shape)
    return (i,), lambda a: a[index]


def assigned(rng, x, i, j):
    index, kind = some_index(rng, x.shape), rng.integers(3)

    def step(a, b):
        y = a * 1
        y[index] = [2.5, y[index] * 2, b][kind]
        z = y * 2
        y -= a
        return y + z
    return (i, j), step


def moved(rng, x, i, j):
    shift, dtype, axes = int(rng.integers(-3, 4)), DTYPES[rng.integers(len(DTYPES))], tuple(map(int, rng.permutation(x.ndim)))
    axis = int(rng.integers(-x.ndim, x.ndim)) if x.ndim else 0
    return [((i,), lambda a: m.transpose(a, axes)), ((i,), lambda a: m.roll(a, shift, axis=axis)),
            ((i,), lambda a: a.astype(dtype)), ((i,), lambda a: m.pad(a, 1, mode="edge")),
            ((i,), lambda a: m.broadcast_to(a, (2, *x.shape))),
            ((i, j), lambda a, b: m.concatenate([a, b, a], axis=axis)), ((i, j), lambda a, b: m.where(a > b, a, b * 2)),
            ((i, j), lambda a, b: m.clip(a, -1, b)), ((i,), lambda a: m.take_along_axis(a, m.argsort(a, axis=axis), axis=axis)),
            ((i,), lambda a: m.einsum("...i,...j->...ij", a, a))][rng.integers(10)]


def controlled(rng, x, i, j):
    return [((i,), lambda a: gg.cond(a.sum() > 0, lambda v: v * 2, lambda v: v - 1, a)),
            ((i,), lambda a: gg.scan(lambda c, v: (gg.tanh(c + v), c * v), a[0], a)[1])][rng.integers(2)]


def transformed(rng, x, i, j):
    kind = rng.integers(6)
    steps = chain(rng, [x[0] if kind == 5 and len(x.shape) and len(x) else x], 3)
    inner = lambda a: run(steps, [a])[-1]

    def size(a):
        y = inner(a)
        return gg.sum(y * y.conj()).real if y.dtype.kind == "c" else gg.sum(y * 1.0)

    def backward(a):
        t = gg.tensor(a.detach() if isinstance(a, gg.Tensor) else a, requires_grad=True)
        size(t).backward()
        return t.grad
    return (i,), [lambda a: gg.grad(size)(a), lambda a: gg.jvp(inner, (a,), (a * 1,))[1], lambda a: gg.hvp(size, a, a * 0.5),
                  lambda a: gg.jacobian(inner, mode="forward")(a), backward, lambda a: gg.vmap(inner)(a)][kind]


STEPS = [unary, unary, binary, binary, reduction, network, indexed, assigned, moved, moved, controlled, transformed]


def bare(x):
    return np.asarray(getattr(x, "_data", x))


def chain(rng, xs, length):
    """Steps that run on these inputs; one in twenty ends in an error."""
    steps, values = [], list(xs)
    while len(steps) < length:
        i, j = rng.integers(max(0, len(values) - 4), len(values), 2)
        try:
            step = STEPS[rng.integers(len(STEPS))](rng, values[i], int(i), int(j))
            y = bare(step[1](*[values[k] for k in step[0]]))
        except (ValueError, IndexError):
            if steps and rng.random() < 0.05:
                return [*steps, step]
            continue
        except (TypeError, AttributeError, ArithmeticError, gg.GpugradError):
            continue
        if y.size <= MOST and y.dtype.kind in "biufc":
            steps.append(step)
            values.append(y)
    return steps


def run(steps, xs):
    values = list(xs)
    for places, f in steps:
        values.append(f(*[values[i] for i in places]))
    return values


def program(seed):
    """(f, inputs, others): f of one to three arrays, which returns every value that it makes."""
    rng = np.random.default_rng(seed)
    dtype, shape = DTYPES[rng.integers(len(DTYPES))], SHAPES[rng.integers(len(SHAPES))]
    xs = []
    for _ in range(rng.integers(1, 4)):
        own, spread = rng.random(2) < 0.7
        xs.append(sample(rng, dtype if own else DTYPES[rng.integers(len(DTYPES))], shape if spread else shape[-1:]))
    steps = chain(rng, xs, int(rng.integers(3, 9)))
    return lambda *xs: tuple(run(steps, xs)[len(xs):]), xs, [sample(rng, x.dtype, x.shape) for x in xs]


# compiled and eager ----------------------------------------------------------------------------------------------------------

def outcome(f, xs):
    try:
        return f(*[x.copy() for x in xs]), None
    except Exception as error:
        return None, error


def nudged(x):
    return x if x.dtype.kind not in "fc" else (x * (1 + np.finfo(x.dtype).eps * np.resize([2, -2, 1], x.shape))).astype(x.dtype)


def same(found, wanted, near, precision):
    for x, y, z in zip(flatten(found)[0], flatten(wanted)[0], flatten(near)[0], strict=True):
        assert type(x) is type(y) or isinstance(x, gg.Tensor) and isinstance(y, gg.Tensor)
        x, y, z = bare(x), bare(y), bare(z)
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        if y.dtype.kind not in "fc":
            assert np.array_equal(x, y) or not np.array_equal(y, z)
            continue
        size = np.abs(y, where=np.isfinite(y), out=np.zeros(y.shape, y.real.dtype)).max(initial=1e-2).astype("f8")
        apart = np.abs(y.astype("c16") - z)
        allowed = 400 * max(np.finfo(y.dtype).eps, precision) * size + 100 * np.where(np.isnan(apart), np.inf, apart)
        with np.errstate(all="ignore"):
            assert np.all((x == y) | (np.isnan(x) & np.isnan(y)) | (np.abs(x.astype("c16") - y) <= allowed))


@pytest.mark.parametrize("backend", ["numpy", pytest.param("llvm", marks=pytest.mark.skipif(not LLVM, reason="needs jit"))])
@pytest.mark.parametrize("seed", range(0, 120, 4))
def test_any_program(seed, backend):
    with np.errstate(all="ignore"):
        for k in range(seed, seed + 4):
            check(k, backend)


def check(seed, backend):
    f, xs, others = program(seed)
    compiled = gg.compile(f, backend=backend)
    precision = max([np.finfo(x.dtype).eps if x.dtype.kind in "fc" else {1: 1e-3, 2: 2e-7}.get(x.dtype.itemsize, 0) for x in xs])
    for given in (xs, others, xs):
        wanted, wrong = outcome(f, given)
        found, error = outcome(compiled, given)
        if isinstance(error, gg.TraceError):                  # a decision in Python
            return
        assert isinstance(error, type(wrong)), (seed, wrong, error)
        if wrong is None:
            same(found, wanted, outcome(f, list(map(nudged, given)))[0], precision)
