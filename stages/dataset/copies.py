"""Groups pictures with their copies: exact ones by their pixels, near ones by perceptual hashes that differ little."""

from collections.abc import Iterator, Sequence

import numpy as np

from stages.dataset.perceptual_hashes import N_BITS

N_TABLES = 32
BITS_PER_KEY = 14
STABLE_ROWS = 8  # of the hash's square of bits, and columns: the lowest frequencies, which a copy changes least
PAIRS_AT_ONCE = 2**18


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
        hashes: uint8, shape (n, n_views, N_BITS / 8); the first view of each is compared with all views of the others.
    Returns:
        int64, shape (n,): for each picture the first one of its group. The groups do not depend on the order.
    Source: locality-sensitive hashing by sampling bits (Indyk and Motwani 1998).
    """
    side = round(N_BITS**0.5)
    stable = np.arange(N_BITS).reshape(side, side)[:STABLE_ROWS, :STABLE_ROWS].ravel()
    words = np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64).transpose(1, 2, 0))  # (n_views, 4, n)
    generator = np.random.default_rng(0)
    groups = np.arange(len(hashes))
    for _ in range(N_TABLES):
        keys = _read_keys(hashes, generator.choice(stable, BITS_PER_KEY, replace=False))  # (n_views, n)
        for view in range(len(keys)):
            for here, there in _pair_by_key(keys, view, groups):
                distance = np.zeros(len(here), dtype=np.uint16)
                for mine, other in zip(words[view], words[0], strict=True):
                    distance += np.bitwise_count(mine[here] ^ other[there])
                if (near := distance <= max_bits).any():
                    groups = _join(groups, here[near], there[near])
    return groups


def _read_keys(hashes: np.ndarray, bits: np.ndarray) -> np.ndarray:
    keys = np.zeros(hashes.shape[:2], dtype=np.int64)
    for bit in bits:
        keys = (keys << 1) | (hashes[:, :, bit // 8] >> (7 - bit % 8) & 1)
    return keys.T


def _pair_by_key(keys: np.ndarray, view: int, groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pair the view of each picture with the first view of all that have its key and another group, some at a time."""
    n = len(groups)
    order = np.argsort(keys[0] * n + groups)  # a key's pictures lie together, and there those of a group
    codes = (keys[0] * n + groups)[order]
    rows = np.argsort(keys[view] * n + groups)  # the order that searchsorted likes
    key, group = keys[view][rows] * n, groups[rows]
    start, own, after, end = (np.searchsorted(codes, key + bound) for bound in (0, group, group + 1, n))
    if view == 0:
        start = own  # the others see this pair from their side
    counts = (own - start) + (end - after)
    ends = np.cumsum(counts)
    row = 0
    while row < n:
        done = ends[row - 1] if row else 0
        stop = max(row + 1, int(np.searchsorted(ends, done + PAIRS_AT_ONCE, "right")))
        here = np.repeat(np.arange(row, stop), counts[row:stop])
        there = np.arange(len(here)) + done - (ends - counts - start)[here]
        there += np.where(there >= own[here], (after - own)[here], 0)
        yield rows[here], order[there]
        row = stop


def _join(groups: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Make one group of the groups of each pair."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(here), dtype=bool), (groups[here], groups[there])), shape=(len(groups),) * 2)
    _, component = connected_components(links, directed=False)
    _, first = np.unique(component, return_index=True)
    return first[component[groups]]
