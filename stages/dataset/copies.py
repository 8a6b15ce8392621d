"""Groups pictures with their copies: exact ones by their pixels, near ones by perceptual hashes that differ little."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Lock

import numpy as np

from stages.runtime.workers import count_cores

N_TABLES = 32
BITS_PER_KEY = 14
STABLE_SIDE = 8  # of the corner of the hash's square of bits that a copy changes least: the lowest frequencies
PAIRS_AT_ONCE = 2**15


def group_copies(pixels: Sequence[str], likeness: Sequence[np.ndarray | None], max_bits: int) -> list[str]:
    """Group pictures with their copies, and these with theirs.

    Args:
        pixels: sha256 of each picture's pixels; equal ones are exact copies.
        likeness: of each, from hash_likeness, uint8 (4, N_BITS / 8); None is compared with no other.
        max_bits: near copies differ in at most so many bits; 0 looks for exact copies only.
    Returns:
        For each picture the name of its group: the first 16 digits of the smallest hash in it.
    """
    names, first, which = np.unique(np.asarray(pixels, dtype=object), return_index=True, return_inverse=True)
    groups = np.arange(len(names))
    hashed = np.array([i for i, row in enumerate(first) if likeness[row] is not None], dtype=np.int64)
    if max_bits and len(hashed):
        groups[hashed] = hashed[group_near(np.stack([likeness[first[i]] for i in hashed]), max_bits)]
    return [names[groups[i]][:16] for i in which]  # names are sorted: a group's first is its smallest


def group_near(hashes: np.ndarray, max_bits: int) -> np.ndarray:
    """Group pictures whose hashes differ in at most so many bits, directly or through others.

    Those that share a key are compared: 14 of the 64 stablest bits, drawn anew for each of 32 tables. So a pair just
    within the limit can be missed (measured on slightly cropped photographs: about 1 in 100). Work and memory grow
    with the number of pictures, not with its square, until the tables fill up: pictures that stand in one group
    already, however many, are not compared again.

    Args:
        hashes: uint8, shape (n, n_views, 32); the first view of each is compared with all views of the others.
    Returns:
        int64, shape (n,): for each picture the first one of its group. The groups do not depend on the order.
    Source: locality-sensitive hashing by sampling bits (Indyk and Motwani 1998).
    """
    words = np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64).transpose(1, 2, 0))  # (n_views, 4, n)
    stable = np.ascontiguousarray(hashes[:, :, : 2 * STABLE_SIDE : 2].T)  # (STABLE_SIDE, n_views, n): half of each row
    generator = np.random.default_rng(0)
    tables = [generator.choice(STABLE_SIDE**2, BITS_PER_KEY, replace=False) for _ in range(N_TABLES)]
    groups, lock = np.arange(len(hashes)), Lock()

    def look_up(bits: np.ndarray) -> None:
        nonlocal groups
        keys = _read_keys(stable, bits)
        for view in range(len(keys)):
            for here, there in _find_near(words, keys, view, groups, max_bits):
                with lock:
                    groups = _join(groups, here, there)

    with ThreadPoolExecutor(count_cores()) as pool:  # NumPy lets other threads run while it works
        list(pool.map(look_up, tables))
    return groups


def _read_keys(stable: np.ndarray, bits: np.ndarray) -> np.ndarray:
    keys = np.zeros(stable.shape[1:], dtype=np.uint16)
    for bit in bits.tolist():
        keys = (keys << 1) | (stable[bit // 8] >> (7 - bit % 8) & 1)
    return keys.astype(np.int64)  # (n_views, n)


def _find_near(
    words: np.ndarray, keys: np.ndarray, view: int, groups: np.ndarray, max_bits: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Compare the view of each picture with the first view of all that have its key and another group, some at a time.

    Yields:
        the pictures of the near pairs, and those that they are near to.
    """
    n = len(groups)
    order, rows = (np.argsort(each * n + groups) for each in (keys[0], keys[view]))
    codes = (keys[0] * n + groups)[order]  # a key's pictures lie together, and there those of a group
    key, group = keys[view][rows] * n, groups[rows]
    start, own, after, end = (np.searchsorted(codes, key + bound) for bound in (0, group, group + 1, n))
    if view == 0:
        start = own  # the others see this pair from their side
    counts = np.stack([own - start, end - after], axis=1).ravel()  # of those before and after its own group
    ends = np.cumsum(counts)
    shifts = np.stack([start, after], axis=1).ravel() - (ends - counts)
    rows = rows.repeat(2)
    mine, others = words[view][2:, rows], words[0][2:, order]  # the high frequencies, in which others differ most
    stops = np.searchsorted(ends, np.arange(PAIRS_AT_ONCE, ends[-1] + PAIRS_AT_ONCE, PAIRS_AT_ONCE), "right")
    for row, stop in pairwise([0, *stops]):
        here = np.repeat(np.arange(row, stop), counts[row:stop])
        there = np.arange(len(here)) + (ends[row] - counts[row]) + shifts[here]
        distance = sum(np.bitwise_count(a[here] ^ b[there]) for a, b in zip(mine, others, strict=True))
        likely = np.flatnonzero(distance <= max_bits)
        here, there = rows[here[likely]], order[there[likely]]
        near = np.bitwise_count(words[view][:, here] ^ words[0][:, there]).sum(axis=0) <= max_bits
        if near.any():
            yield here[near], there[near]


def _join(groups: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Make one group of the groups of each pair, named after the first of them."""
    names = np.arange(len(groups))
    some, others = groups[here], groups[there]
    while (some != others).any():
        np.minimum.at(names, np.maximum(some, others), np.minimum(some, others))
        while (names[names] != names).any():
            names = names[names]
        some, others = names[some], names[others]
    return names[groups]
