"""What pictures look like in, groups of copies of one another out: exact ones, and near ones by a perceptual hash."""

from collections.abc import Sequence

import numpy as np

from stages.dataset.perceptual_hashes import N_BITS

N_TABLES = 32
BITS_PER_KEY = 14
STABLE_ROWS = 8  # of the hash's square of bits, and columns: the lowest frequencies, which a copy changes least
PAIRS_AT_ONCE = 2**20


def group_copies(pixels: Sequence[str], likeness: Sequence[np.ndarray | None], max_bits: int) -> list[str]:
    """Group pictures with their copies, and these with theirs.

    Args:
        pixels: sha256 of each picture's pixels; equal ones are exact copies.
        likeness: for each, what stages.dataset.perceptual_hashes gives, (4, N_BITS / 8); None is compared with no other.
        max_bits: near copies differ in at most so many bits; 0 looks for exact copies only.
    Returns:
        For each picture the name of its group: the first 16 digits of the smallest hash in it.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, first, which = np.unique(np.asarray(pixels, dtype=object), return_index=True, return_inverse=True)
    hashed = [i for i, row in enumerate(first) if likeness[row] is not None] if max_bits else []
    pairs = np.empty((0, 2), dtype=np.int64)
    if len(hashed) > 1:
        hashes = np.stack([likeness[first[i]] for i in hashed])
        pairs = np.asarray(hashed)[find_near_pairs(hashes, max_bits)]
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(names), len(names)))
    _, component = connected_components(links, directed=False)
    smallest: dict[int, str] = {}
    for number, name in zip(component, names, strict=True):  # names are sorted
        smallest.setdefault(number, name[:16])
    return [smallest[component[i]] for i in which]


def find_near_pairs(hashes: np.ndarray, max_bits: int) -> np.ndarray:
    """Find the pairs of pictures whose hashes differ in at most so many bits.

    Candidates share a key: 14 of the 64 stablest bits, drawn anew for each of 32 tables; then all bits are compared.
    So a pair just within the limit can be missed (measured on slightly cropped photographs: about 1 in 100), and the
    work grows with the number of pictures, not with its square, until the tables fill up.

    Args:
        hashes: uint8, shape (n, n_views, N_BITS / 8); the first view of each is compared with all views of the others.
    Returns:
        int64, shape (n_pairs, 2); a pair may stand there more than once.
    Source: locality-sensitive hashing by sampling bits (Indyk and Motwani 1998).
    """
    side = round(N_BITS**0.5)
    stable = np.arange(N_BITS).reshape(side, side)[:STABLE_ROWS, :STABLE_ROWS].ravel()
    words = np.ascontiguousarray(hashes).view(np.uint64)  # (n, n_views, N_BITS / 64)
    generator = np.random.default_rng(0)
    found = []
    for _ in range(N_TABLES):
        keys = _read_keys(hashes, generator.choice(stable, BITS_PER_KEY, replace=False))  # (n, n_views)
        order = np.argsort(keys[:, 0], kind="stable")
        for view in range(hashes.shape[1]):
            found += _pairs_of_equal_keys(keys, order, view, words, max_bits)
    return np.concatenate([np.empty((0, 2), dtype=np.int64), *found])


def _read_keys(hashes: np.ndarray, bits: np.ndarray) -> np.ndarray:
    keys = np.zeros(hashes.shape[:2], dtype=np.uint32)
    for bit in bits:
        keys = (keys << 1) | (hashes[:, :, bit // 8] >> (7 - bit % 8) & 1)
    return keys


def _pairs_of_equal_keys(
    keys: np.ndarray, order: np.ndarray, view: int, words: np.ndarray, max_bits: int
) -> list[np.ndarray]:
    """Compare the view of each picture with the first view of all that have its key, so many pairs at a time."""
    sorted_keys = keys[order, 0]
    starts = np.searchsorted(sorted_keys, keys[:, view], "left")
    counts = np.searchsorted(sorted_keys, keys[:, view], "right") - starts
    ends = np.cumsum(counts)
    found, row = [], 0
    while row < len(keys):
        done = ends[row - 1] if row else 0
        stop = max(row + 1, int(np.searchsorted(ends, done + PAIRS_AT_ONCE, "right")))
        here = np.repeat(np.arange(row, stop), counts[row:stop])
        place = np.arange(len(here)) - np.repeat(ends[row:stop] - counts[row:stop] - done, counts[row:stop])
        there = order[starts[here] + place]
        distance = np.bitwise_count(words[here, view] ^ words[there, 0]).sum(axis=1, dtype=np.uint16)
        near = (distance <= max_bits) & (here != there)
        found.append(np.stack([here[near], there[near]], axis=1))
        row = stop
    return found
