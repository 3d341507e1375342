"""The three-layer tanh network of W7 and W8, and its derivatives by hand."""

from types import SimpleNamespace

import numpy as np

PARAMS = {"batch": 96, "widths": (64, 256, 256, 64)}
SMALL = {"batch": 3, "widths": (4, 5, 6, 2)}
NAMES = ("w1", "b1", "w2", "b2", "w3", "b3")


def inputs(p: SimpleNamespace, rng: np.random.Generator) -> dict:
    """Input x, target, parameters ps = [w1, b1, w2, b2, w3, b3] with weights (out, in), and a direction vs like ps."""

    def parameters(scale):
        for m, n in zip(p.widths[1:], p.widths[:-1], strict=True):
            yield rng.standard_normal((m, n)) * scale / np.sqrt(n)
            yield rng.standard_normal(m) * 0.1 * scale

    return {
        "x": rng.standard_normal((p.batch, p.widths[0])),
        "target": rng.standard_normal((p.batch, p.widths[-1])),
        "ps": list(parameters(1.0)),
        "vs": list(parameters(0.5)),
    }


def parameters(d: SimpleNamespace) -> int:
    """How many numbers the weights hold."""
    return sum(m * n for m, n in zip(d.widths[1:], d.widths[:-1], strict=True))


def network(ps, x, tanh):
    """The network's output (batch, out) in operators."""
    w1, b1, w2, b2, w3, b3 = ps
    return tanh(tanh(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3


def loss(ps, x, target, tanh):
    """Half the mean over the batch of the squared distance to the target."""
    r = network(ps, x, tanh) - target
    return (r * r).sum() * (0.5 / x.shape[0])
