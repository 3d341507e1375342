"""`record`, unrolled for the commonest inputs of each kind of operation, in the default mode: nothing is looked at twice.

Whatever else comes, `record` takes.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad.graph.namespace import RAW
from gpugrad.graph.node import Node, Shaped
from gpugrad.graph.record import SCALARS, attach, explained, record, settled, shape_only, wrap
from gpugrad.graph.state import LEVELS, RECORD, clock, current
from gpugrad.graph.tensor import Tensor

NO_PARAMS: dict = {}
new = object.__new__


def unary_recorder(prim: Any) -> Callable:
    """record(prim, (x,), {}) for an elementwise primitive, unrolled."""
    impls, (keep_y, kept) = prim.impls, prim.kept((True,))
    keep_x = 0 in kept

    def op(x):
        if type(x) is not Tensor:
            return record(prim, (x,), NO_PARAMS)
        mode = current()
        if mode is not RECORD and mode is not LEVELS:
            return record(prim, (x,), NO_PARAMS)
        data = x._data
        try:
            y = impls[type(data)](data)
        except Exception as error:
            raise explained(error, prim, [data], NO_PARAMS) from error
        if type(y) is not type(data):
            y = settled(RAW[type(data)].xp, y)
        parent = x._node
        t = new(Tensor)
        t._data = y
        if parent is None:
            t._node = None
            return t
        t._node = node = new(Node)
        node.prim = prim
        node.parents = (parent,)
        node.xs = (data if keep_x else None,)
        node.y = y if keep_y else None
        node.params = NO_PARAMS
        node.seq = clock()
        return t
    return op


def tensors_recorder(prim: Any) -> Callable:
    """record(prim, xs, params) for an operation with parameters, unrolled for inputs that are all Tensors."""
    impls, outputs = prim.impls, prim.outputs
    if prim.fits:
        return lambda *xs, **params: record(prim, xs, params)
    keeps: dict[int, tuple[bool, list[bool]]] = {}        # by the inputs that need a gradient, as bits behind a first 1

    def op(*xs, **params):
        mode = current()
        if (mode is not RECORD and mode is not LEVELS) or not xs:
            return record(prim, xs, params)
        values, parents, wanted = [], [], 1
        for x in xs:
            if type(x) is not Tensor:
                return record(prim, xs, params)
            values.append(x._data)
            node = x._node
            parents.append(node)
            wanted += wanted if node is None else wanted + 1
        kind = type(values[0])
        try:
            y = impls[kind](*values, **params)
        except Exception as error:
            raise explained(error, prim, values, params) from error
        if outputs != 1:
            y = tuple([v if type(v) is kind else settled(RAW[kind].xp, v) for v in y])
        elif type(y) is not kind:
            y = settled(RAW[kind].xp, y)
        if prim.vjp is None or wanted == 1 << len(xs):
            return wrap(y)
        if wanted not in keeps:
            keep_y, kept = prim.kept(tuple(parents))
            keeps[wanted] = keep_y, [i in kept for i in range(len(xs))]
        keep_y, flags = keeps[wanted]
        saved = []
        for v, keep in zip(values, flags):
            if not keep:
                shaped = new(Shaped)
                shaped.shape = v.shape
                shaped.dtype = v.dtype
                v = shaped
            saved.append(v)
        node = new(Node)
        node.prim = prim
        node.parents = tuple(parents)
        node.xs = tuple(saved)
        node.y = y if keep_y else shape_only(y)
        node.params = params
        node.seq = clock()
        if outputs != 1:
            return attach(y, node)
        t = new(Tensor)
        t._data = y
        t._node = node
        return t
    return op


def binary_recorder(prim: Any) -> Callable:
    """record(prim, (a, b), {}) for an elementwise primitive, unrolled."""
    impls = prim.impls
    only_a, only_b, both = [(keep_y, 0 in kept, 1 in kept) for wanted in ((True, None), (None, True), (True, True))
                            for keep_y, kept in [prim.kept(wanted)]]

    def op(a, b):
        mode = current()
        if mode is not RECORD and mode is not LEVELS:
            return record(prim, (a, b), NO_PARAMS)
        if type(a) is Tensor:
            va, na, sa, sb = a._data, a._node, None, None
            if type(b) is Tensor:
                vb, nb = b._data, b._node
            elif type(b) in SCALARS:
                vb = sb = b
                nb = None
            else:
                return record(prim, (a, b), NO_PARAMS)
            kind = type(va)
        elif type(b) is Tensor and type(a) in SCALARS:
            va = sa = a                                   # a number is kept, read or not: it costs nothing
            na, sb = None, None
            vb, nb = b._data, b._node
            kind = type(vb)
        else:
            return record(prim, (a, b), NO_PARAMS)
        try:
            y = impls[kind](va, vb)
        except Exception as error:
            raise explained(error, prim, [va, vb], NO_PARAMS) from error
        if type(y) is not kind:
            y = settled(RAW[kind].xp, y)
        t = new(Tensor)
        t._data = y
        shape, dtype = y.shape, y.dtype
        if nb is None:
            if na is None:
                t._node = None
                return t
            keep_y, keep_a, keep_b = only_a
            fits = va.dtype is dtype and va.shape == shape and (vb is sb or vb.dtype is dtype)
        elif na is None:
            keep_y, keep_a, keep_b = only_b
            fits = vb.dtype is dtype and vb.shape == shape and (va is sa or va.dtype is dtype)
        else:
            keep_y, keep_a, keep_b = both
            fits = va.dtype is dtype and vb.dtype is dtype and va.shape == shape and vb.shape == shape
        t._node = node = new(Node)
        node.prim = prim
        node.parents = (na, nb)
        node.xs = (va if keep_a else sa, vb if keep_b else sb)
        node.y = y if keep_y else None
        node.params = NO_PARAMS if fits else {"likes": (shape_only(va), shape_only(vb))}      # to be summed or cast back
        node.seq = clock()
        return t
    return op
