"""Segmentation networks in which each convolution is plain or segmentation-aware."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import ModuleType

import numpy as np

from segaware_np.layers import (
    Add,
    Convolution,
    Dropout,
    MaxPool,
    Multiply,
    ResizeLike,
    SoftmaxCrossEntropy,
)
from segaware_np.models.parts import (
    HALVE,
    POINT,
    SPREAD,
    UNIT,
    UP_TO_1000,
    Builder,
    add_embedding,
    check_stages,
    describe,
)
from segaware_np.net import Net
from segaware_np.ranges import CLASSES, FRACTION, NOT_NEGATIVE, check, check_all


def segmentation_network(
    classes: int = 21,
    widths: Sequence[int] = (64, 128, 256),
    depths: Sequence[int] = (2, 2, 3),
    *,
    aware: bool | Collection[str] = False,
    embedding: str = "learned",
    embedding_widths: Sequence[int] = (64, 128, 256),
    embedding_depths: Sequence[int] = (2, 2, 1),
    embedding_channels: int = 64,
    embedding_lr_mult: float = 0.0,
    norm: str = "L1",
    scale: float = 0.05,
    scale_lr_mult: float = 1.0,
    context: Sequence[int] = (),
    refine: Sequence[int] = (),
    refine_width: int = 32,
    dropout: float = 0.0,
    ignore_label: int = 255,
    dtype: str = "float32",
    xp: ModuleType = np,
    seed: int = 0,
) -> Net:
    """Segmentation network whose 3x3 convolutions are plain or segmentation-aware.

    Stages of 3x3 convolutions with pooling between them, dilated context convolutions at the last
    stage, a 1x1 classifier, and its scores resized to the image. Refining convolutions may then
    correct the scores at full resolution. Plain and aware networks have the same weights and
    differ in the masks alone, so that one can be turned into the other.

    Parameters
    ----------
    classes : int
    widths, depths : sequences of int
        Channels and number of 3x3 convolutions of each stage; the resolution halves between them.
    aware : bool or collection of str
        Which convolutions are segmentation-aware: all, none, or those of the stages named
        (``"stage1"``, ..., ``"context"``, ``"refine"``).
    embedding : {"learned", "rgb"}
        What the masks compare: an embedding network inside, or the image's own colours / 255.
    embedding_widths, embedding_depths, embedding_channels
        Of the embedding network.
    embedding_lr_mult : float
        Learning-rate factor of the embedding network; 0 freezes it.
    norm : {"L1", "L2"}
        Of the embedding distance.
    scale, scale_lr_mult : float
        Where the masks' scales start, and their learning-rate factor.
    context, refine : sequences of int
        Dilations of the 3x3 convolutions before the classifier and on the resized scores.
    refine_width : int
        Channels of the refining convolutions.
    dropout : float
        Ratio, before the classifier.
    ignore_label : int
    dtype, xp, seed
        As for `Net`.

    Returns
    -------
    Net
        Inputs ``image`` and ``label``; output ``score`` (N, classes, H, W).

    Raises
    ------
    TypeError, ValueError
        If `aware` names an unknown stage or an option is out of range.

    Examples
    --------
    >>> net = segmentation_network(3, (4, 8), (1, 1), aware=True, embedding="rgb")
    >>> image = np.zeros((1, 3, 12, 16), "float32")
    >>> net.forward({"image": image}, ["score"])["score"].shape
    (1, 3, 12, 16)
    """
    description = describe("segmentation_network", locals())
    check("classes", classes, CLASSES)
    check_stages(widths, depths)
    check("embedding_lr_mult", embedding_lr_mult, NOT_NEGATIVE)
    check("scale_lr_mult", scale_lr_mult, NOT_NEGATIVE)
    check("dropout", dropout, FRACTION)
    check_all("context", context, UP_TO_1000)
    check_all("refine", refine, UP_TO_1000)
    if isinstance(aware, str):
        raise TypeError(f"aware: expected a bool or a collection of names, got {aware!r}")
    if embedding not in ("learned", "rgb"):
        raise ValueError(f"embedding: expected 'learned' or 'rgb', got {embedding!r}")
    stages = {*(f"stage{i + 1}" for i in range(len(widths))), "context", "refine"}
    chosen = (stages if aware else set()) if isinstance(aware, bool) else set(aware)
    if chosen - stages:
        raise ValueError(f"aware: expected names out of {sorted(stages)}, got {sorted(chosen)}")

    net = Net(("image", "label"), dtype, xp, seed)
    if chosen and embedding == "learned":
        add_embedding(
            net, embedding_widths, embedding_depths, embedding_channels, embedding_lr_mult
        )
    elif chosen:
        net.add("embedding", Multiply(UNIT), "image")
    build = Builder(net, chosen, norm, scale, scale_lr_mult)

    net.add("spread", Multiply(SPREAD), "image")
    top, width = "spread", 3
    for i, (filters, depth) in enumerate(zip(widths, depths, strict=True), 1):
        if i > 1:
            net.add(f"pool{i - 1}", MaxPool(HALVE), top)
            top = f"pool{i - 1}"
        for j in range(1, depth + 1):
            top = build.convolution(f"conv{i}_{j}", f"stage{i}", i, top, width, filters)
            width = filters
    for j, dilation in enumerate(context, 1):
        top = build.convolution(f"context{j}", "context", len(widths), top, width, width, dilation)
    if dropout:
        net.add("dropout", Dropout(dropout), top)
        top = "dropout"
    net.add("classifier", Convolution(width, classes, POINT, init=0.01), top)
    _add_scores(build, classes, refine, refine_width)
    net.add("loss", SoftmaxCrossEntropy(ignore_label), "score", "label", weight=1.0)
    net.description = description
    return net


def _add_scores(build: Builder, classes: int, refine: Sequence[int], width: int) -> None:
    """Resize the classifier's scores to the image; add to them what refining layers find."""
    net = build.net
    if not refine:
        net.add("score", ResizeLike(), "classifier", "image")
        return
    net.add("coarse", ResizeLike(), "classifier", "image")
    top, channels = "coarse", classes
    for j, dilation in enumerate(refine, 1):
        top = build.convolution(f"refine{j}", "refine", 1, top, channels, width, dilation)
        channels = width
    net.add("correction", Convolution(channels, classes, POINT, init=0.01), top)
    net.add("score", Add(), "coarse", "correction")
