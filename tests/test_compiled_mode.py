"""The mode that compares compiled calls with eager ones notices every kind of difference."""
import compiled_mode
import numpy as np
import pytest

import gpugrad as gg

X = np.array([1.0, 2.0])


def compare(eager, compiled, *args):
    return compiled_mode.compared("f", eager, compiled, args, {})


def fails(message):
    def run(x):
        raise gg.ShapeError(message)
    return run


@pytest.fixture(autouse=True)
def _counts(monkeypatch):
    monkeypatch.setattr(compiled_mode, "MODE", compiled_mode.Mode())


@pytest.mark.parametrize(("wrong", "message"), [
    (lambda x: x * 2 + 1e-9, "expected, got"),
    (lambda x: (x * 2).astype("f4"), "float64"),
    (lambda x: (x * 2)[:1], r"\(2,\) expected"),
    (lambda x: gg.tensor(x * 2), "ndarray"),
    (lambda x: x * np.nan, "nan"),
    (lambda x: (x * 2, x), "1 results expected"),
    (fails("sum: wrong"), "expected None, got ShapeError"),
])
def test_differences_fail(wrong, message):
    with pytest.raises(AssertionError, match=message):
        compare(lambda x: x * 2, wrong, X)


def test_a_second_call_that_overwrites_the_first_result_fails():
    buffer, factors = np.empty(2), iter((2, 3))
    with pytest.raises(AssertionError, match="expected, got"):
        compare(lambda x: x * 2, lambda x: np.multiply(x, next(factors), out=buffer), X)


def test_errors_must_be_the_same():
    with pytest.raises(AssertionError, match="sum: b"):
        compare(fails("sum: a"), fails("sum: b"), X)
    with pytest.raises(AssertionError, match="got None"):
        compare(fails("sum: a"), lambda x: x, X)
    with pytest.raises(gg.ShapeError, match="sum: a"):
        compare(fails("sum: a"), fails("sum: a"), X)
    with pytest.raises(gg.ShapeError, match="array"):
        compare(fails("sum: expected 3, got array([1.]). Try."), fails("sum: expected 3, got <traced, shape (1,)>. Try."), X)


def test_what_cannot_be_compiled_is_counted():
    def decides(x):
        return x if x.sum() > 0 else -x
    assert compare(decides, gg.compile(decides), X) is X
    assert compiled_mode.MODE.compiled == 0 and sum(compiled_mode.MODE.not_compiled.values()) == 1
    np.testing.assert_array_equal(compare(np.sin, gg.compile(np.sin), X), np.sin(X))
    assert compiled_mode.MODE.compiled == 1
