"""What the simulated device reports, one class per cause.

Messages read `<kernel>: <what was expected>, got <live values>. <next step>`; the same facts stand in the attributes
(`kernel`, `block`, `thread`, `address`, `array`, `line`, `source`, `ptx`), so that a test need not parse text.
"""

from dataclasses import dataclass


class SimError(Exception):
    """Anything the simulated device refuses; the facts that are known hang on it as attributes."""

    kernel = block = thread = address = array = line = source = ptx = None

    def __init__(self, message, **facts):
        super().__init__(message)
        for name, value in facts.items():
            setattr(self, name, value)


class CompileError(SimError, RuntimeError):
    """NVRTC refused the source, or NVRTC itself was not found; `log` holds what the compiler said."""

    log = ""


class PtxError(SimError, NotImplementedError):
    """The PTX uses an instruction or a feature that the executor does not have."""


class ArgumentError(SimError, TypeError):
    """The arguments of a launch do not fit the kernel's parameters, or the grid does not fit the device."""


class MemoryFault(SimError, RuntimeError):
    """A load, store or atomic that touches memory it must not."""


class OutOfBounds(MemoryFault):
    """The address lies outside every array, or the access runs over the end of one."""


class Misaligned(MemoryFault):
    """The address is no multiple of the access size; on a real device this error kills the context."""


class Uninitialised(MemoryFault):
    """The bytes were never written, and what a load found there was used."""

    access = None  # the Access that met them


class StackOverflow(MemoryFault):
    """A thread's calls need more memory than its stack has."""


class StaleMemory(MemoryFault):
    """A captured graph would touch memory that was freed and belongs to others now."""


class ReadOnly(MemoryFault):
    """A store into memory that the kernel may only read."""


class Race(SimError, RuntimeError):
    """Two threads touch one address, at least one of them writes, and nothing orders the two."""


class BarrierDivergence(SimError, RuntimeError):
    """Threads wait at a barrier that the others of their block do not reach."""


class WarpDivergence(SimError, RuntimeError):
    """A shuffle, vote or match whose mask does not name the lanes that execute it."""


class Trap(SimError, RuntimeError):
    """The kernel ran a trap, or a device-side assert failed."""


class DivisionByZero(SimError, ZeroDivisionError):
    """An integer was divided by zero: C++ leaves the result undefined, and a device says nothing."""


class Timeout(SimError, RuntimeError):
    """The kernel did not end within the step limit."""


@dataclass(frozen=True)
class Place:
    """Where in the user's source and in the PTX an instruction stands."""

    kernel: str
    file: str
    line: int
    source: str
    ptx: str

    def __str__(self):
        if self.line:
            return f"{self.file}:{self.line}: `{self.source}`" if self.source else f"{self.file}:{self.line}"
        return f"PTX `{self.ptx}`"


def show_index(index):
    return "(" + ", ".join(str(int(i)) for i in index) + ")"
