"""Multi-scale ResNet-101 (DeepLab v2) with a segmentation-aware CRF."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from segaware_np.layers import (
    Add,
    BatchNorm,
    Concat,
    Convolution,
    LabelsLike,
    Layer,
    Maximum,
    MaxPool,
    MeanField,
    PositionLike,
    ReLU,
    ResizeLike,
    Scale,
    Shrink,
    SoftmaxCrossEntropy,
)
from segaware_np.models.parts import HALVE, POINT, UP_TO_1000, add_embedding, describe
from segaware_np.net import Net
from segaware_np.ranges import CLASSES, COUNT, POSITIVE, check, check_all
from segaware_np.window import Window

# filters inside and behind a block, stride of the first block, dilation
_STAGES = ((64, 256, 1, 1), (128, 512, 2, 1), (256, 1024, 1, 2), (512, 2048, 1, 4))
_SCALES = (("", 1.0), ("scale075_", 0.75), ("scale05_", 0.5))


def segaware_resnet101(
    classes: int = 21,
    width: float = 1.0,
    *,
    blocks: tuple[int, int, int, int] = (3, 4, 23, 3),
    iterations: int = 2,
    ignore_label: int = 255,
    dtype: str = "float32",
    xp: ModuleType = np,
    seed: int = 0,
) -> Net:
    """Published multi-scale ResNet-101 with a segmentation-aware CRF at half resolution.

    The image is seen at scales 1, 0.75 and 0.5 through shared weights; the maximum of the three
    score maps is the CRF's unary and first Q. The CRF averages over 13x13 windows of dilation 9
    in learned embedding and position, and over 5x5 windows in position.

    Parameters
    ----------
    classes : int
    width : float
        Factor on the number of channels: 1 is the published network, less suits small machines.
    blocks : (int, int, int, int)
        Bottleneck blocks of the four stages.
    iterations : int
        Of the mean field.
    ignore_label : int
    dtype, xp, seed
        As for `Net`.

    Returns
    -------
    Net
        Inputs ``image`` (pixels minus mean) and ``label``; output ``score`` at half the size,
        ``fusion`` before the CRF at 1/8.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Notes
    -----
    Harley, Derpanis, Kokkinos (ICCV 2017), section 4.3; Chen et al., *DeepLab* (2016). Batch
    normalisation uses stored statistics; they and the scales behind them do not learn.

    Examples
    --------
    >>> net = segaware_resnet101(5, width=1 / 16, blocks=(1, 1, 1, 1))
    >>> image = np.zeros((1, 3, 65, 97), "float32")
    >>> net.forward({"image": image}, ["score"])["score"].shape
    (1, 5, 33, 49)
    """
    check("width", width, POSITIVE)
    check_all("blocks", blocks, COUNT, 4)
    check("iterations", iterations, UP_TO_1000)
    description = describe("segaware_resnet101", locals())
    check("classes", classes, CLASSES)
    net = Net(("image", "label"), dtype, xp, seed)

    def channels(filters: int) -> int:
        return max(1, round(filters * width))

    add_embedding(
        net, [channels(f) for f in (64, 128, 256)], (2, 2, 3), channels(64), 1.0, taps="last"
    )
    scores = []
    for prefix, scale in _SCALES:
        trunk = _Trunk(net, prefix, channels)
        top = "image"
        if prefix:
            top = f"{prefix}image"
            net.add(top, Shrink(scale), "image")
        scores.append(trunk.classify(trunk.features(top, blocks), classes))
    same = scores[:1]
    for score in scores[1:]:
        net.add(f"{score}_up", ResizeLike(), score, scores[0])
        same.append(f"{score}_up")
    net.add("fusion", Maximum(), *same)
    _add_crf(net, classes, iterations)

    for name in ("score", "fusion", same[0], same[1], scores[2]):
        net.add(f"label_{name}", LabelsLike(), "label", name)
        loss = SoftmaxCrossEntropy(ignore_label)
        net.add(f"loss_{name}", loss, name, f"label_{name}", weight=1.0)
    net.description = description
    return net


class _Trunk:
    """The residual network at one scale of the image; all scales share its weights."""

    def __init__(self, net: Net, prefix: str, channels: Callable[[int], int]) -> None:
        self.net, self.prefix, self.channels = net, prefix, channels

    def features(self, image: str, blocks: tuple[int, int, int, int]) -> str:
        """Add all blocks; return the name of the last output, at 1/8 of the image."""
        width = self.channels(64)
        top = self._normalized("conv1", 3, width, Window(7, stride=2, pad=3), image)
        top = self._add("pool1", MaxPool(HALVE), self._add("conv1_relu", ReLU(), top))
        for i, (count, (inner, outer, stride, dilation)) in enumerate(
            zip(blocks, _STAGES, strict=True), 2
        ):
            for j in range(count):
                name = f"res{i}{'a' if not j else f'b{j}'}"
                block = (width, self.channels(inner), self.channels(outer))
                top = self._bottleneck(name, top, block, 1 if j else stride, dilation, not j)
                width = self.channels(outer)
        return top

    def classify(self, top: str, classes: int) -> str:
        """Add the classifier: a sum of 3x3 convolutions of several dilations."""
        width = self.channels(2048)
        parts = [
            self._add(f"fc_{d}", Convolution(width, classes, Window.same(3, d), init=0.01), top)
            for d in (6, 12, 18, 24)
        ]
        return self._add("fc", Add(), *parts)

    def _bottleneck(
        self,
        name: str,
        top: str,
        block: tuple[int, int, int],
        stride: int,
        dilation: int,
        project: bool,
    ) -> str:
        width, inner, outer = block
        point, first = Window(1, stride=stride), f"{name}_branch1"
        shortcut = self._normalized(first, width, outer, point, top) if project else top
        steps = (
            ("a", width, inner, point),
            ("b", inner, inner, Window.same(3, dilation)),
            ("c", inner, outer, POINT),
        )
        for letter, channels, filters, window in steps:
            branch = f"{name}_branch2{letter}"
            top = self._normalized(branch, channels, filters, window, top)
            if letter != "c":
                top = self._add(f"{branch}_relu", ReLU(), top)
        total = self._add(name, Add(), shortcut, top)
        return self._add(f"{name}_relu", ReLU(), total)

    def _normalized(
        self, name: str, channels: int, filters: int, window: Window, top: str
    ) -> str:
        top = self._add(name, Convolution(channels, filters, window, bias=False, init="msra"), top)
        top = self._add(f"{name}_bn", BatchNorm(filters), top)
        return self._add(f"{name}_scale", Scale(filters, lr_mult=0.0), top)

    def _add(self, name: str, layer: Layer, *inputs: str) -> str:
        share = name if self.prefix else None
        self.net.add(f"{self.prefix}{name}", layer, *inputs, share=share)
        return f"{self.prefix}{name}"


def _add_crf(net: Net, classes: int, iterations: int) -> None:
    """Add the CRF on ``fusion`` and ``embedding`` at half resolution; its output is ``score``."""
    net.add("half", Shrink(0.5), "embedding")
    net.add("unary", ResizeLike(), "fusion", "half")
    net.add("position", PositionLike(), "half")
    net.add("half_scaled", Scale(start=200.0), "half")
    net.add("position_bilateral", Scale(start=0.05), "position")
    net.add("position_spatial", Scale(start=0.05), "position")
    net.add("features", Concat(), "half_scaled", "position_bilateral")
    crf = MeanField(classes, Window.same(13, 9), Window.same(5), iterations)
    net.add("score", crf, "unary", "unary", "features", "position_spatial")
