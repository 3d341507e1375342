"""Reading and replacing parts of an array by NumPy's indices, and the functions that are made of it.

An index is taken apart once, here: what names no element twice stays as it is (`getitem`), integer arrays become inputs
of the operation (`gather`), so that they may be Tensors, also inside vmap.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import index as as_index
from typing import Any

import numpy

from gpugrad.arrays import is_array, module_of, new_array, short
from gpugrad.arrays.levelled import ARRAY
from gpugrad.errors import ConversionError, DeviceError, DtypeError, IndexingError
from gpugrad.graph.layers import Layered
from gpugrad.graph.namespace import PRIMITIVES
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.record import explained, make_node
from gpugrad.graph.state import LEVELS, RECORD, current
from gpugrad.graph.tensor import Tensor
from gpugrad.numpy._arguments import as_tensor, device_beside, moved_beside

__all__ = ["At", "getitem", "setitem"]

#: Our own way to set items: someone may look on instead.
SET = PRIMITIVES["setitem"].impls[numpy.ndarray]
KINDS = "Use ints, slices, None, ..., integer arrays, or masks"


def getitem(x: Any, index: Any) -> Tensor:
    """x[index], for every index that NumPy knows; Tensors may be indices too.

    The cotangent goes where the elements came from; an element that was read n times gets the sum of n.

    Raises IndexingError for an index outside the array or of the wrong kind. On a GPU integer arrays are not checked: CuPy
    wraps them round.
    """
    x = as_tensor("getitem", x)
    if type(index) in PLAIN:
        return T.getitem(x, index=index)
    if type(index) is Tensor and index.dtype.kind in "iu" and type(index._data) is type(x._data) and x.ndim:
        return T.gather(x, index, index=(ARRAY, *[slice(None)] * (x.ndim - 1)))
    place, arrays = parsed("getitem", x, index)
    return T.gather(x, *arrays, index=place) if arrays else T.getitem(x, index=place)


def setitem(x: Any, index: Any, value: Any) -> Tensor:
    """A new Tensor like x with value at x[index]: what x would be after NumPy's x[index] = value.

    The cotangent of x is zero there; that of value is what is there, summed where value was broadcast. Where integer
    arrays name an element twice, the last value stays, and it alone has a cotangent.

    Raises IndexingError as `getitem` does, ShapeError where value does not broadcast to x[index], DtypeError where x cannot
    hold it: complex in real, or a value that needs a gradient in integers.
    """
    x = as_tensor("setitem", x)
    v = value if type(value) in (int, float, bool) else fitting("setitem", x, as_tensor("setitem", value, beside=x))
    if isinstance(index, Layered) and is_mask(index) and not getattr(v, "ndim", 0) and index.shape == x.shape[:index.ndim]:
        mask = T.reshape(index, shape=index.shape + (1,) * (x.ndim - index.ndim))     # inside vmap a mask can write one number
        return T.cast(T.where(mask, v, x), x.dtype)
    place, arrays = (index, ()) if type(index) in PLAIN else parsed("setitem", x, index)
    return T.scatter_set(x, v, *arrays, index=place) if arrays else T.setitem(x, v, index=place)


def overwritten(x: Tensor, index: Any, value: Any) -> bool:
    """x[index] = value in the memory of x, which nobody else sees: a loop that writes every row takes linear time. False where
    only `setitem` can do it."""
    mode, prim, y = current(), PRIMITIVES["setitem"], x._data
    if (mode is not RECORD and mode is not LEVELS) or prim.impls[numpy.ndarray] is not SET or not names_a_part(index):
        return False
    v = value if type(value) in (int, float, bool) else fitting("setitem", x, as_tensor("setitem", value, beside=x))
    values = [y, v._data if isinstance(v, Tensor) else v]
    if isinstance(v, Layered) or v is x or (isinstance(v, Tensor) and type(v._data) is not numpy.ndarray):
        return False
    try:
        y[index] = values[1]
    except Exception as error:
        raise explained(error, prim, values, {"index": index}) from error
    nodes = x._node, v._node if isinstance(v, Tensor) else None
    if nodes != (None, None):
        x._node = make_node(prim, nodes, values, (x, v), y, {"index": index}, mode)
    return True


def fitting(op: str, x: Tensor, v: Tensor) -> Tensor:
    """A value that x can hold, without the leading axes of length 1 that NumPy lets it have."""
    if v.dtype.kind == "c" and x.dtype.kind != "c":
        raise DtypeError(f"{op}: expected a real value for a {x.dtype} Tensor, got {v.dtype}. "
                         "Take its real part, or use .astype.")
    if v.requires_grad and x.dtype.kind not in "fc":
        raise DtypeError(f"{op}: expected a value without gradient for a {x.dtype} Tensor, got one that needs it. "
                         "Make the target with a float dtype.")
    ones = next((i for i, n in enumerate(v.shape) if n != 1), v.ndim)
    return T.reshape(v, shape=v.shape[ones:]) if ones else v


# what an index is made of -------------------------------------------------------------------------------------------------

#: Types of an index that is neither a sequence nor an array.
PLAIN = frozenset({int, slice, type(...), type(None)})
#: Of these, those that read nothing.
PLACES = frozenset({int, slice, numpy.int64, type(...)})


def names_a_part(index: Any) -> bool:
    """Whether an index is made of ints, slices and ... alone."""
    return all(type(item) in PLACES for item in index) if type(index) is tuple else type(index) in PLACES


def parsed(op: str, x: Tensor, index: Any) -> tuple[Any, tuple]:
    """(index, arrays) for `getitem` where there are no arrays, else for `gather`."""
    items = [part(op, x, item) for item in (index if isinstance(index, tuple) else (index,))]
    arrays = [item for item in items if isinstance(item, Tensor)]
    if not arrays:
        return tuple(items), ()
    if len(arrays) == 1 and is_mask(arrays[0]) and not any(isinstance(item, int) for item in items):
        require_known(op, arrays[0])                              # a lone mask names nothing twice; it may change after this
        return tuple([item._data.copy() if isinstance(item, Tensor) else item for item in items]), ()
    return explicit(op, x, items)


def part(op: str, x: Tensor, item: Any) -> Any:
    """One item of an index: an int, a slice, None, ..., or a Tensor of integers or bools on the device of x."""
    if type(item) is slice:
        return slice(*[bound(op, b) for b in (item.start, item.stop, item.step)])
    if type(item) in PLAIN:
        return item
    if isinstance(item, numpy.integer):
        return int(item)
    if isinstance(item, list | tuple) and not len(item):
        item = moved_beside(numpy.empty(0, dtype=numpy.intp), x)
    if not isinstance(item, Tensor | bool | list | tuple | range) and not is_array(item):
        raise IndexingError(f"{op}: expected an index, got {short(item)}. {KINDS}.")
    t = as_tensor(op, item, beside=x)
    if t.dtype.kind not in "biu":
        raise IndexingError(f"{op}: expected integers or bools in an index array, got dtype {t.dtype}. {KINDS}.")
    if is_array(t._data) and is_array(x._data) and module_of(t._data) is not module_of(x._data):
        if is_array(item) or isinstance(item, Tensor):
            raise DeviceError(f"{op}: expected an index array on {x.device}, got one on {t.device}. Use .to({str(x.device)!r}).")
        t = t.to(x.device)
    return t


def bound(op: str, b: Any) -> Any:
    """A bound of a slice: an int or None."""
    if b is None or type(b) is int:
        return b
    try:
        return as_index(b)
    except ConversionError:
        raise
    except TypeError as error:
        raise IndexingError(f"{op}: expected ints or None in a slice, got {short(b)}. Convert with int().") from error


def explicit(op: str, x: Tensor, items: list) -> tuple[tuple, tuple]:
    """One item for every axis of x: slices for ... and for axes not named, masks as the positions where they are true."""
    used = sum(item.ndim if is_mask(item) else item is not None for item in items if item is not Ellipsis)
    if used > x.ndim:
        raise IndexingError(f"{op}: expected at most {x.ndim} indices for shape {x.shape}, got {used}. Drop some.")
    dots = sum(item is Ellipsis for item in items)
    if dots > 1:
        raise IndexingError(f"{op}: expected one ellipsis at most, got {dots}. Write ':' for each axis instead.")
    place: list = []
    arrays: list = []
    for item in items if dots else [*items, ...]:
        if item is Ellipsis:
            place.extend([slice(None)] * (x.ndim - used))
        elif is_mask(item):
            axis = sum(i is not None for i in place)
            check_mask(op, item, x.shape[axis:axis + item.ndim])
            arrays.extend(map(Tensor, item._data.nonzero()))
            place.extend([ARRAY] * item.ndim)
        elif isinstance(item, Tensor):
            arrays.append(item)
            place.append(ARRAY)
        else:
            place.append(item)
    return tuple(place), tuple(arrays)


def is_mask(item: Any) -> bool:
    return isinstance(item, Tensor) and item.dtype.kind == "b"


def require_known(op: str, mask: Tensor) -> None:
    if isinstance(mask, Layered):
        raise ConversionError(f"{op}: expected an index whose shape is known, got a mask inside vmap, which stands for many. "
                              "Use gg.where.")


def check_mask(op: str, mask: Tensor, lengths: tuple[int, ...]) -> None:
    require_known(op, mask)
    if not mask.ndim:
        raise IndexingError(f"{op}: expected masks with axes beside other index arrays, got a single bool. Index twice.")
    if mask.shape != lengths:
        raise IndexingError(f"{op}: expected a mask of shape {lengths}, got {mask.shape}. "
                            "A mask has the lengths of the axes it indexes.")


# x.at[i].add(v) -----------------------------------------------------------------------------------------------------------

class At:
    """x.at[index]: new Tensors with one part of x changed. Where an index names an element twice, both changes count.

    y = x.at[i].add(v)       x[i] + v there, x elsewhere
    """

    def __init__(self, x: Any):
        self.x = as_tensor("at", x)
        self.index: Any = ...

    def __getitem__(self, index: Any) -> At:
        chosen = At(self.x)
        chosen.index = index
        return chosen

    def get(self) -> Tensor:
        """x[index]."""
        return getitem(self.x, self.index)

    def set(self, value: Any) -> Tensor:
        """x with value at the index; of several values for one element the last stays."""
        return setitem(self.x, self.index, value)

    def add(self, value: Any) -> Tensor:
        """x with value added at the index."""
        return self.changed(T.add, value)

    def subtract(self, value: Any) -> Tensor:
        """x with value subtracted at the index."""
        return self.changed(T.subtract, value)

    def multiply(self, value: Any) -> Tensor:
        """x times value at the index."""
        return self.changed(T.multiply, value)

    def divide(self, value: Any) -> Tensor:
        """x divided by value at the index."""
        return self.changed(T.divide, value)

    def power(self, value: Any) -> Tensor:
        """x to the power value at the index."""
        return self.changed(T.power, value)

    def minimum(self, value: Any) -> Tensor:
        """The smaller of x and value at the index."""
        return self.changed(T.minimum, value)

    def maximum(self, value: Any) -> Tensor:
        """The larger of x and value at the index."""
        return self.changed(T.maximum, value)

    min, max = minimum, maximum

    def changed(self, change: Callable, *values: Any) -> Tensor:
        """change(x, value), or change(x), at the index, once for every time that an element is named."""
        read, given = getitem(self.x, self.index), [as_tensor("at", v, beside=self.x) for v in values]
        place, arrays = parsed("at", self.x, self.index)
        if not arrays:
            return setitem(self.x, self.index, change(read, *given))
        given = [T.spread(fitting("at", self.x, v), shape=read.shape) for v in given]
        if change.__name__ in ("add", "subtract"):
            total = T.scatter_add(T.cast(given[0], self.x.dtype), *arrays, index=place, shape=self.x.shape)
            return change(self.x, total)
        def here(values: numpy.ndarray) -> Tensor:
            return Tensor(new_array(values, device=device_beside(self.x)))
        elements = T.gather(here(numpy.arange(self.x.size).reshape(self.x.shape)), *arrays, index=place)
        elements = T.reshape(elements, shape=(elements.size,))
        y, given = T.reshape(self.x, shape=(self.x.size,)), [T.reshape(v, shape=(v.size,)) for v in given]
        if is_array(elements._data):
            steps: Iterator[Tensor] = map(Tensor, turns(module_of(elements._data), elements._data))
        else:                                              # inside vmap each of many names others twice: one after another
            steps = (here(numpy.array([k])) for k in range(elements.size))
        for turn in steps:
            now, *chosen = [T.gather(v, turn, index=(ARRAY,)) for v in (elements, *given)]
            y = setitem(y, now, change(T.gather(y, now, index=(ARRAY,)), *chosen))
        return T.reshape(y, shape=self.x.shape)


def turns(xp: Any, elements: Any) -> Iterator:
    """The positions of first mentions, of second mentions, and so on: none of these names an element twice."""
    order = xp.argsort(elements, kind="stable")
    ranked = elements[order]
    starts = xp.flatnonzero(xp.concatenate([xp.ones(min(1, ranked.size), dtype=bool), ranked[1:] != ranked[:-1]]))
    mention = xp.empty_like(order)
    mention[order] = xp.arange(order.size) - xp.repeat(starts, [*numpy.diff([*starts.tolist(), order.size])])
    for n in range(int(mention.max()) + 1 if mention.size else 0):
        yield xp.flatnonzero(mention == n)
