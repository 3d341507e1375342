"""Sorting, searching and counting, by NumPy's names. What is a choice of elements is differentiable; positions are constants."""
from __future__ import annotations

from typing import Any, NamedTuple

from gpugrad.arrays import is_array, module_of
from gpugrad.arrays.levelled import ARRAY
from gpugrad.errors import ArgumentError, AxisError, ShapeError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor, bare
from gpugrad.numpy._arguments import as_int, as_tensor, as_tensors, one_axis
from gpugrad.numpy.selection import flat, integers

__all__ = ["argpartition", "argsort", "argwhere", "digitize", "flatnonzero", "isin", "lexsort", "nonzero", "partition",
           "searchsorted", "sort", "unique", "unique_all", "unique_counts", "unique_inverse", "unique_values"]


def sort(a: Any, axis: int | None = -1, kind: str | None = None, order: None = None, *, stable: bool | None = None,
         descending: bool = False) -> Tensor:
    """The elements in ascending order along one axis; axis=None flattens first. NaN come last.

    Each element takes the cotangent of the place where it went. Equal elements may go either way.
    """
    x, axis = ordered("sort", a, axis, order)
    y = T.sort(x, axis=axis)
    return T.flip(y, axis=(axis,)) if descending else y


def argsort(a: Any, axis: int | None = -1, kind: str | None = None, order: None = None, *, stable: bool | None = None,
            descending: bool = False) -> Tensor:
    """Where the elements of sort(a) come from: take_along_axis(a, argsort(a), axis) is sort(a). Integers, without derivative.

    kind, stable  "stable", or True: equal elements keep their order
    descending    from the largest; equal elements keep their order then too
    """
    x, axis = ordered("argsort", a, axis, order)
    if descending:                                      # backwards, so that equal elements end up in their order
        y = T.argsort(T.flip(x, axis=(axis,)), axis=axis, kind="stable")
        return T.subtract(x.shape[axis] - 1, T.flip(y, axis=(axis,)))
    return T.argsort(x, axis=axis, kind="stable" if stable else kind)


def partition(a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect", order: None = None) -> Tensor:
    """The elements along one axis, those at kth where sorting would put them, none larger before and none smaller behind."""
    x, axis = ordered("partition", a, axis, order)
    return T.take_along_axis(x, T.argpartition(x, kth=places(kth, x, axis), axis=axis), axis=axis)


def argpartition(a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect", order: None = None) -> Tensor:
    """Where the elements of partition(a, kth) come from. Integers, without derivative."""
    x, axis = ordered("argpartition", a, axis, order)
    return T.argpartition(x, kth=places(kth, x, axis), axis=axis)


def lexsort(keys: Any, axis: int = -1) -> Tensor:
    """The positions that sort by the last key, among equals by the one before it, and so on. Integers, without derivative."""
    columns = as_tensors("lexsort", *keys)
    if not columns:
        raise ArgumentError("lexsort: expected at least one key, got none. Pass a sequence of arrays.")
    order = None
    for key in columns:                                 # stable sorts from the least important key to the most
        k = one_axis("lexsort", axis, key.ndim)
        if order is None:
            order = T.argsort(key, axis=k, kind="stable")
        else:
            order = T.take_along_axis(order, T.argsort(T.take_along_axis(key, order, axis=k), axis=k, kind="stable"), axis=k)
    return order                                        # type: ignore[return-value]


def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Tensor:
    """Where in the sorted vector a the values v would have to stand. Integers, without derivative.

    side    "left" of equal elements, or "right" of them
    sorter  positions that sort a, where it is not sorted
    """
    a, v = as_tensors("searchsorted", a, v)
    if a.ndim != 1:
        raise ShapeError(f"searchsorted: expected a sorted vector, got shape {a.shape}. Search one row at a time, or use vmap.")
    if side not in ("left", "right"):
        raise ArgumentError(f"searchsorted: expected side 'left' or 'right', got {side!r}. Choose one.")
    if sorter is not None:
        a = T.gather(a, integers("searchsorted", sorter, a), index=(ARRAY,))
    return T.searchsorted(a, v, side=side)


def digitize(x: Any, bins: Any, right: bool = False) -> Tensor:
    """In which bin each element is: bins[i - 1] <= x < bins[i], or with right=True bins[i - 1] < x <= bins[i].

    bins  monotonic; where they decrease, x lies between them the other way round
    """
    x, edges = as_tensors("digitize", x, bins)
    array = bare("digitize", edges)
    steps = array[1:] - array[:-1] if edges.ndim == 1 else array
    if edges.ndim != 1 or not (bool((steps >= 0).all()) or bool((steps <= 0).all())):
        raise ArgumentError(f"digitize: expected a monotonic vector of bins, got shape {edges.shape}. Sort the bins.")
    side = "left" if right else "right"
    if array.size < 2 or bool((steps >= 0).all()):
        return T.searchsorted(edges, x, side=side)
    return T.subtract(edges.size, T.searchsorted(T.flip(edges, axis=(0,)), x, side=side))


def nonzero(a: Any) -> tuple[Tensor, ...]:
    """The index arrays of the elements that are not zero, one for each axis. Waits for the device."""
    x = as_tensor("nonzero", a)
    if not x.ndim:
        raise ShapeError("nonzero: expected at least one axis, got shape (). Compare the number with 0.")
    return tuple([Tensor(i) for i in bare("nonzero", x).nonzero()])


def flatnonzero(a: Any) -> Tensor:
    """The places in the flattened array of the elements that are not zero."""
    return nonzero(flat(as_tensor("flatnonzero", a)))[0]


def argwhere(a: Any) -> Tensor:
    """A row of indices for each element that is not zero."""
    x = as_tensor("argwhere", a)
    return Tensor(module_of(bare("argwhere", x)).argwhere(x._data))


def isin(element: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False, *,
         kind: str | None = None) -> Tensor:
    """For each element whether it is among the test elements. Bools, without derivative."""
    x, tests = as_tensors("isin", element, test_elements)
    array = bare("isin", x)
    return Tensor(module_of(array).asarray(module_of(array).isin(array, bare("isin", tests), assume_unique, invert)))


# unique -------------------------------------------------------------------------------------------------------------------

class UniqueAll(NamedTuple):
    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    values: Tensor
    inverse_indices: Tensor


def unique(ar: Any, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False,
           axis: int | None = None, *, equal_nan: bool = True, sorted: bool = True) -> Any:
    """The different elements in ascending order, or the different parts along one axis. Waits for the device.

    return  values; with the flags a tuple (values, index, inverse, counts) of those asked for: where each value is first,
            which value each element is, how often it is there. Values are differentiable, through their first places.
    """
    x = as_tensor("unique", ar)
    if axis is None:
        shape, x, axis = x.shape, flat(x), 0
    else:
        axis = one_axis("unique", axis, x.ndim)
        shape = (x.shape[axis],)
    array = bare("unique", x)
    options = {} if equal_nan else {"equal_nan": False}
    along = None if x.ndim == 1 else axis                  # with an axis CuPy compares on the host, and knows no NaN
    _, first, inverse, counts = module_of(array).unique(array, True, True, True, axis=along, **options)
    values = T.gather(x, Tensor(first), index=(slice(None),) * axis + (ARRAY,) + (slice(None),) * (x.ndim - axis - 1))
    parts = [values]
    if return_index:
        parts.append(Tensor(first))
    if return_inverse:
        parts.append(Tensor(inverse.reshape(shape)))
    if return_counts:
        parts.append(Tensor(counts))
    return values if len(parts) == 1 else tuple(parts)


def unique_all(x: Any) -> UniqueAll:
    """The different elements, their first places, which one each element is, and their numbers. NaN differ from each other."""
    return UniqueAll(*unique(x, True, True, True, equal_nan=False))


def unique_counts(x: Any) -> UniqueCounts:
    """The different elements and their numbers. NaN differ from each other."""
    return UniqueCounts(*unique(x, return_counts=True, equal_nan=False))


def unique_inverse(x: Any) -> UniqueInverse:
    """The different elements, and which one each element is. NaN differ from each other."""
    return UniqueInverse(*unique(x, return_inverse=True, equal_nan=False))


def unique_values(x: Any) -> Tensor:
    """The different elements. NaN differ from each other."""
    return unique(x, equal_nan=False)


# arguments ----------------------------------------------------------------------------------------------------------------

def ordered(op: str, a: Any, axis: int | None, order: Any) -> tuple[Tensor, int]:
    """The array to sort and its axis."""
    x = as_tensor(op, a)
    if order is not None:
        raise ArgumentError(f"{op}: expected order=None, got {order!r}: Tensors have no fields. Leave it out.")
    if axis is None:
        return flat(x), 0
    if not x.ndim:
        raise AxisError(f"{op}: expected at least one axis, got shape (). Pass axis=None.")
    return x, one_axis(op, axis, x.ndim)


def places(kth: Any, x: Tensor, axis: int) -> Any:
    """The places of partition: an int, or several as a tuple."""
    kth = kth.tolist() if isinstance(kth, Tensor) or is_array(kth) else kth
    n = x.shape[axis]
    found = tuple([as_int("partition", "kth", k) for k in (kth if isinstance(kth, list | tuple) else [kth])])
    for k in found:
        if not -n <= k < n:
            raise ArgumentError(f"partition: expected kth from {-n} to {n - 1}, got {k}. Check the axis.")
    return found[0] if len(found) == 1 else found
