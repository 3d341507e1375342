"""NumPy by hand: `numpy` allocates as it goes, `numpy-kept` keeps its buffers. The yardsticks."""

from gpugrad.bench.peers import Peer


class NumpyPeer(Peer):
    library = "numpy"


adapter = NumpyPeer
