"""Views: Tensors that show the elements of another, as NumPy's slices, transposed and reshaped arrays do.

A view is linked to its base, which it holds as NumPy's does. The base does not know its views: a link is a weak reference
to the base, so that the base finds the links to it among the weak references to itself, and they die with their views.

Nothing is overwritten while operations are recorded. A Tensor that is written to becomes a name for its new value; then so does
each Tensor that it is a view of, for its value with that part replaced (`Primitive.put`), and every other live view of the last
of them is taken again. Gradients follow by the rules of these operations. Under `no_grad` the memory itself is written to.
"""
from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy

from gpugrad.arrays import copied, exclusive, is_array, mark_changed, module_of
from gpugrad.arrays.memory import owner
from gpugrad.errors import ArgumentError, GraphError
from gpugrad.graph.layers import PLAIN, Layered, array_under, snapshot
from gpugrad.graph.namespace import PRIMITIVES, RAW, TRACED
from gpugrad.graph.node import Leaf, Node, Shaped
from gpugrad.graph.record import explained, record, settled
from gpugrad.graph.recorders import new
from gpugrad.graph.state import LEVELS, RECORD, clock, current
from gpugrad.graph.tensor import Tensor, bare


class Link(weakref.ref):
    """view = prim(base, **params). Refers to the base weakly, by which the base finds it; `view` refers to the view weakly."""

    __slots__ = ("base", "view", "prim", "params")

    base: Any                                             # the base, held
    view: Any
    prim: Any
    params: dict

    def shown(self, array: Any) -> Any:
        """What the view shows of the base's array."""
        return self.prim.impls[type(array)](array, **self.params)

    def put(self, array: Any, part: Any) -> Any:
        """The base's array with that part where the view is."""
        return self.prim.put(RAW[type(part)], array, part, **self.params)


class ReadOnly(Link):
    """The link of a view that NumPy does not let one write to."""

    __slots__ = ()


class Left(Link):
    """The link of a Tensor that left the graph of its base: it must not keep that alive, so that `base` is None."""

    __slots__ = ()

    def shown(self, array: Any) -> Any:
        return array

    def put(self, array: Any, part: Any) -> Any:
        return part


class Scalar(Link):
    """The link of an element read by its index, which is NumPy's scalar: a copy, as soon as the memory is written to."""

    __slots__ = ()


# taking a view -----------------------------------------------------------------------------------------------------------

def view_recorder(prim: Any) -> Callable:
    """record(prim, (x,), params) for an operation whose result may be a view, unrolled for a Tensor in the default mode."""
    impls = prim.impls

    def op(x, **params):
        mode = current()
        if type(x) is not Tensor or (mode is not RECORD and mode is not LEVELS):
            return linked(record(prim, (x,), params), x, prim, params)
        data = x._data
        kind = type(data)
        try:
            y = impls[kind](data, **params)
        except Exception as error:
            raise explained(error, prim, [data], params) from error
        t = new(Tensor)
        t._data = y
        if x._node is None:
            t._node = None
        else:
            t._node = node = new(Node)
            node.prim = prim
            node.parents = (x._node,)
            shaped = new(Shaped)
            shaped.shape = data.shape
            shaped.dtype = data.dtype
            node.xs = (shaped,)
            node.y = None
            node.params = params
            node.seq = clock()
        if type(y) is not kind:
            t._data = settled(RAW[kind].xp, y)
            return t
        base = y.base
        if base is not None and (base is data or base is data.base):
            t._view = link = Scalar(x) if not y.ndim and is_element(params.get("index", ...)) else Link(x)
            link.base = x
            link.view = weakref.ref(t)
            link.prim = prim
            link.params = params
        return t
    return op


def is_element(index: Any) -> bool:
    """Whether an index with as many ints as there are axes makes a scalar: not where it has an ellipsis."""
    return not any(item is ... for item in index) if type(index) is tuple else index is not ...


def linked(y: Any, x: Any, prim: Any, params: dict) -> Any:
    """The result y = prim(x, **params); as a view of x where it shows its memory."""
    if isinstance(x, Tensor) and shared(array_under(y), array_under(x)):
        connect(Scalar if not y.ndim and is_element(params.get("index", ...)) else Link, y, x, prim, params)
    return y


def connect(kind: type[Link], view: Tensor, base: Tensor, prim: Any, params: dict) -> None:
    """Make `view` a view of `base`; where it is outside the graph of the base, one of the Tensor that left it."""
    if view._node is None and base._node is not None and not isinstance(view, Layered):
        known = shadow(base)
        base = without_graph(base) if known is None else known
    tie(kind, view, base, prim, params).base = base


def tie(kind: type[Link], view: Tensor, base: Tensor, prim: Any, params: dict) -> Link:
    view._view = link = kind(base)
    link.base, link.view, link.prim, link.params = None, weakref.ref(view), prim, params
    return link


def read_only(view: Tensor) -> Tensor:
    """The same view, which may not be written to."""
    link = link_of(view)
    if link is not None:
        tie(ReadOnly, view, link.base, link.prim, link.params).base = link.base
    return view


def shared(y: Any, x: Any) -> bool:
    """Whether two arrays lie in the same memory."""
    return is_array(y) and is_array(x) and owner(y) is owner(x)


def is_scalar(tensor: Tensor) -> bool:
    """Whether NumPy would have a scalar for a Tensor without axes: unless it was made as an array, or is a view or a leaf."""
    return type(tensor._node) is not Leaf and (not hasattr(tensor, "_view") or type(tensor._view) is Scalar)


def as_made(tensor: Tensor) -> Tensor:
    """The Tensor, known as an array of its own: one without axes is then no scalar."""
    tensor._view = None
    return tensor


def link_of(tensor: Tensor) -> Any:
    return getattr(tensor, "_view", None)


def views_of(base: Tensor) -> Iterator[tuple[Tensor, Any]]:
    """The live views of a Tensor, and their links."""
    for link in weakref.getweakrefs(base):
        view = link.view() if isinstance(link, Link) else None
        if view is not None and link_of(view) is link:
            yield view, link


def bases_of(view: Tensor) -> Iterator[tuple[Tensor, Any, Tensor]]:
    """(view, link, base) for the live base of a Tensor, for that base's own, and so on up to the first."""
    while (link := link_of(view)) is not None and type(link) is not Scalar and (base := link()) is not None:
        yield view, link, base
        view = base


def family(base: Tensor) -> Iterator[tuple[Tensor, Any]]:
    """The views of a Tensor, those of its views, and so on, each after its base."""
    todo = [base]
    for base in todo:                                     # grows while it is walked
        for view, link in views_of(base):
            yield view, link
            todo.append(view)


def detach(self: Tensor) -> Tensor:
    """The same array (shared, not copied) outside the graph. A write to either is seen in both; it may not have a graph itself,
    and where the Tensor is the result of an operation, whose gradient would then be wrong, it is a GraphError.
    """
    known = shadow(self)
    if known is None:
        return without_graph(self)
    view = Tensor(known._data)
    connect(Link, view, known, PRIMITIVES["alias"], {})
    return view


setattr(Tensor, "detach", detach)  # noqa: B010 - tensor.py may not import the recorder


def shadow(x: Tensor) -> Tensor | None:
    """The Tensor through which those that left the graph of x see it, if there is one."""
    return next((view for view, link in views_of(x) if type(link) is Left), None)


def without_graph(x: Tensor) -> Tensor:
    y = Tensor(bare("detach", x))
    tie(Left, y, x, None, {})
    return y


# writing -----------------------------------------------------------------------------------------------------------------

def rebind(tensor: Tensor, new: Tensor) -> None:
    """Make `tensor` a name for the value of `new`."""
    tensor._data, tensor._node = new._data, new._node
    if type(new) is not type(tensor):
        tensor.__class__ = type(new)
    if type(new) not in PLAIN:
        tensor._layer = new._layer


def owned(tensor: Tensor) -> bool:
    """Whether the Tensor alone sees its memory: no view, no node that saved it and no caller, so that it may be written to."""
    data = tensor._data
    return (type(tensor) is Tensor and type(data) is numpy.ndarray and exclusive(data, 2) and type(tensor._node) is not Leaf
            and link_of(tensor) is None and data.flags.writeable and not any(views_of(tensor)))


def write(op: str, tensor: Tensor, new: Tensor) -> None:
    """Give `tensor` the value of `new`, a Tensor of its own, and let its base and all other views of that show it."""
    link, path = link_of(tensor), []
    while link is not None and type(link) is not Scalar:
        require_writeable(op, link)
        if type(link) is Left:
            if link() is not None:
                require_no_graph(op, new)
                overwrite(op, tensor, new)
                return
            break
        path.append(link)
        link = link_of(link.base)
    part, memory = tensor, array_under(path[-1].base if path else tensor)
    rebind(tensor, new)
    for link in path:
        rebind(link.base, link.prim.put(TRACED, link.base, part, **link.params))
        part = link.base
    keep_order(memory, part)
    take_again(part)


def keep_order(old: Any, tensor: Tensor) -> None:
    """`in_order_of` for the array of a Tensor, and for that under its levels."""
    tensor._data = in_order_of(old, tensor._data)
    while isinstance(tensor, Layered):
        level, inner, *rest = tensor._layer
        if not isinstance(inner, Tensor):
            tensor._layer = (level, in_order_of(old, inner), *rest)
            return
        tensor = inner
        tensor._data = in_order_of(old, tensor._data)


def in_order_of(old: Any, array: Any) -> Any:
    """The array with its elements in memory as those of `old`, on which it depends what can be a view of it."""
    if type(array) is not type(old) or array.shape != old.shape:
        return array
    if not hasattr(array, "strides"):                     # a tracer's, which holds an array of NumPy's
        if hasattr(array, "array"):
            array.array = in_order_of(old.array, array.array)
        return array
    if array.strides == old.strides:
        return array
    y = module_of(old).empty_like(old)
    y[...] = array
    return y


def take_again(base: Tensor) -> None:
    """Give all views of a Tensor the value that they have of it now."""
    todo = [base]
    for base in todo:                                     # grows while it is walked
        for view, link in views_of(base):
            if type(link) is Scalar:
                continue
            fresh = outside_graph(base) if type(link) is Left else record(link.prim, (base,), link.params)
            if type(view._node) is Leaf and type(fresh) in PLAIN:
                view._data = fresh._data                  # a parameter of its own, which shows its base
            else:
                rebind(view, fresh)
            todo.append(view)


def outside_graph(x: Tensor) -> Tensor:
    x = snapshot(x)
    x._node = None
    return x


def overwrite(op: str, tensor: Tensor, new: Tensor) -> None:
    """Write the array of `new` to the memory of `tensor`, which every view of it shows."""
    require_updatable(op, tensor)
    top = tensor
    for _, link, top in bases_of(tensor):
        require_writeable(op, link)
        require_updatable(op, top)
    keep_scalars(top)
    fill(tensor, new._data)
    carry(tensor)


def keep_scalars(base: Tensor) -> None:
    """Give the elements read from a Tensor and its views memory of their own, before theirs is written to."""
    for view, link in family(base):
        if type(link) is Scalar and is_array(view._data):
            view._data = copied(view._data)
            del view._view


def carry(tensor: Tensor) -> None:
    """Copy what was written to the memory of a Tensor to those of its base and views that lie elsewhere."""
    top = tensor
    for view, link, top in bases_of(tensor):
        if not shared(view._data, top._data):
            fill(top, link.put(top._data, view._data))
    for view, link in family(top):
        base = link()
        if type(link) is not Scalar and not shared(view._data, base._data):
            fill(view, link.shown(base._data))


def fill(tensor: Tensor, value: Any) -> None:
    tensor._data[...] = value
    mark_changed(tensor._data, clock())


def replaced(tensor: Tensor) -> None:
    """Let the base and the views of a Tensor show the array that it was given in place of its own."""
    top = tensor
    for view, link, top in bases_of(tensor):
        top._data = link.put(top._data, view._data)
    for view, link in family(top):
        data = link()._data
        if type(link) is not Scalar and is_array(data):
            view._data = link.shown(data)


def require_writeable(op: str, link: Link) -> None:
    if type(link) is ReadOnly:
        raise ArgumentError(f"{op}: expected a writeable Tensor, got a view by {link.prim.name}, which NumPy makes read-only. "
                            "Use .copy() first.")


def require_updatable(op: str, tensor: Tensor) -> None:
    if tensor._node is not None and type(tensor._node) is not Leaf:
        raise GraphError(f"{op}: expected a leaf to change in place under no_grad or after .detach(), got the result "
                         f"of {name_of(tensor)}, whose gradient would then be wrong. Change t.copy().")
    if not getattr(tensor._data.flags, "writeable", True):
        raise ArgumentError(f"{op}: expected a writeable array, got a read-only one of shape {tensor.shape}. Use .copy() first.")


def require_no_graph(op: str, new: Tensor) -> None:
    if new._node is not None or isinstance(new, Layered):
        raise GraphError(f"{op}: expected a value without gradient to write to what .detach() or no_grad() took out of the "
                         f"graph, got the result of {name_of(new)}, which the Tensor that it shares memory with could not show. "
                         "Use .detach().copy().")


def name_of(tensor: Tensor) -> str:
    return tensor._node.made_by if tensor._node is not None else "an operation"
