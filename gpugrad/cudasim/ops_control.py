"""trap, printf and assert."""

import re

import numpy as np

from . import memory
from .decode import Step, opcode
from .errors import Trap, show_index


@opcode("trap", "brkpt")
def trap(i):
    def run(lanes):
        stop(i, lanes, "the kernel must not reach its trap", f"{lanes.count} threads there, the first")
    return Step(run, [], [], "control", lanes=True)


def stop(i, lanes, expected, got):
    block, thread = lanes.coordinates(0)
    place = i.place
    raise Trap(f"{place.kernel}: {expected}, got {got} thread {show_index(thread)} of block {show_index(block)}, at "
               f"{place}. Look at the condition before it.", kernel=place.kernel, block=block, thread=thread,
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
        batch = lanes.batch
        for k in range(lanes.count):
            template = text_at(pattern if pattern.ndim == 0 else pattern[k])
            address = int(arguments if arguments.ndim == 0 else arguments[k])
            text = formatted(template, batch.local_bytes_of(lanes, k, address & (1 << 40) - 1) if address else b"")
            batch.counters.printed.append(text)
            print(text, end="")
        return np.uint32(0)
    return Step(run, [(pattern, "u64"), (arguments, "u64")], [(r, "u32") for r in result], "control", lanes=True)


def formatted(template, packed):
    """printf with arguments as CUDA packs them: each aligned to its size, floats as doubles."""

    out, at, last = "", 0, 0
    for found in re.finditer(r"%([-+ #0]*(?:\d*|\*)(?:\.(?:\d+|\*))?)(hh|h|ll|l|z)?([diouxXcsfFeEgGp%])", template):
        out += template[last: found.start()]
        last = found.end()
        flags, length, kind = found.groups()
        if kind == "%":
            out += "%"
            continue
        while "*" in flags:
            at = -(-at // 4) * 4
            flags = flags.replace("*", str(int.from_bytes(packed[at: at + 4].tobytes(), "little", signed=True)), 1)
            at += 4
        size = 8 if kind in "fFeEgGsp" or length in ("l", "ll", "z") else 4
        at = -(-at // size) * size
        raw = bytes(packed[at: at + size])
        at += size
        if kind in "fFeEgG":
            out += f"%{flags}{kind}" % np.frombuffer(raw, np.float64)[0]
        elif kind == "s":
            out += f"%{flags}s" % text_at(int.from_bytes(raw, "little"))
        elif kind == "p":
            out += hex(int.from_bytes(raw, "little"))
        elif kind == "c":
            out += chr(raw[0])
        else:
            out += f"%{flags}{kind}" % int.from_bytes(raw, "little", signed=kind in "di")
    return out + template[last:]
