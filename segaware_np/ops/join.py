"""Where branches of a network meet: concatenation and sum."""

from __future__ import annotations

from segaware_np.xp import Array, array_module, check_array


def concat_forward(*xs: Array) -> tuple[Array, list[int]]:
    """Concatenate along channels, ``y = [x_1, x_2, ...]``.

    Parameters
    ----------
    *xs : (N, C_i, H, W) float arrays
        Alike but for their channels.

    Returns
    -------
    y : (N, sum C_i, H, W) array
    cache : list of int
        The C_i.

    Raises
    ------
    TypeError, ValueError
        If there is none, or they do not go together.

    Notes
    -----
    Caffe's Concat layer.

    Examples
    --------
    >>> y, cache = concat_forward(np.ones((1, 2, 4, 4)), np.zeros((1, 1, 4, 4)))
    >>> y.shape, [dx.shape for dx in concat_backward(y, cache)]
    ((1, 3, 4, 4), [(1, 2, 4, 4), (1, 1, 4, 4)])
    """
    _check_some(xs)
    for i, x in enumerate(xs):
        check_array(f"xs[{i}]", x, (xs[0].shape[0], "C", *xs[0].shape[2:]), like=xs[0])
    return array_module(*xs).concatenate(xs, axis=1), [x.shape[1] for x in xs]


def concat_backward(dy: Array, cache: list[int]) -> tuple[Array, ...]:
    """Cut the gradient into the pieces that were joined, ``[dx_1, dx_2, ...] = dy`` (views)."""
    check_array("dy", dy, ("N", sum(cache), *("H", "W")[: dy.ndim - 2]))
    pieces, start = [], 0
    for channels in cache:
        pieces.append(dy[:, start : start + channels])
        start += channels
    return tuple(pieces)


def add_forward(*xs: Array) -> tuple[Array, int]:
    """Sum of arrays of one shape, ``y = sum_i x_i``.

    Parameters
    ----------
    *xs : float arrays of one shape

    Returns
    -------
    y : array of that shape
    cache : int
        How many there were.

    Raises
    ------
    TypeError, ValueError
        If there is none, or they do not go together.

    Notes
    -----
    Caffe's Eltwise layer, SUM.

    Examples
    --------
    >>> y, cache = add_forward(np.array([1.0]), np.array([2.0]), np.array([4.0]))
    >>> y.tolist(), [dx.tolist() for dx in add_backward(np.array([3.0]), cache)]
    ([7.0], [[3.0], [3.0], [3.0]])
    """
    _check_some(xs)
    for i, x in enumerate(xs):
        check_array(f"xs[{i}]", x, xs[0].shape, like=xs[0])
    y = xs[0].copy()
    for x in xs[1:]:
        y += x
    return y, len(xs)


def add_backward(dy: Array, cache: int) -> tuple[Array, ...]:
    """Every summand receives the whole gradient, ``dx_i = dy`` (`dy` itself)."""
    return (dy,) * cache


def _check_some(xs: tuple[Array, ...]) -> None:
    if not xs:
        raise ValueError("xs: expected at least one array")
