"""`gpugrad train digits`: a multilayer perceptron learns real handwritten digits, with gpugrad's own parts throughout.

64 pixels - 256 - 128 - 10 classes, ReLU, dropout, softmax cross-entropy with smoothed labels, mini-batches, a learning rate
that falls along half a cosine. A fifth of every digit's images is held out, chosen by the seed, and never trained on.
"""
from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from gpugrad import io, nn, optim
from gpugrad.arrays import Device, default_device
from gpugrad.data import digits
from gpugrad.errors import ArgumentError, FileFormatError
from gpugrad.graph.state import no_grad
from gpugrad.graph.tensor import Tensor, tensor
from gpugrad.numpy._arguments import as_tensor
from gpugrad.progress import progress
from gpugrad.random import Generator, generator

WIDTHS = (64, 256, 128, 10)
HELD_OUT = 0.2
SMOOTHING, DROPOUT = 0.1, 0.2
OPTIMISERS = {
    "sgd": lambda params, lr: optim.SGD(params, lr=0.1 if lr is None else lr, momentum=0.9, weight_decay=1e-4),
    "adam": lambda params, lr: optim.Adam(params, lr=3e-3 if lr is None else lr),
    "adamw": lambda params, lr: optim.AdamW(params, lr=3e-3 if lr is None else lr),
}
EPOCHS, BATCH = 40, 64


@dataclass
class Result:
    """What a run found. Accuracy is the share of held-out digits that are read correctly, from 0 to 1."""

    device: str
    optimizer: str
    lr: float
    batch: int
    seed: int
    epochs: int
    steps: int
    seconds: float
    training_images: int
    held_out: int
    accuracy: float
    predictions: list[int]
    history: list[dict[str, float]]          # for each epoch: loss on the training images, held-out accuracy


def train_digits(device: str = "auto", epochs: int | None = None, optimizer: str = "sgd", lr: float | None = None,
                 batch: int = BATCH, seed: int = 0, save: str | None = None, load: str | None = None) -> Result:
    """Train, measure on the held-out images, and say how it went.

    epochs   passes over the training images; by default 40, or none where a checkpoint is loaded
    lr       the first learning rate; by default 0.1 for sgd, 0.003 for adam and adamw
    seed     chooses the held-out images, the first weights, the order of batches and the dropout
    load     a checkpoint to begin from; its seed decides what is held out, so that nothing it has seen is
    save     where to write the checkpoint at the end

    Raises ArgumentError for options out of range, FileFormatError for a file that is no checkpoint of this model.
    """
    if optimizer not in OPTIMISERS:
        raise ArgumentError(f"train: expected an optimizer among {', '.join(OPTIMISERS)}, got {optimizer!r}. Choose one of them.")
    epochs = (0 if load else EPOCHS) if epochs is None else epochs
    if epochs < 0 or batch < 1 or seed < 0:
        raise ArgumentError(f"train: expected epochs and seed of at least 0 and a batch of at least 1, got epochs={epochs}, "
                            f"seed={seed}, batch={batch}. Correct them.")
    place = default_device() if device == "auto" else Device(device)
    if load:
        params, seed = loaded(load, place)
    else:
        params = first_parameters(generator(seed), place)
    x, labels = images_and_labels()
    training, held_out = split(labels, HELD_OUT, seed)
    data = (tensor(x[training], device=place), tensor(labels[training], device=place))
    test = (tensor(x[held_out], device=place), tensor(labels[held_out], device=place))

    optimiser = OPTIMISERS[optimizer](params, lr)
    rng, first_lr, history = generator(seed + 1), optimiser.lr, []
    steps = epochs * -(-len(training) // batch)
    start = time.perf_counter()
    with progress("digits", epochs) as step_done:
        done = 0
        for _ in range(epochs):
            total = 0.0
            for rows in batches(len(training), batch, rng):
                optimiser.lr = first_lr * 0.5 * (1 + math.cos(math.pi * done / steps))
                optimiser.zero_grad()
                loss = nn.cross_entropy(logits(params, data[0][rows], rng), data[1][rows],
                                        label_smoothing=SMOOTHING)
                loss.backward()
                optimiser.step()
                total += loss.item() * len(rows)
                done += 1
            _, accuracy = evaluate(params, *test)
            history.append({"loss": total / len(training), "accuracy": accuracy})
            step_done(f"loss {total / len(training):.4f}, held-out accuracy {accuracy:.2%}")
    seconds = time.perf_counter() - start
    predictions, accuracy = evaluate(params, *test)
    if save:
        io.save(save, {"model": "digits", "widths": list(WIDTHS), "seed": seed, "params": params})
    return Result(str(place), optimizer, first_lr, batch, seed, epochs, steps, seconds, len(training), len(held_out), accuracy,
                  predictions, history)


# data ------------------------------------------------------------------------------------------------------------------

def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """(1797, 64) float32 from 0 to 1, and (1797,) labels."""
    images, labels = digits()
    return (images.reshape(len(images), -1) / np.float32(16)).astype(np.float32), labels.astype(np.int64)


def split(labels: np.ndarray, part: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to train on and to hold out: `part` of every class, chosen by the seed, each in rising order."""
    rng = generator(seed)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        held_out[rng.permutation(rows, device="cpu").numpy()[:round(part * len(rows))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def batches(n: int, size: int, rng: Generator) -> Iterator[np.ndarray]:
    """The rows 0 to n - 1 in random order, `size` at a time; the last batch may be smaller."""
    order = rng.permutation(n, device="cpu").numpy()
    for start in range(0, n, size):
        yield order[start:start + size]


# model -----------------------------------------------------------------------------------------------------------------

def first_parameters(rng: Generator, place: Device) -> list[dict[str, Tensor]]:
    """A weight (out, in) and a bias for each layer; the weights keep the size of a ReLU's signal (He et al. 2015)."""
    params = []
    for into, out in zip(WIDTHS, WIDTHS[1:]):
        layer = {"w": rng.normal(0, math.sqrt(2 / into), size=(out, into), dtype=np.float32, device=place),
                 "b": tensor(np.zeros(out, np.float32), device=place)}
        for t in layer.values():
            t.requires_grad = True
        params.append(layer)
    return params


def logits(params: list[dict[str, Tensor]], x: Tensor, rng: Generator | None = None) -> Tensor:
    """The network's output; with dropout where a generator is given."""
    for layer in params[:-1]:
        x = nn.relu(nn.linear(x, layer["w"], layer["b"]))
        x = nn.dropout(x, DROPOUT, generator=rng) if rng else x
    return nn.linear(x, params[-1]["w"], params[-1]["b"])


@no_grad()
def evaluate(params: list[dict[str, Tensor]], x: Tensor, labels: Tensor) -> tuple[list[int], float]:
    """The predicted digits, and the share that is right."""
    predicted = logits(params, x).numpy().argmax(axis=1)
    return predicted.tolist(), float((predicted == labels.numpy()).mean())


def loaded(path: str, place: Device) -> tuple[list[dict[str, Tensor]], int]:
    """The parameters in a checkpoint, and its seed."""
    tree = io.load(path, device=place)
    shapes = [{"w": (out, into), "b": (out,)} for into, out in zip(WIDTHS, WIDTHS[1:])]
    try:
        params, seed = tree["params"], tree["seed"]
        found = [{name: layer[name].shape for name in ("w", "b")} for layer in params]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise FileFormatError(f"train: expected a checkpoint of `gpugrad train digits`, got {path!r} without its entries. "
                              "Save one with --save.") from error
    if found != shapes or not isinstance(seed, int):
        raise FileFormatError(f"train: expected layers of widths {WIDTHS} and a seed in {path!r}, got {found}. "
                              "Save one with --save.")
    for layer in params:
        for name in ("w", "b"):
            layer[name] = as_tensor("train", layer[name])
            layer[name].requires_grad = True
    return params, seed


# command line ----------------------------------------------------------------------------------------------------------

def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `gpugrad train`."""
    parser.add_argument("task", choices=["digits"], help="digits: 1797 handwritten digits, 8 by 8")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N (default: auto)")
    parser.add_argument("--epochs", type=int, metavar="N", help=f"passes over the images (default: {EPOCHS}; 0 with --load)")
    parser.add_argument("--optimizer", default="sgd", choices=list(OPTIMISERS), help="default: sgd, with momentum 0.9")
    parser.add_argument("--lr", type=float, metavar="RATE", help="first learning rate (default: 0.1 for sgd, else 0.003)")
    parser.add_argument("--batch", type=int, default=BATCH, metavar="N", help=f"images a step (default: {BATCH})")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="chooses what is held out, weights, order (default: 0)")
    parser.add_argument("--save", metavar="FILE", help="write the checkpoint, .npz or .safetensors")
    parser.add_argument("--load", metavar="FILE", help="begin from a checkpoint; without --epochs, only measure it")
    parser.add_argument("--json", metavar="FILE", help="append what was found as one JSON line; - prints it instead")


def run(args: argparse.Namespace) -> int:
    """Do what the parsed options say."""
    if args.json and args.json != "-":
        open(args.json, "a", encoding="utf-8").close()     # a path that can't be written shows now, not after the last epoch
    found = train_digits(args.device, args.epochs, args.optimizer, args.lr, args.batch, args.seed, args.save, args.load)
    line = json.dumps({"task": args.task, **asdict(found)})
    if args.json and args.json != "-":
        with open(args.json, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    print(line if args.json == "-" else summary(found))
    return 0


def summary(found: Result) -> str:
    """The result in one or two lines, every number with its unit and what it stands beside."""
    right = round(found.accuracy * found.held_out)
    text = f"held-out accuracy {found.accuracy:.2%} ({right} of {found.held_out} digits; guessing: 10 %)"
    if not found.epochs:
        return text
    return (f"trained on {found.training_images} digits for {found.epochs} epochs with {found.optimizer} on {found.device}: "
            f"{found.seconds:.1f} s, {1e3 * found.seconds / found.steps:.2f} ms a step, "
            f"last loss {found.history[-1]['loss']:.4f}\n{text}")
