"""The run as a table on the terminal, as markdown for README, and as a chart. Losses are shown like wins."""

import sys
from pathlib import Path

from gpugrad.bench.peers import ADAPTERS
from gpugrad.bench.result import Measured, Run
from gpugrad.errors import ArgumentError

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
TIE = 1.2  # medians closer than this are called a tie: one run on a shared machine tells no more
BUSY = 0.2  # cores
LEGEND = "`1.8x` beside a library: it takes 1.8 times what gpugrad takes. Below 1 (`!` where clear of a tie) gpugrad loses."


def time_text(us: float) -> str:
    """Microseconds with three digits, in the unit that reads best."""
    for limit, scale, unit in ((1e3, 1.0, "us"), (1e6, 1e3, "ms"), (float("inf"), 1e6, "s")):
        if us < limit * 0.9995:
            return f"{digits(us / scale)} {unit}"
    return ""


def digits(x: float) -> str:
    """Three significant digits, two below 1, no exponent."""
    size = abs(x)
    return f"{x:.0f}" if size >= 99.95 else f"{x:.1f}" if size >= 9.995 else f"{x:.2f}"


def number_text(m: Measured, number: float) -> str:
    return time_text(number / m.per) if m.unit == "us" else f"{digits(number)} {m.unit}"


def loses(m: Measured, variant: str) -> bool:
    """Whether this variant is clearly better than gpugrad."""
    ratio = m.ratio(variant)
    return ratio is not None and ratio < 1 / TIE


def cell(m: Measured, variant: str, notes: list[str]) -> str:
    """One variant's entry: its number and its ratio to gpugrad, or a reference to the note that says why not."""
    result = next((r for r in m.results if r.variant == variant), None)
    if result is None:
        return "-"
    if result.number is None:
        everywhere = result.problem.startswith(f"{variant}: ")  # the library is missing, whatever the case
        note = result.problem if everywhere else f"{m.case}, {variant}: {result.problem}"
        if note not in notes:
            notes.append(note)
        return ("failed" if result.problem.startswith("failed") else "missing") + f" [{notes.index(note) + 1}]"
    text = number_text(m, result.number)
    ratio = m.ratio(variant)
    if variant == "gpugrad" or ratio is None:
        return text
    return f"{text}  {digits(ratio)}x{'!' if loses(m, variant) else ''}"


def table(run: Run) -> tuple[list[str], list[list[str]], list[str]]:
    """Heads, rows and footnotes of the run."""
    variants = [name for name in ADAPTERS if any(r.variant == name for m in run.measured for r in m.results)]
    notes: list[str] = []
    rows = []
    for m in run.measured:
        per = f", per {m.part}" if m.per > 1 else ""
        floor = number_text(m, m.floor_us) if m.floor_us else "-"
        rows.append([m.case + per, *(cell(m, v, notes) for v in variants), floor])
    return ["case", *variants, "floor"], rows, notes


def head_line(run: Run) -> str:
    """Device, versions, commit: what the numbers hold for, and what they do not."""
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return (
        f"{run.device}; {versions}" + (f"; commit {run.commit}" if run.commit else "") + f"; {run.date[:10]}; medians" + busy(run)
    )


def busy(run: Run) -> str:
    """A warning where the machine was not free: threads that wait for each other were seen to be 100 times slower then."""
    if run.cores_taken < BUSY:
        return ""
    return f"; BUSY MACHINE, other processes held {run.cores_taken:.1f} cores: do not compare libraries by this run"


def footer(run: Run, notes: list[str]) -> list[str]:
    lines = [LEGEND, "floor: the measured copy bandwidth or float32 GEMM rate of this machine, whichever binds."]
    lines += [f"{m.case}: {m.title}" + (f" ({m.method})" if m.method else "") for m in run.measured]
    return lines + [f"[{i}] {note}" for i, note in enumerate(notes, 1)]


def show(run: Run) -> None:
    """Print the table; with colours where rich is installed and the terminal has them."""
    heads, rows, notes = table(run)
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        print(plain(run))
        return
    # Into a file or a pipe the width is unknown and a folded table is unreadable: as wide as it needs.
    console = Console(width=None if sys.stdout.isatty() else 240, highlight=False)
    rich_table = Table()
    for i, head in enumerate(heads):
        rich_table.add_column(head, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        style = [
            "",
            *("red" if c.endswith("!") or c.startswith("failed") else "green" if "x" in c else "" for c in row[1:]),
        ]
        rich_table.add_row(*(Text(c, style=s) for c, s in zip(row, style, strict=True)))
    console.print(Text(head_line(run)), rich_table, Text("\n".join(footer(run, notes))), sep="\n")


def plain(run: Run) -> str:
    """The table in plain text."""
    heads, rows, notes = table(run)
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]

    def line(row: list[str]) -> str:
        return "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()

    return "\n".join(
        [head_line(run), "", line(heads), line(["-" * w for w in widths]), *map(line, rows), "", *footer(run, notes)]
    )


def markdown(run: Run) -> str:
    """The table for README."""
    heads, rows, notes = table(run)
    bar = ["---", *["--:"] * (len(heads) - 1)]
    body = ["| " + " | ".join(row) + " |" for row in [heads, bar, *rows]]
    return "\n".join([head_line(run) + ".", "", *body, "", *(line + "  " for line in footer(run, notes))])


def write_readme(run: Run, path: str | Path) -> None:
    """Replace what stands between the markers in this file.

    Raises ArgumentError where the file lacks them.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ArgumentError(f"bench: expected {BEGIN} and then {END}, once each, in {path}, got neither pair. Add the two lines.")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{markdown(run)}\n{END}{after}", encoding="utf-8")


def plot(run: Run, path: str | Path) -> None:
    """A bar chart of the timed cases, logarithmic, saved as the suffix says.

    Raises ImportError with the way out where matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("bench: --plot needs matplotlib, got none. pip install gpugrad[plot]") from error
    timed = [m for m in run.measured if m.unit == "us" and any(r.number for r in m.results)]
    variants = [name for name in ADAPTERS if any(m.number(name) for m in timed)]
    figure = Figure(figsize=(2.5 + 0.28 * len(timed) * max(1, len(variants)), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.85 / max(1, len(variants))
    for i, variant in enumerate(variants):
        at = [(k + (i - (len(variants) - 1) / 2) * width, m.number(variant)) for k, m in enumerate(timed)]
        at = [(x, y / timed[k].per) for k, (x, y) in enumerate(at) if y]
        colour = "black" if variant == "gpugrad" else f"C{list(ADAPTERS).index(variant)}"  # a library keeps its colour
        axes.bar([x for x, _ in at], [y or 0.0 for _, y in at], width, label=variant, color=colour)
    axes.set_yscale("log")
    axes.set_ylabel("time, us (shorter is better)")
    axes.set_xticks(
        range(len(timed)), [m.case + (f"\nper {m.part}" if m.per > 1 else "") for m in timed], rotation=30, ha="right"
    )
    axes.set_title(head_line(run), fontsize=7, loc="left", wrap=True)
    axes.legend(fontsize=8, ncols=len(variants), loc="lower center", bbox_to_anchor=(0.5, 1.06))
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=150)
