"""Weights from one network into another, and what is told of it."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import NamedTuple

import numpy as np

from segaware_np.net import Net


class Fit(NamedTuple):
    """Which weights of one network went into another.

    Attributes
    ----------
    loaded : list of str
    left_out : list of str
        Of the given ones: the other network has none of that name and shape.
    initial : list of str
        Of the other network: they are as they were.

    Examples
    --------
    >>> print(Fit(["a.weight", "a.bias"], [], ["b.weight"]))
    loaded: a; left as it was: b
    """

    loaded: list[str]
    left_out: list[str]
    initial: list[str]

    def __str__(self) -> str:
        """By layer, but for layers of which only a part went over."""
        parts = {"loaded": self.loaded, "left out": self.left_out, "left as it was": self.initial}
        layers = Counter(layer for names in parts.values() for layer in {*map(_layer, names)})

        def told(names: list[str]) -> str:
            short = (_layer(name) if layers[_layer(name)] == 1 else name for name in names)
            return ", ".join(dict.fromkeys(short))

        return "; ".join(f"{what}: {told(names)}" for what, names in parts.items() if names)

    def tell(self, source: str) -> None:
        """Warn if that is not all of both."""
        if self.left_out or self.initial:
            warnings.warn(f"{source}: {self}", stacklevel=3)


def _layer(name: str) -> str:
    return name.rpartition(".")[0] or name


def copy_all(weights: dict[str, np.ndarray], net: Net, extra: bool) -> Fit:
    """Copy all weights of a network, which must be there.

    Parameters
    ----------
    weights : dict of str to numpy.ndarray
    net : Net
    extra : bool
        Permit further weights, which are left out.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        If names or shapes differ; nothing is written then.

    Examples
    --------
    >>> from segaware_np.models import segmentation_network
    >>> net = segmentation_network(2, (4,), (1,))
    >>> copy_all({"other": np.ones(2), **net.weights()}, net, extra=True).left_out
    ['other']
    """
    own = net.parameters()
    common = {name: array for name, array in weights.items() if name in own or not extra}
    try:
        net.set_weights(common)
    except ValueError as error:
        raise ValueError(f"{error} (partial=True takes what fits)") from error
    return Fit(list(common), [name for name in weights if name not in common], [])


def copy_common(weights: dict[str, np.ndarray], net: Net) -> Fit:
    """Copy the weights whose name and shape a network has as well, as `transfer` does.

    Parameters
    ----------
    weights : dict of str to numpy.ndarray
    net : Net

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> from segaware_np.models import segmentation_network
    >>> one, other = (segmentation_network(n, (4,), (1,)) for n in (2, 3))
    >>> for what, names in copy_common(one.weights(), other)._asdict().items():
    ...     print(what, names)
    loaded ['conv1_1.weight', 'conv1_1.bias']
    left_out ['classifier.weight', 'classifier.bias']
    initial ['classifier.weight', 'classifier.bias']
    """
    own = net.parameters()
    loaded = [n for n, p in own.items() if n in weights and weights[n].shape == p.data.shape]
    if not loaded:
        raise ValueError("weights: expected some of this network's names and shapes, got none")
    for name in loaded:
        own[name].data[...] = net.xp.asarray(weights[name], net.dtype)
    rest = ([name for name in names if name not in loaded] for names in (weights, own))
    return Fit(loaded, *rest)


def transfer(weights: dict[str, np.ndarray], net: Net) -> list[str]:
    """Copy the weights whose name and shape a network has as well.

    This turns a plain network into a segmentation-aware one, or puts a trained embedding into it.

    Parameters
    ----------
    weights : dict of str to numpy.ndarray
        For example `Net.weights` of another network.
    net : Net

    Returns
    -------
    list of str
        The names that were copied.

    Warns
    -----
    UserWarning
        By name, of weights that were left out and of those that are as they were.

    Raises
    ------
    ValueError
        If no name and shape is the same.

    Examples
    --------
    >>> from segaware_np.models import segmentation_network
    >>> plain, aware = (segmentation_network(3, (4,), (1,), aware=a, seed=a) for a in (False, True))
    >>> "classifier.weight" in transfer(plain.weights(), aware)
    True
    """
    fit = copy_common(weights, net)
    fit.tell("weights")
    return fit.loaded
