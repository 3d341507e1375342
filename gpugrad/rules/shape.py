"""Operations that move elements without changing them.

Most are linear, and each is the transpose of another: spread and sum_to, pad and a slice, concatenate and split. Where
one operation says what another can, it is derived (end of file) and needs no rule.
"""
from gpugrad.arrays import move
from gpugrad.arrays.cheap import spread
from gpugrad.graph.namespace import derived
from gpugrad.graph.primitive import Primitive, constant, linear, view
from gpugrad.kernels import reduce


def along(axis, part):
    """The index that takes `part` of one axis."""
    return (slice(None),) * axis + (part,)


def inverse(axes):
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def next_axes(axes):
    """The same axes once a batch axis stands before them."""
    return tuple([a + 1 for a in axes])


# one array -------------------------------------------------------------------------------------------------------------

def sum_to(xp):
    total = reduce.sums(xp)

    def run(x, shape):
        lead = x.ndim - len(shape)
        axes = [i for i, n in enumerate(shape, lead) if n == 1 != x.shape[i]]
        if not axes:
            return total(x, tuple(range(lead)), False) if lead else x
        return total(x, (*range(lead), *axes), True).reshape(shape)
    return run


def sum_to_batch(m, size, batched, x, shape):
    level = (size, *(1,) * (x.ndim - 1 - len(shape)), *shape)
    return m.reshape(m.sum_to(x, shape=level), shape=(size, *shape))


def spread_batch(m, size, batched, x, shape):
    level = (size, *(1,) * (len(shape) - x.ndim + 1), *x.shape[1:])
    return m.spread(m.reshape(x, shape=level), shape=(size, *shape))


def flip(xp):
    return lambda x, axis: x[tuple([slice(None, None, -1) if i in axis else slice(None) for i in range(x.ndim)])]


alias = linear("alias", lambda m, g, x: g, impl=lambda xp: lambda x: x, batch=lambda m, size, batched, x: x)
alias.put = lambda m, x, v: v
linear("to_device", lambda m, g, x, device, home: m.to_device(g, device=home, home=device),         # a copy, from home to device
       impl=lambda xp: lambda x, device, home: move(x, device),
       batch=lambda m, size, batched, x, device, home: m.to_device(x, device=device, home=home))
linear("astype", lambda m, g, x, dtype: m.cast(g, x.dtype), impl=lambda xp: lambda x, dtype: x.astype(dtype),
       batch=lambda m, size, batched, x, dtype: m.astype(x, dtype=dtype))
constant("discretise", impl=lambda xp: lambda x, dtype: x.astype(dtype))               # astype to integers or bools
view("reshape", lambda m, g, x, shape: m.reshape(g, shape=x.shape), put=lambda m, x, v, shape: m.reshape(v, shape=x.shape),
     impl=lambda xp: lambda x, shape: x.reshape(shape),
     batch=lambda m, size, batched, x, shape: m.reshape(x, shape=(size, *shape)))
view("transpose", lambda m, g, x, axes: m.transpose(g, axes=inverse(axes)),
     put=lambda m, x, v, axes: m.transpose(v, axes=inverse(axes)), impl=lambda xp: lambda x, axes: x.transpose(axes),
     batch=lambda m, size, batched, x, axes: m.transpose(x, axes=(0, *next_axes(axes))))
linear("spread", lambda m, g, x, shape: m.sum_to(g, shape=x.shape), impl=spread, batch=spread_batch)       # broadcast_to
linear("sum_to", lambda m, g, x, shape: m.spread(g, shape=x.shape), impl=sum_to, batch=sum_to_batch)
view("flip", lambda m, g, x, axis: m.flip(g, axis=axis), put=lambda m, x, v, axis: m.flip(v, axis=axis), impl=flip,
     batch=lambda m, size, batched, x, axis: m.flip(x, axis=next_axes(axis)))
linear("roll", lambda m, g, x, shift, axis: m.roll(g, shift=tuple([-n for n in shift]), axis=axis),
       impl=lambda xp: lambda x, shift, axis: xp.roll(x, shift, axis),
       batch=lambda m, size, batched, x, shift, axis: m.roll(x, shift=shift, axis=next_axes(axis)))


def pad(xp):
    def run(x, pad_width, value=0):
        y = xp.full([before + n + after for n, (before, after) in zip(x.shape, pad_width, strict=True)], value, x.dtype)
        y[inside(x.shape, pad_width)] = x
        return y
    return run


def inside(shape, pad_width):
    return tuple([slice(before, before + n) for n, (before, _) in zip(shape, pad_width, strict=True)])


Primitive("pad",
          vjp=lambda m, g, want, y, x, pad_width, value=0: (m.getitem(g, index=inside(x.shape, pad_width)),),
          jvp=lambda m, ts, y, x, pad_width, value=0: m.pad(ts[0], pad_width=pad_width),
          batch=lambda m, size, batched, x, pad_width, value=0: m.pad(x, pad_width=((0, 0), *pad_width), value=value),
          impl=pad)

constant("zeros_as", impl=lambda xp: lambda x, shape: xp.zeros_like(x, shape=shape),   # zeros where x is, with its dtype
         batch=lambda m, size, batched, x, shape: m.zeros_as(x, shape=(size, *shape)))


# several arrays --------------------------------------------------------------------------------------------------------

def filled(m, ts, xs):
    """Tangents, with zeros for the inputs that do not move."""
    return [m.zeros_as(x, shape=x.shape) if t is None else t for t, x in zip(ts, xs, strict=True)]


def all_batched(m, size, batched, xs):
    return [x if b else m.spread(x, shape=(size, *x.shape)) for x, b in zip(xs, batched, strict=True)]


def concatenate_vjp(m, g, want, y, *xs, axis):
    stop = 0
    grads = []
    for w, x in zip(want, xs, strict=True):
        start, stop = stop, stop + x.shape[axis]
        grads.append(m.cast(m.getitem(g, index=along(axis, slice(start, stop))), x.dtype) if w else None)
    return grads


Primitive("concatenate", concatenate_vjp,
          jvp=lambda m, ts, y, *xs, axis: m.cast(m.concatenate(*filled(m, ts, xs), axis=axis), y.dtype),
          batch=lambda m, size, batched, *xs, axis: m.concatenate(*all_batched(m, size, batched, xs), axis=axis + 1),
          impl=lambda xp: lambda *xs, axis: xp.concatenate(xs, axis))

Primitive("stack",
          vjp=lambda m, g, want, y, *xs, axis=0: [m.cast(m.getitem(g, index=along(axis, i)), x.dtype) if w else None
                                                  for i, (w, x) in enumerate(zip(want, xs, strict=True))],
          jvp=lambda m, ts, y, *xs, axis=0: m.cast(m.stack(*filled(m, ts, xs), axis=axis), y.dtype),
          batch=lambda m, size, batched, *xs, axis=0: m.stack(*all_batched(m, size, batched, xs), axis=axis + 1),
          impl=lambda xp: lambda *xs, axis=0: xp.stack(xs, axis))


def split(xp):
    def run(x, sizes, axis):
        stop, parts = 0, []
        for n in sizes:
            start, stop = stop, stop + n
            parts.append(x[along(axis, slice(start, stop))])
        return tuple(parts)
    return run


def split_vjp(m, gs, want, y, x, sizes, axis):
    some = next(g for g in gs if g is not None)
    return (m.concatenate(*[m.zeros_as(some, shape=part.shape) if g is None else g
                            for g, part in zip(gs, y, strict=True)], axis=axis),)


Primitive("split", split_vjp, jvp=lambda m, ts, y, x, sizes, axis: m.split(ts[0], sizes=sizes, axis=axis),
          batch=lambda m, size, batched, x, sizes, axis: m.split(x, sizes=sizes, axis=axis + 1), impl=split, outputs=0)


# said with the operations above ----------------------------------------------------------------------------------------

@derived
def expand_dims(m, x, axis):
    """Axes of length 1 at the places `axis` of the result."""
    lengths = iter(x.shape)
    return m.reshape(x, shape=tuple([1 if i in axis else next(lengths) for i in range(x.ndim + len(axis))]))


@derived
def squeeze(m, x, axis):
    return m.reshape(x, shape=tuple([n for i, n in enumerate(x.shape) if i not in axis]))


@derived
def moveaxis(m, x, source, destination):
    axes = [i for i in range(x.ndim) if i != source]
    axes.insert(destination, source)
    return m.transpose(x, axes=tuple(axes))


@derived
def swapaxes(m, x, axis1, axis2):
    axes = list(range(x.ndim))
    axes[axis1], axes[axis2] = axis2, axis1
    return m.transpose(x, axes=tuple(axes))


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
    """x as another float or complex dtype; from complex to real it is the real part."""
    if x.dtype == dtype:
        return x
    if x.dtype.kind == "c" and dtype.kind != "c":
        x = m.real(x)
    return m.astype(x, dtype=dtype) if x.dtype != dtype else x
