"""Label parity: which neighbours carry the label of the centre (im2parity)."""

from __future__ import annotations

import numpy as np

from segaware_np.dispatch import fast
from segaware_np.window import Window, centres, check_window, shifts
from segaware_np.xp import Array, array_module, check_array


def label_parity(labels: Array, window: Window, ignore_label: int | None) -> Array:
    """Plain formula of `label_parity_forward`."""
    xp = array_module(labels)
    n, *shape = labels.shape
    count = window.output_shape(shape)
    inside, here = centres(shape, window)
    centre = xp.zeros((n, *count), labels.dtype)
    centre[inside] = labels[here]

    same = xp.empty((n, window.size, *count), labels.dtype)
    same[...] = (centre == 0)[:, None]
    for k, inside_k, there in shifts(shape, window):
        same[:, k][inside_k] = centre[inside_k] == labels[there]
    if ignore_label is not None:
        _ignore(same, centre == ignore_label, labels, window, ignore_label)
    return same


def label_parity_forward(labels: Array, window: Window, ignore_label: int | None = None) -> Array:
    """Tell for every window which neighbours carry its centre's label.

    ``same[n, k, p] = 1`` if ``labels[n, p] == labels[n, p + delta_k]``, else 0. A neighbour
    outside the image counts as label 0, the background. If either label is the ignore label, the
    entry *is* the ignore label; so is every entry of a window whose centre lies outside the image
    (where there is no ignore label, such a centre counts as label 0 as well).

    Parameters
    ----------
    labels : (N, H, W) integer array
    window : Window
    ignore_label : int, optional

    Returns
    -------
    same : (N, K, Ho, Wo) array
        Of the dtype of `labels`. There is no backward: labels have no gradient.

    Raises
    ------
    TypeError, ValueError
        If `labels` is not an integer array of that shape at least as large as the window, or its
        dtype cannot hold `ignore_label`.

    Notes
    -----
    Harley, Derpanis, Kokkinos (ICCV 2017), section 3.1; im2parity in the authors' code.

    Examples
    --------
    >>> import numpy as np
    >>> same = label_parity_forward(np.array([[[1, 1, 2]]]), Window((1, 3), pad=(0, 1)))
    >>> same[0, :, 0].T.tolist()
    [[0, 1, 1], [1, 1, 0], [0, 1, 0]]
    """
    check_array("labels", labels, ("N", "H", "W"), kind="integer")
    check_window(window)
    window.output_shape(labels.shape[1:])
    if ignore_label is not None and np.array(ignore_label).astype(labels.dtype) != ignore_label:
        raise ValueError(f"ignore_label: {ignore_label} does not fit labels of {labels.dtype}")
    return fast(label_parity, labels)(labels, window, ignore_label)


def _ignore(same: Array, centre: Array, labels: Array, window: Window, ignore_label: int) -> None:
    """Write the ignore label over every entry that has it at either end or has no centre."""
    xp = array_module(labels)
    ignored = xp.zeros(same.shape, bool)
    for k, inside_k, there in shifts(labels.shape[1:], window):
        ignored[:, k][inside_k] = labels[there] == ignore_label
    ignored |= centre[:, None]
    inside, _ = centres(labels.shape[1:], window)
    outside = xp.ones(same.shape[2:], bool)
    outside[inside] = False
    same[ignored | outside] = ignore_label
