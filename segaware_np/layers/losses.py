"""Losses of scores and labels."""

from __future__ import annotations

from segaware_np.layers.base import Layer, Need
from segaware_np.ops.softmax import (
    NORMALIZATIONS,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)
from segaware_np.ranges import INTEGER, check
from segaware_np.xp import Array


class SoftmaxCrossEntropy(Layer):
    """Loss of ``(score, label)``, `softmax_cross_entropy_forward`.

    Parameters
    ----------
    ignore_label : int, optional
        Pixels with this label have no loss.
    normalize : {"valid", "full", "batch", "none"}
        What the sum over pixels is divided by.

    Raises
    ------
    TypeError, ValueError
        If an option is none of those.

    Examples
    --------
    >>> layer = SoftmaxCrossEntropy()
    >>> score, label = np.zeros((1, 2, 1, 1)), np.zeros((1, 1, 1), int)
    >>> layer.forward(score, label).round(3).item(), layer.backward(1.0)[0].ravel().tolist()
    (0.693, [-0.5, 0.5])
    """

    formula = "L = -mean log softmax(x)[label]"

    def __init__(self, ignore_label: int | None = 255, normalize: str = "valid") -> None:
        super().__init__()
        if ignore_label is not None:
            check("ignore_label", ignore_label, INTEGER)
        if normalize not in NORMALIZATIONS:
            raise ValueError(f"normalize: expected one of {NORMALIZATIONS}, got {normalize!r}")
        self.options = (ignore_label, normalize)

    def count(self) -> float | None:
        """Return the pixels, or samples, that the last loss was divided by."""
        valid, normalize = self.cache.valid, self.options[1]
        counts = {"valid": valid.sum, "full": lambda: valid.size, "batch": lambda: len(valid)}
        return float(counts[normalize]()) if normalize in counts else None

    def forward(self, score: Array, label: Array) -> Array:  # type: ignore[override]
        loss, self.cache = softmax_cross_entropy_forward(score, label, *self.options)
        return loss

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return softmax_cross_entropy_backward(dy, self.cache), None
