"""Segmentation-aware VGG-16 (DeepLab LargeFOV)."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from segaware_np.layers import (
    AveragePool,
    Convolution,
    Dropout,
    LabelsLike,
    MaxPool,
    SoftmaxCrossEntropy,
)
from segaware_np.models.parts import HALVE, POINT, Builder, add_embedding, describe
from segaware_np.net import Net
from segaware_np.ranges import CLASSES, POSITIVE, check
from segaware_np.window import Window

# name of the stage, level of resolution, filters, convolutions, dilation, pooling behind it
_STAGES = (
    ("stage1", 1, 64, 2, 1, HALVE),
    ("stage2", 2, 128, 2, 1, HALVE),
    ("stage3", 3, 256, 3, 1, HALVE),
    ("stage4", 4, 512, 3, 1, Window(3, pad=1)),
    ("stage5", 4, 512, 3, 2, Window(3, pad=1)),
)


def segaware_vgg16(
    classes: int = 21,
    width: float = 1.0,
    *,
    aware: bool = True,
    scale: float = 0.05,
    ignore_label: int = 255,
    dtype: str = "float32",
    xp: ModuleType = np,
    seed: int = 0,
) -> Net:
    """Published segmentation-aware VGG-16.

    Every 3x3 convolution is segmentation-aware, with L1 distances that are computed once for
    each resolution and dilation, from an embedding network that is trained along.

    Parameters
    ----------
    classes : int
    width : float
        Factor on the number of channels: 1 is the published network, less suits small machines.
    aware : bool
        False: the plain network of the same size.
    scale : float
        Where the masks' scales start.
    ignore_label : int
    dtype, xp, seed
        As for `Net`.

    Returns
    -------
    Net
        Inputs ``image`` (pixels minus mean) and ``label``; output ``score`` at 1/8 of the size
        (image sides of ``32 k - 31`` pixels align exactly).

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Notes
    -----
    Harley, Derpanis, Kokkinos (ICCV 2017), section 4.2; Chen et al., *DeepLab* (2016).

    Examples
    --------
    A network of a sixteenth of the width, on an image whose sides are ``32 k - 31``:

    >>> net = segaware_vgg16(5, width=1 / 16)
    >>> image = np.zeros((1, 3, 65, 97), "float32")
    >>> net.forward({"image": image}, ["score"])["score"].shape
    (1, 5, 9, 13)
    """
    check("width", width, POSITIVE)
    if not isinstance(aware, bool):
        raise TypeError(f"aware: expected True or False, got {aware!r}")
    description = describe("segaware_vgg16", locals())
    check("classes", classes, CLASSES)
    net = Net(("image", "label"), dtype, xp, seed)

    def channels(filters: int) -> int:
        return max(1, round(filters * width))

    stages = {name for name, *_ in _STAGES} | {"fc6"}
    if aware:
        widths = [channels(filters) for filters in (64, 128, 256)]
        add_embedding(net, widths, (2, 2, 3), channels(64), lr_mult=1.0, taps="last")
    builder = Builder(net, stages if aware else set(), "L1", scale, 1.0)
    top, depth = "image", 3
    for i, (stage, level, filters, count, dilation, pool) in enumerate(_STAGES, 1):
        for j in range(1, count + 1):
            name = f"conv{i}_{j}"
            top = builder.convolution(name, stage, level, top, depth, channels(filters), dilation)
            depth = channels(filters)
        net.add(f"pool{i}", MaxPool(pool), top)
        top = f"pool{i}"
    net.add("pool5a", AveragePool(Window(3, pad=1)), top)

    wide = channels(1024)
    top = builder.convolution("fc6", "fc6", 4, "pool5a", depth, wide, dilation=12)
    net.add("drop6", Dropout(0.5), top)
    builder.rectified("fc7", Convolution(wide, wide, POINT), "drop6")
    net.add("drop7", Dropout(0.5), "fc7_relu")
    net.add("score", Convolution(wide, classes, POINT, init=0.01, lr_mult=10.0), "drop7")
    net.add("label8", LabelsLike(), "label", "score")
    net.add("loss", SoftmaxCrossEntropy(ignore_label), "score", "label8", weight=1.0)
    net.description = description
    return net
