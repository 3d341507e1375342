"""A .cu file and its compiled kernels: NVRTC through the array module's own `RawModule`, once per device and instantiation.

    SOFTMAX = Source("softmax.cu")
    launch(SOFTMAX, "softmax_warp", (x.dtype,), grid, block, (x, y, rows, cols))

An array module is CuPy, or a stand-in that keeps these of its names: RawModule(code=, options=, name_expressions=) with
get_function(name); cuda.Device(id), cuda.runtime.getDevice(), cuda.compiler.CompileException. Nothing here imports it: it comes
from the arrays of the first launch. CuPy keeps compiled kernels on disk by source, options, architecture and NVRTC version, so
`#include "device.cuh"` is pasted in (with #line, so that messages name the right file): a change there must miss that cache.

CuPy compiles with -ftz=true, whatever we ask: single-precision subnormals are zero on the GPU. Division and square roots stay
exact, and fast-math is off.
"""
from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from gpugrad.errors import ArgumentError, GpugradError, MissingExtraError
from gpugrad.kernels.signature import Bound, Signature, signatures

FOLDER = Path(__file__).parent
SHOWN, GENERATED = "kernels", "generated"  # folder names in messages and #line
STANDARD = "-std=c++17"
INCLUDE = r'(?m)^[ \t]*#[ \t]*include[ \t]+"([\w.]+)"[^\n]*$'
LOCATED = r"(?P<file>[^()\n]*)\((?P<line>\d+)\): (?:catastrophic )?(?P<kind>error|warning|remark)[^:]*: (?P<said>.*)"
HALF = ("__half", "__nv_bfloat16")
INSTALL = "pip install gpugrad[cuda13], or gpugrad[cuda12] for an older driver"

SOURCES: dict[str, Source] = {}          # every Source by file name, for the compile gate


class KernelCompileError(GpugradError, RuntimeError):
    """NVRTC refused a kernel. The message shows file, line and text; `log` is NVRTC's own."""

    def __init__(self, message: str, log: str = ""):
        super().__init__(message)
        self.log = log


class Instance(NamedTuple):
    """One instantiation: its name expression, its typed parameters, and `where`, the opening of every message about it.

    never_empty  it declares no array that it writes, so a launch counts as work whatever the sizes
    """

    expression: str
    parameters: tuple[Bound, ...]
    where: str
    never_empty: bool


class Source:
    """One .cu file beside this module, or a generated text under a file's name.

    file       "softmax.cu"
    instances  kernel -> the template arguments that it may be launched with: {"softmax_warp": [("float32",), ("float64",)]}.
               The compile gate compiles these, and a launch of anything else is an ArgumentError. None: any, and no gate.
    text       the CUDA C++ itself, where it is generated rather than read

    A Source reads nothing until its first use.
    """

    def __init__(self, file: str, instances: Mapping[str, Iterable[tuple]] | None = None, text: str | None = None):
        self.file, self.instances, self._text = file, instances, text
        self.shown = f"{SHOWN}/{file}" if text is None else f"{GENERATED}/{file}"
        self._instances: dict[tuple, Instance] = {}
        self._functions: dict[tuple, Any] = {}
        if text is None or instances is not None:
            SOURCES[file] = self

    @cached_property
    def text(self) -> str:
        return (FOLDER / self.file).read_text() if self._text is None else self._text

    @cached_property
    def code(self) -> str:
        """The text that NVRTC sees: the file with its own headers pasted in."""
        return pasted(self.text, self.shown, set())

    @cached_property
    def signatures(self) -> dict[str, Signature]:
        return signatures(self.text)

    @cached_property
    def declared(self) -> frozenset[str] | None:
        """The name expressions of `instances`."""
        if self.instances is None:
            return None
        return frozenset(self.signature(kernel).expression(tuple(arguments))
                         for kernel, each in self.instances.items() for arguments in each)

    def signature(self, kernel: str) -> Signature:
        try:
            return self.signatures[kernel]
        except KeyError:
            raise ArgumentError(f"{kernel}: expected a kernel of {self.shown}, which has {', '.join(self.signatures) or 'none'}, "
                                f"got {kernel!r}. Correct the name.") from None

    def bind(self, kernel: str, template_args: tuple = ()) -> Instance:
        """One instantiation of a kernel, typed. Needs no device and no compiler."""
        key = (kernel, template_args)
        try:
            return self._instances[key]
        except KeyError:
            signature = self.signature(kernel)
            expression = signature.expression(template_args)
            if self.declared is not None and expression not in self.declared:
                raise ArgumentError(f"{kernel}: {self.shown} declares the instances {', '.join(sorted(self.declared))}, "
                                    f"got {expression}. Cast the arrays, or add it to instances=.") from None
            bound = signature.bind(template_args)
            instance = Instance(expression, bound, f"{kernel}: {self.shown}", not any(p.written for p in bound))
            return self._instances.setdefault(key, instance)

    def function(self, xp: Any, device: int, expression: str) -> Any:
        """The compiled kernel of a name expression on a device, which must be the current one. Compiles on first use."""
        try:
            return self._functions[xp, device, expression]
        except KeyError:
            self.prepare(xp, device, (expression,))
            return self._functions[xp, device, expression]

    def prepare(self, xp: Any, device: int, expressions: Iterable[str]) -> None:
        """Compile and load instantiations together, ahead of use: a stream capture must find them loaded."""
        missing = tuple(e for e in expressions if (xp, device, e) not in self._functions)
        if not missing:
            return
        try:
            module = xp.RawModule(code=self.code, options=self.options(missing), name_expressions=missing)
            for expression in missing:
                self._functions[xp, device, expression] = module.get_function(expression)
        except xp.cuda.compiler.CompileException as error:
            raise KernelCompileError(explain(str(error), self.shown, missing), str(error)) from error
        except (ImportError, OSError, RuntimeError) as error:
            if isinstance(error, GpugradError) or not missing_library(error):
                raise
            raise MissingExtraError(
                f"{missing[0]}: {self.shown} needs the CUDA compiler NVRTC, got none ({str(error).strip().splitlines()[0]}). "
                f"Install it with pip install nvidia-cuda-nvrtc, or {INSTALL}.") from error

    def options(self, expressions: Iterable[str]) -> tuple[str, ...]:
        """The options that we hand to CuPy; `all_options` adds its own."""
        if not any(half in e for e in expressions for half in HALF):
            return (STANDARD,)
        folder = cuda_headers()
        if folder is None:
            raise MissingExtraError(f"{self.file}: half precision needs the header cuda_fp16.h, got no folder that has it. "
                                    f"Install it with pip install nvidia-cuda-runtime, or {INSTALL}.")
        return (STANDARD, f"-I{folder}")


def generated_source(name: str, text: str) -> Source:
    """A Source of generated text, in a file whose name tells it from other texts of that name."""
    import hashlib  # which takes as long as all of kernels to import
    return Source(f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.cu", text=text)


def all_options(options: tuple[str, ...], arch: str) -> tuple[str, ...]:
    """What NVRTC gets when CuPy 14 compiles for "sm_90" with these options; the compile gate uses it."""
    return (*options, "-ftz=true", f"-arch={arch}", "--device-as-default-execution-space")


def pasted(text: str, shown: str, seen: set[str]) -> str:
    """The text with `#include "x.cuh"` replaced by that file, once each, and #line before and after."""
    def paste(found: re.Match) -> str:
        line, name = text.count("\n", 0, found.start()) + 1, found[1]
        if name in seen:
            return ""
        seen.add(name)
        try:
            header = (FOLDER / name).read_text()
        except OSError:
            raise KernelCompileError(f"{shown}:{line}: expected a header in {SHOWN}/, got {name!r}. Correct the name.") from None
        return f'{pasted(header, f"{SHOWN}/{name}", seen)}\n#line {line + 1} "{shown}"'

    return f'#line 1 "{shown}"\n{re.sub(INCLUDE, paste, text)}'


def explain(log: str, shown: str, expressions: tuple[str, ...]) -> str:
    """NVRTC's errors, each with file:line, the line's text and a caret; warnings and remarks left out."""
    shown_errors: list[str] = []
    keeping = False
    for line in log.splitlines():
        located = re.match(LOCATED, line)
        if located:
            keeping = located["kind"] == "error"
            if keeping:                                    # NVRTC may put the folder of its own temporary file before ours
                file = re.sub(rf".*/(?=({SHOWN}|{GENERATED})/)", "", located["file"])
                shown_errors.append(f"{file}:{located['line']}: {located['said']}")
        elif not line.strip() or re.match(r"\d+ errors? detected|Remark:", line):
            keeping = False
        elif keeping:
            shown_errors.append(f"  {line}")
    said = "\n".join(shown_errors) or log.strip() or "no message"
    kernel = expressions[0].partition("<")[0]
    return f"{kernel}: {shown} must compile as {', '.join(expressions)}, got\n{said}\nCorrect the source."


def missing_library(error: BaseException) -> bool:
    """Whether an error speaks of a library that could not be loaded; CuPy and the loader use several classes for that."""
    return isinstance(error, ImportError) or bool(re.search(r"nvrtc|\.so\b|\.dll\b", str(error), re.IGNORECASE))


@cache
def cuda_headers() -> Path | None:
    """The folder with cuda_fp16.h: the NVIDIA wheels (newest CUDA first), CUDA_PATH, the usual place."""
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec else []
    wheels = sorted((p.parent for root in roots for p in root.glob("*/include/cuda_fp16.h")), reverse=True)
    toolkits = [Path(os.environ[name]) / "include" for name in ("CUDA_PATH", "CUDA_HOME") if os.environ.get(name)]
    return next((f for f in (*wheels, *toolkits, Path("/usr/local/cuda/include")) if (f / "cuda_fp16.h").is_file()), None)
