"""W2: a graph of 2,000 nodes that branches and joins, on 16 numbers. Every library runs the same straight-line source."""

from types import SimpleNamespace

import numpy as np

from gpugrad.bench.case import Case

WIDTH = 50  # values waiting to be used; the graph is about nodes / WIDTH deep


def nodes_of(d: SimpleNamespace) -> tuple[list[tuple[str, int, int]], list[int]]:
    """(op, i, j) for each node, value 0 being x, and the values left unused, whose sum is the output.

    Each operation takes the value that has waited longest; a binary one also takes any recent value, used or not: fan-out.
    """
    rng = np.random.default_rng(d.nodes)
    width = min(WIDTH, d.nodes // 4)
    nodes = [("sin", 0, 0) if k % 2 else ("tanh", 0, 0) for k in range(width)]
    waiting = list(range(1, width + 1))
    while len(nodes) < d.nodes:
        op = str(rng.choice(["add", "multiply", "sin", "tanh"]))
        other = int(rng.integers(max(1, len(nodes) - 2 * width), len(nodes) + 1))
        nodes.append((op, waiting.pop(0), other))
        waiting.append(len(nodes))
    return nodes, waiting


def forward_source(nodes, last) -> str:
    """`def total(v0, sin, tanh)` in operators, as anyone would write it."""
    text = {"add": "v{i} + v{j}", "multiply": "v{i} * v{j}", "sin": "sin(v{i})", "tanh": "tanh(v{i})"}
    lines = [f"v{k} = " + text[op].format(i=i, j=j) for k, (op, i, j) in enumerate(nodes, 1)]
    return indent("def total(v0, sin, tanh):", [*lines, "return " + " + ".join(f"v{i}" for i in last)])


def by_hand_source(nodes, last, kept: bool) -> str:
    """`def step(v0, ones)` forwards and then backwards, the gradient last; buffers are arguments' defaults where kept."""
    lines, buffers = [], []

    def put(name, op, *args):
        """One line: name = op(*args), into name's own buffer where buffers are kept."""
        if kept and name not in buffers:
            buffers.append(name)
        lines.append(f"{op}({', '.join([*args, name])})" if kept else f"{name} = {op}({', '.join(args)})")

    for k, (op, i, j) in enumerate(nodes, 1):
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

    for k in range(len(nodes), 0, -1):
        op, i, j = nodes[k - 1]
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
    head = ", ".join(["v0", "ones", "one", *dict.fromkeys(buffers)])
    return indent(f"def step({head}):", [*lines, f"return {total}, {slope[0]}"])


def indent(head: str, lines: list[str]) -> str:
    return "\n    ".join([head, *lines])


def define(source: str, name: str):
    """The function of that name in the source, its free names taken from NumPy."""
    space = {op: getattr(np, op) for op in ("add", "multiply", "subtract", "sin", "cos", "tanh", "copyto")}
    exec(source, space)
    return space[name]


CASE = Case(
    name="w02_dag",
    title="2,000-node graph with fan-out on 16 float32, gradient to x",
    params={"nodes": 2000, "n": 16},
    small={"nodes": 60},
    inputs=lambda p, rng: {"x": rng.uniform(-1.0, 1.0, p.n)},
    outputs=("total", "dx"),
    terms=lambda d: d.nodes,
)


@CASE.variant("gpugrad")
def gpugrad_dag(peer, d):
    total = define(forward_source(*nodes_of(d)), "total")
    x = peer.leaf(d.x)

    def step():
        x.zero_grad()
        y = total(x, np.sin, np.tanh)
        y.sum().backward()
        return y, x.grad

    return step


@CASE.variant("numpy")
def numpy_dag(peer, d):
    step = define(by_hand_source(*nodes_of(d), kept=False), "step")
    ones, one = np.ones_like(d.x), d.x.dtype.type(1)
    return lambda: step(d.x, ones, one)


@CASE.variant("numpy-kept")
def numpy_kept_dag(peer, d):
    step = define(by_hand_source(*nodes_of(d), kept=True), "step")
    count = step.__code__.co_argcount
    kept = [d.x, np.ones_like(d.x), d.x.dtype.type(1), *(np.empty_like(d.x) for _ in range(count - 3))]
    return lambda: step(*kept)


@CASE.variant("torch", "torch-compile")
def torch_dag(peer, d):
    torch = peer.module
    graph = define(forward_source(*nodes_of(d)), "total")
    total = peer.compile(lambda x: graph(x, torch.sin, torch.tanh))
    x = peer.leaf(d.x)

    def step():
        x.grad = None
        y = total(x)
        y.sum().backward()
        return y, x.grad

    return step


@CASE.variant("jax")
def jax_dag(peer, d):
    jax, jnp = peer.module, peer.module.numpy
    graph = define(forward_source(*nodes_of(d)), "total")

    def both(x):
        y, pull = jax.vjp(lambda x: graph(x, jnp.sin, jnp.tanh), x)
        return y, pull(jnp.ones_like(y))[0]

    both, x = peer.compile(both), peer.array(d.x)
    return lambda: both(x)


@CASE.variant("autograd")
def autograd_dag(peer, d):
    anp = peer.module.numpy
    graph = define(forward_source(*nodes_of(d)), "total")
    ones = np.ones_like(d.x)

    def step():
        pull, y = peer.module.make_vjp(lambda x: graph(x, anp.sin, anp.tanh))(d.x)
        return y, pull(ones)

    return step


@CASE.variant("mygrad")
def mygrad_dag(peer, d):
    graph = define(forward_source(*nodes_of(d)), "total")
    x = peer.leaf(d.x)

    def step():
        x.null_grad()
        y = graph(x, peer.module.sin, peer.module.tanh)
        y.sum().backward()
        return y, x.grad

    return step
