"""The check before the timing: it must fail on what is wrong, above all on NaN, and pass honest roundings."""

import numpy as np
import pytest

from gpugrad.bench.verify import WrongResult, tolerance, verify


@pytest.fixture
def gradient():
    return np.random.default_rng(0).standard_normal((30, 7))


def test_float32_rounding_passes(gradient):
    verify([gradient.astype(np.float32)], [gradient], "float32")


def test_a_slightly_wrong_gradient_fails(gradient):
    wrong = gradient.astype(np.float32)
    wrong[3, 4] += 1e-4
    with pytest.raises(WrongResult, match=r"dx: 1 of 210 elements differ, first at \(3, 4\): expected .* got"):
        verify([wrong], [gradient], "float32", names=["dx"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_fails(gradient, bad):
    wrong = gradient.astype(np.float32)
    wrong[0, 0] = bad
    with pytest.raises(WrongResult, match="1 of 210"):
        verify([wrong], [gradient], "float32")


def test_a_nan_in_the_reference_passes_nothing(gradient):
    gradient[2, 2] = np.nan
    with pytest.raises(WrongResult):
        verify([gradient.astype(np.float32)], [gradient], "float32")


def test_a_lost_softmax_term_fails_although_it_is_tiny():
    """p - onehot without p: the entries that are left out are 1/32000 of the largest."""
    p = np.full((4, 32000), 1 / 32000)
    right = p.copy()
    right[:, 5] -= 1
    wrong = np.zeros_like(right, dtype=np.float32)
    wrong[:, 5] = right[:, 5]
    with pytest.raises(WrongResult):
        verify([wrong], [right], "float32", terms=32000)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda g: [], "expected 1 outputs, got 0"),
        (lambda g: [g.astype(np.float32).T], r"expected shape \(30, 7\), got \(7, 30\)"),
        (lambda g: [g], "expected float32, got float64"),
        (lambda g: [np.zeros_like(g, dtype=np.float32)], "of 210 elements differ"),
        (lambda g: [-g.astype(np.float32)], "of 210 elements differ"),
    ],
)
def test_what_else_is_wrong(gradient, outputs, message):
    with pytest.raises(WrongResult, match=message):
        verify(outputs(gradient), [gradient], "float32")


def test_float64_passes_only_where_allowed(gradient):
    verify([gradient], [gradient], "float32", wider=True)
    with pytest.raises(WrongResult):
        verify([gradient.astype(np.float16)], [gradient], "float32", wider=True)


def test_tolerance_grows_with_the_root_of_the_terms():
    x = np.ones(3)
    assert tolerance(x, np.dtype("float32"), 100.0) == pytest.approx(10 * tolerance(x, np.dtype("float32"), 1.0))


def test_an_empty_output_is_right():
    verify([np.zeros((0, 3), np.float32)], [np.zeros((0, 3))], "float32")
