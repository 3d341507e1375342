"""From an instruction to the NumPy function that executes it, with its operands and their types.

Each family of instructions registers handlers with `@opcode(...)`. A handler looks at the modifiers once and returns a
Step. Functions get one NumPy scalar or array per operand and return fresh values: never an operand or a view of one,
because registers must not share memory.
"""

from dataclasses import dataclass

from . import modifiers
from .errors import Place, PtxError
from .syntax import SINK, Register, Symbol, parts_of
from .types import NUMPY

HANDLERS: dict = {}
ROUNDINGS = ("rn", "rz", "rm", "rp", "rna")


def opcode(*names):
    def register(handler):
        for name in names:
            HANDLERS[name] = handler
        return handler
    return register


@dataclass
class Step:
    """call(*reads) gives the writes; with `lanes`, the Lanes that execute it come first.

    marked   the same where something read may be undefined (see definedness.py): it takes the marks of the reads after
             them, and gives (writes, marks of the writes)
    """

    call: object
    reads: list
    writes: list
    kind: str
    lanes: bool = False
    marked: object = None


class Decoding:
    """One instruction while it is decoded: its modifiers by meaning, and what its symbols stand for."""

    def __init__(self, instruction, place, layout, exact):
        self.instruction, self.place, self.layout, self.exact = instruction, place, layout, exact
        self.parts, self.operands = instruction.parts, instruction.operands
        types = [part for part in self.parts[1:] if part in NUMPY]
        self.type = types[-1] if types else None
        self.types = types

    def has(self, *modifiers):
        return any(modifier in self.parts for modifier in modifiers)

    @property
    def rounding(self):
        return next((part for part in self.parts if part in ROUNDINGS), None)

    @property
    def count(self):
        return 2 if "v2" in self.parts else 4 if "v4" in self.parts else 8 if "v8" in self.parts else 1

    def step(self, call, reads, writes, kind, lanes=False):
        """A Step whose first operands are written, as the types in `writes`, and whose others are read."""
        flat = [item for operand in self.operands for item in parts_of(operand)]
        targets, sources = flat[: len(writes)], flat[len(writes):]
        if len(sources) < len(reads):
            raise self.unknown(f"with {len(reads)} sources")
        return Step(call, list(zip(sources, reads, strict=False)),
                    [(None if t == SINK else t, w) for t, w in zip(targets, writes, strict=True)], kind, lanes)

    def unknown(self, detail=""):
        text = self.instruction.text
        if self.parts[0] in ("tex", "tld4", "txq", "suld", "sust", "sured", "suq"):
            detail = "(textures and surfaces are not simulated; read through a pointer)"
        return PtxError(f"{self.place.kernel}: the simulated device must know every instruction, got `{text}`"
                        f"{' ' + detail if detail else ''} (PTX line {self.instruction.line}, {self.place}). "
                        "Add it to gpugrad/cudasim, or write the source another way.",
                        kernel=self.place.kernel, line=self.place.line, ptx=text)


def decode(instruction, place, layout, exact):
    """The Step of one instruction. Raises PtxError where the opcode, or one of its modifiers, is unknown."""
    decoding = Decoding(instruction, place, layout, exact)
    handler = HANDLERS.get(decoding.parts[0])
    if handler is None:
        raise decoding.unknown()
    strange = modifiers.unknown(decoding.parts, NUMPY)
    if strange:
        raise decoding.unknown(f"with .{strange}")
    try:
        step = handler(decoding)
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as reason:
        # A modifier, a type or a shape of operands that the handler does not provide for.
        raise decoding.unknown() from reason
    if step is None:
        raise decoding.unknown()
    if not all(target is None or isinstance(target, Register) for target, _ in step.writes):
        raise decoding.unknown("with a result that goes into no register")
    return step


def place_of(instruction, kernel, compiled, files):
    """The Place of an instruction: the innermost line that stands in the user's own source, else the innermost."""
    lines = compiled.source.splitlines()
    for file, line in instruction.locs:
        if files.get(file, "").endswith(compiled.filename) and 0 < line <= len(lines):
            return Place(kernel, compiled.filename, line, lines[line - 1].strip(), instruction.text)
    file, line = instruction.locs[0] if instruction.locs else (0, 0)
    return Place(kernel, files.get(file, "").rsplit("/", 1)[-1], line, "", instruction.text)


def copied(value):
    """A fresh value with the same elements."""
    return value.copy() if value.ndim else value


def is_special(operand):
    return isinstance(operand, Symbol) and (operand.name.startswith("%") or operand.name == "WARP_SZ")
