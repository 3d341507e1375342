"""The vector functions against NumPy in higher precision, and their edges."""
import math

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="extra jit is not installed")
from gpugrad.flat.llvm import Body, Library, Module
from gpugrad.flat.vector_math import FUNCTIONS, apply

FORMATS = {"f32": np.float32, "f64": np.float64}
LANES = 8


def library():
    module = Module()
    for element in FORMATS:
        for name in FUNCTIONS:
            b = Body(module)
            x = b.write(f"load <{LANES} x {'float' if element == 'f32' else 'double'}>, ptr %x, align 4", element, LANES)
            b.do(f"store {apply(b, name, x)}, ptr %y, align 4")
            b.do("ret void")
            module.function(f"{name}_{element}", "void", "ptr %x, ptr %y", b)
    return Library(module.text())


@pytest.fixture(scope="module")
def functions():
    import ctypes
    compiled = library()

    def call(name, x):
        element = "f32" if x.dtype == np.float32 else "f64"
        f = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(compiled[f"{name}_{element}"])
        padded = np.resize(x, -(-x.size // LANES) * LANES)
        y = np.empty_like(padded)
        for i in range(0, padded.size, LANES):
            f(padded.ctypes.data + i * x.itemsize, y.ctypes.data + i * x.itemsize)
        return y[:x.size]
    call.alive = compiled
    return call


EXACT = {name: getattr(np, name) for name in FUNCTIONS if name not in ("sigmoid", "erf")} | {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": lambda x: np.array([math.erf(v) for v in x], x.dtype)}
ULPS = {"exp": 1, "expm1": 2, "log": 1, "log1p": 1, "tanh": 3, "sigmoid": 2, "erf": 3, "sin": 2, "cos": 2,
        "exp2": 1, "log2": 2, "log10": 3, "tan": 5, "sinh": 4, "cosh": 2, "arctanh": 3, "arcsinh": 3}


def inputs(name, dtype):
    rng = np.random.default_rng(0)
    low, high = {"exp": (-110, 92), "expm1": (-30, 92), "log1p": (-0.999, 1e6), "sin": (-1e5, 1e5),
                 "cos": (-1e5, 1e5), "tan": (-1e5, 1e5), "exp2": (-155, 130), "sinh": (-91, 91), "cosh": (-91, 91),
                 "arctanh": (-1, 1), "arcsinh": (-1e20, 1e20), "sigmoid": (-80, 100)}.get(name, (-12, 12))
    wide = rng.uniform(low, high, 4000)
    small = rng.standard_normal(4000) * 10.0 ** rng.uniform(-12, 0.3, 4000)
    tiny = np.array([1e-45, -1e-45, 1e-40, 3e-39, 1e-38, 1.2e-38])
    x = np.concatenate([wide, small, tiny])
    if name in ("log", "log2", "log10"):
        x = np.abs(np.concatenate([x, 10.0 ** rng.uniform(-44, 38, 4000)]))
    if name == "log1p":
        x = x[x > -1]
    if name == "arctanh":
        x = x[np.abs(x) < 1]
    return x.astype(dtype)


@pytest.mark.parametrize("element", FORMATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_in_units_in_the_last_place(name, element, functions):
    dtype = FORMATS[element]
    x = inputs(name, dtype)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.longdouble if element == "f64" and name != "erf" else np.float64))
        y = functions(name, x)
        rounded = exact.astype(dtype)
    assert np.array_equal(np.isinf(y), np.isinf(rounded))
    finite = np.isfinite(rounded)
    error = np.abs(y.astype(exact.dtype) - exact)[finite] / np.spacing(np.abs(rounded[finite])).astype(exact.dtype)
    assert error.max() <= ULPS[name], (error.max(), x[finite][error.argmax()])


@pytest.mark.parametrize("element", FORMATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_infinities_and_signed_zeros(name, element, functions):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e30, -1e30], FORMATS[element])
    with np.errstate(all="ignore"):
        expected = EXACT[name](x)
        y = functions(name, x)
    np.testing.assert_allclose(y, expected, rtol=1e-6 if element == "f32" else 1e-14)
    if expected[3] == 0:
        assert np.array_equal(np.signbit(y[3:5]), np.signbit(expected[3:5]))
