"""Networks from files."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from inspect import signature
from typing import Any

import numpy as np

from segaware_np.files import FormatError, load_arrays
from segaware_np.models.description import checked
from segaware_np.models.embedding import embedding_network
from segaware_np.models.resnet import segaware_resnet101
from segaware_np.models.segmentation import segmentation_network
from segaware_np.models.vgg import segaware_vgg16
from segaware_np.models.weights import copy_all, copy_common
from segaware_np.net import Net
from segaware_np.version import __version__

BUILDERS = {
    builder.__name__: builder
    for builder in (embedding_network, segmentation_network, segaware_vgg16, segaware_resnet101)
}


def build(description: dict[str, Any], **changes: Any) -> Net:
    """Build the network that `Net.description` tells of.

    Parameters
    ----------
    description : dict
        ``{"model": name, "arguments": {...}}``, as saved with the weights.
    **changes
        Arguments to replace, ``xp`` for one.

    Returns
    -------
    Net

    Raises
    ------
    ValueError
        If it describes no network of this module, or a change is out of range.
    TypeError
        If the network has no such argument to change.

    Examples
    --------
    >>> net = segmentation_network(3, (4,), (1,), aware=True, embedding="rgb")
    >>> again = build(net.description, dtype="float64")
    >>> [str(n.parameters()["conv1_1.weight"].data.dtype) for n in (net, again)]
    ['float32', 'float64']
    """
    try:
        builder, arguments = BUILDERS[description["model"]], dict(description["arguments"])
        signature(builder).bind(**arguments)
    except (KeyError, TypeError) as error:
        raise ValueError(f"description: not that of a network of this library ({error})") from error
    known = [*signature(builder).parameters]
    for name in changes:
        if name not in known:
            raise TypeError(f"{name}: expected an argument of {builder.__name__}: {known}")
    return builder(**{**arguments, **changes})


def load(path: str | os.PathLike[str], *, partial: bool = False, **changes: Any) -> Net:
    """Build the network that a file of weights belongs to, and load them.

    Parameters
    ----------
    path : path-like
        Written by `Net.save`, or a checkpoint of a `Trainer`.
    partial : bool
        Permit weights that the network has not, which are left out, and weights that the file has
        not, which stay initial.
    **changes
        Arguments of the network to replace, as for `build`: ``xp`` or ``dtype`` say. Weights that
        the network has no more are left out.

    Returns
    -------
    Net

    Warns
    -----
    UserWarning
        By name, of weights that were left out and of those that stayed initial.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is damaged, holds no network, or describes one that its weights are not those of.
    TypeError, ValueError
        If the network has no such argument to change, or its weights do not fit then.

    Examples
    --------
    >>> embedding_network((4,), (1,), 8).save("embedding.npz")
    >>> load("embedding.npz").description["model"]
    'embedding_network'
    """
    arrays, metadata = load_arrays(path)
    if "optimizer" in metadata:  # a checkpoint
        group = "weights/"
        arrays = {n.removeprefix(group): a for n, a in arrays.items() if n.startswith(group)}
    other = bool(changes.keys() - {"xp", "dtype", "seed"})  # than the network that was saved
    try:
        description = checked(metadata.get("description"))
        draws = _Draws(changes.pop("seed", 0))
        if not other:
            draws.bound(arrays)
        net = build(description, seed=draws, **changes)
        draws.left = None
        fit = copy_common(arrays, net) if partial else copy_all(arrays, net, extra=other)
        net.description = description | net.description
    except MemoryError as error:
        raise FormatError(f"{path}: not a network of this library ({error})") from error
    except (TypeError, ValueError, OverflowError) as error:
        if changes.keys() - {"xp"}:
            raise
        writer = str(metadata.get("version", __version__))
        hint = f"; version {writer[:20]} wrote it, this is {__version__}"
        raise FormatError(
            f"{path}: not a network of this library ({error}{hint * (writer != __version__)})"
        ) from error
    fit.tell(f"{path}")
    return net


class _Draws(np.random.Generator):
    """Draws initial weights, but few more than a file holds: some bytes can describe a giant.

    Few more, so that what is missing is told by name when the network stands.
    """

    def __init__(self, seed: Any) -> None:
        super().__init__(np.random.default_rng(seed).bit_generator)
        self.left: tuple[int, int] | None = None  # arrays and numbers

    def bound(self, arrays: Mapping[str, np.ndarray]) -> None:
        numbers = sum(array.size for array in arrays.values())
        self.left = 2 * len(arrays) + 100, 2 * numbers + 10**6

    def standard_normal(self, shape: Any) -> Any:  # type: ignore[override]
        self._take(shape)
        return super().standard_normal(shape)

    def uniform(self, low: Any, high: Any, shape: Any) -> Any:  # type: ignore[override]
        self._take(shape)
        return super().uniform(low, high, shape)

    def _take(self, shape: tuple[int, ...]) -> None:
        if self.left is not None:
            self.left = self.left[0] - 1, self.left[1] - math.prod(shape)
            if min(self.left) < 0:
                raise ValueError("it describes a network of far more weights than it holds")
