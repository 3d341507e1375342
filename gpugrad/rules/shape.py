"""Operations that move elements without changing them."""
from gpugrad.graph.namespace import derived
from gpugrad.graph.primitive import linear


def sum_to(xp):
    def run(x, shape):
        lead = x.ndim - len(shape)
        axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 != x.shape[i + lead])
        return xp.add.reduce(x, axis=axes, keepdims=True).reshape(shape)
    return run


def spread(xp):
    def run(x, shape):
        return xp.broadcast_to(x, shape)
    return run


linear("alias", lambda m, g, x: g, impl=lambda xp: lambda x: x, batch=lambda m, size, batched, x: x)
linear("sum_to", lambda m, g, x, shape: m.spread(g, shape=x.shape), impl=sum_to)
linear("spread", lambda m, g, x, shape: m.sum_to(g, shape=x.shape), impl=spread)
linear("reshape", lambda m, g, x, shape: m.reshape(g, shape=x.shape), impl=lambda xp: lambda x, shape: x.reshape(shape))
linear("astype", lambda m, g, x, dtype: m.astype(g, dtype=x.dtype), impl=lambda xp: lambda x, dtype: x.astype(dtype))


@derived
def fit(m, g, like):
    """The cotangent of an input that was broadcast or promoted: summed and cast back to the input's shape and dtype."""
    if g.shape != like.shape:
        g = m.sum_to(g, shape=like.shape)
    return cast(m, g, like.dtype)


@derived
def like(m, t, y):
    """A tangent of a smaller shape or dtype, as y has them."""
    if t.shape != y.shape:
        t = m.spread(t, shape=y.shape)
    return cast(m, t, y.dtype)


@derived
def cast(m, x, dtype):
    if x.dtype == dtype:
        return x
    if x.dtype.kind == "c" and dtype.kind != "c":
        x = m.real(x)
    return m.astype(x, dtype=dtype) if x.dtype != dtype else x


def stack(xp):
    return lambda *xs, axis=0: xp.stack(xs, axis=axis)


linear("moveaxis", lambda m, g, x, source, destination: m.moveaxis(g, source=destination, destination=source))
