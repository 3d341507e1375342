"""Pictures that several tests draw."""

import random

from gpugrad.draw import Edge, Node, Picture


def sigmoid_neuron() -> Picture:
    """The lecture's 1 / (1 + exp(-(w0 x0 + w1 x1 + w2))), its values and gradients rounded as on the slide."""
    nodes = [Node(name, name, "leaf") for name in ("w0", "x0", "w1", "x1", "w2")]
    nodes += [Node("p", "*"), Node("q", "*"), Node("r", "+"), Node("s", "+")]
    nodes += [Node(label, label) for label in ("*-1", "exp", "+1", "1/x")] + [Node("f", "f", "output")]
    uses = [("w0", "p", "2.00", "-0.20"), ("x0", "p", "-1.00", "0.39"), ("w1", "q", "-3.00", "-0.39"),
            ("x1", "q", "-2.00", "-0.59"), ("p", "r", "-2.00", "0.20"), ("q", "r", "6.00", "0.20"),
            ("r", "s", "4.00", "0.20"), ("w2", "s", "-3.00", "0.20"), ("s", "*-1", "1.00", "0.20"),
            ("*-1", "exp", "-1.00", "-0.20"), ("exp", "+1", "0.37", "-0.53"), ("+1", "1/x", "1.37", "-0.53"),
            ("1/x", "f", "0.73", "1.00")]
    return Picture(nodes, [Edge(*use) for use in uses])


def chain(length: int, names: tuple[str, ...] = ("sin",)) -> Picture:
    """x -> op -> op -> … -> y."""
    ops = [Node(i, names[i % len(names)]) for i in range(length)]
    ids = ["x", *range(length), "y"]
    edges = [Edge(a, b, "1.00", "0.50") for a, b in zip(ids, ids[1:], strict=False)]
    return Picture([Node("x", "x", "leaf"), *ops, Node("y", "y", "output")], edges)


def network(layers: int) -> Picture:
    """matmul, + and relu, `layers` times, each with weights and a bias of its own."""
    nodes, edges, last = [Node("x", "x", "leaf", "(64, 32)")], [], "x"
    for k in range(layers):
        nodes += [Node(f"W{k}", f"W{k}", "leaf"), Node(f"b{k}", f"b{k}", "leaf")]
        nodes += [Node(("matmul", k), "matmul"), Node(("+", k), "+"), Node(("relu", k), "relu")]
        edges += [Edge(last, ("matmul", k)), Edge(f"W{k}", ("matmul", k)), Edge(("matmul", k), ("+", k)),
                  Edge(f"b{k}", ("+", k)), Edge(("+", k), ("relu", k))]
        last = ("relu", k)
    return Picture([*nodes, Node("y", "y", "output")], [*edges, Edge(last, "y", shape="(64, 32)")])


def random_picture(seed: int, ops: int) -> Picture:
    """Up to three arguments an op, mostly recent ones, some used twice, some never; texts of all lengths."""
    rng = random.Random(seed)
    nodes = [Node(i, rng.choice(("x", "weights of the layer", "W")), rng.choice(("leaf", "constant")),
                  rng.choice(("", "(256, 784)"))) for i in range(1 + rng.randrange(6))]
    edges: list[Edge] = []
    for i in range(len(nodes), len(nodes) + ops):
        nodes.append(Node(i, rng.choice(("+", "exp", "log_softmax", "a name far longer than any box may be")),
                          note=rng.choice(("", "", "axis=-1"))))
        reach = rng.choice((3, 8, i))
        edges += [Edge(rng.randrange(max(0, i - reach), i), i, rng.choice((None, "-0.53", "value " * 9)),
                       rng.choice((None, "1.2e-05")), rng.choice((None, "(256, 784)")))
                  for _ in range(1 + rng.randrange(3))]
    sinks = {n.id for n in nodes} - {e.source for e in edges}
    outputs = [(s, Node(("out", s), "loss", "output")) for s in sorted(sinks)]
    return Picture([*nodes, *(n for _, n in outputs)], [*edges, *(Edge(s, n.id) for s, n in outputs)], f"seed {seed}")
