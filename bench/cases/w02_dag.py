"""W2: a graph of 2,000 nodes that branches and joins, on 16 numbers. Every library runs the same source.

PyTensor has no variant: it compiles for minutes (a minute for a quarter of the graph).
"""

from types import SimpleNamespace

import numpy as np

from gpugrad.bench.case import Case

WIDTH = 50  # values waiting to be used; the graph is about nodes / WIDTH deep
# Additions let gradients grow, sines and tanhs let them shrink; in these shares they do neither over the whole depth.
SHARES = {"add": 0.22, "multiply": 0.22, "sin": 0.28, "tanh": 0.28}


def nodes_of(d: SimpleNamespace) -> tuple[list[tuple[str, int, int]], list[int]]:
    """(op, i, j) for each node, and the values left unused, whose sum is the output; the leaves are values 0, 1, ...

    Each operation takes the value that has waited longest; a binary one also any recent value, used or not: fan-out.
    """
    rng = np.random.default_rng(d.nodes)
    nodes, waiting = [], list(range(d.leaves))
    for k in range(d.leaves, d.leaves + d.nodes):
        op = str(rng.choice(list(SHARES), p=list(SHARES.values()))) if k >= WIDTH else ("add", "multiply")[k % 2]
        oldest = waiting.pop(0) if len(waiting) >= WIDTH else int(rng.integers(k))
        nodes.append((op, oldest, int(rng.integers(max(0, k - 2 * WIDTH), k))))
        waiting.append(k)
    return nodes, waiting


def unpack(d: SimpleNamespace) -> str:
    return ", ".join(f"v{k}" for k in range(d.leaves)) + " = xs"


def forward_source(d: SimpleNamespace) -> str:
    """`def total(xs, sin, tanh)` in operators, as anyone would write it."""
    nodes, last = nodes_of(d)
    text = {"add": "v{i} + v{j}", "multiply": "v{i} * v{j}", "sin": "sin(v{i})", "tanh": "tanh(v{i})"}
    lines = [f"v{k} = " + text[op].format(i=i, j=j) for k, (op, i, j) in enumerate(nodes, d.leaves)]
    return indent("def total(xs, sin, tanh):", [unpack(d), *lines, "return " + " + ".join(f"v{i}" for i in last)])


def by_hand_source(d: SimpleNamespace, kept: bool) -> str:
    """`def step(xs, ones, one, ...)`, forwards and then backwards; the buffers are further arguments where kept."""
    nodes, last = nodes_of(d)
    buffers: dict = {}
    lines = [unpack(d)]

    def put(name, op, *args):
        """One line: name = op(*args), into name's own buffer where buffers are kept."""
        if kept:
            buffers[name] = None
            lines.append(f"{op}({', '.join([*args, name])})")
        else:
            lines.append(f"{name} = {op}({', '.join(args)})")

    for k, (op, i, j) in enumerate(nodes, d.leaves):
        put(f"v{k}", op, f"v{i}", *([f"v{j}"] if op in ("add", "multiply") else []))
    total = f"v{last[0]}"
    for i in last[1:]:
        put("total", "add", total, f"v{i}")
        total = "total"
    slope = dict.fromkeys(last, "ones")  # value -> name of its gradient so far

    def give(i, op, *args):
        """Add op(*args) to the gradient of value i; without an op, args is the one name that holds the addend."""
        if i not in slope and op is None:
            slope[i] = args[0]  # an alias: safe, since the gradient of a value whose node is done never changes again
            return
        if i in slope:
            if op is not None:
                put("t", op, *args)
                args = ("t",)
            op, args = "add", (slope[i], *args)
        put(f"g{i}", op, *args)
        slope[i] = f"g{i}"

    for k in reversed(range(d.leaves, d.leaves + d.nodes)):
        op, i, j = nodes[k - d.leaves]
        g = slope.pop(k, None)
        if g is None:
            continue
        if op == "add":
            give(i, None, g)
            give(j, None, g)
        elif op == "multiply":
            give(i, "multiply", g, f"v{j}")
            give(j, "multiply", g, f"v{i}")
        elif op == "sin":
            put("u", "cos", f"v{i}")
            give(i, "multiply", "u", g)
        else:
            put("u", "multiply", f"v{k}", f"v{k}")
            put("u", "subtract", "one", "u")
            give(i, "multiply", "u", g)
    slopes = ", ".join(slope[i] for i in range(d.leaves))
    return indent(f"def step({', '.join(['xs', 'ones', 'one', *buffers])}):", [*lines, f"return {total}, {slopes}"])


def indent(head: str, lines: list[str]) -> str:
    return "\n    ".join([head, *lines])


def define(source: str, name: str):
    """The function of that name in the source, its free names taken from NumPy."""
    space = {op: getattr(np, op) for op in ("add", "multiply", "subtract", "sin", "cos", "tanh")}
    exec(source, space)
    return space[name]


CASE = Case(
    name="w02_dag",
    title="2,000-node graph with fan-out on 16 float32, gradients to its 8 leaves",
    params={"nodes": 2000, "n": 16, "leaves": 8},
    small={"nodes": 60},
    inputs=lambda p, rng: {"xs": list(rng.uniform(-1.0, 1.0, (p.leaves, p.n)))},
    outputs=("total", *(f"dx{k}" for k in range(8))),
    terms=lambda d: d.nodes,
)


@CASE.variant("gpugrad", "gpugrad-flat", "gpugrad-compile")
def gpugrad_dag(peer, d):
    total = define(forward_source(d), "total")
    xs = [peer.leaf(x) for x in d.xs]

    @peer.compile
    def step():
        for x in xs:
            x.zero_grad()
        y = total(xs, np.sin, np.tanh)
        y.sum().backward()
        return y, [x.grad for x in xs]

    return step


@CASE.variant("numpy")
def numpy_dag(peer, d):
    step = define(by_hand_source(d, kept=False), "step")
    ones, one = np.ones_like(d.xs[0]), d.xs[0].dtype.type(1)
    return lambda: step(d.xs, ones, one)


@CASE.variant("numpy-kept")
def numpy_kept_dag(peer, d):
    step = define(by_hand_source(d, kept=True), "step")
    x = d.xs[0]
    kept = [d.xs, np.ones_like(x), x.dtype.type(1)]
    kept += [np.empty_like(x) for _ in range(step.__code__.co_argcount - len(kept))]
    return lambda: step(*kept)


@CASE.variant("torch", "torch-compile")
def torch_dag(peer, d):
    torch = peer.module
    graph = define(forward_source(d), "total")
    total = peer.compile(lambda xs: graph(xs, torch.sin, torch.tanh))
    xs = [peer.leaf(x) for x in d.xs]

    def step():
        for x in xs:
            x.grad = None
        y = total(xs)
        y.sum().backward()
        return y, [x.grad for x in xs]

    return step


@CASE.variant("jax")
def jax_dag(peer, d):
    jax, jnp = peer.module, peer.module.numpy
    graph = define(forward_source(d), "total")

    def both(xs):
        y, pull = jax.vjp(lambda xs: graph(xs, jnp.sin, jnp.tanh), xs)
        return y, pull(jnp.ones_like(y))[0]

    # XLA's fusion computes shared values again and again: ten minutes of compilation, then 76 ms a step. Without it, 0.5 ms.
    both = jax.jit(both, compiler_options={"xla_disable_hlo_passes": "fusion"})
    xs = list(map(peer.array, d.xs))
    return lambda: both(xs)


@CASE.variant("autograd")
def autograd_dag(peer, d):
    anp = peer.module.numpy
    graph = define(forward_source(d), "total")
    make_vjp, ones = peer.module.make_vjp(lambda xs: graph(xs, anp.sin, anp.tanh)), np.ones_like(d.xs[0])

    def step():
        pull, y = make_vjp(d.xs)
        return y, pull(ones)

    return step


@CASE.variant("mygrad")
def mygrad_dag(peer, d):
    graph = define(forward_source(d), "total")
    xs = [peer.leaf(x) for x in d.xs]

    def step():
        for x in xs:
            x.null_grad()
        y = graph(xs, peer.module.sin, peer.module.tanh)
        y.sum().backward()
        return y, [x.grad for x in xs]

    return step
