"""Reductions and scans."""
import numpy as np
from rows import Row


def over(*axis, keepdims=False, **more):
    return {"axis": axis, "keepdims": keepdims, **more}


def a_zero(rng, shape):
    """One zero in the first row: products must not divide by it. With two there would be no slope to measure."""
    x = rng.normal(size=shape)
    x[(0, *[-1] * (x.ndim - 1))] = 0
    return x


def spread_about_mean(function):
    return lambda x, axis, correction, keepdims: function(x, axis=axis, ddof=correction, keepdims=keepdims)


def logsumexp(x, axis, keepdims):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def recurrence(a, b, axis, reverse=False):
    """One step after the other."""
    a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    s = np.zeros(np.broadcast_shapes(a.shape, b.shape), np.result_type(a, b))
    for i in reversed(range(len(s))) if reverse else range(len(s)):
        before = i + 1 if reverse else i - 1
        s[i] = b[i] + (a[i] * s[before] if 0 <= before < len(s) else 0)
    return np.moveaxis(s, 0, axis)


def reduction(name, **options):
    """The rows of one reduction: all axes, some, one that stays, none."""
    return [
        Row(name, shapes=[(3, 4), (5,)], params=over(0), **options),
        Row(name, label="last", shapes=[(3, 4), (2, 3)], params=over(1, keepdims=True), **options),
        Row(name, label="outer", shapes=[(3, 2, 4)], params=over(0, 2), **options),
        Row(name, label="all", shapes=[(3, 4)], params=over(0, 1), **options),
        Row(name, label="scalar", shapes=[()], params=over(), **options),
        Row(name, label="empty", shapes=[(0, 3)], params=over(1), **options),
    ]


ROWS = [
    *reduction("sum", complex_ok=True),
    *reduction("mean", complex_ok=True),
    *reduction("max"),
    *reduction("min"),
    *reduction("prod", complex_ok=True),
    Row("prod", label="zero", sample=a_zero, shapes=[(4,), (4, 5)], params=over(0), complex_ok=True),
    Row("prod", label="zero-both", sample=a_zero, shapes=[(2, 2), (2, 3)], params=over(0, 1)),
    *[Row("var", label=f"{axis}-{correction}-{keepdims}", shapes=[(4, 5)], ref=spread_about_mean(np.var),
          params=over(*axis, keepdims=keepdims, correction=correction), complex_ok=True, keeps_dtype=False)
      for axis, correction, keepdims in [((0,), 0, False), ((1,), 1, True), ((0, 1), 1.5, False)]],
    *[Row("std", label=f"{axis}-{correction}-{keepdims}", shapes=[(4, 5)], ref=spread_about_mean(np.std),
          params=over(*axis, keepdims=keepdims, correction=correction), complex_ok=True, keeps_dtype=False)
      for axis, correction, keepdims in [((0,), 0, False), ((1,), 1, True), ((0, 1), 1.5, False)]],
    *reduction("logsumexp", ref=logsumexp, complex_ok=True),
    Row("all", shapes=[(3, 4), (0, 4)], params=over(0)),
    Row("any", shapes=[(3, 4), (0, 4)], params=over(0, keepdims=True)),
    Row("argmax", shapes=[(3, 4)], params={"axis": 1}),
    Row("argmin", shapes=[(3, 4)], params={"axis": 0}),
    Row("cumsum", shapes=[(3, 4), (1, 4), (3, 0)], params={"axis": 1}, complex_ok=True),
    Row("cumprod", shapes=[(3, 4), (1, 4), (3, 0)], params={"axis": 1}, complex_ok=True),
    Row("cumprod", label="zero", sample=a_zero, shapes=[(7,), (9, 2)], params={"axis": 0}, complex_ok=True),
    Row("logcumsumexp", shapes=[(3, 4), (2, 9), (1, 1), (3, 0)], params={"axis": 1}, ref=np.logaddexp.accumulate,
        edges=[(([[-np.inf, 0.0]],), ([[1.0, 1.0]],))]),
    *[Row("recurrence", label=str(reverse), args=lambda rng: (a_zero(rng, (2, 7)), rng.normal(size=(2, 7))),
          params={"axis": 1, "reverse": reverse}, ref=recurrence, complex_ok=True) for reverse in (False, True)],
    Row("recurrence", label="empty", args=lambda rng: (np.ones((0, 2)), np.ones((0, 2))), params={"axis": 0}, ref=recurrence),
]
