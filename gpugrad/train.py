"""`gpugrad train digits`: a small network learns to read real handwritten digits."""
from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy

import gpugrad as gg
from gpugrad.arrays import Device, default_device
from gpugrad.data import digits
from gpugrad.errors import ArgumentError, FileFormatError

WIDTHS = (64, 256, 128, 10)
DROPOUT = 0.2
OPTIMIZERS: dict[str, Callable] = {
    "sgd": lambda params, lr: gg.optim.SGD(params, lr=lr or 0.05, momentum=0.9, weight_decay=1e-4),
    "adam": lambda params, lr: gg.optim.Adam(params, lr=lr or 2e-3),
    "adamw": lambda params, lr: gg.optim.AdamW(params, lr=lr or 2e-3, weight_decay=1e-2),
}


@dataclass
class Result:
    """What a training run reports. Accuracy is the share of held-out digits read correctly, 0 to 1."""

    device: str
    optimizer: str
    epochs: int
    seconds: float
    loss: float
    accuracy: float
    held_out: int


def train_digits(device: str = "auto", epochs: int = 40, optimizer: str = "adam", lr: float | None = None, batch: int = 32,
                 seed: int = 0, save: str | None = None, load: str | None = None) -> Result:
    """Train an MLP (64-256-128-10, ReLU, dropout) on four fifths of the digits and measure it on the rest.

    lr     learning rate; by default one that suits the optimizer
    load   a checkpoint to start from (with epochs=0: only to measure); save: where to write one
    """
    if optimizer not in OPTIMIZERS:
        raise ArgumentError(f"train: expected an optimizer out of {', '.join(OPTIMIZERS)}, got {optimizer!r}. Choose one.")
    for name, value, least in (("epochs", epochs, 0), ("batch", batch, 1)):
        if value < least:
            raise ArgumentError(f"train: expected {name} of at least {least}, got {value}. Give a larger number.")
    place = default_device() if device == "auto" else Device(device)
    gg.random.seed(seed)                                  # dropout's
    generator = gg.random.generator(seed)
    train, test = split(generator, place)
    params = initial(generator, place)
    if load:
        params = restored(load, params)
    step = OPTIMIZERS[optimizer](params, lr)
    started, loss = time.perf_counter(), float("nan")
    with progress(epochs) as report:
        for epoch in range(epochs):
            loss = one_epoch(params, step, train, batch, generator)
            report(epoch + 1, loss, accuracy(params, test))
    seconds = time.perf_counter() - started
    if save:
        gg.save(save, params)
    return Result(str(place), optimizer, epochs, seconds, loss, accuracy(params, test), len(test[1]))


def split(generator: Any, place: Device, held_out: float = 0.2) -> tuple[tuple, tuple]:
    """(images, labels) to learn from and to measure on, the same share of each digit in both. Pixels from 0 to 1."""
    images, labels = digits()
    x = (images.reshape(len(images), -1) / numpy.float32(16)).astype(numpy.float32)
    y = labels.astype(numpy.int64)
    order = generator.permutation(len(y), device="cpu").numpy()
    test = numpy.concatenate([rows[:round(held_out * len(rows))] for digit in range(10) for rows in [order[y[order] == digit]]])
    train = order[~numpy.isin(order, test)]
    return tuple(tuple(gg.tensor(a[rows], device=place) for a in (x, y)) for rows in (train, test))     # type: ignore[return-value]


def initial(generator: Any, place: Device) -> dict[str, gg.Tensor]:
    """He's initialisation: weights normal with variance 2 / fan-in, biases zero."""
    params = {}
    for i, (fan_in, fan_out) in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False)):
        w = generator.normal(0, (2 / fan_in) ** 0.5, size=(fan_out, fan_in), dtype="float32", device=place)
        params[f"w{i}"] = gg.tensor(w, requires_grad=True)
        params[f"b{i}"] = gg.tensor(numpy.zeros(fan_out, "f4"), device=place, requires_grad=True)
    return params


def logits(params: dict[str, gg.Tensor], x: gg.Tensor, training: bool = False) -> gg.Tensor:
    layers = len(params) // 2
    for i in range(layers):
        x = gg.nn.linear(x, params[f"w{i}"], params[f"b{i}"])
        if i < layers - 1:
            x = gg.nn.relu(x)
            if training:
                x = gg.nn.dropout(x, p=DROPOUT)
    return x


def one_epoch(params: dict, step: Any, data: tuple, batch: int, generator: Any) -> float:
    """A pass over the data in mini-batches of a new order; the mean loss."""
    x, y = data
    order = generator.permutation(len(y), device=x.device)
    total = 0.0
    for start in range(0, len(y), batch):
        rows = order[start:start + batch]
        loss = gg.nn.cross_entropy(logits(params, x[rows], training=True), y[rows])
        step.zero_grad()
        loss.backward()
        step.step()
        total += loss.item() * len(rows)
    return total / len(y)


def accuracy(params: dict, data: tuple) -> float:
    x, y = data
    with gg.no_grad():
        return (logits(params, x).argmax(axis=1) == y).mean().item()


def restored(path: str, params: dict[str, gg.Tensor]) -> dict[str, gg.Tensor]:
    """The parameters in a checkpoint, which must be those of this network."""
    loaded = gg.load(path, like=params)
    for name, p in params.items():
        if loaded[name].shape != p.shape:
            raise FileFormatError(f"train: expected {name} of shape {p.shape} in {path}, got {loaded[name].shape}. "
                                  "Load a checkpoint of this network.")
        loaded[name].requires_grad = True
    return loaded


@contextlib.contextmanager
def progress(epochs: int) -> Iterator[Callable[[int, float, float], None]]:
    """A progress bar where rich is installed and somebody looks, else a line now and then."""
    try:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        Progress = None
    if Progress is None or not sys.stderr.isatty():
        def line(epoch: int, loss: float, right: float) -> None:
            if epoch == epochs or epoch % max(1, epochs // 5) == 0:
                print(f"epoch {epoch:3}/{epochs}   loss {loss:.4f}   held-out accuracy {right:.2%}", file=sys.stderr)
        yield line
        return
    from rich.console import Console
    columns = TextColumn("digits"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=epochs)
        yield lambda epoch, loss, right: bar.update(
            task, completed=epoch, description=f"epoch {epoch}/{epochs}  loss {loss:.4f}  held-out {right:.2%}")


def summary(result: Result) -> str:
    return (f"{result.accuracy:.2%} of {result.held_out} held-out digits read correctly after {result.epochs} epochs of "
            f"{result.optimizer} in {result.seconds:.1f} s on {result.device}")


def as_json(result: Result) -> dict[str, Any]:
    return asdict(result)
