"""LLVM text: values with operators, functions, and their way into memory through llvmlite, with a cache of objects on disk.

LLVM's own text is compiled, not Python: a program of 2,000 operations takes Numba minutes, and LLVM seconds. A type is an
element ("f32", "f64", "i1", "i8", …) and a number of lanes; one lane is a scalar.
"""
from __future__ import annotations

import ctypes
import functools
import hashlib
import struct
from typing import Any

import numpy

from gpugrad.errors import MissingExtraError
from gpugrad.flat.stages import library, stage
from gpugrad.kernels.disk_cache import cache_folder, keep

NAMES = {"f16": "half", "f32": "float", "f64": "double"}
ELEMENTS = {numpy.dtype(name): element for name, element in (
    ("f4", "f32"), ("f8", "f64"), ("bool", "i1"), ("i1", "i8"), ("i2", "i16"), ("i4", "i32"), ("i8", "i64"))}


#: In loops it is only what float32 comes from and goes to.
HALF = numpy.dtype("f2")


def element_of(dtype: numpy.dtype) -> str:
    return "f16" if dtype == HALF else ELEMENTS[dtype]


@functools.cache
def has_halves() -> bool:
    """Whether the processor has instructions for the two casts; elsewhere LLVM would call functions that are not there."""
    return bool(llvm_binding().get_host_cpu_features().get("f16c"))


def type_text(element: str, lanes: int) -> str:
    name = NAMES.get(element, element)
    return name if lanes == 1 else f"<{lanes} x {name}>"


def constant_text(value: Any, element: str, lanes: int = 1) -> str:
    """A number as LLVM writes it; floats by their bits, those of a double for both formats."""
    if element in NAMES:
        value = float(numpy.float32(value)) if element == "f32" else float(value)
        text = f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    else:
        text = str(int(value))
    return text if lanes == 1 else "<" + ", ".join([f"{type_text(element, 1)} {text}"] * lanes) + ">"


class Node:
    """A value of a function that is being written. Operators write instructions; numbers beside it become constants."""

    __slots__ = ("body", "name", "element", "lanes")

    def __init__(self, body: Body, name: str, element: str, lanes: int):
        self.body, self.name, self.element, self.lanes = body, name, element, lanes

    @property
    def type(self) -> str:
        return type_text(self.element, self.lanes)

    @property
    def is_float(self) -> bool:
        return self.element in NAMES

    def __str__(self) -> str:
        return f"{self.type} {self.name}"

    def like(self, other: Any) -> Node:
        return other if isinstance(other, Node) else self.body.constant(other, self.element, self.lanes)

    def op(self, name: str, other: Any) -> Node:
        other = self.like(other)
        return self.body.write(f"{name} {self}, {other.name}", self.element, self.lanes)

    def __add__(self, other):
        return self.op("fadd" if self.is_float else "add", other)

    def __sub__(self, other):
        return self.op("fsub" if self.is_float else "sub", other)

    def __mul__(self, other):
        return self.op("fmul" if self.is_float else "mul", other)

    def __truediv__(self, other):
        return self.op("fdiv", other)

    def __rsub__(self, other):
        return self.like(other) - self

    def __rtruediv__(self, other):
        return self.like(other) / self

    def __and__(self, other):
        return self.op("and", other)

    def __or__(self, other):
        return self.op("or", other)

    def __xor__(self, other):
        return self.op("xor", other)

    def __lshift__(self, other):
        return self.op("shl", other)

    def __rshift__(self, other):
        return self.op("ashr", other)

    def __neg__(self):
        return self.body.write(f"fneg {self}", self.element, self.lanes) if self.is_float else self.like(0) - self

    def compare(self, how: str, other: Any) -> Node:
        """`how` as LLVM has it: olt, oeq, une, … for floats; slt, eq, … for integers."""
        other = self.like(other)
        return self.body.write(f"{'fcmp' if self.is_float else 'icmp'} {how} {self}, {other.name}", "i1", self.lanes)

    def where(self, a: Node | float, b: Node | float) -> Node:
        """a where this is true, else b; one of them is a Node."""
        one = a if isinstance(a, Node) else b
        assert isinstance(one, Node)
        return self.body.write(f"select {self}, {one.like(a)}, {one.like(b)}", one.element, one.lanes)

    def bits(self) -> Node:
        return self.body.cast("bitcast", self, "i" + self.element[1:])

    def floating(self) -> Node:
        """The float with these bits."""
        return self.body.cast("bitcast", self, "f" + self.element[1:])


class Body:
    """The instructions of one function, and the functions it needs: copies of their own, where it `inlines` them."""

    def __init__(self, module: Module, inlines: bool = True):
        self.module = module
        self.inlines = inlines
        self.lines: list[str] = []
        self.count = 0
        self.label = "entry"

    def fresh(self, hint: str = "t") -> str:
        self.count += 1
        return f"{hint}{self.count}"

    def write(self, text: str, element: str, lanes: int = 1) -> Node:
        name = "%" + self.fresh()
        self.lines.append(f"  {name} = {text}")
        return Node(self, name, element, lanes)

    def do(self, text: str) -> None:
        self.lines.append("  " + text)

    def mark(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.label = label

    def constant(self, value: Any, element: str, lanes: int = 1) -> Node:
        return Node(self, constant_text(value, element, lanes), element, lanes)

    def cast(self, how: str, x: Node, element: str) -> Node:
        return self.write(f"{how} {x} to {type_text(element, x.lanes)}", element, x.lanes)

    def intrinsic(self, name: str, *xs: Node) -> Node:
        """llvm.<name> of values of one type."""
        x = xs[0]
        mangled = f"@llvm.{name}.{f'v{x.lanes}' if x.lanes > 1 else ''}{x.element}"
        self.module.declare(f"declare {x.type} {mangled}({', '.join([x.type] * len(xs))})")
        return self.write(f"call {x.type} {mangled}({', '.join(map(str, xs))})", x.element, x.lanes)

    def fma(self, a: Node, b: Node | float, c: Node | float) -> Node:
        return self.intrinsic("fma", a, a.like(b), a.like(c))

    def call(self, function: str, x: Node) -> Node:
        return self.write(f"call {x.type} @{function}({x})", x.element, x.lanes)

    def splat(self, x: Node, lanes: int) -> Node:
        if lanes == x.lanes:
            return x
        wide = type_text(x.element, lanes)
        one = self.write(f"insertelement {wide} poison, {x}, i32 0", x.element, lanes)
        return self.write(f"shufflevector {one}, {wide} poison, <{lanes} x i32> zeroinitializer", x.element, lanes)

    def loop(self, begin: Node, end: Node, step: int = 1) -> Loop:
        """`with body.loop(begin, end) as i:` for whole steps from begin; i64. See Loop.carry for values it changes."""
        return Loop(self, begin, end, step)


class Loop:
    """for (i = begin; i < end; i += step), written while it is open."""

    def __init__(self, body: Body, begin: Node, end: Node, step: int):
        self.body, self.begin, self.end, self.step = body, begin, end, step
        self.carried: list[list[Node]] = []            # [first, x, last]

    def __enter__(self) -> Loop:
        b = self.body
        self.head, self.inside, self.done, before = b.fresh("head"), b.fresh("loop"), b.fresh("done"), b.label
        b.do(f"br label %{self.head}")
        b.mark(self.head)
        self.before = before
        self.index = Node(b, "%" + b.fresh("i"), "i64", 1)
        self.place = len(b.lines)
        b.do("")                                             # the phis, once their other ends are known
        inside = b.write(f"icmp slt {self.index}, {self.end.name}", "i1")
        b.do(f"br {inside}, label %{self.inside}, label %{self.done}")
        b.mark(self.inside)
        return self

    def carry(self, first: Node) -> Node:
        """A value that is `first` at the start and, from then on, what `update` was told. Also its value after the loop."""
        x = Node(self.body, "%" + self.body.fresh("c"), first.element, first.lanes)
        self.carried.append([first, x, x])
        return x

    def update(self, x: Node, value: Node) -> None:
        for entry in self.carried:
            if entry[1] is x:
                entry[2] = value

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind:
            return
        b = self.body
        following = b.write(f"add nsw {self.index}, {self.step}", "i64")
        end = b.label
        b.do(f"br label %{self.head}")
        b.lines[self.place] = "\n".join(
            f"  {x.name} = phi {x.type} [ {first.name}, %{self.before} ], [ {last.name}, %{end} ]"
            for first, x, last in [(self.begin, self.index, following), *self.carried])
        b.mark(self.done)


class Module:
    """Text of functions, each written once, and the declarations they need. `quick`: compiled soon rather than well."""

    def __init__(self, quick: bool = False):
        self.quick = quick
        self.parts: dict[str, str] = {}

    def declare(self, text: str) -> None:
        self.parts[text] = text

    def function(self, name: str, result: str, arguments: str, body: Body, *,
                 how: str = "", linkage: str = "") -> None:
        self.parts[name] = f"define {linkage}{result} @{name}({arguments}) {how} {{\nentry:\n" + "\n".join(body.lines) + "\n}"

    def text(self) -> str:
        declared = [t for t in self.parts.values() if t.startswith("declare")]
        return "\n\n".join(["\n".join(declared), *[t for t in self.parts.values() if not t.startswith("declare")]])


# into memory -----------------------------------------------------------------------------------------------------------

class Library:
    """Compiled text. `library[name]` is the address of a function; the code lives as long as the library."""

    def __init__(self, text: str, quick: bool = False):
        binding = llvm_binding()
        machine, mark = target(binding)
        path = cache_folder() / (hashlib.sha256(f"{mark}{quick}\n{text}".encode()).hexdigest()[:32] + ".o")
        with stage("compile"):
            try:
                code = path.read_bytes()
                library(found=True)
            except OSError:
                code = compile_object(binding, machine, text, quick)
                keep(path, code)
                library(found=False)
            self.engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
            self.engine.add_object_file(binding.object_file.ObjectFileRef.from_data(code))
            self.engine.finalize_object()

    def __getitem__(self, name: str) -> int:
        return self.engine.get_function_address(name)

    def kernel(self, name: str, *, releases: bool = False):
        """name(void** pointers, long begin, long end); `releases` lets other threads run Python meanwhile."""
        make = ctypes.CFUNCTYPE if releases else ctypes.PYFUNCTYPE
        return make(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(self[name])


def llvm_binding() -> Any:
    try:
        import llvmlite.binding as binding
    except ImportError as error:
        raise MissingExtraError("gg.compile: expected llvmlite for compiled loops, got none. Install gpugrad[jit].") from error
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


def target(binding: Any) -> tuple[Any, str]:
    """A machine for this processor, and a name for all that the object depends on."""
    features = binding.get_host_cpu_features().flatten()
    cpu = binding.get_host_cpu_name()
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="jitdefault", jit=True)
    return machine, f"{binding.llvm_version_info} {cpu} {features}\n"


def compile_object(binding: Any, machine: Any, text: str, quick: bool) -> bytes:
    module = binding.parse_assembly(text)
    module.verify()
    tuning = binding.create_pipeline_tuning_options(speed_level=0 if quick else 2)
    tuning.loop_vectorization = tuning.slp_vectorization = False       # the text has its vectors already
    passes = binding.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)
    return machine.emit_object(module)
