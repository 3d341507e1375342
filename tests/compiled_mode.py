"""`pytest --compiled numpy|llvm`: what the suite calls runs compiled too, and each result is held against the eager one.

In this mode `gg.grad` and its like, and the functions of gg.numpy and gg.nn, run where a test calls them from outside: as they
are, then twice through `gg.compile`. Kind, dtype, shape, values, NaN and errors must agree. The test gets a transform's
compiled result, and a function's own. A call that cannot be compiled (TraceError: it decides in Python by a value) counts, and
gives the eager result. A test marked `eager("why")` runs as it is.
"""
from __future__ import annotations

import functools
import inspect
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad import transforms
from gpugrad.arrays import is_array
from gpugrad.flat.compile import is_traced
from gpugrad.flat.doors import tracing
from gpugrad.graph.layers import Layered
from gpugrad.graph.state import mode_now
from gpugrad.random import default_generator
from gpugrad.trees import flatten, map_tree

#: Of all calls, how many at least must have been compiled for a whole run to pass.
SHARE, FEW = 0.7, 1000
PROGRAMS = 8                                              # of one function, before it is compiled afresh: no warning is wanted


class Mode:
    """backend: None leaves everything as it is. `inside`: a call is being compared, and what it calls is its own affair."""

    def __init__(self) -> None:
        self.backend: str | None = None
        self.inside = False
        self.compiled = 0
        self.not_compiled: Counter = Counter()


MODE = Mode()


# one call, twice ---------------------------------------------------------------------------------------------------------------

def compared(name: str, f: Callable, compiled: Callable, args: tuple, kwargs: dict) -> Any:
    """f(*args, **kwargs), held against compiled(*args, **kwargs), which is called twice: the second time it only replays."""
    state = random_state()
    MODE.inside = True
    try:
        expected, wrong = outcome(f, args, kwargs)
        if wrong is None and not comparable(expected):
            MODE.not_compiled["results on a graph, or elsewhere"] += 1
            return expected
        after = random_state()
        found = []
        for _ in range(2):
            put_back(state)
            result, error = outcome(compiled, args, kwargs)
            if cannot_be_compiled(error) and type(wrong) is not gg.TraceError:
                put_back(after)
                MODE.not_compiled[reason(error)] += 1
                return raised(wrong) if wrong is not None else expected
            if name in LOOKS and wrong is not None and (error is None or isinstance(error, RuntimeWarning)):
                MODE.not_compiled["looks at values, which a program does not"] += 1
                raised(wrong)
            if type(error) is not type(wrong) or not says_the_same(str(error), str(wrong)):
                raise AssertionError(f"compiled {name}: expected {wrong!r}, got {error!r}") from error
            if wrong is not None:
                MODE.compiled += 1
                raised(wrong)
            same(name, result, expected)
            found.append((result, map_tree(copied, result)))
        same(name, *found[0])                             # what the first call gave is still what it was
    finally:
        MODE.inside = False
    MODE.compiled += 1
    return found[0][0]


def outcome(f: Callable, args: tuple, kwargs: dict) -> tuple[Any, BaseException | None]:
    try:
        return f(*args, **kwargs), None
    except Exception as error:
        return None, error


def cannot_be_compiled(error: BaseException | None) -> bool:
    return isinstance(error, gg.TraceError) or isinstance(error, gg.ArgumentError) and "hashable values as arg" in str(error)


def says_the_same(found: str, expected: str) -> bool:
    """Equal messages; where a traced one cannot tell values, what it says before and after."""
    before, traced, _ = found.partition("<traced")
    advice = found.rpartition(">")[2].rpartition(". ")[2]
    return found == expected or bool(traced) and expected.startswith(before) and expected.endswith(advice)


def raised(error: BaseException) -> Any:
    raise error


def reason(error: BaseException) -> str:
    text = str(error).split(", got ")
    return text[0].removeprefix("compile: ")


def comparable(tree: Any) -> bool:
    """False for results on a graph from outside, which a compiled function leaves, and for those of other devices."""
    return not any(isinstance(x, Layered) or (isinstance(x, gg.Tensor) and x._node is not None)
                   or type(getattr(x, "_data", x)).__module__.startswith(("cupy", "gpugrad.cudasim"))
                   for x in flatten(tree)[0])


def copied(x: Any) -> Any:
    if isinstance(x, gg.Tensor):
        return gg.Tensor(x._data.copy())
    return x.copy() if isinstance(x, np.ndarray) else x


def same(name: str, found: Any, expected: Any) -> None:
    """Equal in structure, kind, dtype and shape; in value to the roundings that fusing and reordering cost."""
    a, b = flatten(found)[0], flatten(expected)[0]
    assert len(a) == len(b), f"compiled {name}: {len(b)} results expected, got {len(a)}"
    for x, y in zip(a, b, strict=True):
        assert type(x) is type(y) or isinstance(x, gg.Tensor) and isinstance(y, gg.Tensor), \
            f"compiled {name}: {type(y)} expected, got {type(x)}"
        x, y = (getattr(v, "_data", v) if isinstance(v, gg.Tensor) else v for v in (x, y))
        if not is_array(y):
            assert x is y or x == y or x != x, f"compiled {name}: {y!r} expected, got {x!r}"
            continue
        assert (x.dtype, x.shape) == (y.dtype, y.shape), f"compiled {name}: {y.dtype} {y.shape} expected, got {x.dtype} {x.shape}"
        if y.dtype.kind not in "fc":
            assert np.array_equal(x, y), f"compiled {name}: {y} expected, got {x}"
            continue
        with np.errstate(all="ignore"):
            finite = np.abs(y[np.isfinite(y)])
            tolerance = 4096 * np.finfo(y.dtype).eps * max(1e-3, float(finite.max()) if finite.size else 0)
            off = ~((x == y) | (np.isnan(x) & np.isnan(y)) | (np.abs(x - y) <= tolerance))
        assert not np.any(off), f"compiled {name}: {y} expected, got {x}"


def random_state() -> Any:
    return default_generator()._numpy.bit_generator.state


def put_back(state: Any) -> None:
    default_generator()._numpy.bit_generator.state = state


# what is replaced --------------------------------------------------------------------------------------------------------------

def at_work() -> bool:
    return MODE.backend is not None and not MODE.inside and not tracing() and not mode_now().levels


def compiling(name: str, f: Callable) -> Callable:
    """f, compiled and compared at each call from outside."""
    programs: list[Any] = []

    @functools.wraps(f)
    def run(*args, **kwargs):
        if not at_work() or on_a_graph((args, kwargs)):
            return f(*args, **kwargs)
        if not programs or programs[-1].programs >= PROGRAMS:
            programs.append(gg.compile(f, backend=MODE.backend))
        return compared(name, f, programs[-1], args, kwargs)
    return run


def on_a_graph(tree: Any) -> bool:
    return any(isinstance(x, gg.Tensor) and x._node is not None for x in flatten(tree)[0])


def transform(name: str, plain: Callable) -> Callable:
    """A transform whose functions are compared."""
    @functools.wraps(plain)
    def make(f, *args, **kwargs):
        made = plain(f, *args, **kwargs)
        return made if MODE.backend is None or MODE.inside else compiling(name, made)
    return make


def directly(name: str, plain: Callable) -> Callable:
    """A transform that is called with the function's own arguments."""
    @functools.wraps(plain)
    def run(f, *args, **kwargs):
        if not at_work() or not callable(f):
            return plain(f, *args, **kwargs)
        return compiling(name, functools.wraps(plain)(lambda *args, **kwargs: plain(f, *args, **kwargs)))(*args, **kwargs)
    return run


def vjp(plain: Callable) -> Callable:
    """`vjp`, whose value and pull are compared; pull is compiled with the sweep before it."""
    @functools.wraps(plain)
    def run(f, *primals, has_aux=False):
        result = plain(f, *primals, has_aux=has_aux)
        if not at_work():
            return result
        primals = map_tree(lambda x: x.copy() if isinstance(x, np.ndarray) else x, primals)

        def forward(*xs):
            found = plain(f, *xs, has_aux=has_aux)
            return found[::2] if has_aux else found[0]

        def pull(g):
            if not at_work() or on_a_graph(g):
                return result[1](g)
            whole = gg.compile(lambda xs, c: plain(f, *xs, has_aux=has_aux)[1](c), backend=MODE.backend)
            return compared("pull", result[1], lambda c: whole(primals, c), (g,), {})
        value = compiling("vjp", forward)(*primals)
        return (value[0], pull, value[1]) if has_aux else (value, pull)
    return run


def function(name: str, plain: Callable) -> Callable:
    """A function of the library, compared on copies of its arguments, which it may change; the caller gets the eager result."""
    programs: list[Any] = []

    @functools.wraps(plain)
    def run(*args, **kwargs):
        if not at_work() or on_a_graph((args, kwargs)) or not any(map(is_traced, flatten((args, kwargs))[0])):
            return plain(*args, **kwargs)
        if not programs or programs[-1].programs >= PROGRAMS:
            programs.append(gg.compile(plain, backend=MODE.backend))
        expected: list[Any] = []
        spare = [map_tree(copied, (args, kwargs)) for _ in range(2)]

        def eager(*args, **kwargs):
            expected.append(plain(*args, **kwargs))
            return expected[0], args, kwargs

        def compiled(*args, **kwargs):
            args, kwargs = spare.pop()
            return programs[-1](*args, **kwargs), args, kwargs
        compared(name, eager, compiled, args, kwargs)
        return expected[0]
    return run


#: Where the functions are that are compiled by themselves, and those that answer in Python.
LIBRARIES = ("numpy", "nn")
ANSWERS = frozenset({"At", "at", "asarray", "shape", "ndim", "size", "result_type", "can_cast", "isdtype", "finfo", "iinfo",
                     "from_dlpack"})
#: Functions that look at the values of an array on the CPU, and refuse some. A program does not look; nor does a device.
LOOKS = frozenset({"cov"})


def install(backend: str) -> None:
    """Put the mode in place, before any test module is imported."""
    MODE.backend = backend
    for name in ("grad", "value_and_grad", "jacobian", "hessian", "vmap"):
        replace(transforms, name, transform(name, getattr(transforms, name)))
    for name in ("jvp", "hvp", "gnvp"):
        replace(transforms, name, directly(name, getattr(transforms, name)))
    replace(transforms, "vjp", vjp(transforms.vjp))
    for library in LIBRARIES:
        module = getattr(gg, library)
        for name in sorted(set(getattr(module, "__all__", vars(module))) - ANSWERS):
            plain = getattr(module, name)
            if inspect.isfunction(plain):
                replace(module, name, function(name, plain))


#: What was replaced: (module, name, what was there, what is there now).
REPLACED: list[tuple[Any, str, Any, Any]] = []


def replace(module: Any, name: str, new: Any) -> None:
    """In its module, and in the package where it is the same."""
    plain = getattr(module, name)
    for place in [p for p in (module, gg) if getattr(p, name, None) is plain]:      # the package looks there when it is asked
        REPLACED.append((place, name, plain, new))
        setattr(place, name, new)


# pytest ------------------------------------------------------------------------------------------------------------------------

def pytest_addoption(parser: Any) -> None:
    parser.addoption("--compiled", choices=("numpy", "llvm", "auto"), help="run what the tests call compiled, too")


def pytest_configure(config: Any) -> None:
    config.addinivalue_line("markers", "eager(why): runs as it is under --compiled")
    if config.getoption("--compiled"):
        warnings.filterwarnings("ignore", message="compile: .* programs")
        install(config.getoption("--compiled"))


def params_of(item: Any) -> dict:
    return getattr(getattr(item, "callspec", None), "params", {})


def pytest_collection_modifyitems(config: Any, items: list) -> None:
    """Devices other than the CPU have tests of their own for what is compiled."""
    if config.getoption("--compiled"):
        elsewhere = [x for x in items if {"sim", "cuda"} & {v for v in params_of(x).values() if type(v) is str}]
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [x for x in items if x not in set(elsewhere)]


@pytest.fixture(autouse=True)
def _eager(request: Any) -> Any:
    """Tests that say so run as they are."""
    if MODE.backend is None or request.node.get_closest_marker("eager") is None:
        yield
        return
    backend, MODE.backend = MODE.backend, None
    for place, name, plain, _ in REPLACED:
        setattr(place, name, plain)
    yield
    for place, name, _, new in REPLACED:
        setattr(place, name, new)
    MODE.backend = backend


def pytest_sessionfinish(session: Any) -> None:
    """A mode in which little was compiled would show nothing."""
    calls = MODE.compiled + sum(MODE.not_compiled.values())
    if MODE.backend and calls > FEW and MODE.compiled < SHARE * calls:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if MODE.backend is None:
        return
    terminalreporter.write_sep("-", f"compiled by {MODE.backend}")
    terminalreporter.write_line(f"{MODE.compiled:,} calls compiled and compared, {sum(MODE.not_compiled.values()):,} not")
    for why, n in MODE.not_compiled.most_common():
        terminalreporter.write_line(f"{n:7,} {why}")
