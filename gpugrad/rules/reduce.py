"""Reductions and scans. `axis` is a tuple of axes for a reduction, one axis for a scan."""
from gpugrad.graph.namespace import derived
from gpugrad.graph.primitive import Primitive, linear
from gpugrad.rules.shape import next_axes


def count(x, axis):
    """How many elements each result is made of."""
    n = 1
    for a in axis:
        n *= x.shape[a]
    return n


def over_next_axes(name):
    """The batch rule of a reduction of one array."""
    def batch(m, size, batched, x, axis, **params):
        return getattr(m, name)(x, axis=next_axes(axis), **params)
    return batch


def method(name):
    return lambda xp: lambda x, axis, keepdims: getattr(x, name)(axis=axis, keepdims=keepdims)


@derived
def widen(m, y, x, axis, keepdims):
    """The result of a reduction of x (or its cotangent), in a shape that broadcasts against x."""
    if keepdims or not axis or max(axis) < len(axis):      # what stands before the axes that are left is implied
        return y
    return m.reshape(y, shape=tuple([1 if i in axis else n for i, n in enumerate(x.shape)]))


# sums ------------------------------------------------------------------------------------------------------------------

def sum_transpose(m, g, x, axis, keepdims):
    return m.spread(m.widen(g, x, axis, keepdims), shape=x.shape)


def mean_transpose(m, g, x, axis, keepdims):
    return m.spread(m.widen(g / count(x, axis), x, axis, keepdims), shape=x.shape)


def mean(xp):
    def run(x, axis, keepdims):
        if x.dtype.char in "fdFD":                         # NumPy's own is three times slower on small arrays
            return x.sum(axis=axis, keepdims=keepdims) / count(x, axis)
        return x.mean(axis=axis, keepdims=keepdims)
    return run


linear("sum", sum_transpose, impl=method("sum"), batch=over_next_axes("sum"))
linear("mean", mean_transpose, impl=mean, batch=over_next_axes("mean"))


# extremes: elements that tie share the gradient equally -----------------------------------------------------------------

def share(m, y, x, axis, keepdims):
    """1/k where x is one of k equal extremes, else 0. Not differentiable: it stays as it is wherever y has a derivative."""
    here = m.astype(m.equal(x, m.widen(y, x, axis, keepdims)), dtype=x.dtype)
    return here / m.sum(here, axis=axis, keepdims=True)


def extreme_vjp(m, g, want, y, x, axis, keepdims):
    return (m.widen(g, x, axis, keepdims) * share(m, y, x, axis, keepdims),)


def extreme_jvp(m, ts, y, x, axis, keepdims):
    return m.sum(ts[0] * share(m, y, x, axis, keepdims), axis=axis, keepdims=keepdims)


Primitive("max", extreme_vjp, extreme_jvp, impl=method("max"), keep="y x", batch=over_next_axes("max"))
Primitive("min", extreme_vjp, extreme_jvp, impl=method("min"), keep="y x", batch=over_next_axes("min"))
