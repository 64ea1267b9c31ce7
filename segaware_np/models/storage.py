"""Networks from files, and weights from one network to another."""

from __future__ import annotations

import os
from inspect import signature
from typing import Any

import numpy as np

from segaware_np.files import FormatError, load_arrays
from segaware_np.models.embedding import embedding_network
from segaware_np.models.resnet import segaware_resnet101
from segaware_np.models.segmentation import segmentation_network
from segaware_np.models.vgg import segaware_vgg16
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


def load(path: str | os.PathLike[str], **changes: Any) -> Net:
    """Build the network that a file of weights belongs to, and load them.

    Parameters
    ----------
    path : path-like
        Written by `Net.save`, or a checkpoint of a `Trainer`.
    **changes
        Arguments of the network to replace, ``xp`` or ``dtype`` say.
    path : path-like
        What `Net.save` wrote.
    **changes
        Arguments of the network to replace, as for `build`.

    Returns
    -------
    Net

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is damaged or holds no network.
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
        arrays = {name.removeprefix("weights/"): array for name, array in arrays.items()}
    try:
        net = build(metadata.get("description", {}), **changes)
        own = net.parameters()
        net.set_weights({name: array for name, array in arrays.items() if name in own})
        net.description = metadata["description"] | net.description
    except (TypeError, ValueError) as error:
        if changes.keys() - {"xp"}:
            raise
        writer = metadata.get("version", __version__)
        hint = f"; version {writer} wrote it, this is {__version__}" * (writer != __version__)
        raise FormatError(f"{path}: not a network of this library ({error}{hint})") from error
    return net


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

    Examples
    --------
    >>> plain, aware = (segmentation_network(3, (4,), (1,), aware=a, seed=a) for a in (False, True))
    >>> "classifier.weight" in transfer(plain.weights(), aware)
    True
    """
    own = net.parameters()
    common = [
        name for name in own if name in weights and weights[name].shape == own[name].data.shape
    ]
    for name in common:
        own[name].data[...] = net.xp.asarray(weights[name], net.dtype)
    return common
