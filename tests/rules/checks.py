"""The checks that every row must pass. Each takes a row and a device and raises AssertionError.

Tolerance is k * eps * sqrt(n) * scale: n elements were added up, scale is the sum of the magnitudes that were. k = 64
covers the few roundings of each element and those of the reference.
"""
from __future__ import annotations

from typing import Any

import numpy as np
from rows import Row

import gpugrad as gg
from gpugrad.arrays import Device, device_of, is_array, move
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.sweep import pullback
from gpugrad.graph.tensor import Tensor
from gpugrad.transforms import jvp, vjp, vmap
from gpugrad.trees import flatten

STEP = 1e-4          # fourth-order differences: the truncation error is of size 1e-16, rounding of size 1e-12
DIFFERENCES = 1e-8   # what is asked of them
K = 64


def check_value(row: Row, device: str) -> None:
    """The value of the primitive is the reference's, computed in float64, and has the precision of the inputs."""
    for dtype, xs in every_case(row, row.dtypes):
        ys = leaves(call(row, device)(*on(device, xs)))
        expected = leaves(row.reference(*[wide(x) for x in xs], **row.params))
        assert len(ys) == len(expected), f"{row.id}: {len(expected)} results expected, got {len(ys)}"
        for y, e in zip(map(host, ys), map(np.asarray, expected), strict=True):
            assert y.shape == e.shape, f"{row.id}: shape {e.shape} expected, got {y.shape}"
            if row.keeps_dtype and e.dtype.kind in "fc":
                assert y.dtype == narrow(e, dtype).dtype, f"{row.id}: {dtype} inputs gave {y.dtype}"
            if e.dtype.kind in "biu":
                assert y.dtype.kind == e.dtype.kind, f"{row.id}: {e.dtype} expected, got {y.dtype}"
                assert np.array_equal(y, e), f"{row.id}: {e} expected, got {y}"
            else:
                close(y, e, K * eps(dtype) * np.sqrt(max(x.size for x in xs) + 1) * largest(e) * row.loose, f"{row.id} value")


def check_constant(row: Row, device: str) -> None:
    """A function without derivative gives results outside the graph, in either mode."""
    for _, xs in every_case(row, row.dtypes[:1]):
        f, moving = function(row, device, xs)
        if moving:
            y = f(*[leaf(x) for x in moving])
            assert all(not t.requires_grad for t in leaves(y)), f"{row.id}: a result needs a gradient"
            _, dy = jvp(f, tuple(moving), tuple([move(np.ones(x.shape, x.dtype), Device(device)) for x in moving]))
            assert all(not np.any(host(d)) for d in leaves(dy)), f"{row.id}: a tangent is not zero"


def check_reverse_against_differences(row: Row, device: str) -> None:
    """<g, df/dv> by central differences equals <J'g, v>, for a random cotangent g and a random direction v."""
    for rng, f, xs in float64_cases(row, device):
        y, pull = vjp(f, *xs)
        vs, gs = directions(rng, xs), directions(rng, leaves(y))
        dy = difference(f, xs, vs)
        scale = magnitude(gs, dy) + magnitude(gs, leaves(y))
        close(inner(pull(as_tree(gs, y)), vs), inner(gs, dy), DIFFERENCES * scale * row.loose, f"{row.id} vjp")


def check_forward_against_reverse(row: Row, device: str) -> None:
    """<g, J v> = <J'g, v>, and tangents have their output's shape and dtype."""
    for rng, f, xs in float64_cases(row, device):
        y, pull = vjp(f, *xs)
        vs, gs = directions(rng, xs), directions(rng, leaves(y))
        dy = leaves(jvp(f, tuple(xs), tuple(vs))[1])
        for d, t in zip(dy, leaves(y), strict=True):
            assert (d.shape, d.dtype) == (t.shape, t.dtype), f"{row.id}: tangent {d.shape} {d.dtype} for {t.shape} {t.dtype}"
        gx = pull(as_tree(gs, y))
        n = sum(x.size for x in xs) + sum(g.size for g in gs)
        tolerance = K * eps("float64") * np.sqrt(n) * (magnitude(gs, dy) + magnitude(gx, vs)) * row.loose
        close(inner(gs, dy), inner(gx, vs), tolerance, f"{row.id} jvp")


def check_gradient_precision(row: Row, device: str) -> None:
    """A gradient has its input's shape and dtype; in float32 it is the float64 one to float32's precision."""
    for dtype, xs in every_case(row, row.dtypes):
        f, moving = function(row, device, xs)
        y, pull = vjp(f, *moving)
        gs = [narrow(host(g), dtype) for g in directions(np.random.default_rng(2), leaves(y))]
        if row.keeps_dtype:
            gx = pull(as_tree(on(device, gs), y))
        else:
            gx = pull(as_tree(on(device, [g.astype(t.dtype) for g, t in zip(gs, leaves(y), strict=True)]), y))
        for g, x in zip(gx, moving, strict=True):
            assert (g.shape, g.dtype) == (x.shape, x.dtype), f"{row.id}: gradient {g.shape} {g.dtype} for {x.shape} {x.dtype}"
        if dtype != "float64" and row.keeps_dtype:
            wide_f, wide_moving = function(row, device, [wide(x) for x in xs])
            wide_y, wide_pull = vjp(wide_f, *wide_moving)
            for g, e in zip(gx, wide_pull(as_tree(on(device, map(wide, gs)), wide_y)), strict=True):
                tolerance = K * eps(dtype) * np.sqrt(sum(x.size for x in xs) + 1) * (largest(host(e)) + 1) * row.loose
                close(g, e, tolerance, f"{row.id} gradient in {dtype}")


def check_raw_against_traced(row: Row, device: str) -> None:
    """A sweep that records itself gives what the fast one gives."""
    for rng, f, xs in float64_cases(row, device):
        inputs = [leaf(x) for x in xs]
        nodes = [x._node for x in inputs]
        outputs = [(y._node, g) for y in leaves(f(*inputs)) for g in [on(device, directions(rng, [y]))[0]] if y._node]
        raw = pullback(outputs, nodes, retain_graph=True)
        traced = pullback(outputs, nodes, create_graph=True, retain_graph=True)
        assert raw.keys() == traced.keys(), f"{row.id}: raw and traced sweeps reach different inputs"
        allowed = row.loose if device == "cpu" else row.loose * row.contracted
        for node in raw:
            g = host(raw[node])
            close(g, traced[node], 4 * eps("float64") * largest(g) * allowed, f"{row.id} raw against traced")


def check_second_order(row: Row, device: str) -> None:
    """u'Hv of <c, f> by all four nestings of the modes, and by differences of the gradient."""
    for rng, f, xs in float64_cases(row, device, most=3 if device == "cpu" else 1):
        y, _ = vjp(f, *xs)
        us, vs, cs = directions(rng, xs), directions(rng, xs), directions(rng, leaves(y))
        c = as_tree(cs, y)

        def gradient(*x, f=f, c=c):
            return vjp(f, *x)[1](c)

        def slope(*x, f=f, vs=vs):
            return jvp(f, x, tuple(vs))[1]

        found = {
            "reverse over reverse": inner(vjp(gradient, *xs)[1](tuple(us)), vs),
            "forward over reverse": inner(us, jvp(gradient, tuple(xs), tuple(vs))[1]),
            "reverse over forward": inner(vjp(slope, *xs)[1](c), us),
            "forward over forward": inner(cs, leaves(jvp(slope, tuple(xs), tuple(us))[1])),
        }
        expected = found["forward over reverse"]
        g, hv = gradient(*xs), jvp(gradient, tuple(xs), tuple(vs))[1]
        scale = magnitude(us, hv) + magnitude(us, g)
        n = sum(x.size for x in xs) + 1
        for how, value in found.items():
            close(value, expected, K * eps("float64") * np.sqrt(n) * scale * row.loose * 16, f"{row.id} {how}")
        if row.smooth:
            close(expected, inner(us, difference(gradient, xs, vs)), DIFFERENCES * scale * row.loose, f"{row.id} second order")


def check_batching(row: Row, device: str) -> None:
    """vmap of the function and of its pullback equals a loop, over every input together and over each alone."""
    size = 3
    cases = zip(*(row.cases(seed) for seed in range(size)), strict=True)
    for number, columns in enumerate(cases):
        if number == 4:
            break
        f, movable = function(row, device, columns[0])
        n = len(movable)
        samples = [function(row, device, column)[1] for column in columns]
        if not n or any(x.shape != y.shape for s in samples for x, y in zip(s, movable, strict=True)):
            continue
        for mapped in {tuple(range(n)), *((i,) for i in range(n))}:
            xs = [np.stack([host(s[i]) for s in samples]) if i in mapped else host(movable[i]) for i in range(n)]
            axes = tuple(0 if i in mapped else None for i in range(n))
            rows = [[x[k] if i in mapped else x for i, x in enumerate(xs)] for k in range(size)]
            same(vmap(f, in_axes=axes)(*on(device, xs)), [f(*on(device, r)) for r in rows], f"{row.id} vmap {mapped}")
        if row.primitive.vjp:
            y, pull = vjp(f, *movable)
            gs = [directions(np.random.default_rng(k), leaves(y)) for k in range(size)]
            stacked = as_tree(on(device, [np.stack([host(x) for x in g]) for g in zip(*gs, strict=True)]), y)
            same(vmap(pull)(stacked), [pull(as_tree(on(device, g), y)) for g in gs], f"{row.id} vmap of the pullback")


def check_complex(row: Row, device: str) -> None:
    """The checks above with complex inputs. Inner products are real: the gradient points along steepest ascent."""
    checks = (check_value, check_reverse_against_differences, check_forward_against_reverse, check_gradient_precision,
              check_raw_against_traced, check_second_order, check_batching)
    for check in checks:
        check(ComplexRow(row), device)


def check_home(row: Row, device: str) -> None:
    """With another device current, values, gradients and tangents lie where the inputs do, and are what they are on the CPU."""
    xs = next(iter(row.cases()))
    found, expected = ([*leaves(call(row, place)(*on(place, xs))), *derivatives(row, place, xs)] for place in (device, "cpu"))
    for y, e in zip(found, expected, strict=True):
        place = device_of(y.data if isinstance(y, Tensor) else y)
        assert place == device, f"{row.id}: a result on {device} expected, got one on {place}"
        if e.dtype.kind in "fc":
            close(y, e, K * eps("float64") * np.sqrt(e.size + 1) * largest(host(e)) * row.loose, row.id)


def derivatives(row: Row, device: str, xs: Any) -> list:
    """Gradients and tangents along random directions."""
    f, moving = function(row, device, xs)
    if not moving or not row.primitive.vjp:
        return []
    rng = np.random.default_rng(1)
    y, pull = vjp(f, *moving)
    gs, vs = directions(rng, leaves(y)), directions(rng, moving)
    return [*pull(as_tree(gs, y)), *leaves(jvp(f, tuple(moving), tuple(vs))[1])]


def check_edges(row: Row, device: str) -> None:
    """The derivative at awkward points is the one stated, in both modes and both sweeps."""
    with np.errstate(all="ignore"):
        for inputs, expected in row.edges:
            f, moving = function(row, device, map(np.asarray, inputs))
            y, pull = vjp(f, *moving)
            found = pull(as_tree(on(device, [np.ones_like(host(t)) for t in leaves(y)]), y))
            for i, (x, g, e) in enumerate(zip(moving, found, expected, strict=True)):
                assert_edge(g, e, f"{row.id}: gradient {i} at {inputs}")
                if x.dtype.kind == "f":
                    def alone(z, f=f, i=i, moving=moving):
                        return f(*moving[:i], z, *moving[i + 1:])
                    assert_edge(jvp(alone, x, on(device, [np.ones(x.shape)])[0])[1], e, f"{row.id}: tangent {i} at {inputs}")


def assert_edge(found: Any, expected: Any, what: str) -> None:
    found = host(found)
    assert np.allclose(found, expected, rtol=1e-12, atol=1e-14), f"{what}: {expected} expected, got {found}"


def check_compiled(row: Row, backend: str) -> None:
    """Value and pullback as one program are what they are eagerly, on the numbers that it was traced with and on others."""
    for rng, f, xs in float64_cases(row, "cpu", most=3):
        gs = directions(rng, leaves(f(*xs)))

        def both(xs, gs, f=f):
            y, pull = vjp(f, *xs)
            return y, pull(as_tree(gs, y))
        compiled = gg.compile(both, backend=backend)
        for scale in (1, 2):
            cotangents = [g * scale for g in gs]
            found, expected = (flatten(g(xs, cotangents))[0] for g in (compiled, both))
            for a, b in zip(map(host, found), map(host, expected), strict=True):
                assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{row.id}: compiled {a.shape} {a.dtype} for {b.shape} {b.dtype}"
                close(a, b, K * eps("float64") * np.sqrt(a.size + 1) * largest(b) * row.loose, f"{row.id} compiled")
        assert compiled.programs == 1, f"{row.id}: {compiled.programs} programs"


# inputs ------------------------------------------------------------------------------------------------------------------

class ComplexRow:
    """A row whose float inputs have become complex."""

    def __init__(self, row: Row):
        self.row = row

    def __getattr__(self, name: str) -> Any:
        return getattr(self.row, name)

    def cases(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        for xs in self.row.cases(seed):
            yield tuple(x + 1j * rng.uniform(0.2, 0.8, size=x.shape) if x.dtype.kind == "f" else x for x in xs)


def every_case(row: Row, dtypes: tuple):
    for dtype in dtypes:
        for xs in row.cases():
            yield dtype, [narrow(x, dtype) for x in xs]


def float64_cases(row: Row, device: str, most: int | None = None):
    """(rng, f of the differentiated inputs alone, those inputs) for each case."""
    for number, xs in enumerate(row.cases()):
        if number == most:
            return
        yield np.random.default_rng(1), *function(row, device, xs)


def call(row: Row, device: str):
    primitive = getattr(T, row.name)
    return lambda *xs: primitive(*xs, **row.params)


def function(row: Row, device: str, xs: Any) -> tuple:
    """The primitive as a function of its differentiated inputs, to its inexact outputs; and those inputs."""
    xs = on(device, xs)
    wrt = row.moving(xs)
    primitive = call(row, device)

    def f(*moving):
        full = list(xs)
        for i, x in zip(wrt, moving, strict=True):
            full[i] = x
        y = primitive(*full)
        if isinstance(y, tuple):
            return tuple(t for t in y if t.dtype.kind in "fc")
        return y
    return f, [xs[i] for i in wrt]


def on(device: str, xs: Any) -> list:
    return [move(x if is_array(x) else np.asarray(x), Device(device)) for x in xs]


def leaf(x: Any) -> Tensor:
    t = Tensor(x)
    t.requires_grad = True
    return t


def narrow(x: Any, dtype: str) -> np.ndarray:
    """x in the precision of dtype; real stays real, complex complex, and integers what they are."""
    x = np.asarray(x)
    if x.dtype.kind not in "fc":
        return x
    return x.astype(dtype if x.dtype.kind == "f" else np.result_type(dtype, np.complex64))


def wide(x: Any) -> np.ndarray:
    return narrow(host(x), "float64")


def directions(rng: np.random.Generator, xs: Any) -> list:
    """A random array like each of xs, on its device."""
    def normal(x):
        v = rng.normal(size=x.shape) if x.dtype.kind != "c" else rng.normal(size=x.shape) + 1j * rng.normal(size=x.shape)
        return move(np.asarray(v.astype(x.dtype) if x.shape else x.dtype.type(v)), device_of(getattr(x, "_data", x)))
    return [normal(x) for x in xs]


# results -----------------------------------------------------------------------------------------------------------------

def leaves(y: Any) -> list:
    return list(y) if isinstance(y, tuple | list) else [y]


def as_tree(parts: list, y: Any) -> Any:
    """parts in the structure of y: a tuple, or the only one."""
    return tuple(parts) if isinstance(y, tuple | list) else parts[0]


def host(x: Any) -> np.ndarray:
    x = x.data if isinstance(x, Tensor) else x
    return move(x, Device("cpu")) if hasattr(x, "get") else np.asarray(x)


def inner(a: Any, b: Any) -> float:
    return float(sum(np.sum(np.conj(wide(x)) * wide(y)).real for x, y in zip(a, b, strict=True)))


def magnitude(a: Any, b: Any) -> float:
    return float(sum(np.sum(np.abs(wide(x) * wide(y))) for x, y in zip(a, b, strict=True))) + 1e-300


def difference(f: Any, xs: list, vs: list) -> list:
    """The derivative of each output of f along vs, by central differences of fourth order."""
    def at(h):
        return [wide(y) for y in leaves(f(*[x + h * v for x, v in zip(xs, vs, strict=True)]))]
    near, far = zip(at(STEP), at(-STEP), strict=True), zip(at(2 * STEP), at(-2 * STEP), strict=True)
    return [(8 * (a - b) - (c - d)) / (12 * STEP) for (a, b), (c, d) in zip(near, far, strict=True)]


def same(batched: Any, looped: list, what: str) -> None:
    for i, b in enumerate(leaves(batched)):
        e = np.stack([host(leaves(row)[i]) for row in looped])
        b = host(b)
        assert (b.shape, b.dtype) == (e.shape, e.dtype), f"{what}: {e.shape} {e.dtype} expected, got {b.shape} {b.dtype}"
        if e.dtype.kind in "fc":
            close(b, e, K * eps("float64") * np.sqrt(e.size + 1) * largest(e), what)
        else:
            assert np.array_equal(b, e), f"{what}: {e} expected, got {b}"


def close(found: Any, expected: Any, tolerance: float, what: str) -> None:
    """Equal within the tolerance; equal infinities count, NaN never does."""
    found, expected = host(found), host(expected)
    with np.errstate(invalid="ignore"):
        error = np.where(found == expected, 0, np.abs(found - expected)).max(initial=0)
    assert error <= tolerance, f"{what}: error {error} above {tolerance}; {expected} expected, got {found}"


def largest(x: Any) -> float:
    x = np.abs(np.asarray(x))
    return float(x.max(where=np.isfinite(x), initial=0)) + 1e-300


def eps(dtype: str) -> float:
    return float(np.finfo(dtype).eps)
