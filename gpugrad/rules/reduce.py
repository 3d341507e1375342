"""Reductions: `axis` is a tuple of axes. Scans, of one axis each, are in scan.py."""
from gpugrad.arrays.half import in_float32
from gpugrad.graph.namespace import derived
from gpugrad.graph.primitive import Primitive, constant, linear
from gpugrad.kernels import reduce
from gpugrad.rules.scan import shift
from gpugrad.rules.shape import inverse, next_axes


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


def shared(t, n):
    """t / n for a count n. Of float16 by the reciprocal: 70000 is none, 1 / 70000 is one."""
    return t * (1 / max(n, 1)) if t.dtype.char == "e" and n > 2048 else t / n


def mean_transpose(m, g, x, axis, keepdims):
    return m.spread(m.widen(shared(g, count(x, axis)), x, axis, keepdims), shape=x.shape)


linear("sum", sum_transpose, impl=reduce.sums, batch=over_next_axes("sum"))
linear("mean", mean_transpose, impl=reduce.means, batch=over_next_axes("mean"))


# extremes: elements that tie share the gradient equally -----------------------------------------------------------------

def ties(m, y, x, axis, keepdims):
    """1 where x is the extreme, else 0, and how many ones there are. They stay as they are wherever y has a derivative."""
    here = m.astype(m.equal(x, m.widen(y, x, axis, keepdims)), dtype=x.dtype)
    return here, m.sum(here, axis=axis, keepdims=keepdims)


def extreme_vjp(m, g, want, y, x, axis, keepdims):
    here, n = ties(m, y, x, axis, keepdims)
    return (here * m.widen(g / n, x, axis, keepdims),)


def extreme_jvp(m, ts, y, x, axis, keepdims):
    here, n = ties(m, y, x, axis, keepdims)
    return m.sum(here * ts[0], axis=axis, keepdims=keepdims) / n


Primitive("max", extreme_vjp, extreme_jvp, impl=method("max"), keep="y x", batch=over_next_axes("max"))
Primitive("min", extreme_vjp, extreme_jvp, impl=method("min"), keep="y x", batch=over_next_axes("min"))


# products --------------------------------------------------------------------------------------------------------------

def others(m, x, axis):
    """The product of all the other elements, exact where some are zero: of those before it times those after it."""
    rest = tuple([a for a in range(x.ndim) if a not in axis])
    row = m.reshape(m.transpose(x, axes=rest + axis), shape=(*[x.shape[a] for a in rest], count(x, axis)))
    last, n = len(rest), (len(rest),)
    before = shift(m, m.cumprod(row, axis=last), last, 1, fill=1)
    after = m.flip(shift(m, m.cumprod(m.flip(row, axis=n), axis=last), last, 1, fill=1), axis=n)
    moved = m.reshape(before * after, shape=tuple([x.shape[a] for a in rest + axis]))
    return m.transpose(moved, axes=inverse(rest + axis))


def prod_vjp(m, g, want, y, x, axis, keepdims):
    factor = others(m, x, axis)
    return (m.widen(g, x, axis, keepdims) * (m.conj(factor) if g.dtype.kind == "c" else factor),)


def prod_jvp(m, ts, y, x, axis, keepdims):
    return m.sum(ts[0] * others(m, x, axis), axis=axis, keepdims=keepdims)


Primitive("prod", prod_vjp, prod_jvp, impl=method("prod"), keep="x", batch=over_next_axes("prod"))


# spread about the mean -------------------------------------------------------------------------------------------------

def freedom(x, axis, correction):
    """Degrees of freedom: elements less the correction. NumPy divides by 0 where that is negative."""
    return max(count(x, axis) - correction, 0)


def deviation(m, x, axis):
    return x - m.mean(x, axis=axis, keepdims=True)


def var(xp):
    def run(x, axis, correction, keepdims):
        d = x - x.mean(axis=axis, keepdims=True)
        if d.dtype.char == "e":                            # neither sums of squares nor their number fit float16
            return run(d.astype("f4"), axis, correction, keepdims).astype("e")
        square = d.real * d.real + d.imag * d.imag if d.dtype.kind == "c" else d * d
        return square.sum(axis=axis, keepdims=keepdims) / freedom(x, axis, correction)
    return run


def std(xp):
    variance = var(xp)
    return lambda x, axis, correction, keepdims: xp.sqrt(variance(x, axis, correction, keepdims))


def along_deviation(m, t, x, axis, keepdims):
    """Half the tangent of the sum of squares."""
    d = deviation(m, x, axis)
    product = m.real(m.conj(d) * t) if d.dtype.kind == "c" else d * t
    return m.sum(product, axis=axis, keepdims=keepdims)


def var_vjp(m, g, want, y, x, axis, correction, keepdims):
    return (m.widen(shared(g, freedom(x, axis, correction) / 2), x, axis, keepdims) * deviation(m, x, axis),)


def var_jvp(m, ts, y, x, axis, correction, keepdims):
    return shared(along_deviation(m, ts[0], x, axis, keepdims), freedom(x, axis, correction) / 2)


def over_scale(m, t, y, x, axis, correction):
    """t over the slope's scale, std times the count. At std = 0 that is 0, which makes every derivative there 0, the subgradient.

    Of float16 it lacks the count, by which `counted` divides in the end: before, 1 / 140000 std is none.
    """
    scale = m.where(m.equal(y, 0), float("inf"), y)
    return t / scale if t.dtype.char == "e" else t / (scale * freedom(x, axis, correction))


def counted(slope, x, axis, correction):
    return shared(slope, freedom(x, axis, correction)) if slope.dtype.char == "e" else slope


def std_vjp(m, g, want, y, x, axis, correction, keepdims):
    g = m.widen(over_scale(m, g, y, x, axis, correction), x, axis, keepdims)
    return (counted(g * deviation(m, x, axis), x, axis, correction),)


def std_jvp(m, ts, y, x, axis, correction, keepdims):
    t = over_scale(m, along_deviation(m, ts[0], x, axis, keepdims), y, x, axis, correction)
    return counted(t, x, axis, correction)


Primitive("var", var_vjp, var_jvp, impl=var, keep="x", batch=over_next_axes("var"))
Primitive("std", std_vjp, std_jvp, impl=std, keep="y x", batch=over_next_axes("std"))


# log(sum(exp(x))) ------------------------------------------------------------------------------------------------------

def logsumexp(xp):
    @in_float32
    def run(x, axis, keepdims):
        top = x.real.max(axis=axis, keepdims=True)
        top = xp.where(xp.isfinite(top), top, 0)           # inf - inf is no number
        y = xp.log(xp.exp(x - top).sum(axis=axis, keepdims=True)) + top
        return y if keepdims else y.reshape(tuple([n for i, n in enumerate(x.shape) if i not in axis]))
    return run


def weights(m, y, x, axis, keepdims):
    """softmax(x). exp(x - y) alone would lose the digits that y does where x is large: ten times 1e20 would weigh 10."""
    w = m.exp(x - m.widen(y, x, axis, keepdims))
    total = m.sum(w, axis=axis, keepdims=True)
    return w / m.where(m.equal(total, total), total, 1)           # beside inf, whose own is no number, all others weigh 0


def logsumexp_vjp(m, g, want, y, x, axis, keepdims):
    slope = weights(m, y, x, axis, keepdims)
    return (m.widen(g, x, axis, keepdims) * (m.conj(slope) if g.dtype.kind == "c" else slope),)


def logsumexp_jvp(m, ts, y, x, axis, keepdims):
    return m.sum(ts[0] * weights(m, y, x, axis, keepdims), axis=axis, keepdims=keepdims)


Primitive("logsumexp", logsumexp_vjp, logsumexp_jvp, impl=logsumexp, keep="y x", batch=over_next_axes("logsumexp"))


# without derivatives ---------------------------------------------------------------------------------------------------

def over_next_axis(name):
    return lambda m, size, batched, x, axis: getattr(m, name)(x, axis=axis + 1)


constant("all", impl=method("all"), batch=over_next_axes("all"))
constant("any", impl=method("any"), batch=over_next_axes("any"))
constant("argmax", impl=lambda xp: lambda x, axis: x.argmax(axis=axis), batch=over_next_axis("argmax"))
constant("argmin", impl=lambda xp: lambda x, axis: x.argmin(axis=axis), batch=over_next_axis("argmin"))
