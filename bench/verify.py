"""Is it right? Asked before any timing.

Each output is compared with the hand-written NumPy reference in float64. The tolerance is computed: a result with n
roundings on its way is off by about eps * sqrt(n) of its own size, or of the typical size of its array where
cancellation made it small.
"""

from collections.abc import Iterable, Sequence

import numpy as np

SLACK = 16  # roundings are not independent and library functions are good to a few ulp, not to half of one


class WrongResult(AssertionError):
    """A variant's output differs from the reference; it is reported and not timed."""


def tolerance(expected: np.ndarray, dtype: np.dtype, terms: float) -> np.ndarray:
    """SLACK * eps(dtype) * sqrt(terms) * (|expected| + rms(expected)), elementwise.

    The root mean square, not the maximum: in a softmax gradient the largest entries are 32 000 times the others, and a
    tolerance on their scale would pass an answer that lacks the others altogether.
    """
    size = np.abs(expected)
    typical = np.sqrt(np.mean(size * size)) if size.size else 0.0
    return SLACK * np.finfo(dtype).eps * np.sqrt(terms) * (size + typical)


def verify(
    outputs: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    dtype: str,
    terms: float | Iterable[float] = 1.0,
    names: Sequence[str] = (),
    wider: bool = False,
) -> None:
    """Raise WrongResult unless every output has the reference's shape, the case's dtype, and its values.

    terms   roundings on the way to one element: a number for all outputs, or one for each
    names   what the outputs are called in the message
    wider   whether float64 passes where float32 was asked for; the tolerance stays that of `dtype`
    """
    if len(outputs) != len(expected):
        raise WrongResult(f"expected {len(expected)} outputs, got {len(outputs)}")
    each = list(terms) if isinstance(terms, Iterable) else [terms] * len(expected)
    for i, (got, want, n) in enumerate(zip(outputs, expected, each, strict=True)):
        name = names[i] if i < len(names) else f"output {i}"
        if got.shape != want.shape:
            raise WrongResult(f"{name}: expected shape {want.shape}, got {got.shape}")
        if got.dtype != np.dtype(dtype) and not (wider and got.dtype == np.float64):
            raise WrongResult(f"{name}: expected {dtype}, got {got.dtype}")
        error = np.abs(got.astype(np.float64) - want)
        allowed = tolerance(want, np.dtype(dtype), n)
        bad = ~(error <= allowed)  # so written, a NaN on either side is bad
        if bad.any():
            at = tuple(int(k) for k in np.argwhere(bad)[0])
            raise WrongResult(
                f"{name}: {int(bad.sum())} of {bad.size} elements differ, first at {at}: "
                f"expected {want[at]:.9g} within {allowed[at]:.2g}, got {got[at]:.9g}"
            )
