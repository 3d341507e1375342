"""HIPS/autograd: NumPy, transformed by its wrapped namespace `autograd.numpy`."""

from gpugrad.bench.peers import Peer


class AutogradPeer(Peer):
    library = "autograd"
    keeps_dtype = False  # the gradient of an indexed float32 array is float64

    def prepare(self) -> None:
        import autograd.numpy  # noqa: F401  a submodule that `import autograd` alone does not promise


adapter = AutogradPeer
