"""What a PTX text consists of: the terms of an instruction, and instructions, variables and functions made of them."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Register:
    """A virtual register; `type` is the declared one: pred, b16, u16, f32, b64, ..."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Negated:
    """`!%p1`: the complement of a predicate."""

    register: Register


@dataclass(frozen=True, slots=True)
class Immediate:
    """A literal: `bits` of a float (type "f32" or "f64") or the value of an integer (type "int")."""

    bits: int
    type: str


@dataclass(frozen=True, slots=True)
class Symbol:
    """The name of a variable, a function, a label, or a special register such as %tid.x."""

    name: str


@dataclass(frozen=True, slots=True)
class Address:
    """`[base + offset]`."""

    base: object
    offset: int


@dataclass(frozen=True, slots=True)
class Group:
    """`{a, b}`, `a|b` or `(a, b)`."""

    items: tuple


@dataclass(frozen=True, slots=True)
class Part:
    """`%r1.b2`, `-%r1`: some bytes or halves of a register, or its negation (selector "-"), in a video instruction."""

    register: Register
    selector: str


SINK = Symbol("_")


def parts_of(operand):
    """The operands of a Group, or the one that stands alone."""
    return operand.items if isinstance(operand, Group) else (operand,)


@dataclass(slots=True)
class Instruction:
    """One instruction. `locs` runs from the innermost inlined place outwards, as pairs (file number, line)."""

    opcode: str
    operands: tuple
    guard: "Register | Negated | None"
    line: int
    locs: tuple
    text: str

    @property
    def parts(self):
        return tuple(self.opcode.split("."))


@dataclass(frozen=True, slots=True)
class Label:
    name: str


@dataclass
class Variable:
    """A module or function variable, or a parameter. `size` is None for `extern __shared__ x[]`."""

    name: str
    space: str
    type: str
    align: int
    size: int | None
    values: list = field(default_factory=list)


@dataclass
class Function:
    """An entry or a device function: body is a list of Instruction and Label; `targets` holds the .branchtargets lists."""

    name: str
    entry: bool
    params: list
    returns: list
    body: list
    variables: dict
    targets: dict
    attributes: dict


@dataclass
class Program:
    functions: dict
    variables: dict
    files: dict


SIZES = {"8": 1, "16": 2, "32": 4, "64": 8, "128": 16}


def size_of(type_name):
    """Bytes of a PTX scalar type: size_of("f32") is 4, size_of("f16x2") is 4."""
    if type_name == "pred":
        return 1
    if type_name in ("f16x2", "bf16x2", "tf32"):
        return 4
    return SIZES[type_name.lstrip("busf")]
