"""Trees of Tensors in files: npz or safetensors, never pickle.

    gg.save("model.safetensors", {"layers": [{"w": w, "b": b}], "optimiser": optimiser.state_dict(), "epoch": 3})
    model = gg.load("model.safetensors")

Every array is an entry of its own, named by its path in the tree ("layers.0.w"), so other programs can read the file, and a
file of theirs loads as a flat dict. The containers, and leaves that are no arrays (numbers, strings, None), stand beside the
arrays as JSON. Loading runs nothing: sizes are checked against the file before memory is asked for.
"""
from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

from gpugrad.arrays import CPU, Device, default_device, is_array, move, short
from gpugrad.errors import ArgumentError, DtypeError, ShapeError
from gpugrad.graph.tensor import Tensor
from gpugrad.io import npz, safetensors
from gpugrad.io.structure import assemble, describe
from gpugrad.trees import flatten_like, map_tree

__all__ = ["load", "save"]

FORMATS = {".npz": npz, ".safetensors": safetensors}


def save(path: str | os.PathLike[str], tree: Any) -> None:
    """Write a tree of Tensors, arrays, numbers, strings and None to path, which ends in .npz or .safetensors.

    Tensors are written without their graph. The file appears whole or not at all: it is written beside its place, brought to
    the disk and then renamed, so that a save that breaks off leaves the old file as it was.

    Raises ArgumentError for another ending or a leaf of another type, DtypeError for a dtype that the format lacks.
    """
    path = path_of("save", path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"save: expected a folder that is there, got {str(path.parent)!r}. Make it first.")
    if path.suffix not in FORMATS:
        raise ArgumentError(f"save: expected a path that ends in {' or '.join(FORMATS)}, got {str(path)!r}. Choose a format.")
    structure, leaves = describe(tree)
    arrays = {name: host_array(name, leaf) for name, leaf in leaves.items()}
    write_whole(path, lambda file: FORMATS[path.suffix].write(file, arrays, structure))


def path_of(op: str, path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise DtypeError(f"{op}: expected a path, got {short(path)}. Pass a str or a pathlib.Path.")
    return Path(path)


def load(path: str | os.PathLike[str], device: Device | str | None = None, like: Any = None) -> Any:
    """The tree in a file that `save` wrote, arrays as Tensors; a dict of name -> Tensor for a file of another program.

    device   where the Tensors go; by default the default device
    like     a tree of the same structure: the result has its containers (named tuples and dataclasses come back only so),
             and each Tensor the dtype, device and requires_grad of the one it stands for

    bfloat16, which NumPy lacks, is read as float32. Raises FileFormatError for a file that is damaged, of another format, or
    holds pickled objects, which are never run; ShapeError or ArgumentError where the tree does not fit `like`.
    """
    path = path_of("load", path)
    with open(path, "rb") as file:
        start = file.read(4)
        file.seek(0)
        size = os.fstat(file.fileno()).st_size
        arrays, structure = (npz if start.startswith(b"PK") else safetensors).read(file, size, str(path))
    target = CPU if like is not None else default_device() if device is None else Device(device)
    tree = assemble({name: Tensor(move(array, target)) for name, array in arrays.items()}, structure, str(path))
    return tree if like is None else fitted(tree, like, device)


def fitted(tree: Any, like: Any, device: Any) -> Any:
    """The loaded tree in the containers of `like`, each Tensor as its model is."""
    leaves = iter(flatten_like(plain(like), tree, "load"))

    def fit(model: Any) -> Any:
        leaf = next(leaves)
        if not isinstance(model, Tensor) and not is_array(model):
            return leaf
        model = model if isinstance(model, Tensor) else Tensor(model)
        if not isinstance(leaf, Tensor) or leaf.shape != model.shape:
            got = leaf.shape if isinstance(leaf, Tensor) else short(leaf)
            raise ShapeError(f"load: expected an array of shape {model.shape}, got {got}. Load into a model of the same sizes.")
        array = leaf._data.astype(model.dtype, copy=False)
        found = Tensor(move(array, model.device if device is None else Device(device)))
        found.requires_grad = model.requires_grad
        return found
    return map_tree(fit, like)


def plain(tree: Any) -> Any:
    """The tree with the containers that a file knows: dicts, lists and tuples."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(plain(value) for value in tree)
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    fields = getattr(tree, "__dataclass_fields__", None)
    return tree if fields is None or isinstance(tree, type) else {name: plain(getattr(tree, name)) for name in fields}


def host_array(name: str, leaf: Any) -> numpy.ndarray:
    array = leaf._data if isinstance(leaf, Tensor) else leaf
    if not is_array(array):
        raise DtypeError(f"save: expected a value at {name!r}, got a Tensor inside vmap. Save outside the transform.")
    array = numpy.asarray(move(array, CPU) if not isinstance(array, numpy.generic) else array)
    if array.dtype.kind not in "biufc":
        raise DtypeError(f"save: expected numbers at {name!r}, got dtype {array.dtype}. Objects are never saved.")
    return array


def write_whole(path: Path, write: Callable[[Any], None]) -> None:
    """Call write(file) on a new file beside path, bring it to the disk, and only then give it the name."""
    path = Path(os.path.realpath(path))                    # of a link, what it points to
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(beside, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if os.name == "posix":                                 # the new name itself reaches the disk with its folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
