"""`gpugrad draw module:function`: the graph of the Tensor, or the steps of the program, that a function returns."""
from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import sys
from typing import Any

from gpugrad.arrays import short
from gpugrad.draw.trace import draw
from gpugrad.errors import ArgumentError
from gpugrad.graph.tensor import Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `gpugrad draw`."""
    parser.add_argument("function", metavar="module:function",
                        help="a function without arguments that returns a Tensor or a compiled program")
    parser.add_argument("path", nargs="?", default="graph.svg", help="ends in .svg, .html, .png or .dot (default: graph.svg)")
    parser.add_argument("--limit", type=int, default=150, metavar="N", help="fold the graph to about N nodes; 0 draws all")
    parser.add_argument("--json", action="store_true", help="say what was written as JSON")


def run(args: argparse.Namespace) -> int:
    """Do what the parsed options say."""
    y = result_of(args.function)
    draw(y, args.path, limit=args.limit or None)
    print(json.dumps({"path": args.path, "bytes": os.path.getsize(args.path)}) if args.json else f"wrote {args.path}")
    return 0


def result_of(name: str) -> Any:
    """Call module:function, with the current folder on the path as `python -m` has it."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ArgumentError(f"draw: expected module:function, got {name!r}. "
                            "For example lecture:neuron for neuron() in lecture.py.")
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ArgumentError(f"draw: expected a module that can be imported, got {module!r} ({error}). "
                            "Run it where the file is.") from error
    finally:
        sys.path.remove(os.getcwd())
    function = getattr(found, attribute, None)
    if not callable(function):
        raise ArgumentError(f"draw: expected a function {attribute!r} in {module}, got "
                            f"{short(function)}. Check the name.")
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError) as error:               # ValueError: a builtin that does not say what it takes
        raise ArgumentError(f"draw: expected a function without arguments, got {name} ({error}). Wrap it in one that calls it, "
                            "such as lambda: f(gg.tensor(1.0, requires_grad=True)).") from error
    y = function()
    if not isinstance(y, Tensor) and not hasattr(y, "kernels"):
        raise ArgumentError(f"draw: expected {name} to return a Tensor or a program, got {short(y)}. Return what is to be drawn.")
    return y
