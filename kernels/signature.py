"""The C signatures of the kernels in a .cu file, read from the file itself, so that the launcher can type every argument.

A launch copies bytes: a Python float where the kernel says `float` would be read as half a double, an int where it says `int`
works by luck, and nothing in CUDA or CuPy objects. `signatures(text)` finds every `__global__` function; `Signature.bind` fills
in template arguments; a bound parameter converts a Python value to the exact C type or says why it can't.

What a kernel may declare: pointers to numbers, to built-in vectors (float4) and to void; numbers by value; templates over types,
integers and bools; `acc_t<T>` and, by value, `Words<N>` of device.cuh. What it promises by declaring: `const T*` is read, `T*`
is written; a parameter with `= nullptr`, or with the word null in a comment beside it, may be None; `template <int V>` is the
vector width, so that every array of a template type is read V elements at a time and must be aligned to them.
"""
from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any, NamedTuple

import numpy

from gpugrad.arrays import short
from gpugrad.errors import ArgumentError, DtypeError, GpugradError

DTYPES = {                        # the C name of each dtype that a kernel may be instantiated with
    "float16": "__half", "bfloat16": "__nv_bfloat16", "float32": "float", "float64": "double", "bool": "bool",
    "int8": "signed char", "uint8": "unsigned char", "int16": "short", "uint16": "unsigned short",
    "int32": "int", "uint32": "unsigned int", "int64": "long long", "uint64": "unsigned long long",
}
C_TYPES = {c: name for name, c in DTYPES.items()} | {
    "half": "float16", "char": "int8", "unsigned": "uint32", "size_t": "uint64",     # `long` differs between systems: refused
    "int8_t": "int8", "uint8_t": "uint8", "int16_t": "int16", "uint16_t": "uint16",
    "int32_t": "int32", "uint32_t": "uint32", "int64_t": "int64", "uint64_t": "uint64",
}
VECTORS = {"char": "int8", "uchar": "uint8", "short": "int16", "ushort": "uint16", "int": "int32", "uint": "uint32",
           "longlong": "int64", "ulonglong": "uint64", "float": "float32", "double": "float64"}
QUALIFIERS = r"\b(?:__restrict__|__restrict|volatile|__grid_constant__)\b"
VECTOR_BYTES = 16                 # the widest load


ACCEPTED = {bool: (numpy.bool_,), int: (int, numpy.integer), float: (int, float, numpy.integer, numpy.floating)}


class SignatureError(GpugradError, ValueError):
    """A kernel declares what the launcher cannot pass."""


class Parameter(NamedTuple):
    """One parameter as written: `const T* __restrict__ x` has base "T", pointers 1, const True."""

    name: str
    base: str
    pointers: int = 0
    const: bool = False
    default: str | None = None
    nullable: bool = False


class TemplateParameter(NamedTuple):
    """`typename T` has kind "type"; `int V = 4` has kind "int" and default "4"."""

    name: str
    kind: str
    default: str | None = None


class Signature(NamedTuple):
    """One `__global__` function."""

    name: str
    templates: tuple[TemplateParameter, ...]
    parameters: tuple[Parameter, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(p.name for p in self.parameters)})"

    def expression(self, arguments: tuple) -> str:
        """The instantiation as C++ writes it: `softmax_warp<float, 4>`; template arguments are dtypes, ints, bools or C text."""
        texts = self.template_texts(arguments)
        return f"{self.name}<{', '.join(texts)}>" if self.templates else self.name

    def template_texts(self, arguments: tuple) -> tuple[str, ...]:
        given = tuple(c_text(a) for a in arguments)
        rest = tuple(t.default for t in self.templates[len(given):])
        if len(given) > len(self.templates) or None in rest:
            names = ", ".join(t.name for t in self.templates) or "none"
            raise ArgumentError(f"{self.name}: expected template arguments ({names}), got {arguments}. Pass one for each.")
        return given + rest                                             # type: ignore[operator]

    def bind(self, arguments: tuple) -> tuple[Bound, ...]:
        """The parameters with template arguments filled in. Raises SignatureError for a type that has no dtype."""
        meanings = dict(zip((t.name for t in self.templates), self.template_texts(arguments)))
        kinds = {t.name: t.kind for t in self.templates}
        width = int(meanings["V"]) if kinds.get("V") == "int" else 1
        packed = next((t.name for t in self.templates if t.kind == "type"), None)        # labels of a type I go one by one
        return tuple(self.bound(p, meanings, width if p.base == packed else 1) for p in self.parameters)

    def bound(self, p: Parameter, meanings: dict[str, str], width: int) -> Bound:
        base = " ".join(re.sub(r"\w+", lambda word: meanings.get(word[0], word[0]), p.base).split())
        if p.pointers > 1:
            return Bound(p, "uint64", 8)                                # an array of addresses
        if p.pointers and base == "void":
            return Bound(p, None, 1)
        if words := re.fullmatch(r"Words\s*<\s*(\d+)\s*>", base):
            return BoundWords(p, int(words[1]))
        dtype, elements = element_of(base)
        if dtype is None or (elements > 1 and not p.pointers) or (dtype == "bfloat16" and not p.pointers):
            raise SignatureError(
                f"{self.name}: expected parameter `{p.name}` to be a number, or a pointer to numbers or built-in vectors, "
                f"got `{base}{' *' * p.pointers}`. Declare it a plain type (float for half precision, long long for sizes).")
        size = itemsize(dtype)
        return Bound(p, dtype, min(VECTOR_BYTES, size * max(elements, width)) if p.pointers else size)


class Bound:
    """A parameter with its dtype: `convert` for a number by value; `dtype` and `alignment` for an array.

    dtype       the NumPy dtype, or None for `void*`
    alignment   what the address of an array must be a multiple of, in bytes
    """

    def __init__(self, parameter: Parameter, dtype_name: str | None, alignment: int):
        self.parameter, self.alignment = parameter, alignment
        self.name, self.nullable = parameter.name, parameter.nullable
        self.pointer = parameter.pointers > 0
        self.written = self.pointer and not parameter.const
        self.dtype = None if dtype_name is None else dtype_of(dtype_name)
        if not self.pointer:
            assert self.dtype is not None
            self.type = self.dtype.type
            self.plain, self.low, self.high = plain_range(self.dtype)

    def convert(self, value: Any, where: str) -> Any:
        """A Python or NumPy number as the exact C type. `where` names kernel and file.

        Raises DtypeError for another kind of value, ArgumentError for a number that the type cannot hold.
        """
        if type(value) is not self.plain:
            value = self.cast(value, where)
        if self.low <= value <= self.high or value != value or value in (math.inf, -math.inf):
            return self.type(value)
        raise ArgumentError(f"{where} needs `{self.name}` between {self.low} and {self.high} (declared {self.parameter.base}), "
                            f"got {value}. Split the work, or declare a wider type.")

    def cast(self, value: Any, where: str) -> Any:
        """A NumPy scalar, or an int for a float, as the plain Python number. No bool or float for an int, no array."""
        if isinstance(value, ACCEPTED[self.plain]) and (self.plain is bool or not isinstance(value, bool)):
            return value if isinstance(value, int) else self.plain(value)    # an int may lie beyond every float
        noun = "a bool" if self.plain is bool else "a real number" if self.plain is float else "an int"
        raise DtypeError(f"{where} needs {noun} as `{self.name}` (declared {self.parameter.base}), got "
                         f"{type(value).__name__} {short(value)}. Pass {noun}.")


class BoundWords(Bound):
    """`Words<N>` by value: N words of 64 bits in the launch's own arguments, which no copy to the device goes before."""

    def __init__(self, parameter: Parameter, count: int):
        super().__init__(parameter, "uint64", 8)
        self.count = count
        self.struct = numpy.dtype((numpy.void, 8 * count))

    def convert(self, value: Any, where: str) -> Any:
        """An array of N uint64 as the one struct that CuPy takes it for."""
        if not isinstance(value, numpy.ndarray) or value.dtype != self.dtype or value.shape != (self.count,):
            raise DtypeError(f"{where} needs {self.count} uint64 in a NumPy array as `{self.name}`, got {short(value)}. "
                             "Pad with 0.")
        return numpy.ascontiguousarray(value).view(self.struct)


def plain_range(dtype: numpy.dtype) -> tuple[type, Any, Any]:
    """(the Python type, lowest, highest) of the numbers that a dtype holds."""
    if dtype.kind == "b":
        return bool, False, True
    if dtype.kind == "f":
        return float, float(numpy.finfo(dtype).min), float(numpy.finfo(dtype).max)
    return int, int(numpy.iinfo(dtype).min), int(numpy.iinfo(dtype).max)


def c_text(argument: Any) -> str:
    """A template argument in C: numpy.float32 and its dtype are float, True is true, 4 is 4, text stays."""
    if isinstance(argument, str):
        return DTYPES.get(argument, argument)
    if isinstance(argument, bool | numpy.bool_):
        return "true" if argument else "false"
    if isinstance(argument, int | numpy.integer):
        return str(int(argument))
    try:
        return DTYPES[numpy.dtype(argument).name]
    except (TypeError, KeyError):
        raise DtypeError(f"kernel: expected a dtype of {', '.join(DTYPES)} as a template argument, got {argument!r}. "
                         "Cast the array.") from None


def element_of(c_type: str) -> tuple[str | None, int]:
    """("float32", 4) for float4, ("float32", 1) for float and for acc_t of anything but double; (None, 0) for no dtype."""
    if accumulator := re.fullmatch(r"acc_t\s*<\s*(\w+)\s*>", c_type):
        return ("float64" if accumulator[1] == "double" else "float32"), 1
    words = c_type.split()
    if len(words) > 1:                                                  # `long long int`, `int unsigned`
        unsigned, words = "unsigned" in words, [w for w in words if w not in ("unsigned", "signed")]
        plain = " ".join(w for w in words if w != "int" or len(words) == 1) or "int"
        if plain == "char":
            return ("uint8" if unsigned else "int8"), 1
        c_type = ("unsigned " if unsigned else "") + plain
    if c_type in C_TYPES:
        return C_TYPES[c_type], 1
    vector = re.fullmatch(r"([a-z]+)([1-4])", c_type)
    if vector and vector[1] in VECTORS:
        return VECTORS[vector[1]], {"3": 1}.get(vector[2], int(vector[2]))   # float3 is aligned as float
    return None, 0


def itemsize(dtype_name: str) -> int:
    return 2 if dtype_name == "bfloat16" else numpy.dtype(dtype_name).itemsize


def dtype_of(name: str) -> numpy.dtype:
    if name == "bfloat16":
        import ml_dtypes  # CuPy's bfloat16 is this one

        return numpy.dtype(ml_dtypes.bfloat16)
    return numpy.dtype(name)


@lru_cache(maxsize=64)
def signatures(text: str) -> dict[str, Signature]:
    """Every `__global__` function of a CUDA C++ text, by name. Raises SignatureError for two of one name."""
    clean = blanked(text)
    found: dict[str, Signature] = {}
    for start in (m.end() for m in re.finditer(r"\b__global__\b", clean)):
        named = re.compile(r"[\w\s]*\bvoid\s+(\w+)\s*\(").match(clean, start)
        if named is None:
            raise SignatureError("signature: expected `void name(...)` after __global__, got "
                                 f"{clean[start:start + 60].strip()!r}. Write the kernel's name and parameters without macros.")
        stop = closing(clean, named.end()) - 1
        signature = Signature(named[1], template_before(clean, start - len("__global__")),
                              tuple(parameter(*part) for part in split(clean, text, named.end(), stop)))
        if found.setdefault(signature.name, signature) != signature:
            raise SignatureError(f"signature: expected one kernel `{signature.name}`, got two that differ. Rename one.")
    return found


def blanked(text: str) -> str:
    """The text with comments and launch bounds blanked out, every other character where it was."""
    def blank(start: int, stop: int, within: str) -> str:
        return within[:start] + re.sub(r"[^\n]", " ", within[start:stop]) + within[stop:]

    for comment in re.finditer(r"//[^\n]*|/\*.*?\*/", text, flags=re.DOTALL):
        text = blank(*comment.span(), text)
    for bounds in re.finditer(r"__launch_bounds__\s*\(", text):
        text = blank(bounds.start(), closing(text, bounds.end()), text)
    return text


def closing(text: str, at: int) -> int:
    """The index behind the parenthesis that closes the one opened just before `at`."""
    depth = 1
    while depth and at < len(text):
        depth += (text[at] == "(") - (text[at] == ")")
        at += 1
    return at


def split(clean: str, text: str, start: int, stop: int) -> list[tuple[str, str]]:
    """The parts between commas at depth 0: (as written without comments, the comments beside it).

    A comment on the rest of a parameter's line, behind its comma, belongs to it still.
    """
    parts, depth, first, brackets = [], 0, start, "<>"
    for at in range(start, stop + 1):
        if at == stop or (clean[at] == "," and depth == 0):
            end = at
            if at < stop:
                line = text.find("\n", at)
                end = line if line != -1 and not clean[at + 1:line].strip() else at
            parts.append((clean[first:at].strip(), text[first:max(end, at)]))
            first, brackets = max(end, at + 1), "<>"
        elif clean[at] == "=" and depth == 0:
            brackets = ""                                               # in a default value, < is an operator
        elif clean[at] in "()[]{}" + brackets:
            depth += 1 if clean[at] in "([{<" else -1
    return [part for part in parts if part[0]]


def parameter(written: str, commented: str) -> Parameter:
    """`const T* __restrict__ x = nullptr` taken apart."""
    declared, _, default = (piece.strip() for piece in written.partition("="))
    declared = re.sub(QUALIFIERS, " ", declared).replace("&", " & ")
    name = re.search(r"(\w+)\s*$", declared)
    base, *_ = declared[:name.start() if name else None].split("*")
    pointers = declared.count("*")
    if not name or not base.split() or "&" in declared or "[" in declared:
        raise SignatureError(f"signature: expected `type name` or `type* name`, got `{written}`. Declare a pointer or a number.")
    words = base.split()
    comments = " ".join(re.findall(r"//[^\n]*|/\*.*?\*/", commented, flags=re.DOTALL))
    nullable = pointers > 0 and (default in ("nullptr", "NULL", "0") or bool(re.search(r"\bnull\b", comments, re.IGNORECASE)))
    return Parameter(name[1], " ".join(w for w in words if w != "const"), pointers, "const" in words, default or None, nullable)


def template_before(clean: str, at: int) -> tuple[TemplateParameter, ...]:
    """The parameters of the `template <...>` that ends just before `at`, save for `static` and the like."""
    head, longer = clean[:at].rstrip(), ""
    while head != longer:                                               # not one regex: blanked comments are long runs of spaces
        longer, head = head, re.sub(r"\b(?:static|inline)$", "", head).rstrip()
    if not head.endswith(">"):
        return ()
    depth, start = 0, len(head)
    while start and (depth or start == len(head)):
        start -= 1
        depth += (head[start] == ">") - (head[start] == "<")
    if not re.search(r"\btemplate\s*$", head[:start]):
        return ()
    result = []
    for written, _ in split(head, head, start + 1, len(head) - 1):
        declared, _, default = (piece.strip() for piece in written.partition("="))
        *words, name = declared.split()
        kind = "type" if words[0] in ("typename", "class") else "bool" if words == ["bool"] else "int"
        result.append(TemplateParameter(name, kind, default or None))
    return tuple(result)
