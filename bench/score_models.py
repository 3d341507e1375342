"""The two training steps that are scored, and the least that each must move and keep.

A model is written as a user would write it. Its formulas count, in bytes, what a step moves if every product takes its bias,
activation and masks along (cuBLASLt epilogues), attention never leaves the chip, and Adam reads and writes each state once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOAT = 4  # bytes of float32
ADAM = 28  # bytes a parameter: g, and w, m, v read and written


@dataclass(frozen=True)
class Peer:
    """A library's step at full size: launches, megabytes; how they are known."""

    name: str
    launches: int
    megabytes: float | None
    how: str


@dataclass
class Model:
    """Leaves that get a gradient, what else is given, the output, and the optimiser of the parameters, on one device.

    gradient   of what is minimised to the output; None where the output is the loss itself
    """

    leaves: list
    given: list
    output: Callable[[], Any]
    optimiser: Any
    gradient: Any = None

    def backward(self) -> Any:
        """The output, and fresh gradients."""
        for leaf in self.leaves:
            leaf.grad = None
        output = self.output()
        output.backward(self.gradient)
        return output

    def step(self) -> Any:
        """One training step; returns the output."""
        output = self.backward()
        self.optimiser.step()
        return output


@dataclass(frozen=True)
class Mlp:
    """Batch x widths, ReLU, softmax cross-entropy, Adam. `epilogues`: cuBLASLt applies the ReLU, and its mask on the way back."""

    batch: int = 256
    widths: tuple[int, ...] = (784, 1024, 1024, 10)
    epilogues: bool = False
    most_bytes_ratio = 1.15
    peers = (
        Peer("torch eager, fused Adam", 22, 97.2, "measured, torch 2.13 CPU dispatch"),
        Peer("torch eager, Adam foreach", 27, 186.6, "measured, torch 2.13 CPU dispatch"),
        Peer("torch.compile", 16, 95.0, "counted in inductor's CPU output; bytes derived"),
        Peer("Chainer 7.8", 40, None, "counted in its source"),
    )

    @property
    def name(self) -> str:
        return "MLP, ReLU in epilogues" if self.epilogues else "MLP"

    @property
    def most_launches(self) -> int:
        return 10 if self.epilogues else 14

    most_compiled = most_launches

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each."""
        return list(zip(self.widths, self.widths[1:], strict=False))

    @property
    def size(self) -> str:
        return f"{self.batch}x{'-'.join(map(str, self.widths))}"

    @property
    def parameters(self) -> int:
        return sum(n * (k + 1) for k, n in self.layers)

    @property
    def least_launches(self) -> int:
        return 3 * len(self.layers) - 1 + 1 + 1  # products, less the gradient to x; loss; Adam

    @property
    def least_bytes(self) -> float:
        b, total = self.batch, 0.0
        for i, (k, n) in enumerate(self.layers):
            last = i == len(self.layers) - 1
            total += FLOAT * (b * k + k * n + b * n + n) + (0 if last else b * n / 8)  # y = relu(x w + b), its mask
            total += FLOAT * (b * k + b * n + k * n)  # dw
            if i:
                total += FLOAT * (b * n + k * n + b * k + k) + b * k / 8  # dx behind the mask, and the bias gradient before it
        return total + FLOAT * 2 * b * self.widths[-1] + 8 * b + ADAM * self.parameters

    @property
    def most_saved(self) -> float:
        """Outputs of the hidden layers, which the next product needs anyway, a bit of each, the softmax, and a label a row."""
        return FLOAT * self.batch * sum(self.widths[1:]) + self.batch * sum(self.widths[1:-1]) / 8 + 8 * self.batch

    @property
    def flops(self) -> float:
        return 2 * self.batch * (3 * sum(k * n for k, n in self.layers) - self.widths[0] * self.widths[1])

    def build(self, gg: Any, device: str, dtype: str = "float32") -> Model:
        rng = np.random.default_rng(0)
        to = lambda a: gg.tensor(a.astype(dtype), device=device)
        x, labels = to(rng.standard_normal((self.batch, self.widths[0]))), rng.integers(0, self.widths[-1], self.batch)
        labels = gg.tensor(labels, device=device)
        ws = [gg.tensor((rng.standard_normal((n, k)) * (2 / k) ** 0.5).astype(dtype), device=device, requires_grad=True)
              for k, n in self.layers]
        bs = [gg.tensor((rng.standard_normal(n) * 0.1).astype(dtype), device=device, requires_grad=True) for _, n in self.layers]

        def loss():
            h = x
            with gg.cuda.relu_epilogue(self.epilogues):
                for w, b in zip(ws[:-1], bs[:-1], strict=True):
                    h = gg.linear(h, w, b, activation="relu")
            return gg.cross_entropy(gg.linear(h, ws[-1], bs[-1]), labels)

        return Model(ws + bs, [x, labels], loss, gg.optim.Adam(ws + bs, lr=1e-3))


@dataclass(frozen=True)
class Block:
    """Pre-LN transformer block: attention of H heads, GELU (tanh) MLP of 4 C, residuals, AdamW; the output's gradient given."""

    batch: int = 8
    time: int = 256
    channels: int = 768
    heads: int = 12
    name = "block"
    most_launches = 32
    most_compiled = 21
    most_bytes_ratio = 1.15
    peers = (
        Peer("torch eager, SDPA, fused AdamW", 32, 1038.8, "measured, torch 2.13 CPU dispatch, loss taken off"),
        Peer("torch eager, naive attention", 49, 1604.9, "measured, torch 2.13 CPU dispatch, loss taken off"),
        Peer("torch.compile, SDPA", 28, None, "counted in inductor's CPU output, loss taken off"),
    )

    @property
    def size(self) -> str:
        return f"B={self.batch} T={self.time} C={self.channels} H={self.heads}"

    @property
    def parameters(self) -> int:
        return 12 * self.channels**2 + 13 * self.channels

    @property
    def least_launches(self) -> int:
        return 7 + 13 + 1

    @property
    def least_bytes(self) -> float:
        """In passes over (B T, C) and over (C, C)."""
        rows = self.batch * self.time * self.channels
        forward = 2 + 4 + 4 + 3 + 2 + 9 + 6  # norm, qkv, attention, out + residual, norm, up + GELU's input, down + residual
        down, up, norm = 9 + 5, 5 + 5, 4  # gradients to input and weights; norm with the residual's gradient
        backward = down + up + norm + (2 + 2) + 8 + (4 + 4) + norm
        return FLOAT * ((forward + backward) * rows + 3 * 12 * self.channels**2) + ADAM * self.parameters

    @property
    def most_saved(self) -> float:
        """What torch eager with SDPA keeps: 15 passes over (B T, C) and a number a row and head."""
        return FLOAT * self.batch * self.time * (15 * self.channels + self.heads + 4)

    @property
    def flops(self) -> float:
        rows = self.batch * self.time
        return 3 * (2 * rows * 12 * self.channels**2 + 4 * rows * self.time * self.channels)

    def attend(self, gg: Any, q: Any, k: Any, v: Any) -> Any:
        """Attention of (B, H, T, C / H)."""
        return gg.nn.dot_product_attention(q, k, v)

    def build(self, gg: Any, device: str, dtype: str = "float32") -> Model:
        rng, c, heads = np.random.default_rng(0), self.channels, self.heads
        leaf = lambda a: gg.tensor(a.astype(dtype), device=device, requires_grad=True)
        weight = lambda n, k: leaf(rng.standard_normal((n, k)) * k**-0.5)
        bias = lambda n: leaf(rng.standard_normal(n) * 0.02)
        shape = (self.batch, self.time, c)
        x, g = leaf(rng.standard_normal(shape)), gg.tensor(rng.standard_normal(shape).astype(dtype), device=device)
        names = ("g1", "b1", "qkv", "qkv_b", "out", "out_b", "g2", "b2", "up", "up_b", "down", "down_b")
        values = (leaf(np.ones(c)), bias(c), weight(3 * c, c), bias(3 * c), weight(c, c), bias(c),
                  leaf(np.ones(c)), bias(c), weight(4 * c, c), bias(4 * c), weight(c, 4 * c), bias(c))
        p = dict(zip(names, values, strict=True))

        def attention(h):
            qkv = gg.linear(h, p["qkv"], p["qkv_b"]).reshape(self.batch, self.time, 3, heads, c // heads)
            q, k, v = gg.numpy.unstack(gg.ascontiguousarray(gg.transpose(qkv, (2, 0, 3, 1, 4))))
            mixed = gg.transpose(self.attend(gg, q, k, v), (0, 2, 1, 3)).reshape(self.batch, self.time, c)
            return gg.linear(mixed, p["out"], p["out_b"])

        def output():
            n, y = gg.nn.add_layer_norm(attention(gg.layer_norm(x, p["g1"], p["b1"])), x, p["g2"], p["b2"])
            h = gg.gelu(gg.linear(n, p["up"], p["up_b"]), approximate="tanh")
            return y + gg.linear(h, p["down"], p["down_b"])

        return Model([x, *values], [g], output, gg.optim.AdamW(list(values), lr=1e-3), g)
