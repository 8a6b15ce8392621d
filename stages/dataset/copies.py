"""Group pictures with their copies: exact copies by pixels, near copies by similar perceptual hashes.

Groups given by the user are merged with them.
"""

from collections.abc import Sequence

import numpy as np

N_NEAREST = 32  # results per search: all pairs of thousands of similar frames would not fit in memory
MAX_PAIRS = 200_000**2  # up to here all pairs are compared, in two minutes of a core
N_KEYS, BITS_PER_KEY = 12, 20  # above that, only pairs with a key that differs in at most one bit
PICTURES_AT_ONCE = 2500  # between two searches the process reacts to signals


def group_copies(pixels: Sequence[str], likeness: Sequence[np.ndarray | None], max_bits: int) -> list[str]:
    """Group pictures with their copies, and with copies of copies.

    Args:
        pixels: sha256 of the pixels of each picture; equal hashes are exact copies.
        likeness: perceptual hashes of each picture from hash_likeness, uint8 (4, N_BITS / 8); None: not compared.
        max_bits: largest number of different bits of near copies; 0: exact copies only.
    Returns:
        For each picture the name of its group: the first 16 digits of the smallest hash in it.
    """
    names, first, which = np.unique(np.asarray(pixels, dtype=object), return_index=True, return_inverse=True)
    groups = np.arange(len(names))
    hashed = np.array([i for i, row in enumerate(first) if likeness[row] is not None], dtype=np.int64)
    if max_bits and len(hashed):
        groups[hashed] = hashed[group_near(np.stack([likeness[first[i]] for i in hashed]), max_bits)]
    return [names[groups[i]][:16] for i in which]  # names are sorted, so the first of a group is the smallest


def join_groups(copies: Sequence[str], given: Sequence[str]) -> list[str]:
    """Merge groups of copies with given groups: pictures that share either, directly or indirectly, form one group.

    Args:
        copies: the group of copies of each picture, from group_copies.
        given: group of each picture in labels.csv; "": no group.
    Returns:
        For each picture the smallest name among its groups of copies.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, here = np.unique(np.asarray(copies, dtype=object), return_inverse=True)
    others, there = np.unique(np.asarray(given, dtype=object), return_inverse=True)
    n, linked = len(names) + len(others), np.asarray([bool(each) for each in given], dtype=bool)
    edges = (here[linked], len(names) + there[linked])
    components = connected_components(coo_array((np.ones(linked.sum()), edges), shape=(n, n)), directed=False)[1]
    first = np.unique(components, return_index=True)[1]  # names are sorted and come first
    return [names[first[components[i]]] for i in here]


def group_near(hashes: np.ndarray, max_bits: int) -> np.ndarray:
    """Group pictures whose hashes differ in at most `max_bits`, directly or indirectly.

    Up to 200,000 pictures all pairs are compared; above that, some pairs near the limit are missed (docs/copies.md).
    A search finds the few nearest pictures of each picture. If all of these are near, there may be more, so the picture
    is compared again with pictures outside its group. Memory grows with the number of pictures, however similar.

    Args:
        hashes: uint8, shape (n, n_views, 32); the first view of each is compared with all views of the others.
    Returns:
        int64, shape (n,): for each picture the first one of its group. The groups do not depend on the order.
    Source: faiss, IndexBinaryFlat and IndexBinaryMultiHash (multi-index hashing, Norouzi et al. 2012).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups = np.arange(len(hashes))
    searches = {-1: groups}  # {group: pictures to compare with all pictures outside it}; group -1 is empty
    while searches:
        found = [
            _find_nearest(hashes, rows, np.flatnonzero(groups != group), max_bits) for group, rows in searches.items()
        ]
        here, there, crowded = map(np.concatenate, zip(*found, strict=True))
        graph = coo_array((np.ones(len(here)), (groups[here], groups[there])), shape=(len(groups), len(groups)))
        components = connected_components(graph, directed=False)[1]
        first = np.unique(components, return_index=True)[1]
        groups = first[components[groups]]
        searches = {group: crowded[groups[crowded] == group] for group in np.unique(groups[crowded])}
    return groups


def _find_nearest(
    hashes: np.ndarray, rows: np.ndarray, others: np.ndarray, max_bits: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare all views of some pictures with the first view of others.

    Returns:
        The two sides of the near pairs, and the pictures that may have more near pictures.
    """
    import faiss

    if len(rows) * len(others) <= MAX_PAIRS:
        index = faiss.IndexBinaryFlat(8 * hashes.shape[2])
        index.query_batch_size = hashes.shape[1] * PICTURES_AT_ONCE  # threads wait for each other once per search
    else:
        index = faiss.IndexBinaryMultiHash(8 * hashes.shape[2], N_KEYS, BITS_PER_KEY)
        index.nflip = 1
    index.add(hashes[others, 0])
    found = []
    for start in range(0, len(rows), PICTURES_AT_ONCE):
        some = rows[start : start + PICTURES_AT_ONCE]
        answers = index.search(hashes[some].reshape(-1, hashes.shape[2]), N_NEAREST)
        distances, which = (each.reshape(*hashes[some].shape[:2], N_NEAREST) for each in answers)  # nearest first
        near = distances <= max_bits
        found.append((some[near.nonzero()[0]], others[which[near]], some[near[:, :, -1].any(axis=1)]))
    return tuple(map(np.concatenate, zip(*found, strict=True)))
