"""Distances between embeddings, and the loss that teaches them."""

from __future__ import annotations

from segaware_np.layers.base import Layer, Need, WindowedLayer
from segaware_np.ops.distance import distance_backward, distance_forward
from segaware_np.ops.embedding_loss import (
    check_hinge,
    embedding_loss_backward,
    embedding_loss_forward,
)
from segaware_np.ops.parity import label_parity_forward
from segaware_np.ranges import INTEGER, check
from segaware_np.window import Window, check_window
from segaware_np.xp import Array


class Distance(WindowedLayer):
    """Embedding distance, `distance_forward`.

    Parameters
    ----------
    window : Window
    norm : {"L1", "L2"}
    remove_center, remove_bounds : bool
        Give the centre, or neighbours outside the image, an infinite distance.

    Raises
    ------
    ValueError
        If ``norm`` is another one.

    Examples
    --------
    >>> layer = Distance(Window.same(3))
    >>> layer.forward(np.zeros((1, 4, 5, 6))).shape, layer.backward(np.ones((1, 9, 5, 6)))[0].shape
    ((1, 9, 5, 6), (1, 4, 5, 6))
    """

    formula = "d_k = |e - shift_k(e)|"

    def __init__(
        self,
        window: Window,
        norm: str = "L1",
        remove_center: bool = False,
        remove_bounds: bool = False,
    ) -> None:
        super().__init__()
        check_window(window)
        if norm not in ("L1", "L2"):
            raise ValueError(f"norm: expected 'L1' or 'L2', got {norm!r}")
        self.window = window
        self.options = (window, norm, remove_center, remove_bounds)

    def forward(self, embedding: Array) -> Array:  # type: ignore[override]
        d, self.cache = distance_forward(embedding, *self.options)
        return d

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (distance_backward(dy, self.cache),)


class EmbeddingLoss(Layer):
    """Contrastive loss of ``(embedding, label)`` over one window.

    Parameters
    ----------
    window : Window
    ignore_label : int, optional
    norm, alpha, beta, hinge, normalize
        As for `distance_forward` and `embedding_loss_forward`.

    Raises
    ------
    TypeError, ValueError
        If `window` is no `Window`, or an option is out of its range.

    Examples
    --------
    Embeddings that are equal everywhere cost ``beta`` a pair of unlike labels, of which there are
    two here, among 2 x 3 entries:

    >>> layer = EmbeddingLoss(Window((1, 3), pad=(0, 1)))
    >>> layer.forward(np.zeros((1, 4, 1, 2)), np.array([[[1, 2]]])).round(3).item()
    1.333
    """

    formula = "L = mean hinge(d_k, same label?)"

    def __init__(
        self,
        window: Window,
        ignore_label: int | None = 255,
        *,
        norm: str = "L1",
        alpha: float = 0.5,
        beta: float = 2.0,
        hinge: str = "linear",
        normalize: str = "all",
    ) -> None:
        super().__init__()
        check_window(window)
        if norm not in ("L1", "L2"):
            raise ValueError(f"norm: expected 'L1' or 'L2', got {norm!r}")
        check_hinge(alpha, beta, hinge, normalize)
        if ignore_label is not None:
            check("ignore_label", ignore_label, INTEGER)
        self.window, self.ignore_label, self.norm = window, ignore_label, norm
        self.options = (alpha, beta, hinge, ignore_label, normalize)

    def forward(self, embedding: Array, label: Array) -> Array:  # type: ignore[override]
        d, distance_cache = distance_forward(embedding, self.window, self.norm)
        parity = label_parity_forward(label, self.window, self.ignore_label)
        loss, loss_cache = embedding_loss_forward(d, parity, *self.options)
        self.cache = distance_cache, loss_cache
        return loss

    def count(self) -> float | None:
        """Return the pairs that the last loss was divided by."""
        _, loss_cache = self.cache
        return float(loss_cache.pairs)

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        distance_cache, loss_cache = self.cache
        return distance_backward(embedding_loss_backward(dy, loss_cache), distance_cache), None
