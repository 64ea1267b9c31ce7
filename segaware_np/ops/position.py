"""Position image: every pixel's own coordinates, as channels."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from segaware_np.window import Pair
from segaware_np.xp import Array


def position_image(
    shape: Pair, batch: int = 1, dtype: np.dtype | str = "float32", xp: ModuleType = np
) -> Array:
    """Return the ``xy`` image: ``y[:, 0, i, j] = j`` and ``y[:, 1, i, j] = i``, in pixels.

    Parameters
    ----------
    shape : (H, W)
    batch : int
        Number of (equal) samples.
    dtype : dtype
    xp : module
        ``numpy`` or ``cupy``.

    Returns
    -------
    xy : (batch, 2, H, W) array

    Notes
    -----
    Position is a feature of the CRF's filters: Krähenbühl, Koltun (NIPS 2011).

    Examples
    --------
    >>> position_image((2, 3))[0].astype(int).tolist()
    [[[0, 1, 2], [0, 1, 2]], [[0, 0, 0], [1, 1, 1]]]
    """
    h, w = shape
    xy = xp.empty((batch, 2, h, w), dtype)
    xy[:, 0] = xp.arange(w)
    xy[:, 1] = xp.arange(h)[:, None]
    return xy
