"""An embedding network as the page runs it: smaller than the embedding, and exact.

The page computes what is described here (``embed`` in ``network.js``): change both together.
"""

from __future__ import annotations

import base64
import re
import zlib
from typing import Any

import numpy as np

from segaware_np.data import RGB_MEAN
from segaware_np.models.parts import UNIT
from segaware_np.net import Net


def describe_network(net: Net) -> dict[str, Any] | None:
    """Return the network's way from image to embedding as JSON-able values.

    ``steps`` are its 3x3 convolutions with rectifier in order: ``filters`` of each, whether a
    pooling goes before (``pool``), and whether the embedding reads it (``tap``). ``stream`` has
    the float32 parameters in the order of use: for each step, weights and biases, and what mixes
    a tap into the embedding; before all, what mixes the image into it, and the embedding's bias.

    Parameters
    ----------
    net : Net
        Has a layer ``embedding``.

    Returns
    -------
    dict or None
        None if the embedding is made in another way than `models.embedding_network` makes it.

    Examples
    --------
    >>> from segaware_np.models import embedding_network
    >>> network = describe_network(embedding_network((4, 8), (1, 1), channels=6))
    >>> network["steps"][1], network["parameters"]
    ({'filters': 8, 'pool': True, 'tap': True}, 504)
    """
    if "emb_all" not in net.nodes:
        return None
    weights = net.weights()
    mix = weights["embedding.weight"][:, :, 0, 0]
    read = [re.sub("_up$|_relu$", "", name) for name in net.nodes["emb_all"].inputs]
    steps: list[dict[str, Any]] = []
    parameters, used = [mix[:, :3], weights["embedding.bias"]], 3
    for name in net.nodes:
        if not (found := re.fullmatch(r"emb(\d+)_(\d+)", name)):
            continue
        weight, tap = weights[f"{name}.weight"], name in read
        stage, number = map(int, found.groups())
        steps.append({"filters": len(weight), "pool": stage > 1 and number == 1, "tap": tap})
        parameters += [weight, weights[f"{name}.bias"]]
        if tap:
            parameters.append(mix[:, used : used + len(weight)])
            used += len(weight)
    values = np.concatenate([p.ravel() for p in parameters]).astype("<f4")
    return {
        "channels": len(mix),
        "mean": RGB_MEAN,
        "unit": UNIT,
        "steps": steps,
        "parameters": values.size,
        "stream": base64.b64encode(zlib.compress(values.tobytes())).decode(),
    }
