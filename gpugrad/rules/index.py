"""Indexing: reading, placing and replacing parts of an array.

`getitem`, `scatter` and `setitem` take an index that names no element twice (ints, slices, None, Ellipsis, or slices with
one mask); the transpose of reading is an assignment. `gather`, `scatter_add` and `scatter_set` take integer arrays as
inputs, in the places of ARRAY in `index`; they may name an element many times, and the transpose of reading adds up.
"""
from gpugrad.arrays import levelled
from gpugrad.arrays.levelled import ARRAY, layout
from gpugrad.graph.namespace import derived
from gpugrad.graph.primitive import Primitive, constant, linear, view


def inside(index):
    """The index of one value as an index of the batch."""
    return (slice(None), *(index if type(index) is tuple else (index,)))


# distinct elements --------------------------------------------------------------------------------------------------------

getitem = view("getitem", lambda m, g, x, index: m.scatter(g, index=index, shape=x.shape),
               put=lambda m, x, v, index: m.setitem(x, v, index=index), impl=levelled.getitem,
               batch=lambda m, size, batched, x, index: m.getitem(x, index=inside(index)))
getitem.add_into = levelled.add_at                        # a loop that reads x[i] for every i takes linear time
linear("scatter", lambda m, g, x, index, shape: m.getitem(g, index=index), impl=levelled.scatter,
       batch=lambda m, size, batched, g, index, shape: m.scatter(g, index=inside(index), shape=(size, *shape)))


def setitem_vjp(m, g, want, y, x, v, index):
    """The cotangent of x is zero where v was written; that of v is what was read there."""
    return (m.cast(m.setitem(g, 0, index=index), x.dtype) if want[0] is not None else None,
            m.fit(m.getitem(g, index=index), v) if want[1] is not None else None)


def setitem_jvp(m, ts, y, x, v, index):
    if ts[0] is not None:
        return m.setitem(ts[0], 0 if ts[1] is None else ts[1], index=index)
    return m.scatter(m.like(ts[1], m.getitem(y, index=index)), index=index, shape=y.shape)


def setitem_batch(m, size, batched, x, v, index):
    if not batched[0]:
        x = m.spread(x, shape=(size, *x.shape))
    if batched[1]:
        v = m.reshape(v, shape=(size, *(1,) * (m.getitem(x, index=inside(index)).ndim - v.ndim), *v.shape[1:]))
    return m.setitem(x, v, index=inside(index))


def setitem_pull(m, g, want, y, xs, params):
    """The rule, in the memory of a cotangent that the sweep alone holds: so a loop that writes every row takes linear time."""
    if want[0] is None or not levelled.in_place(g, holders=2):
        return setitem_vjp(m, g, want, y, *xs, **params)
    index = params["index"]
    gv = m.fit(m.getitem(g, index=index).copy(), xs[1]) if want[1] is not None else None
    g[index] = 0
    return (m.cast(g, xs[0].dtype), gv)


setitem = Primitive("setitem", setitem_vjp, setitem_jvp, impl=levelled.setitem, batch=setitem_batch)
setitem.pull = setitem_pull


# index arrays -------------------------------------------------------------------------------------------------------------

def spread_alike(m, size, batched, arrays):
    """Index arrays as arrays of the batch: the batch axis in front of the axes that they broadcast to."""
    rank = max(x.ndim - b for x, b in zip(arrays, batched, strict=True))
    return [m.reshape(x, shape=(size, *(1,) * (rank + 1 - x.ndim), *x.shape[1:])) if b else x
            for x, b in zip(arrays, batched, strict=True)], rank


def batch_to_front(m, y, index, rank):
    """What was read with one index everywhere has the batch behind index arrays that went in front."""
    return m.moveaxis(y, source=rank, destination=0) if layout(index)[0] else y


def batch_from_front(m, g, index, rank):
    return m.moveaxis(g, source=0, destination=rank) if layout(index)[0] else g


def arrays_to_place(m, y, index, rank):
    """What was read with an index for each value has the axes of the index arrays in front; they go where they belong."""
    for i in range(layout(index)[1]):
        y = m.moveaxis(y, source=rank + 1 + i, destination=1 + i)
    return y


def arrays_from_place(m, g, index, rank):
    for i in reversed(range(layout(index)[1])):
        g = m.moveaxis(g, source=1 + i, destination=rank + 1 + i)
    return g


def gather_vjp(m, g, want, y, x, *xs, index):
    return (m.scatter_add(g, *xs, index=index, shape=x.shape),)


def gather_jvp(m, ts, y, x, *xs, index):
    return m.gather(ts[0], *xs, index=index)


def gather_batch(m, size, batched, x, *arrays, index):
    if not any(batched[1:]):
        y = m.gather(x, *arrays, index=inside(index))
        return batch_to_front(m, y, index, max(i.ndim for i in arrays))
    arrays, rank = spread_alike(m, size, batched[1:], arrays)
    if batched[0]:
        y = m.gather(x, m.counted(x, size=size, rank=rank), *arrays, index=(ARRAY, *index))
        return arrays_to_place(m, y, index, rank)
    y = m.gather(x, *arrays, index=index)
    return m.moveaxis(y, source=layout(index)[1], destination=0)


def scatter_add_vjp(m, g, want, y, x, *xs, index, shape):
    return (m.gather(g, *xs, index=index),)


def scatter_add_jvp(m, ts, y, x, *xs, index, shape):
    return m.scatter_add(ts[0], *xs, index=index, shape=shape)


def scatter_add_batch(m, size, batched, g, *arrays, index, shape):
    if not any(batched[1:]):
        g = batch_from_front(m, g, index, max(i.ndim for i in arrays))
        return m.scatter_add(g, *arrays, index=inside(index), shape=(size, *shape))
    arrays, rank = spread_alike(m, size, batched[1:], arrays)
    g = arrays_from_place(m, g if batched[0] else m.spread(g, shape=(size, *g.shape)), index, rank)
    return m.scatter_add(g, m.counted(g, size=size, rank=rank), *arrays, index=(ARRAY, *index), shape=(size, *shape))


def scatter_set_vjp(m, g, want, y, x, v, *xs, index):
    """The cotangent of v is what was read where it was written, unless another value was written there later."""
    gx = gv = None
    if want[0] is not None:
        gx = m.cast(m.scatter_set(g, 0, *xs, index=index), x.dtype)
    if want[1] is not None:
        gv = m.fit(m.where(m.last_writes(*xs, index=index, shape=y.shape), m.gather(g, *xs, index=index), 0), v)
    return gx, gv


def scatter_set_jvp(m, ts, y, x, v, *xs, index):
    tx = ts[0] if ts[0] is not None else m.zeros_as(y, shape=y.shape)
    return m.scatter_set(tx, 0 if ts[1] is None else ts[1], *xs, index=index)


def scatter_set_batch(m, size, batched, x, v, *arrays, index):
    if not batched[0]:
        x = m.spread(x, shape=(size, *x.shape))
    apart = any(batched[2:])
    arrays, rank = spread_alike(m, size, batched[2:], arrays) if apart else (arrays, max(i.ndim for i in arrays))
    if hasattr(v, "shape"):                              # as many axes as what would be read; otherwise it is a number
        own = v.shape[1:] if batched[1] else v.shape
        v = m.reshape(v, shape=(size if batched[1] else 1, *(1,) * (sum(layout(index)[1:]) + rank - len(own)), *own))
        v = (arrays_from_place if apart else batch_from_front)(m, v, index, rank)
    if apart:
        return m.scatter_set(x, v, m.counted(x, size=size, rank=rank), *arrays, index=(ARRAY, *index))
    return m.scatter_set(x, v, *arrays, index=inside(index))


gather = Primitive("gather", gather_vjp, gather_jvp, impl=levelled.gather, batch=gather_batch, keep="xs")
gather.add_into = levelled.add_gathered
Primitive("scatter_add", scatter_add_vjp, scatter_add_jvp, impl=levelled.scatter_add, batch=scatter_add_batch, keep="xs")
Primitive("scatter_set", scatter_set_vjp, scatter_set_jvp, impl=levelled.scatter_set, batch=scatter_set_batch, keep="xs")
constant("ranged", impl=levelled.ranged)
Primitive("last_writes", None, impl=levelled.last_writes)
constant("counted", impl=lambda xp: lambda x, size, rank: xp.arange(size).reshape(-1, *(1,) * rank),  # on the device of x
         batch=lambda m, n, batched, x, size, rank: m.spread(m.counted(x, size=size, rank=rank), shape=(n, size, *(1,) * rank)))


@derived
def take_along_axis(m, x, i, axis):
    """x[..., i[...], ...]: an index for each element, along one axis; x and i have the other axes in common."""
    return m.gather(x, *coordinates(m, i, axis), index=(ARRAY,) * x.ndim)


@derived
def add_along_axis(m, g, i, axis, shape):
    """The transpose of take_along_axis."""
    return m.scatter_add(g, *coordinates(m, i, axis), index=(ARRAY,) * len(shape), shape=shape)


def coordinates(m, i, axis):
    return [i if a == axis else m.counted(i, size=n, rank=i.ndim - 1 - a) for a, n in enumerate(i.shape)]


# order --------------------------------------------------------------------------------------------------------------------

def sort_vjp(m, g, want, y, x, axis):
    """Equal elements may stand in any order: each gets the cotangent of one of them."""
    return (m.add_along_axis(g, m.argsort(x, axis=axis), axis=axis, shape=x.shape),)


Primitive("sort", sort_vjp, lambda m, ts, y, x, axis: m.take_along_axis(ts[0], m.argsort(x, axis=axis), axis=axis),
          impl=lambda xp: lambda x, axis: xp.sort(x, axis), keep="x",
          batch=lambda m, size, batched, x, axis: m.sort(x, axis=axis + 1))
constant("argsort", impl=levelled.argsort,
         batch=lambda m, size, batched, x, axis, kind=None: m.argsort(x, axis=axis + 1, kind=kind))
constant("argpartition", impl=lambda xp: lambda x, kth, axis: xp.argpartition(x, kth, axis),
         batch=lambda m, size, batched, x, kth, axis: m.argpartition(x, kth=kth, axis=axis + 1))


def searchsorted_batch(m, size, batched, a, v, side):
    if not batched[0]:
        return m.searchsorted(a, v, side=side)
    return m.stack(*[m.searchsorted(a[i], v[i] if batched[1] else v, side=side) for i in range(size)], axis=0)


constant("searchsorted", impl=lambda xp: lambda a, v, side: xp.searchsorted(a, v, side), batch=searchsorted_batch)


# diagonals ----------------------------------------------------------------------------------------------------------------

def put_diagonal(m, x, v, offset, axis1, axis2):
    """x with v on a diagonal."""
    places = m.from_diagonal(m.isnan(v) | True, offset=offset, axis1=axis1, axis2=axis2, shape=x.shape)
    return m.where(places, m.from_diagonal(v, offset=offset, axis1=axis1, axis2=axis2, shape=x.shape), x)


view("diagonal", lambda m, g, x, offset, axis1, axis2: m.from_diagonal(g, offset=offset, axis1=axis1, axis2=axis2, shape=x.shape),
     put=put_diagonal, impl=lambda xp: lambda x, offset, axis1, axis2: x.diagonal(offset, axis1, axis2),
     batch=lambda m, size, batched, x, offset, axis1, axis2: m.diagonal(x, offset=offset, axis1=axis1 + 1, axis2=axis2 + 1))
linear("from_diagonal", lambda m, g, x, offset, axis1, axis2, shape: m.diagonal(g, offset=offset, axis1=axis1, axis2=axis2),
       impl=levelled.from_diagonal,
       batch=lambda m, size, batched, x, offset, axis1, axis2, shape: m.from_diagonal(
           x, offset=offset, axis1=axis1 + 1, axis2=axis2 + 1, shape=(size, *shape)))
for name in ("tril", "triu"):
    linear(name, lambda m, g, x, k, name=name: getattr(m, name)(g, k=k), impl=lambda xp, name=name: getattr(xp, name),
           batch=lambda m, size, batched, x, k, name=name: getattr(m, name)(x, k=k))
