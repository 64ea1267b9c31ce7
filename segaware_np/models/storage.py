"""Networks from files, and weights from one network to another."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from segaware_np.files import FormatError, load_arrays
from segaware_np.models.embedding import embedding_network
from segaware_np.models.resnet import segaware_resnet101
from segaware_np.models.segmentation import segmentation_network
from segaware_np.models.vgg import segaware_vgg16
from segaware_np.net import Net

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

    Raises
    ------
    ValueError
        If it describes no network of this module.
    """
    try:
        builder, arguments = BUILDERS[description["model"]], dict(description["arguments"])
        return builder(**{**arguments, **changes})
    except (KeyError, TypeError) as error:
        raise ValueError(f"description: not that of a network of this library ({error})") from error


def load(path: str | os.PathLike[str], **changes: Any) -> Net:
    """Build the network that a file of weights belongs to, and load them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is damaged or holds no network.
    """
    arrays, metadata = load_arrays(path)
    try:
        net = build(metadata["description"], **changes)
        net.set_weights({name: arrays[name] for name in net.parameters()})
    except (KeyError, ValueError, TypeError) as error:
        raise FormatError(f"{path}: not a network of this library ({error})") from error
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
    """
    own = net.parameters()
    common = [
        name for name in own if name in weights and weights[name].shape == own[name].data.shape
    ]
    for name in common:
        own[name].data[...] = net.xp.asarray(weights[name], net.dtype)
    return common
