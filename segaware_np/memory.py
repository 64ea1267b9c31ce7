"""How much memory the masks of one call may take: larger images are worked on in pieces.

Masks are K numbers for each pixel, and what takes most of the memory: a 13x13 window on a photo of
12 megapixels has 8 GB of them. Where they exceed this limit, bilateral filter, normalised
convolution, mean field and `crf.refine` hold those of a piece at a time; their backward passes make
them again. ``VARIABLE`` is the environment variable that gives the default in bytes, else it is
``DEFAULT``.
"""

from __future__ import annotations

import os

from segaware_np.ranges import COUNT, check

VARIABLE = "SEGAWARE_MASK_MEMORY"
DEFAULT = 512 * 2**20  # bytes

_limit: int | None = None


def get_mask_memory() -> int:
    """Return the most bytes of masks that one call holds at a time.

    Raises
    ------
    ValueError
        If the environment variable is no positive whole number.

    Examples
    --------
    >>> get_mask_memory() > 0
    True
    """
    if _limit is not None:
        return _limit
    text = os.environ.get(VARIABLE, str(DEFAULT))
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ValueError(f"{VARIABLE}: expected a positive number of bytes, got {text!r}")
    return int(text)


def set_mask_memory(count: int | None) -> None:
    """Let masks of one call take this much memory at a time.

    Parameters
    ----------
    count : int or None
        In bytes. None: what the environment says.

    Raises
    ------
    TypeError, ValueError
        If it is no positive integer.

    Examples
    --------
    >>> set_mask_memory(2**30)
    >>> get_mask_memory()
    1073741824
    >>> set_mask_memory(None)
    """
    global _limit
    if count is not None:
        check("count", count, COUNT)
    _limit = None if count is None else int(count)
