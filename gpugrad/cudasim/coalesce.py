"""How many sectors and how many passes a warp's addresses cost.

Warps of a kernel mostly repeat a few patterns of addresses, so patterns are told apart by a hash and each is counted once.
"""

import numpy as np

SECTOR = 32
BANKS = 32
_ODD = np.random.default_rng(20240607).integers(1 << 62, size=BANKS, dtype=np.int64) * 2 + 1


def patterns(rows):
    """Distinct rows of a (warps, k) integer array, and how often each occurs."""
    hashes = rows @ _ODD[: rows.shape[1]]
    if (hashes == hashes[0]).all():
        return rows[:1], np.array([len(rows)])
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    return rows[first], counts


def distinct(sorted_rows):
    """True where an entry of a sorted row differs from the entry before it."""
    fresh = np.ones(sorted_rows.shape, bool)
    np.not_equal(sorted_rows[:, 1:], sorted_rows[:, :-1], out=fresh[:, 1:])
    return fresh


def sectors(addresses, size):
    """(sectors asked for, sectors needed) by warps whose lanes access `size` bytes at addresses (warps, 32), int64."""
    rows, counts = patterns(addresses - (addresses[:, :1] & ~(SECTOR - 1)))
    rows = np.sort(rows, axis=1)
    asked = distinct(rows >> 5).sum(axis=1)
    needed = -(-distinct(rows).sum(axis=1) * size // SECTOR)
    return int(asked @ counts), int(needed @ counts)


def conflicts(addresses, size):
    """Extra passes over the banks that accesses of `size` bytes at shared addresses (warps, 32) need.

    A pass serves one 4-byte word per bank to any number of lanes; 8-byte accesses go by half warps, 16-byte ones by
    quarter warps.
    """
    words = addresses >> 2
    if size > 4:
        parts = size // 4
        words = (words[:, :, None] + np.arange(parts)).reshape(-1, BANKS)
    rows, counts = patterns(words - words[:, :1])
    rows = np.sort(rows, axis=1)
    row = np.arange(len(rows))[:, None] * BANKS
    load = np.bincount((row + rows % BANKS).ravel(), weights=distinct(rows).ravel(), minlength=len(rows) * BANKS)
    return int((load.reshape(-1, BANKS).max(axis=1) - 1) @ counts)
