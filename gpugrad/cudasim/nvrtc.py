"""CUDA C++ to PTX with NVRTC, through ctypes: needs the `nvidia-cuda-nvrtc` wheel (or a CUDA toolkit), and no GPU."""

import ctypes
import functools
import importlib.util
import pathlib
import re
from dataclasses import dataclass

from .errors import CompileError
from .host_headers import CUDA_STD, HEADERS
from .kept import kept, key_of

INSTALL = "Install it with `pip install nvidia-cuda-nvrtc nvidia-cuda-runtime`; no GPU is needed."

WHEELS = {"nv/": "nvidia-cuda-cccl", "cuda/": "nvidia-cuda-cccl", "cub/": "nvidia-cuda-cccl", "thrust/": "nvidia-cuda-cccl",
          "crt/": "nvidia-cuda-crt", "cuda_": "nvidia-cuda-runtime", "curand": "nvidia-curand"}  # headers by their beginning


@dataclass(frozen=True)
class Compiled:
    """PTX text, the log of warnings, and how each name expression was mangled."""

    ptx: str
    log: str
    lowered: dict
    source: str
    filename: str


@functools.lru_cache(maxsize=256)
def compile_ptx(source, arch="sm_90", options=(), names=(), filename="kernel.cu"):
    """The PTX of one CUDA C++ source for one architecture, with line information.

    arch     "sm_90", "compute_90", "sm_90a" and their like
    options  NVRTC options; `-lineinfo`, the architecture and the CUDA headers are added
    names    name expressions such as "softmax<float, 4>", instantiated by the compiler

    Raises CompileError with NVRTC's log, which shows the line of `source`.
    """
    nvrtc = library()
    flags = [f"--gpu-architecture={arch.replace('sm_', 'compute_')}", "-lineinfo", *options]
    flags += [f"-I{folder}" for folder in include_folders()]
    if not any(flag.startswith(("-std", "--std")) for flag in flags):
        flags.append("-std=c++17")
    ptx, log, lowered = kept(key_of(str(nvrtc.path), nvrtc.version, source, names, filename, flags=flags),
                             lambda: with_host_headers(nvrtc, source, arch, flags, names, filename))
    return Compiled(ptx, log, lowered, source, filename)


def with_host_headers(nvrtc, source, arch, flags, names, filename):
    """`compiled`, with those headers of the C library that were not found; the log names them."""
    headers: dict[str, str] = {}
    while True:
        try:
            ptx, log, lowered = compiled(nvrtc, source, arch, flags, names, filename, headers)
        except CompileError as error:
            missing = re.search(r'cannot open source file "([^"]+)"', error.log)
            if missing is None or missing[1] in headers or missing[1] not in HEADERS:
                raise
            headers[missing[1]] = HEADERS[missing[1]]
            continue
        said = "".join(f"<{name}> is no header of NVRTC: what kernels use of it was supplied, and not by a compiler on a card\n"
                       for name in headers)
        return ptx, log + said, lowered


def compiled(nvrtc, source, arch, flags, names, filename, headers):
    """(PTX, log, mangled names) by the compiler."""
    program = ctypes.c_void_p()
    strings = ctypes.c_char_p * len(headers)
    nvrtc.create(ctypes.byref(program), source.encode(), filename.encode(), len(headers),
                 strings(*(text.encode() for text in headers.values())), strings(*(name.encode() for name in headers)))
    try:
        for name in names:
            nvrtc.call("nvrtcAddNameExpression", program, name.encode())
        encoded = [flag.encode() for flag in flags]
        status = nvrtc.lib.nvrtcCompileProgram(program, len(encoded), (ctypes.c_char_p * len(encoded))(*encoded))
        log = nvrtc.text("ProgramLog", program)
        if status:
            raise CompileError(explain(log, source, filename, arch, status), log=log)
        lowered = {name: nvrtc.lowered_name(program, name) for name in names}
        return nvrtc.text("PTX", program), log, lowered
    finally:
        nvrtc.lib.nvrtcDestroyProgram(ctypes.byref(program))


def explain(log, source, filename, arch, status):
    """NVRTC's log, each error followed by the line of the source it speaks of."""
    lines, shown = source.splitlines(), []
    for entry in log.strip().splitlines():
        shown.append(entry)
        found = re.match(re.escape(filename) + r"\((\d+)\): (?:catastrophic )?error", entry)
        if found and 0 < int(found[1]) <= len(lines):
            shown.append(f"    line {found[1]}: {lines[int(found[1]) - 1].strip()}")
    said = "\n".join(shown) or f"NVRTC status {status}"
    advice = next((f"Install it with `pip install {wheel}`." for start, wheel in WHEELS.items()
                   if f'cannot open source file "{start}' in log), "Correct the source or the options.")
    missing = re.search(r'cannot open source file "(\w+)"', log)
    if missing and missing[1] in CUDA_STD:
        advice = f"NVRTC has no headers of the host: include <cuda/std/{missing[1]}> of nvidia-cuda-cccl, and use cuda::std."
    return f"{filename}: source must compile for {arch}, got\n{said}\n{advice}"


class Nvrtc:
    """The few entry points of libnvrtc that a compilation needs."""

    def __init__(self, path):
        self.path = path
        beside = pathlib.Path(path)
        for builtins in beside.parent.glob("libnvrtc-builtins.so.*") if beside.is_absolute() else ():
            # CUDA 13.0's looks for them where the system does, and not beside itself
            ctypes.CDLL(str(builtins))
        self.lib = ctypes.CDLL(str(path))
        self.lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        self.create = functools.partial(self.call, "nvrtcCreateProgram")
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = (major.value, minor.value)

    def call(self, name, *arguments):
        status = getattr(self.lib, name)(*arguments)
        if status:
            reason = self.lib.nvrtcGetErrorString(status).decode()
            raise CompileError(f"{name}: NVRTC must accept the call, got {reason}. Check the name expressions.")

    def text(self, what, program):
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{what}", program, buffer)
        return buffer.value.decode()

    def lowered_name(self, program, name):
        mangled = ctypes.c_char_p()
        self.call("nvrtcGetLoweredName", program, name.encode(), ctypes.byref(mangled))
        return (mangled.value or b"").decode()


@functools.lru_cache(maxsize=1)
def library():
    """libnvrtc from the wheel, else from the loader's path; CompileError says what to install."""
    tried = []
    for path in [*wheel_files("lib/libnvrtc.so.*"), "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]:
        try:
            return Nvrtc(path)
        except OSError as reason:
            tried.append(str(reason))
    raise CompileError(f"compile_cuda: NVRTC must be installed, got no loadable libnvrtc ({tried[0]}). {INSTALL}")


def include_folders():
    """Folders with cuda_fp16.h and its neighbours; none is an error only when a source includes them."""
    folders = [path.parent for path in wheel_files("include/cuda_fp16.h")]
    folders += [path.parent.parent for path in wheel_files("include/cccl/nv/target")]  # for cooperative_groups.h and cuda/
    return [*folders, *(path for path in [pathlib.Path("/usr/local/cuda/include")] if not folders and path.is_dir())]


def wheel_files(pattern):
    """Matches inside the NVIDIA wheels, the newest CUDA first (folders are called cu13, cuda_nvrtc, and so on)."""
    spec = importlib.util.find_spec("nvidia")
    roots = [pathlib.Path(root) for root in (spec.submodule_search_locations or [])] if spec else []
    found = {path for root in roots for path in root.glob(f"*/{pattern}")}
    return sorted(found, key=lambda path: (path.parent.parent.name.startswith("cu1"), str(path)), reverse=True)
