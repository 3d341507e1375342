"""The command line, `gpugrad`: info, bench, kernels, train, draw.

Exit codes: 0 done, 1 an error, a wrong result or a kernel that got worse, 2 wrong usage, 130 interrupted. An error is one line on
stderr.
"""
from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from gpugrad.errors import GpugradError
from gpugrad.version import __version__

#: name -> (module with add_arguments and run, what it does). A command's module is imported when it is asked for.
COMMANDS = {
    "info": ("gpugrad.info", "devices, versions, and why CUDA is or is not usable"),
    "bench": ("gpugrad.bench.main", "time gpugrad beside NumPy by hand and other libraries"),
    "kernels": ("gpugrad.kernels.gate", "compile every CUDA kernel, and show what it costs; no GPU needed"),
    "train": ("gpugrad.train", "train on real handwritten digits"),
    "draw": ("gpugrad.draw.command", "draw the graph of a Tensor as svg, png, html or dot"),
}
INTERRUPTED = 130          # as shells report SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        args = parse(argv)
        code = args.run(args)
        sys.stdout.flush()                                 # a closed pipe shows here, not when Python ends
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())      # so that Python's own flush at exit is quiet
        return 0
    except (GpugradError, OSError) as error:
        print(f"gpugrad: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options, with the chosen command's `run`. Only that command's module is imported."""
    parser = argparse.ArgumentParser(prog="gpugrad", description="Automatic differentiation for NumPy and CuPy arrays.")
    parser.add_argument("--version", action="version", version=f"gpugrad {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    chosen = next((word for word in argv if word in COMMANDS), None)
    for name, (module, purpose) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        if name == chosen:
            found = importlib.import_module(module)
            found.add_arguments(command)
            command.set_defaults(run=found.run)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
