"""Every primitive against its reference, its finite differences, its other mode, its second order, and its batches."""
from __future__ import annotations

from importlib.util import find_spec

import checks
import numpy as np
import pytest
from on_device import DEVICES
from rows import Row, all_rows

from gpugrad import methods as methods
from gpugrad import rules as rules
from gpugrad.graph.namespace import PRIMITIVES, TRACED
from gpugrad.graph.primitive import Primitive, elementwise

ROWS = all_rows()
DIFFERENTIABLE = [row for row in ROWS if row.name in PRIMITIVES and row.primitive.vjp]
CONSTANT = [row for row in ROWS if row.name in PRIMITIVES and not row.primitive.vjp]
#: What importing gpugrad registers, before any test adds its own. Copies between devices have tests/graph/test_to_device.py.
BUILTIN = set(PRIMITIVES) - {"to_device"}


needs_llvm = pytest.mark.skipif(find_spec("llvmlite") is None, reason="compiled loops need the extra jit")


#: Seven checks in one: on the simulated device they are for `make test-all`.
later = pytest.mark.parametrize("device", ["cpu", pytest.param("sim", marks=pytest.mark.slow)], indirect=True)


def sparing(rows):
    """Each row on every device. On the simulated one, where a check takes seconds, a primitive's first row speaks for the others
    until `make test-all`: they have the same kernels, and the same rule on the CPU.
    """
    first = {row.name: row for row in reversed(rows)}
    later = [pytest.mark.slow]
    return pytest.mark.parametrize(("row", "device"), [
        pytest.param(row, device, marks=later if device == "sim" and first[row.name] is not row else [], id=f"{device}-{row.id}")
        for row in rows for device in DEVICES], indirect=["device"])


def over(rows):
    return pytest.mark.parametrize("row", rows, ids=[row.id for row in rows])


@over(ROWS)
def test_value_is_the_references(row, device):
    checks.check_value(row, device)


@over(CONSTANT)
def test_constant_leaves_the_graph(row, device):
    checks.check_constant(row, device)


@over(DIFFERENTIABLE)
def test_reverse_mode_agrees_with_differences(row, device):
    checks.check_reverse_against_differences(row, device)


@sparing(DIFFERENTIABLE)
def test_forward_mode_agrees_with_reverse(row, device):
    checks.check_forward_against_reverse(row, device)


@sparing(DIFFERENTIABLE)
def test_gradient_keeps_shape_and_dtype(row, device):
    checks.check_gradient_precision(row, device)


@sparing(DIFFERENTIABLE)
def test_traced_sweep_equals_raw_sweep(row, device):
    checks.check_raw_against_traced(row, device)


@sparing([row for row in DIFFERENTIABLE if row.order > 1])
def test_second_order_agrees_in_all_nestings(row, device):
    checks.check_second_order(row, device)


@sparing(ROWS)
def test_batch_equals_loop(row, device):
    checks.check_batching(row, device)


@over(DIFFERENTIABLE)
@pytest.mark.parametrize("backend", ["numpy", pytest.param("llvm", marks=needs_llvm)])
def test_compiled_equals_eager(row, backend):
    checks.check_compiled(row, backend)


@later
@over([row for row in DIFFERENTIABLE if row.complex_ok])
def test_complex_inputs(row, device):
    checks.check_complex(row, device)


@pytest.mark.parametrize("device", ["sim"], indirect=True)
@over(list({row.name: row for row in reversed(ROWS)}.values()))
def test_results_lie_beside_the_inputs_with_another_device_current(row, device):
    checks.check_home(row, "sim:1")


@over([row for row in DIFFERENTIABLE if row.edges])
def test_derivative_at_awkward_points(row, device):
    checks.check_edges(row, device)


def test_every_primitive_has_a_row():
    without = sorted(BUILTIN - {row.name for row in ROWS})
    assert not without, f"no row in tests/rules for {', '.join(without)}"


def test_every_row_has_a_primitive_and_an_id_of_its_own():
    unknown = sorted({row.name for row in ROWS} - BUILTIN)
    assert not unknown, f"rows for {', '.join(unknown)}, which no rule defines"
    ids = [row.id for row in ROWS]
    assert len(ids) == len(set(ids)), sorted({i for i in ids if ids.count(i) > 1})


# the checker itself --------------------------------------------------------------------------------------------------------

@pytest.fixture
def temporary():
    """Primitives that a test defines are forgotten again."""
    before = set(PRIMITIVES)
    yield
    for name in set(PRIMITIVES) - before:
        del PRIMITIVES[name]
        delattr(TRACED, name)


def sine(name, partial):
    """sin with a partial of our choice, and its row."""
    elementwise(name, partial, impl=lambda xp: xp.sin)
    return Row(name, ref=np.sin)


@pytest.mark.usefixtures("temporary")
def test_checker_accepts_a_right_rule():
    row = sine("right_sine", lambda m, y, x: m.cos(x))
    for name in ("value", "reverse_against_differences", "forward_against_reverse", "gradient_precision",
                 "raw_against_traced", "second_order"):
        getattr(checks, f"check_{name}")(row, "cpu")


@pytest.mark.usefixtures("temporary")
def test_checker_rejects_a_wrong_derivative():
    row = sine("wrong_sine", lambda m, y, x: m.cos(x) * 1.0001)
    with pytest.raises(AssertionError, match="wrong_sine vjp"):
        checks.check_reverse_against_differences(row, "cpu")


@pytest.mark.usefixtures("temporary")
def test_checker_rejects_a_wrong_second_derivative():
    elementwise("wrong_cosine", lambda m, y, x: m.sin(x), impl=lambda xp: xp.cos)
    row = sine("bent_sine", lambda m, y, x: m.wrong_cosine(x))
    checks.check_reverse_against_differences(row, "cpu")
    with pytest.raises(AssertionError, match="bent_sine second order"):
        checks.check_second_order(row, "cpu")


@pytest.mark.usefixtures("temporary")
def test_checker_rejects_a_nan_gradient():
    row = sine("nan_sine", lambda m, y, x: m.cos(x) * float("nan"))
    with pytest.raises(AssertionError, match="nan_sine vjp"):
        checks.check_reverse_against_differences(row, "cpu")
    with pytest.raises(AssertionError, match="nan_sine jvp"):
        checks.check_forward_against_reverse(row, "cpu")


@pytest.mark.eager("loops compute a cosine that is cast in the dtype it is cast to")
@pytest.mark.usefixtures("temporary")
def test_checker_rejects_a_gradient_of_another_dtype():
    row = sine("double_sine", lambda m, y, x: m.astype(m.cos(x), dtype=np.dtype("f8")))
    with pytest.raises(AssertionError, match=r"gradient .* float64"):
        checks.check_gradient_precision(row, "cpu")


@pytest.mark.usefixtures("temporary")
def test_checker_rejects_a_value_of_another_dtype():
    elementwise("wide_sine", lambda m, y, x: m.cos(x), impl=lambda xp: lambda x: xp.sin(x, dtype="f8"))
    with pytest.raises(AssertionError, match="float32 inputs gave float64"):
        checks.check_value(Row("wide_sine", ref=np.sin), "cpu")


@pytest.mark.usefixtures("temporary")
def test_checker_rejects_a_wrong_value_and_a_nan_value():
    elementwise("near_sine", lambda m, y, x: m.cos(x), impl=lambda xp: lambda x: xp.sin(x) * (1 + 1e-12))
    elementwise("nan_value", lambda m, y, x: m.cos(x), impl=lambda xp: lambda x: xp.sin(x) * float("nan"))
    for name in ("near_sine", "nan_value"):
        with pytest.raises(AssertionError, match=f"{name} value"):
            checks.check_value(Row(name, ref=np.sin), "cpu")


@pytest.mark.usefixtures("temporary")
def test_checker_rejects_modes_that_disagree():
    Primitive("split_sine", lambda m, g, want, y, x: (g * m.cos(x),), lambda m, ts, y, x: ts[0] * m.sin(x),
              impl=lambda xp: xp.sin, keep="x")
    with pytest.raises(AssertionError, match="split_sine jvp"):
        checks.check_forward_against_reverse(Row("split_sine", ref=np.sin), "cpu")


@pytest.mark.usefixtures("temporary")
def test_checker_rejects_a_wrong_batch_rule():
    Primitive("double_flip", lambda m, g, want, y, x: (m.double_flip(g),), lambda m, ts, y, x: m.double_flip(ts[0]),
              impl=lambda xp: lambda x: x[::-1] * 2, batch=lambda m, size, batched, x: m.double_flip(x))
    with pytest.raises(AssertionError, match="double_flip vmap"):
        checks.check_batching(Row("double_flip", ref=lambda x: x[::-1] * 2, shapes=[(4,)]), "cpu")


@pytest.mark.usefixtures("temporary")
def test_checker_rejects_a_gradient_in_a_constants_place():
    row = sine("lively", lambda m, y, x: m.cos(x))
    with pytest.raises(AssertionError, match="lively: a result needs a gradient"):
        checks.check_constant(row, "cpu")


@pytest.mark.usefixtures("temporary")
def test_checker_rejects_a_wrong_edge():
    elementwise("steep", lambda m, y, x: m.cos(x), impl=lambda xp: xp.sin)
    with pytest.raises(AssertionError, match="steep: gradient 0"):
        checks.check_edges(Row("steep", ref=np.sin, edges=[((0.0,), (0.0,))]), "cpu")


def test_checker_compares_nan_with_nothing():
    with pytest.raises(AssertionError):
        checks.close(np.array([np.nan]), np.array([np.nan]), 1.0, "nan")
    checks.close(np.array([np.inf]), np.array([np.inf]), 0.0, "inf")
