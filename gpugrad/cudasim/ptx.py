"""PTX text to functions, variables and instructions. Nothing here knows what an instruction does.

The grammar that matters: statements end with `;`, scopes are braces, labels end with `:`, and `.loc` and `.file` end with
their line. Registers live in scopes; each declaration gets a name of its own here, so that later stages need no scopes.
"""

import re

from .errors import PtxError
from .syntax import (
    Address,
    Function,
    Group,
    Immediate,
    Instruction,
    Label,
    Negated,
    Part,
    Program,
    Register,
    Symbol,
    Variable,
    size_of,
)


def parse(text):
    """The Program in a PTX text. Raises PtxError, with the line, where the text is not understood."""
    return Parser(text).run()


class Parser:
    def __init__(self, text):
        self.program = Program({}, {}, {})
        self.lines = text.splitlines()
        self.locs: tuple = ()

    def run(self):
        function, pending, start, depth = None, "", 0, 0
        for number, raw in enumerate(self.lines, 1):
            line = raw.split("//", 1)[0].strip()
            if not line or line.startswith((".version", ".target", ".address_size")):
                continue
            if line.startswith(".section"):
                break
            if re.match(r"\.(loc|file)\b", line):
                self.position(line)
                continue
            start = start if pending else number
            pending += " " + line
            if function is None:
                pending, function = self.outside(pending.strip(), start)
                depth = 0
                if function is None:
                    continue
                pending = pending[1:]
            pending, depth = self.inside(function, pending.lstrip(), start, depth)
            if depth < 0:
                function.finish()
                function, pending = None, pending.strip()
        self.files_after_sections()
        return self.program

    def files_after_sections(self):
        for line in self.lines:
            if line.lstrip().startswith(".file"):
                self.position(line.strip())

    def position(self, line):
        if line.startswith(".file"):
            _, number, name = line.split(None, 2)
            self.program.files[int(number)] = name.split('"')[1]
            return
        pairs = re.findall(r"(?:\.loc|inlined_at)\s+(\d+)\s+(\d+)", line)
        locs = tuple((int(file), int(row)) for file, row in pairs)
        # `.loc 1 0 3` says that the code belongs to no line: keep the last one that it did belong to.
        if locs and locs[0][1]:
            self.locs = locs

    def outside(self, text, line):
        """Module scope: returns what is left of the text, and the function whose body begins, if one does."""
        is_function = re.match(r"(\.(extern|visible|weak|noinline|common)\s+)*\.(func|entry)\b", text)
        brace = re.search(r"\)\s*((\.[a-z]+(\s+[\d, ]+)?\s*)*)\{$" if is_function else r"(?!)", text)
        if is_function and (brace or re.search(r"(\.entry|\.func)\s+[\w$]+\s*\{$", text)):
            return "{", self.function(text[:-1].strip(), line)
        if is_function:
            return ("" if text.endswith(";") else text), None
        if not text.endswith(";"):
            return text, None
        if not text.startswith((".pragma", ".alias")):
            for variable in declarations(text[:-1], line):
                self.program.variables[variable.name] = variable
        return "", None

    def function(self, header, line):
        found = re.match(
            r"(?:\.(?:extern|visible|weak|noinline|common)\s+)*\.(func|entry)\s*(\((?P<returns>[^)]*)\))?\s*"
            r"(?P<name>[\w$]+)\s*(\((?P<params>[^)]*)\))?(?P<rest>.*)$", header)
        if not found:
            raise PtxError(f"PTX line {line}: a function header was expected, got `{header}`. Report it with the PTX.")
        params = [v for text in split_list(found["params"] or "") for v in declarations(text, line)]
        returns = [v for text in split_list(found["returns"] or "") for v in declarations(text, line)]
        attributes = {key: [int(n) for n in value.split(",") if n.strip()]
                      for key, value in re.findall(r"\.([a-z]\w*)([\d\s,]*)", found["rest"])}
        function = Function(found["name"], found[1] == "entry", params, returns, [], {}, {}, attributes)
        self.program.functions[function.name] = function
        return Body(function, self)

    def inside(self, body, text, line, depth):
        """Consume whole statements of a body; returns the unfinished rest and the brace depth (below zero: it ended)."""
        while text:
            if text[0] in "{}":
                depth += 1 if text[0] == "{" else -1
                if depth < 0:
                    return text[1:], depth
                body.scope(text[0])
                text = text[1:].lstrip()
                continue
            label = re.match(r"([\w$%]+)\s*:(?!:)\s*", text)
            if label:
                rest = text[label.end():]
                if rest.startswith((".branchtargets", ".calltargets", ".callprototype")):
                    if ";" not in rest:
                        return text, depth
                    statement, text = rest.split(";", 1)
                    names = re.findall(r"[\w$]+", statement.split(None, 1)[1])
                    body.function.targets[body.label(label[1])] = [body.label(name) for name in names]
                else:
                    body.function.body.append(Label(body.label(label[1])))
                    text = rest
                text = text.lstrip()
                continue
            if ";" not in text:
                return text, depth
            statement, text = text.split(";", 1)
            text = text.lstrip()
            if statement.strip():
                body.statement(" ".join(statement.split()), line, self.locs)
        return text, depth


class Body:
    """A function while it is read: scopes of registers, then instructions with their operands resolved."""

    def __init__(self, function, parser):
        self.function, self.parser = function, parser
        self.scopes, self.opened = [Scope("")], 0

    def scope(self, brace):
        if brace == "}":
            self.scopes.pop()
            return
        self.opened += 1
        self.scopes.append(Scope(f"~{self.opened}"))

    def finish(self):
        self.function.body.append(Label("<end>"))

    def label(self, name):
        # Labels declared in the scopes of inline assembly repeat; the scope in which one stands tells them apart.
        return name if name.startswith("$") or len(self.scopes) == 1 else name + self.scopes[-1].suffix

    def statement(self, text, line, locs):
        if text.startswith(".reg"):
            self.scopes[-1].declare(text)
        elif text.startswith(".pragma"):
            pass
        elif text.startswith("."):
            for variable in declarations(text, line):
                renamed = variable.name + self.scopes[-1].suffix
                self.scopes[-1].variables[variable.name] = renamed
                variable.name = renamed
                self.function.variables[renamed] = variable
        else:
            found = re.match(r"(?:@(!?)([\w$%]+)\s+)?([a-z][\w.:]*)\s*(.*)$", text)
            if not found:
                raise PtxError(f"PTX line {line}: an instruction was expected, got `{text}`. Report it with the PTX.")
            guard = self.resolve(found[2], line) if found[2] else None
            guard = Negated(guard) if guard is not None and found[1] else guard
            operands = tuple(self.operand(part, line) for part in split_list(found[4]))
            if found[3].startswith(("bra", "brx")):
                operands = tuple(Symbol(self.label(o.name)) if isinstance(o, Symbol) else o for o in operands)
            self.function.body.append(
                Instruction(found[3].replace("::", "-"), operands, guard, line, locs, text))

    def operand(self, text, line):
        text = text.strip()
        if text[0] == "[":
            return self.address(text[1:-1].strip(), line)
        if text[0] in "{(":
            return Group(tuple(self.operand(part, line) for part in split_list(text[1:-1])))
        if "|" in text:
            return Group(tuple(self.operand(part, line) for part in text.split("|")))
        if text[0] == "!":
            return Negated(self.resolve(text[1:].strip(), line))
        return self.resolve(text, line)

    def address(self, text, line):
        base, sign, offset = re.findall(r"^(.+?)\s*(?:([+-])\s*(-?\w+))?$", text)[0]
        if re.fullmatch(r"-?\d\w*", text):
            return Address(Immediate(0, "int"), integer(text))
        distance = integer(offset) * (-1 if sign == "-" else 1) if offset else 0
        return Address(self.resolve(base.strip(), line), distance)

    def resolve(self, text, line):
        if re.match(r"0[fF][0-9a-fA-F]{8}$", text):
            return Immediate(int(text[2:], 16), "f32")
        if re.match(r"0[dD][0-9a-fA-F]{16}$", text):
            return Immediate(int(text[2:], 16), "f64")
        if re.match(r"-?\d", text):
            if re.fullmatch(r"-?\d+\.\d*(e[+-]?\d+)?", text):
                raise PtxError(f"PTX line {line}: literals in hexadecimal were expected, got `{text}`. Write 0f or 0d.")
            return Immediate(integer(text), "int")
        part = re.fullmatch(r"(-?)(%?\w+)(?:\.([bh]\d{1,4}))?", text)
        if part and (part[1] or part[3]):
            return Part(self.resolve(part[2], line), part[1] or part[3])
        for scope in reversed(self.scopes):
            found = scope.register(text)
            if found:
                return found
            if text in scope.variables:
                return Symbol(scope.variables[text])
        return Symbol(text)


class Scope:
    def __init__(self, suffix):
        self.suffix = suffix
        self.names: dict[str, Register] = {}
        self.ranges: dict[str, tuple[str, int]] = {}  # %r<9> as its type and its size
        self.variables: dict[str, str] = {}

    def declare(self, text):
        kind, names = text.removeprefix(".reg").strip().removeprefix(".").split(None, 1)
        for name in split_list(names):
            span = re.fullmatch(r"([\w$%]+)<(\d+)>", name)
            if span:
                self.ranges[span[1]] = (kind, int(span[2]))
            else:
                self.names[name] = Register(name + self.suffix, kind)

    def register(self, name):
        if name not in self.names:
            found = re.fullmatch(r"(.*?)(\d+)", name)
            if not found or int(found[2]) >= self.ranges.get(found[1], ("", 0))[1]:
                return None
            self.names[name] = Register(name + self.suffix, self.ranges[found[1]][0])
        return self.names[name]


def integer(text):
    text = text.rstrip("U")
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text)
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        return sign * int(digits, 8)
    return sign * int(digits, 0)


def split_list(text):
    """Split at the commas outside brackets."""
    parts, depth, current = [], 0, ""
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += character
    return [*parts, current.strip()] if current.strip() else parts


def declarations(text, line):
    """Variables in one declaration: `.global .align 4 .b8 name[16] = {0, 1}` and its like."""
    head, _, tail = text.partition("=")
    head = re.sub(r"\.attribute\([^)]*\)\s*", "", head)  # .managed: all memory is the host's here
    head = re.sub(r"\.ptr(\s+\.(global|shared|const|local))?(\s+\.align\s+\d+)?\s+", "", head)
    found = re.match(
        r"((?:\.[a-z]\w*(?:\s+\d+(?=\s))?\s*)*?)\.(v[24]\s+\.)?(pred|b?f\d+|[bsu]\d+|f16x2)\s+(.*)$", head.strip())
    if not found:
        raise PtxError(f"PTX line {line}: a declaration was expected, got `{text}`. Report it with the PTX.")
    words = re.findall(r"\.([a-z]\w*)", found[1])
    space = next((w for w in words if w in ("global", "shared", "const", "local", "param")), "param")
    explicit = re.search(r"\.align\s+(\d+)", found[1])
    width = size_of(found[3]) * (int(found[2][1]) if found[2] else 1)
    align = int(explicit[1]) if explicit else width
    values = re.findall(r"generic\([^)]*\)|[^\s,{}]+", tail)
    out = []
    for name in split_list(found[4]):
        shape = re.fullmatch(r"([\w$%]+)((?:\[\d*\])*)", name.strip())
        if not shape:
            raise PtxError(f"PTX line {line}: a variable name was expected, got `{name}`. Report it with the PTX.")
        counts, size = re.findall(r"\[(\d*)\]", shape[2]), width
        for count in counts:
            size = size * int(count) if count and size is not None else None
        out.append(Variable(shape[1], space, found[3], align, size, values))
    return out
