"""From a picture of any size to a network's input: scale, crop, mirror, subtract the mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from segaware_np.ranges import COUNT, FINITE, WHOLE, check, check_all
from segaware_np.xp import check_array

RGB_MEAN = (122.675, 116.669, 104.008)  # of the published networks


@dataclass(frozen=True)
class Augmentation:
    """A random crop of a randomly scaled, perhaps mirrored picture, as float32 minus the mean.

    The crop is sampled straight from the original pixels (image bilinear, labels nearest, pixel
    centres at half integers). A crop that is larger than the scaled picture is filled up at the
    bottom and on the right: with the mean, which is 0 after subtraction, and the ignore label.

    Parameters
    ----------
    crop : int or (int, int), optional
        Height and width of the result; None keeps the scaled size.
    scale : (float, float)
        Range of the scale factor, drawn uniformly in its logarithm.
    mirror : bool
        Mirror every other picture, by chance, left to right.
    mean : (float, float, float)
        Subtracted from red, green and blue, in 0..255.
    order : {"rgb", "bgr"}
        Order of the channels in the result.
    ignore_label : int
        Label of the pixels beyond the picture.

    Raises
    ------
    TypeError, ValueError
        If an option is of another kind or out of its range.

    Examples
    --------
    >>> from segaware_np.data import SyntheticScenes
    >>> image, labels = SyntheticScenes(1, size=(40, 60))[0]
    >>> augment = Augmentation(crop=32, scale=(0.5, 2.0), mirror=True)
    >>> x, y = augment(image, labels, np.random.default_rng(0))
    >>> x.shape, x.dtype.name, y.shape
    ((3, 32, 32), 'float32', (32, 32))
    """

    crop: int | tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    mirror: bool = False
    mean: tuple[float, float, float] = RGB_MEAN
    order: str = "rgb"
    ignore_label: int = 255

    def __post_init__(self) -> None:
        if isinstance(self.crop, (tuple, list)):
            check_all("crop", self.crop, COUNT, 2)
        elif self.crop is not None:
            check("crop", self.crop, COUNT)
        check_all("scale", self.scale, FINITE, 2)
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale: expected 0 < low <= high, got {self.scale}")
        check_all("mean", self.mean, FINITE, 3)
        check("ignore_label", self.ignore_label, WHOLE)
        if self.order not in ("rgb", "bgr"):
            raise ValueError(f"order: expected 'rgb' or 'bgr', got {self.order!r}")

    @property
    def _crop(self) -> tuple[int | None, int | None]:
        return self.crop if isinstance(self.crop, (tuple, list)) else (self.crop, self.crop)

    def __call__(
        self, image: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Apply to one picture.

        Parameters
        ----------
        image : numpy.ndarray
            (H, W, 3) RGB, uint8, or float32 from which something was subtracted before.
        labels : numpy.ndarray or None
            (H, W) integer.
        rng : numpy.random.Generator
            The only source of randomness.

        Returns
        -------
        image : numpy.ndarray
            (3, h, w) float32.
        labels : numpy.ndarray or None
            (h, w) int32.
        """
        reduced = isinstance(image, np.ndarray) and image.dtype.kind == "f"
        check_array("image", image, ("H", "W", 3), kind="float" if reduced else "integer")
        if labels is not None:
            check_array("labels", labels, image.shape[:2], kind="integer")
        factor = math.exp(rng.uniform(math.log(self.scale[0]), math.log(self.scale[1])))
        y, height = _positions(image.shape[0], factor, self._crop[0], rng)
        x, width = _positions(image.shape[1], factor, self._crop[1], rng)
        if self.mirror and rng.random() < 0.5:
            x = x[::-1]

        pixels = _interpolate(_interpolate(image, y, axis=0), x, axis=1)
        pixels = pixels - np.array(self.mean, np.float32)
        if self.order == "bgr":
            pixels = pixels[..., ::-1]
        out = np.zeros((3, height, width), np.float32)
        out[:, : len(y), : len(x)] = pixels.transpose(2, 0, 1)
        if labels is None:
            return out, None
        filled = np.full((height, width), self.ignore_label, np.int32)
        rows, columns = (np.floor(line + 0.5).astype(np.intp) for line in (y, x))
        filled[: len(y), : len(x)] = labels[rows[:, None], columns]
        return out, filled


def _positions(
    side: int, factor: float, crop: int | None, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Where along one side of the picture the crop's pixels lie, and the crop's size.

    Fewer positions than the size mean that the crop reaches beyond the picture.
    """
    scaled = max(1, round(side * factor))
    size = crop or scaled
    start = rng.integers(max(scaled - size, 0) + 1)
    centres = np.arange(start, min(start + size, scaled)) + 0.5
    return np.clip(centres * (side / scaled) - 0.5, 0, side - 1), size


def _interpolate(array: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation along an axis, float32."""
    lower = np.floor(positions).astype(np.intp)
    weight = (positions - lower).astype(np.float32)
    low = array.take(lower, axis)
    if not weight.any():  # whole pixels: the common case of no scaling
        return low
    high = array.take(np.minimum(lower + 1, array.shape[axis] - 1), axis).astype(np.float32)
    weight = np.expand_dims(weight, tuple(k for k in range(array.ndim) if k != axis))
    return low + weight * (high - low)
