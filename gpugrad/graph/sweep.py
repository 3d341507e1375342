"""The reverse sweep: cotangents from outputs to inputs, in order of creation, without recursion.

The mode is chosen once. A raw sweep runs every rule on arrays. A traced sweep runs the same rules on Tensors, so that the
gradient can be differentiated again; it is needed where the graph reaches beyond the inputs asked for, or carries
tangents or batches.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy import ndarray

from gpugrad.arrays import LAST, Follower, changed_since, exclusive, is_array, module_of, short
from gpugrad.errors import AnomalyError, DtypeError, GraphError, ShapeError
from gpugrad.graph.layers import Layered, snapshot, tensor_of
from gpugrad.graph.lent import NOTHING, Lent
from gpugrad.graph.namespace import RAW, TRACED
from gpugrad.graph.node import HOOKS, Node
from gpugrad.graph.plan import Plan
from gpugrad.graph.record import LINES, Item
from gpugrad.graph.state import mode_now, switch
from gpugrad.graph.tensor import Tensor

Outputs = Sequence[tuple[Node, Any]]

#: Below this many elements a fresh sum costs less than finding out whether the old buffer may be reused.
SMALL = 2048


def pullback(outputs: Outputs, wrt: Sequence[Node] | None = None, *, create_graph: bool = False,
             retain_graph: bool = False, plan: Plan | None = None, lent: Lent = NOTHING) -> dict[Node, Any]:
    """The cotangent of each node in `wrt` (of each leaf, if None) for the cotangents given at the outputs.

    outputs       pairs of a node and the cotangent of its output, an array or a Tensor
    create_graph  run traced and record: the results can be differentiated
    retain_graph  keep what the nodes saved; otherwise each lets go as the sweep passes it
    lent          what there is of some leaves' cotangents, for a raw sweep: results include it
    return        node -> array, or Tensor from a traced sweep; nodes that no path reaches are absent
    """
    plan = plan or Plan([node for node, _ in outputs], wrt)
    targets = frozenset(wrt or ())
    mode = mode_now()
    layers = [g for _, g in outputs if isinstance(g, Layered)] + saved_layers(plan) if mode.levels else []
    careful = mode.anomaly or bool(HOOKS) or saved_before(LAST[0], plan)
    if not create_graph and not layers:
        outputs = [(node, bare_array(g)) for node, g in outputs]
        if not careful and lent is NOTHING and all(type(g) is ndarray for _, g in outputs):
            return host_sweep(outputs, targets, plan, retain_graph)
        return sweep(outputs, targets, plan, retain=retain_graph, careful=careful, lent=lent)
    record = create_graph or plan.outside or Plan(nodes_inside(layers), wrt).outside
    with switch(record=record and mode.record):
        outputs = [(node, tensor_of(g)) for node, g in outputs]
        return sweep(outputs, targets, plan, traced=True, retain=True, careful=careful)


def host_sweep(outputs: Outputs, targets: frozenset, plan: Plan, retain: bool) -> dict[Node, Any]:
    """`sweep` for arrays of NumPy's where nobody looks on, in which a node costs a third less. Where the graph comes from another
    device, `sweep` goes on."""
    found: dict[Node, Any] = {}
    grads: dict[Node, Any] = {}
    take, get, live, m = grads.pop, grads.get, plan.live, RAW[ndarray]
    for node, g in outputs:
        if live is None or node in live:
            grads[node] = g if node not in grads else grads[node] + g
    nodes = iter(plan.order)
    for node in nodes:
        g = take(node, None)
        if g is None:
            continue
        if type(g) is not ndarray and RAW[type(one_of(g))] is not m:
            return {**found, **sweep([(node, g), *grads.items()], targets, plan.rest([node, *nodes]), retain=retain)}
        prim = node.prim
        if prim is None or (targets and node in targets):
            arrived(node, g, targets, grads, found)
            continue
        want: Sequence = node.parents
        xs: Any = node.xs
        y = node.y
        if xs is None:
            raise freed(node)
        if not retain:
            node.xs = node.y = None
        if live is not None:
            want = [p if p in live else None for p in want]
        if prim.add_into is not None:                          # a part of an array: adding it must not cost the whole
            old = get(want[0])
            if type(old) is ndarray and old.dtype == g.dtype and exclusive(old, 2):
                prim.add_into(old, g, *xs, **node.params)
                continue
        for parent, gx in zip(want, prim.pull(m, g, want, y, xs, node.params)):
            if gx is None or parent is None:
                continue
            old = get(parent)
            if old is None:
                grads[parent] = gx
            elif old.size > SMALL and old.dtype == gx.dtype and exclusive(old, 2):
                old += gx
            else:
                grads[parent] = old + gx
    return found


def sweep(outputs: Outputs, targets: frozenset, plan: Plan, *, traced: bool = False, retain: bool, careful: bool = False,
          lent: Lent = NOTHING) -> dict[Node, Any]:
    """Walk the plan, with each array's device as the current one.

    careful  hooks, anomaly mode or arrays that were changed in place: each node is looked at closely
    """
    follow = Follower()
    try:
        return walk(outputs, targets, plan, traced, retain, careful, follow, lent)
    finally:
        follow.back()


def walk(outputs: Outputs, targets: frozenset, plan: Plan, traced: bool, retain: bool, careful: bool, follow: Follower,
         lent: Lent) -> dict[Node, Any]:
    found: dict[Node, Any] = {}
    grads: dict[Node, Any] = {}
    mine = lent.nodes                                      # their arrays are held by their Tensors, too
    for node in mine:
        grads[node] = lent.tensors[node]._data
    take, live = grads.pop, plan.live
    m: Any = TRACED
    pulls, several, kind = m.pulls, False, None
    for node, g in outputs:
        if live is None or node in live:
            if node in grads and not traced:
                visit(follow, g)
            grads[node] = g if node not in grads else grads[node] + g
            mine.discard(node)
    for node in plan.order:
        g = take(node, None)
        if g is None:
            continue
        if type(g) is not kind and not traced:                 # at the start, and where the graph goes to another device
            kind = type(one_of(g))
            m = RAW[kind]
            pulls, several = m.pulls, m.several
        if several:
            visit(follow, one_of(g))
        if careful:
            g = look_closely(node, g, traced)
        prim = node.prim
        if prim is None or (targets and node in targets):
            arrived(node, g, targets, grads, found)
            continue
        xs: Any
        xs, y, parents = node.xs, node.y, node.parents
        if xs is None:
            raise freed(node)
        if traced:
            xs, y = read_inputs(xs, parents), read_output(y, node)
        if not retain:
            node.xs = node.y = None
        want: Sequence = parents if live is None else [p if p in live else None for p in parents]
        if prim.add_into is not None and not traced:           # a part of an array: adding it must not cost the whole
            total = grads.get(want[0])
            if total is not None and total.dtype == g.dtype and RAW[type(total)] is m and exclusive(total, 2 + (want[0] in mine)):
                if want[0] in mine:
                    lent.changed.add(want[0])
                prim.add_into(total, g, *xs, **node.params)
                continue
        if pulls is None:
            pulled = prim.pull(m, g, want, y, xs, node.params)
        elif prim.pull_into is None:
            pulled = pulls[prim](m, g, want, y, xs, node.params)
        else:
            pulled = gx = old = None                           # the last node's, which would count as holders
            pulled = prim.pull_into(m, owned(grads, want, g, lent), g, want, y, xs, node.params)
        if careful:
            check_gradients(node, pulled)
        for parent, gx in zip(want, pulled):
            if parent is None or gx is None:
                continue
            if parent not in grads:
                grads[parent] = gx
                continue
            old = grads[parent]
            if several:
                visit(follow, old)
            if not traced and old.size > SMALL and old.dtype == gx.dtype and exclusive(old, 2 + (parent in mine)):
                if parent in mine:
                    lent.changed.add(parent)
                old += gx
            else:
                grads[parent] = old + gx
                mine.discard(parent)
    return found


def visit(follow: Follower, g: Any) -> None:
    """Make the device of an array the current one, where its module has a choice."""
    raw = RAW[type(g)]
    if raw.several:
        follow.to(g, raw.xp)


def owned(grads: dict, want: Sequence, g: Any, lent: Lent) -> list:
    """For each parent the sum so far of its cotangents where the sweep alone holds it, or was lent it, so that more of g's dtype
    may be added in place. Of several outputs g is a dict."""
    found: list = []
    dtype = one_of(g).dtype
    for parent in want:
        total = None if parent is None else grads.get(parent)
        if total is not None and total.dtype == dtype and exclusive(total, 2 + (parent in lent.nodes)):
            if parent in lent.nodes:
                lent.changed.add(parent)
            found.append(total)
        else:
            found.append(None)
        del total
    return found


def one_of(g: Any) -> Any:
    """An array of those in a cotangent: of several outputs it is a dict."""
    return next(iter(g.values())) if type(g) is dict else g


def bare_array(g: Any) -> Any:
    return g._data if isinstance(g, Tensor) else g


def saved_before(time: int, plan: Plan) -> bool:
    """True where a node is older than `time`, the last in-place change of an array: it may have saved that array."""
    for node in reversed(plan.order):                      # oldest first; leaves save nothing
        if node.seq > time:
            return False
        if node.prim is not None:
            return True
    return False


def look_closely(node: Node, g: Any, traced: bool) -> Any:
    """What most sweeps need not ask: are there hooks, was an array changed in place since it was saved."""
    if node in HOOKS:
        g = run_hooks(node, g, traced)
    if node.xs and node.seq < LAST[0]:
        check_unchanged(node, node.xs, node.y)
    return g


def read_inputs(xs: tuple, parents: tuple) -> list:
    """The saved inputs as the Tensors they were."""
    return [Tensor(x, parent) if is_array(x) else x for x, parent in zip(xs, parents, strict=True)]


def read_output(y: Any, node: Node) -> Any:
    if type(y) is tuple:
        return tuple([read_output(v, Item(node, i)) for i, v in enumerate(y)])
    return Tensor(y, node) if is_array(y) else snapshot(y, node)


def arrived(node: Node, g: Any, targets: frozenset, grads: dict, found: dict) -> None:
    """The cotangent of an end is found; that of one output of several waits for the others."""
    if type(node) is not Item or node in targets:
        found[node] = g
        return
    parts = grads.setdefault(node.parents[0], {})
    parts[node.index] = g if node.index not in parts else parts[node.index] + g


def saved_layers(plan: Plan) -> list[Layered]:
    """The layered Tensors that the nodes saved: these were recorded inside a running jvp or vmap."""
    return [x for node in plan.order for x in (*(node.xs or ()), *(node.y if type(node.y) is tuple else (node.y,)))
            if isinstance(x, Layered)]


def nodes_inside(layered: Sequence[Any]) -> list[Node]:
    """The nodes of what layered Tensors are made of, which belong to reverse sweeps pending further out."""
    found, todo = [], [part for x in layered for part in x._layer[1:]]
    while todo:
        x = todo.pop()
        if isinstance(x, Tensor):
            if x._node is not None:
                found.append(x._node)
            if isinstance(x, Layered):
                todo.extend(x._layer[1:])
    return found


def run_hooks(node: Node, g: Any, traced: bool) -> Any:
    for function in tuple(HOOKS[node].values()):
        given = g if isinstance(g, Tensor) else Tensor(RAW[type(g)].xp.asarray(g))
        new = function(given)
        if new is not None:
            g = replacement(new, given)
            g = g if traced else g._data
    return g


def replacement(new: Any, given: Tensor) -> Tensor:
    """What a hook returned, as a gradient of the dtype of the one it was given."""
    if not isinstance(new, Tensor):
        if not is_array(new):
            raise DtypeError(f"register_hook: expected a Tensor, an array or None, got {short(new)}. Return gg.asarray(g).")
        new = Tensor(module_of(new).asarray(new))
    if new.shape != given.shape:
        raise ShapeError(f"register_hook: expected a gradient of shape {given.shape} or None, got {new.shape}. "
                         "Return the shape that came in.")
    if new.dtype == given.dtype:
        return new
    if new.dtype.kind == "c" and given.dtype.kind != "c":
        raise DtypeError(f"register_hook: expected a {given.dtype} gradient or None, got {new.dtype}. Return its real part.")
    return TRACED.cast(new, given.dtype)


def check_unchanged(node: Node, xs: tuple, y: Any) -> None:
    for x in (*xs, *(y if type(y) is tuple else (y,))):
        x = x._data if isinstance(x, Tensor) else x
        if is_array(x) and hasattr(x, "base") and changed_since(x, node.seq):
            raise GraphError(f"{node.prim.name}: expected its saved array of shape {x.shape} as it was, got one that was "
                             "changed in place since. Change a copy, or call backward first.")


def check_gradients(node: Node, pulled: Any) -> None:
    """Anomaly mode: raise where a rule made the first NaN, naming the forward line of its operation."""
    if not mode_now().anomaly:
        return
    for gx in pulled:
        array = bare_array(gx)
        if is_array(array) and array.dtype.kind in "fc" and bool((array != array).any()):
            raise AnomalyError(f"{node.prim.name}: expected gradients without NaN, got one of shape {array.shape} "
                               f"from the backward rule of {LINES.get(node, 'a line outside detect_anomaly')}. "
                               "Look at the inputs of that line.")


def freed(node: Node) -> GraphError:
    return GraphError(f"backward: expected a graph that is still there, got one that an earlier backward has freed (at "
                      f"{node.prim.name}). Use backward(retain_graph=True) the first time; update parameters under gg.no_grad().")
