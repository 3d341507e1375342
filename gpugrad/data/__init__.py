"""Real data small enough to ship: digits.npz, whose origin and licence digits.md states."""

from pathlib import Path

import numpy as np


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1797 handwritten digits, 8x8, from 13 writers: (images, labels).

    images  (1797, 8, 8) uint8, 0 (paper) to 16 (ink)
    labels  (1797,) uint8, 0 to 9

    The arrays are NumPy's and the caller's own; scale and split them as you like. Neighbouring images tend to share a
    writer, so shuffle before splitting. Needs no network. Source: Alpaydin & Kaynak, see gpugrad/data/digits.md.
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as stored:
        return stored["images"], stored["labels"]
