"""The house rules of DESIGN section 3, read from the source: a higher floor imports lower ones, never the other way."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gpugrad

ROOT = Path(gpugrad.__file__).parent
FLOORS = {"errors": 0, "version": 0, "arrays": 0, "data": 0, "machine": 0, "held": 0, "trees": 0.5, "graph": 1, "kernels": 1,
          "rules": 2, "flat": 4, "draw": 4, "bench": 4, "cli": 5, "info": 4, "train": 4, "progress": 3,
          "cudasim": -1}
TOGETHER = {"numpy", "methods", "dispatch", "primals", "transformed", "transforms", "nn", "optim", "random", "io", "check",
            "function", "checkpoint", "cuda", "profiling"}


def floor(module: str) -> float:
    part = module.split(".")[1] if "." in module else ""
    return 3 if part in TOGETHER else FLOORS.get(part, 5)


def sources():
    for path in sorted(ROOT.rglob("*.py")):
        yield ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"), path
    for top in ("kernels", "bench"):
        for path in sorted((ROOT.parent / top).rglob("*.py")):
            yield "gpugrad." + ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"), path


def imported(path: Path):
    """(module, at import time) for every import in a file; type-checking blocks apart."""
    tree = ast.parse(path.read_text())
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.Lambda) for n in ast.walk(f)}
    typing = [f for f in ast.walk(tree) if isinstance(f, ast.If) and "TYPE_CHECKING" in ast.dump(f.test)]
    inside |= {id(n) for f in typing for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) not in inside
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield f"{node.module}.{alias.name}" if node.module == "gpugrad" else node.module, id(node) not in inside


@pytest.mark.parametrize(("module", "path"), list(sources()), ids=lambda v: v if isinstance(v, str) else "")
def test_imports_go_down(module, path):
    for name, now in imported(path):
        if name.startswith("gpugrad.") and module != "gpugrad" and now:
            assert floor(name) <= floor(module), f"{module} imports {name}"
        if name.split(".")[0] in ("cupy", "cupyx", "cupy_backends"):
            assert module.startswith(("gpugrad.arrays", "gpugrad.kernels", "gpugrad.bench")), f"{module} imports {name}"
        if module.startswith("gpugrad.rules"):
            assert name.split(".")[0] != "numpy", f"{module} imports numpy: rules work over m"
        if module.startswith("gpugrad.cudasim"):
            assert not name.startswith("gpugrad.") or name.startswith("gpugrad.cudasim"), f"{module} imports {name}"
        if name.split(".")[0] in ("torch", "jax", "autograd", "numba", "llvmlite", "matplotlib", "rich", "cupy", "scipy"):
            assert not now, f"{module} imports the extra {name} when it is imported itself"


def test_importing_gpugrad_imports_nothing_but_numpy():
    code = ("import sys, numpy; before = set(sys.modules); import gpugrad; "
            "print(sorted({m.split('.')[0] for m in set(sys.modules) - before}))")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    extra = set(ast.literal_eval(out)) - set(sys.stdlib_module_names)
    assert extra == {"gpugrad"}
