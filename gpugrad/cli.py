"""The command line: gpugrad info, bench, train, draw."""
from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from gpugrad.errors import ArgumentError, GpugradError
from gpugrad.version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0 for success, 1 for an error (one line on stderr), 2 for wrong usage, 130 for Ctrl-C."""
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except (GpugradError, OSError) as error:
        if isinstance(error, BrokenPipeError):            # `gpugrad info | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"gpugrad: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("gpugrad: stopped", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="gpugrad", description="Automatic differentiation for NumPy and CuPy arrays.")
    top.add_argument("--version", action="version", version=f"gpugrad {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")

    info = commands.add_parser("info", help="devices, versions, and why CUDA is or is not usable")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=run_info)

    bench = commands.add_parser("bench", help="time gpugrad beside other libraries; gradients are checked first")
    importlib.import_module("gpugrad.bench.main").add_arguments(bench)
    bench.set_defaults(run=lambda args: importlib.import_module("gpugrad.bench.main").run(args))

    train = commands.add_parser("train", help="train a network on real data")
    train.add_argument("data", choices=["digits"], help="1797 handwritten digits")
    train.add_argument("--device", default="auto", help="auto, cpu or cuda:N (default: auto)")
    train.add_argument("--epochs", type=int, default=40, help="passes over the data (default: 40)")
    train.add_argument("--optimizer", default="adam", help="sgd, adam or adamw (default: adam)")
    train.add_argument("--lr", type=float, help="learning rate (default: one that suits the optimizer)")
    train.add_argument("--batch", type=int, default=32, help="digits in a mini-batch (default: 32)")
    train.add_argument("--seed", type=int, default=0, help="of the split, the weights and the order (default: 0)")
    train.add_argument("--save", metavar="FILE", help="write a checkpoint, .npz or .safetensors")
    train.add_argument("--load", metavar="FILE", help="start from a checkpoint; with --epochs 0 only measure it")
    train.add_argument("--json", metavar="FILE", help="append the result as one JSON line; - prints it")
    train.set_defaults(run=run_train)

    draw = commands.add_parser("draw", help="draw the graph of a Tensor")
    draw.add_argument("function", help="module:function, a function without arguments that returns a Tensor")
    draw.add_argument("path", nargs="?", default="graph.svg", help=".svg, .html, .png or .dot (default: graph.svg)")
    draw.add_argument("--json", action="store_true", help="print what was drawn as JSON")
    draw.set_defaults(run=run_draw)
    return top


def run_info(args: argparse.Namespace) -> int:
    from gpugrad.info import info, table
    facts = info()
    print(json.dumps(facts, indent=2) if args.json else table(facts))
    return 0


def run_train(args: argparse.Namespace) -> int:
    from gpugrad.train import as_json, summary, train_digits
    result = train_digits(args.device, args.epochs, args.optimizer, args.lr, args.batch, args.seed, args.save, args.load)
    line = json.dumps(as_json(result))
    if args.json == "-":
        print(line)
        return 0
    print(summary(result))
    if args.json:
        with open(args.json, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    return 0


def run_draw(args: argparse.Namespace) -> int:
    from gpugrad.draw.trace import draw
    y = imported(args.function)()
    draw(y, args.path)
    print(json.dumps({"path": args.path, "from": args.function}) if args.json else f"{args.path} drawn from {args.function}")
    return 0


def imported(name: str) -> Any:
    """The function that module:function names; modules of the current folder are found too."""
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ArgumentError(f"draw: expected module:function, got {name!r}. Name a function that returns a Tensor.")
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ArgumentError(f"draw: expected a function {attribute} in a module {module}, got {error}. "
                            "Check the name.") from error


if __name__ == "__main__":
    sys.exit(main())
