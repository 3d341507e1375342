"""trap, printf and assert."""

import re

import numpy as np

from . import memory
from .decode import Step, opcode
from .errors import Trap, show_index


@opcode("trap", "brkpt")
def trap(i):
    # A trap without a line is the compiler's own.
    advice = "Look at the condition before it." if i.place.line else (
        "NVRTC puts such a trap where the source does what is never defined, such as storing into a __constant__ variable, "
        "dividing by a constant 0 or following a constant null pointer.")

    def run(lanes):
        stop(i, lanes, "the kernel must not reach its trap", f"{lanes.count} threads there, the first", advice)
    return Step(run, [], [], "control", lanes=True)


def stop(i, lanes, expected, got, advice="Look at the condition before it."):
    block, thread = lanes.coordinates(0)
    place = i.place
    raise Trap(f"{place.kernel}: {expected}, got {got} thread {show_index(thread)} of block {show_index(block)}, at "
               f"{place}. {advice}", kernel=place.kernel, block=block, thread=thread,
               line=place.line, source=place.source, ptx=place.ptx)


def text_at(address):
    """The C string at a global address."""
    region = memory.SPACE.find(int(address))
    at = int(address) - region.start
    tail = bytes(region.data[at:])
    return tail[: tail.index(0)].decode("utf-8", "replace")


@opcode("__assertfail")
def assert_fail(i):
    def run(lanes, message, file, line, function, size):
        first = [value if value.ndim == 0 else value[0] for value in (message, line)]
        stop(i, lanes, f"assert({text_at(first[0])}) must hold, line {int(first[1])}", "it false in")
    message, file, line, function, size = i.operands[:5]
    return Step(run, [(message, "u64"), (file, "u64"), (line, "u32"), (function, "u64"), (size, "u64")], [], "control",
                lanes=True)


@opcode("vprintf")
def printf(i):
    """Lines go to the launch's counters (`printed`) and to standard output, in the order of the threads."""
    pattern, arguments, *result = i.operands

    def run(lanes, pattern, arguments):
        batch, counts = lanes.batch, np.zeros(lanes.count, np.uint32)
        for k in range(lanes.count):
            template = text_at(pattern if pattern.ndim == 0 else pattern[k])
            address = int(arguments if arguments.ndim == 0 else arguments[k])
            text, counts[k] = formatted(template, batch.local_bytes_of(lanes, k, address & (1 << 40) - 1) if address else b"")
            batch.counters.printed.append(text)
            print(text, end="")
        return counts
    return Step(run, [(pattern, "u64"), (arguments, "u64")], [(r, "u32") for r in result], "control", lanes=True)


CONVERSION = re.compile(r"%([-+ #0]*(?:\d*|\*)(?:\.(?:\d+|\*)?)?)(hh|h|ll|l|z|j|t)?([diouxXcsfFeEgGaAp%])")


def formatted(template, packed):
    """(text, number of arguments) of printf, with arguments as CUDA packs them: each aligned to its size, floats as doubles."""
    out, at, last, count = "", 0, 0, 0

    def take(size):
        nonlocal at, count
        start = -(-at // size) * size
        at, count = start + size, count + 1
        return bytes(packed[start: at])
    for found in CONVERSION.finditer(template):
        out += template[last: found.start()]
        last = found.end()
        flags, length, kind = found.groups()
        if kind == "%":
            out += "%"
            continue
        while "*" in flags:
            flags = flags.replace("*", str(int.from_bytes(take(4), "little", signed=True)), 1)
        wide = kind in "fFeEgGaAsp" or length in ("l", "ll", "z", "j", "t")
        out += converted(flags, length or "", kind, take(8 if wide else 4))
    return out + template[last:], count


def converted(flags, length, kind, raw):
    """One argument of printf as C writes it."""
    if kind in "aA":
        text = re.sub(r"\.?0*p", "p", np.frombuffer(raw, np.float64)[0].item().hex())
        return f"%{flags}s" % (text.upper() if kind == "A" else text)
    if kind in "fFeEgG":
        return f"%{flags}{kind}" % np.frombuffer(raw, np.float64)[0]
    if kind == "s":
        address = int.from_bytes(raw, "little")
        return f"%{flags}s" % (text_at(address) if address else "(null)")
    if kind == "p":
        return f"%{flags}s" % hex(int.from_bytes(raw, "little"))
    if kind == "c":
        return f"%{flags}c" % raw[0]
    value = int.from_bytes(raw[: {"hh": 1, "h": 2}.get(length, 8)], "little", signed=kind in "di")
    if kind == "o" and "#" in flags:
        return f"%{flags.replace('#', '')}s" % f"0{value:o}"
    return f"%{flags}{kind}" % value
