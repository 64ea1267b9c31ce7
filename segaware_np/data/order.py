"""Random orders that depend on nothing but their keys."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=4)  # a batch spans two epochs at most; an epoch asks for each of its places
def shuffled(count: int, *key: int) -> np.ndarray:
    """Return 0, ..., ``count - 1`` in a random order.

    Parameters
    ----------
    count : int
    *key : int
        Such as a seed and the number of an epoch.

    Returns
    -------
    (count,) integer array
        Read-only: the last orders are remembered.

    Examples
    --------
    >>> sorted(shuffled(4, 7, 0).tolist()), shuffled(4, 7, 0) is shuffled(4, 7, 0)
    ([0, 1, 2, 3], True)
    """
    order = np.random.default_rng(key).permutation(count)
    order.setflags(write=False)
    return order
