"""Networks: embeddings, and segmentation in which each convolution is plain or aware."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from segaware_np.files import FormatError, load_arrays
from segaware_np.layers import (
    Add,
    Concat,
    Convolution,
    Distance,
    Dropout,
    EmbeddingLoss,
    MaxPool,
    Multiply,
    ReLU,
    ResizeLike,
    SegawareConvolution,
    SoftmaxCrossEntropy,
)
from segaware_np.net import Net
from segaware_np.window import Window

_UNIT = 1 / 255  # brings pixels minus mean to about [-1/2, 1/2]
_SPREAD = 1 / 64  # brings pixels minus mean to about unit variance
_HALVE = Window(3, stride=2, pad=1)
_POINT = Window(1)


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
    """
    description = _describe("embedding_network", locals())
    net = Net(("image", "label"), dtype, xp, seed)
    _add_embedding(net, widths, depths, channels, lr_mult=1.0)
    for dilation in dilations:
        loss = EmbeddingLoss(
            Window.same(3, dilation), ignore_label, hinge=hinge, normalize=normalize
        )
        net.add(f"loss_dilation{dilation}", loss, "embedding", "label", weight=1.0)
    net.description = description
    return net


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
    ValueError
        If `aware` names an unknown stage or an option is out of range.
    """
    description = _describe("segmentation_network", locals())
    if len(widths) != len(depths):
        raise ValueError(f"depths: expected {len(widths)} to match widths, got {len(depths)}")
    if embedding not in ("learned", "rgb"):
        raise ValueError(f"embedding: expected 'learned' or 'rgb', got {embedding!r}")
    stages = {*(f"stage{i + 1}" for i in range(len(widths))), "context", "refine"}
    chosen = (stages if aware else set()) if isinstance(aware, bool) else set(aware)
    if chosen - stages:
        raise ValueError(f"aware: expected names out of {sorted(stages)}, got {sorted(chosen)}")

    net = Net(("image", "label"), dtype, xp, seed)
    if chosen and embedding == "learned":
        _add_embedding(
            net, embedding_widths, embedding_depths, embedding_channels, embedding_lr_mult
        )
    elif chosen:
        net.add("embedding", Multiply(_UNIT), "image")
    build = _Builder(net, chosen, norm, scale, scale_lr_mult)

    net.add("spread", Multiply(_SPREAD), "image")
    top, width = "spread", 3
    for i, (filters, depth) in enumerate(zip(widths, depths, strict=True), 1):
        if i > 1:
            net.add(f"pool{i - 1}", MaxPool(_HALVE), top)
            top = f"pool{i - 1}"
        for j in range(1, depth + 1):
            top = build.convolution(f"conv{i}_{j}", f"stage{i}", i, top, width, filters)
            width = filters
    for j, dilation in enumerate(context, 1):
        top = build.convolution(f"context{j}", "context", len(widths), top, width, width, dilation)
    if dropout:
        net.add("dropout", Dropout(dropout), top)
        top = "dropout"
    net.add("classifier", Convolution(width, classes, _POINT, init=0.01), top)
    _add_scores(build, classes, refine, refine_width)
    net.add("loss", SoftmaxCrossEntropy(ignore_label), "score", "label", weight=1.0)
    net.description = description
    return net


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
    builders = {f.__name__: f for f in (embedding_network, segmentation_network)}
    try:
        builder, arguments = builders[description["model"]], dict(description["arguments"])
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


class _Builder:
    """Adds 3x3 convolutions, plain or aware, and the distances that the aware ones share."""

    def __init__(
        self, net: Net, aware: set[str], norm: str, scale: float, scale_lr_mult: float
    ) -> None:
        self.net, self.aware, self.norm = net, aware, norm
        self.scale, self.scale_lr_mult = scale, scale_lr_mult

    def convolution(
        self,
        name: str,
        stage: str,
        level: int,
        top: str,
        channels: int,
        filters: int,
        dilation: int = 1,
    ) -> str:
        """Add a convolution at a level of resolution, and its rectifier; return the latter."""
        window = Window.same(3, dilation)
        if stage in self.aware:
            layer = SegawareConvolution(
                channels,
                filters,
                window,
                scale=self.scale,
                scale_lr_mult=self.scale_lr_mult,
                init="msra",
            )
            self.net.add(name, layer, top, self._distance(level, top, dilation))
        else:
            self.net.add(name, Convolution(channels, filters, window, init="msra"), top)
        self.net.add(f"{name}_relu", ReLU(), name)
        return f"{name}_relu"

    def _distance(self, level: int, top: str, dilation: int) -> str:
        """Distances at the resolution of ``top``, shared by all layers of that level."""
        embedding, name = f"embedding{level}", f"distance{level}_{dilation}"
        if level == 1:
            embedding = "embedding"
        elif embedding not in self.net.nodes:
            self.net.add(embedding, ResizeLike(), "embedding", top)
        if name not in self.net.nodes:
            self.net.add(name, Distance(Window.same(3, dilation), self.norm), embedding)
        return name


def _add_embedding(
    net: Net, widths: Sequence[int], depths: Sequence[int], channels: int, lr_mult: float
) -> None:
    if len(widths) != len(depths):
        raise ValueError(f"depths: expected {len(widths)} to match widths, got {len(depths)}")
    net.add("emb_image", Multiply(_UNIT), "image")
    top, width, total, taps = "emb_image", 3, 3, ["emb_image"]
    for i, (filters, depth) in enumerate(zip(widths, depths, strict=True), 1):
        if i > 1:
            net.add(f"emb_pool{i - 1}", MaxPool(_HALVE), top)
            top = f"emb_pool{i - 1}"
        for j in range(1, depth + 1):
            name = f"emb{i}_{j}"
            layer = Convolution(width, filters, Window.same(3), init="msra", lr_mult=lr_mult)
            net.add(name, layer, top)
            net.add(f"{name}_relu", ReLU(), name)
            top, width, total = f"{name}_relu", filters, total + filters
            if i > 1:
                net.add(f"{name}_up", ResizeLike(), top, "image")
            taps.append(f"{name}_up" if i > 1 else top)
    net.add("emb_all", Concat(), *taps)
    net.add("embedding", Convolution(total, channels, _POINT, lr_mult=lr_mult), "emb_all")


def _add_scores(build: _Builder, classes: int, refine: Sequence[int], width: int) -> None:
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
    net.add("correction", Convolution(channels, classes, _POINT, init=0.01), top)
    net.add("score", Add(), "coarse", "correction")


def _describe(model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as JSON-able values, without where and in what precision the net runs."""
    plain: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in ("dtype", "xp", "seed"):
            is_scalar = value is None or isinstance(value, (bool, int, float, str))
            plain[name] = value if is_scalar else sorted(value) if name == "aware" else list(value)
    return {"model": model, "arguments": plain}
