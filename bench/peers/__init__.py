"""The libraries measured: one adapter each, imported only when asked for, all with every core of the machine."""

import importlib
import importlib.metadata
from typing import Any

import numpy as np

from gpugrad.bench.case import leaves
from gpugrad.bench.clock import wall_seconds
from gpugrad.machine import cores

# name on the command line -> module of the adapter; the order is the report's
ADAPTERS = {
    "gpugrad": "peer_gpugrad",
    "gpugrad-flat": "peer_gpugrad",
    "gpugrad-compile": "peer_gpugrad",
    "numpy": "peer_numpy",
    "numpy-kept": "peer_numpy",
    "torch": "peer_torch",
    "torch-compile": "peer_torch",
    "jax": "peer_jax",
    "autograd": "peer_autograd",
    "mygrad": "peer_mygrad",
    "pytensor": "peer_pytensor",
}
ALWAYS = ("gpugrad", "numpy", "numpy-kept")  # measured in every run: the yardstick needs NumPy alone
CORES = cores()


class MissingPeer(ImportError):
    """A library that was asked for and is not there."""


class Peer:
    """What the harness needs of a library. `name` is the variant's; `module` is the library, of `version`."""

    library = ""
    install = "gpugrad[peers]"  # what pip is to be told
    keeps_dtype = True  # whether float32 in promises float32 out; where it does not, the check lets float64 pass

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.name, self.device = name, device
        try:
            self.module = importlib.import_module(self.library)
        except ImportError as error:
            raise MissingPeer(f"{name}: not installed (pip install {self.install})") from error
        self.version = getattr(self.module, "__version__", None) or importlib.metadata.version(self.library)
        self.prepare()

    def prepare(self) -> None:
        """Set threads and precision once, after the import."""

    def array(self, x: np.ndarray) -> Any:
        """The library's own array with these values, without a gradient."""
        return x

    def leaf(self, x: np.ndarray) -> Any:
        """The library's own array that wants a gradient."""
        return self.array(x)

    def numpy(self, tree: Any) -> list[np.ndarray]:
        """The arrays of a result as NumPy arrays, left to right."""
        return [leaf if isinstance(leaf, np.ndarray) else self.to_numpy(leaf) for leaf in leaves(tree)]

    def to_numpy(self, leaf: Any) -> np.ndarray:
        """One of the library's arrays, or a NumPy scalar, as a NumPy array."""
        return np.asarray(leaf)

    def compile(self, f: Any) -> Any:
        """f, compiled where this variant compiles."""
        return f

    def timer(self) -> Any:
        """Who measures: the wall clock, or on a GPU a pair of its events."""
        return wall_seconds

    wait: Any = None  # or a function of a step's result that blocks until it is computed


def load(name: str, device: str = "cpu") -> Peer:
    """The adapter of a library.

    Raises MissingPeer where the library is not installed, KeyError for a name that no adapter bears.
    """
    return importlib.import_module(f"gpugrad.bench.peers.{ADAPTERS[name]}").adapter(name, device)
