"""The command line: `gpugrad bench` and `python -m gpugrad.bench`, where `gpu` as the first word means gpu.py.

On the simulated device nothing is timed: there `bench` prints the score.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import gpugrad.bench.cases  # noqa: F401  fills the registry
from gpugrad.bench import report
from gpugrad.bench.case import Case, select
from gpugrad.bench.peers import ADAPTERS, ALWAYS, MissingPeer, Peer, load
from gpugrad.bench.result import Run, append
from gpugrad.bench.roofline import cores_taken, cpu_name, roofline
from gpugrad.bench.runner import measure
from gpugrad.errors import ArgumentError, GpugradError, require

QUICK = ("w1", "w2", "w4", "w7b", "w3")
QUICK_SECONDS, SECONDS = 0.6, 3.0  # timed for each variant of a case, at most
BUDGET = 300.0  # seconds for all cases together, first steps and compilation included; gauges come after it
LEAST = 0.05  # of them for each variant of a case, whatever is left


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser, or a subcommand's, the benchmark's options."""
    parser.add_argument("cases", nargs="*", metavar="case", help="numbers (w3), words (mlp) or whole names; all by default")
    parser.add_argument(
        "--against",
        default="",
        metavar="LIBS",
        help="comma-separated: " + ", ".join(n for n in ADAPTERS if n not in ALWAYS),
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...; sim prints the score (default: auto)")
    parser.add_argument("--quick", action="store_true", help="five cases, small budgets: under half a minute without peers")
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help=f"timed for each variant, at most (default: {SECONDS:g}, quick {QUICK_SECONDS:g})",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="S",
        default=BUDGET,
        help=f"for all timed cases together, compilation included: what is left is shared fairly (default: {BUDGET:g})",
    )
    parser.add_argument("--json", metavar="FILE", help="append one JSON line per measurement")
    parser.add_argument("--plot", metavar="FILE", help="bar chart, as png, svg or pdf (needs matplotlib)")
    parser.add_argument("--readme", metavar="FILE", help=f"rewrite the table between {report.BEGIN} and {report.END}")
    parser.add_argument("--full", action="store_true", help="of the score, the transformer block at full size: minutes")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")


def run(args: argparse.Namespace) -> int:
    """Do what the parsed options say; 0, or 1 where a gpugrad variant failed."""
    if args.list:
        for entry in select():
            kind = "timed" if isinstance(entry, Case) else entry.unit
            print(f"{entry.name:22}{kind:8}{entry.title}")
        return 0
    if args.device.partition(":")[0] == "sim":
        return print_score(args.device, args.full, args.json)
    require("bench", "--seconds", args.seconds, args.seconds is None or args.seconds > 0, "above 0")
    require("bench", "--budget", args.budget, args.budget > 0, "above 0")
    if args.plot:                                                        # before minutes of timing, not after them
        known = args.plot.endswith((".png", ".svg", ".pdf"))
        require("bench", "--plot", args.plot, known, "with a path that ends in .png, .svg or .pdf")
        require("bench", "--plot", args.plot, find_spec("matplotlib") is not None, "with matplotlib (pip install gpugrad[plot])")
    against = [name for name in args.against.split(",") if name]
    found = (lambda one: append(one, args.json)) if args.json else None  # a run that is broken off has left what it found
    done = bench(args.cases, against, args.device, args.quick, args.seconds, args.budget, found)
    report.show(done)
    if args.plot:
        report.plot(done, args.plot)
    if args.readme:
        report.write_readme(done, args.readme)
    ours = [r for m in done.measured for r in m.results if r.variant == "gpugrad"]
    return 1 if any(r.problem for r in ours) else 0


def print_score(device: str, full: bool, file: str | None) -> int:
    """Print the score, and append it to a file as one line; 0, or 1 where a kernel got worse or a step does not repeat."""
    from gpugrad.bench import score

    scores, steps = score.collect(device, full)
    print(score.show(scores, steps, device))
    if file:
        with open(file, "a", encoding="utf-8") as out:
            out.write(score.as_json(scores, steps, device) + "\n")
    return 1 if any(s.passed is False for s in scores if s.id in score.FATAL) else 0


def bench(
    cases: Sequence[str] = (),
    against: Sequence[str] = (),
    device: str = "auto",
    quick: bool = False,
    seconds: float | None = None,
    budget: float = BUDGET,
    found: Callable[[Run], None] | None = None,
) -> Run:
    """Measure cases against libraries, and return what was found.

    cases     names as `select` takes them; none means all, or with `quick` the five quick ones
    against   libraries beside gpugrad and NumPy by hand, by the names in peers/
    device    "auto", "cpu", or a device of gpugrad's; other than on the CPU, NumPy by hand serves as reference only
    seconds   timed for each variant, at most
    budget    seconds for all timed cases together, first steps included; each gets its share of what those before it left
    found     called after each case with a run of it alone

    Raises ArgumentError for a case or library of no known name; a library that is not installed is reported.
    """
    unknown = [name for name in against if name not in ADAPTERS]
    if unknown:
        raise ArgumentError(
            f"bench: expected libraries among {', '.join(ADAPTERS)}, got {', '.join(unknown)}. Correct --against."
        )
    chosen = select(cases or (QUICK if quick else ()))
    device = named(device)
    names = [name for name in ADAPTERS if name in ALWAYS or name in against]
    if device != "cpu":
        names = [name for name in names if not name.startswith("numpy")]
    peers, missing = present(names, device)
    done = Run(describe(device), versions(peers), cores_taken=cores_taken())
    most = seconds or (QUICK_SECONDS if quick else SECONDS)
    roof = roofline()
    end = time.monotonic() + budget
    for i, entry in enumerate(chosen):
        share = (end - time.monotonic()) / max(1, sum(isinstance(e, Case) for e in chosen[i:]))
        done.measured.append(measure(entry, peers, missing, min(most, max(LEAST, share / 1.2 / len(peers))), roof, say))
        if found:
            found(dataclasses.replace(done, measured=done.measured[-1:]))
    say("")
    return done


def present(names: Sequence[str], device: str) -> tuple[list[Peer], dict[str, str]]:
    """The adapters of the libraries that are installed, and why the others are not there."""
    peers, missing = [], {}
    for name in names:
        say(f"importing {name}")
        try:
            peers.append(load(name, device))
        except MissingPeer as error:
            missing[name] = str(error)
    return peers, missing


def versions(peers: Sequence[Peer]) -> dict[str, str]:
    """Library -> version, each once."""
    return {peer.library: peer.version for peer in peers}


def named(device: str) -> str:
    """A device of gpugrad's that is there, its own default for "auto"; DeviceError for any other."""
    import gpugrad

    return str(gpugrad.default_device() if device == "auto" else gpugrad.device(device))


def describe(device: str) -> str:
    """The device in words, for the head of the table and the records."""
    return cpu_name() if device == "cpu" else f"{device} on {cpu_name()}"


def say(line: str) -> None:
    """Progress on the terminal, one line that overwrites itself; nothing where nobody watches."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K" + line[:100])
        sys.stderr.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m gpugrad.bench`."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["gpu"]:
        from gpugrad.bench import gpu

        return gpu.main(words[1:])
    parser = argparse.ArgumentParser(prog="gpugrad bench", description="Time gpugrad beside NumPy by hand and other libraries.")
    add_arguments(parser)
    try:
        return run(parser.parse_args(words))
    except (GpugradError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
