"""The embedding network."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from segaware_np.layers import EmbeddingLoss
from segaware_np.models.parts import UP_TO_1000, add_embedding, describe
from segaware_np.net import Net
from segaware_np.ranges import check_all
from segaware_np.window import Window


def embedding_network(
    widths: Sequence[int] = (64, 128, 256),
    depths: Sequence[int] = (2, 2, 1),
    channels: int = 64,
    *,
    dilations: Sequence[int] = (1, 2, 5),
    hinge: str = "linear",
    normalize: str = "all",
    ignore_label: int = 255,
    dtype: str = "float32",
    xp: ModuleType = np,
    seed: int = 0,
) -> Net:
    """Network that maps every pixel to an embedding; the defaults are the published one.

    Convolutions of all stages, resized to the image, and the image itself are concatenated and
    mixed into the embedding, on which one contrastive loss a dilation is laid.

    Parameters
    ----------
    widths, depths : sequences of int
        Channels and number of 3x3 convolutions of each stage; the resolution halves between them.
    channels : int
        Channels of the embedding.
    dilations : sequence of int
        Of the 3x3 windows of the losses.
    hinge, normalize, ignore_label
        As for `embedding_loss_forward`.
    dtype, xp, seed
        As for `Net`.

    Returns
    -------
    Net
        Inputs ``image`` and ``label``; output ``embedding`` (N, channels, H, W).

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Notes
    -----
    Harley, Derpanis, Kokkinos (ICCV 2017), section 3.1; the stages are those of VGG-16 up to conv3.

    Examples
    --------
    >>> net = embedding_network((4, 8), (1, 1), channels=6)
    >>> image = np.zeros((1, 3, 12, 16), "float32")
    >>> net.forward({"image": image}, ["embedding"])["embedding"].shape
    (1, 6, 12, 16)
    """
    check_all("dilations", dilations, UP_TO_1000)
    description = describe("embedding_network", locals())
    net = Net(("image", "label"), dtype, xp, seed)
    add_embedding(net, widths, depths, channels, lr_mult=1.0)
    for dilation in dilations:
        loss = EmbeddingLoss(
            Window.same(3, dilation), ignore_label, hinge=hinge, normalize=normalize
        )
        net.add(f"loss_dilation{dilation}", loss, "embedding", "label", weight=1.0)
    net.description = description
    return net
