"""What the networks are built from."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from segaware_np.layers import (
    Concat,
    Convolution,
    Distance,
    Layer,
    MaxPool,
    Multiply,
    ReLU,
    ResizeLike,
    SegawareConvolution,
)
from segaware_np.net import Net
from segaware_np.ranges import COUNT, Range, check_all
from segaware_np.window import Window

UNIT = 1 / 255  # brings pixels minus mean to about [-1/2, 1/2]
SPREAD = 1 / 64  # brings pixels minus mean to about unit variance
HALVE = Window(3, stride=2, pad=1)
POINT = Window(1)
# A model file may come from anyone: pad as wide as a dilation takes memory, iterations take time.
UP_TO_1000 = Range("an integer from 1 to 1000", lambda value: 1 <= value <= 1000, Integral)


class Builder:
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
        window, inputs = Window.same(3, dilation), [top]
        layer = Convolution(channels, filters, window, init="msra")
        if stage in self.aware:
            inputs.append(self._distance(level, top, dilation))
            layer = SegawareConvolution(
                channels,
                filters,
                window,
                scale=self.scale,
                scale_lr_mult=self.scale_lr_mult,
                init="msra",
            )
        return self.rectified(name, layer, *inputs)

    def rectified(self, name: str, layer: Layer, *inputs: str) -> str:
        """Add a layer and its rectifier; return the latter's name."""
        self.net.add(name, layer, *inputs)
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


def add_embedding(
    net: Net,
    widths: Sequence[int],
    depths: Sequence[int],
    channels: int,
    lr_mult: float,
    taps: str = "all",
) -> None:
    """Add the layers from ``image`` to ``embedding``.

    The convolutions of each stage (all of them, or with ``taps="last"`` the last) and the image
    are brought to full size, concatenated and mixed.
    """
    check_stages(widths, depths)
    net.add("emb_image", Multiply(UNIT), "image")
    top, width, total, parts = "emb_image", 3, 3, ["emb_image"]
    for i, (filters, depth) in enumerate(zip(widths, depths, strict=True), 1):
        if i > 1:
            net.add(f"emb_pool{i - 1}", MaxPool(HALVE), top)
            top = f"emb_pool{i - 1}"
        for j in range(1, depth + 1):
            name = f"emb{i}_{j}"
            layer = Convolution(width, filters, Window.same(3), init="msra", lr_mult=lr_mult)
            net.add(name, layer, top)
            net.add(f"{name}_relu", ReLU(), name)
            top, width = f"{name}_relu", filters
            if taps == "last" and j < depth:
                continue
            if i > 1:
                net.add(f"{name}_up", ResizeLike(), top, "image")
            parts.append(f"{name}_up" if i > 1 else top)
            total += filters
    net.add("emb_all", Concat(), *parts)
    net.add("embedding", Convolution(total, channels, POINT, lr_mult=lr_mult), "emb_all")


def check_stages(widths: Sequence[int], depths: Sequence[int]) -> None:
    """Raise TypeError or ValueError unless each stage has channels and convolutions."""
    check_all("widths", widths, COUNT)
    check_all("depths", depths, COUNT)
    if not widths:
        raise ValueError("widths: expected at least one stage, got none")
    if len(widths) != len(depths):
        raise ValueError(f"depths: expected {len(widths)} to match widths, got {len(depths)}")


def describe(model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as JSON-able values, without where and in what precision the net runs."""
    plain: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in ("dtype", "xp", "seed"):
            is_scalar = value is None or isinstance(value, (bool, int, float, str))
            plain[name] = value if is_scalar else sorted(value) if name == "aware" else list(value)
    return {"model": model, "arguments": plain}
