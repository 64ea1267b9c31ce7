"""Hypothesis strategies for windowed operations.

What is drawn are sizes, kinds and a seed; the numbers follow from the seed. So examples stay small,
and shrinking acts on what matters: the geometry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segaware_np.testing.layouts import layouts as known_layouts
from segaware_np.window import Pair, Window

try:
    from hypothesis import strategies as st
    from hypothesis.strategies import DrawFn, SearchStrategy, composite
except ModuleNotFoundError as error:
    raise ImportError(
        'segaware_np.testing.strategies needs hypothesis: pip install "segaware_np[test]"'
    ) from error

Shape = tuple[int, ...]
Shapes = Shape | SearchStrategy[Shape]


@dataclass(frozen=True)
class Geometry:
    """A window and the images it slides over.

    Attributes
    ----------
    window : Window
    batch : int
    size : (int, int)
        Height and width of the images.

    Examples
    --------
    >>> geometry = Geometry(Window(3, stride=2), batch=2, size=(5, 7))
    >>> geometry.image(4), geometry.result(4)
    ((2, 4, 5, 7), (2, 4, 2, 3))
    """

    window: Window
    batch: int
    size: Pair

    @property
    def output(self) -> Pair:
        """Number of windows, ``(Ho, Wo)``."""
        return self.window.output_shape(self.size)

    def image(self, channels: int) -> Shape:
        """Shape ``(N, channels, H, W)`` of an image that the window slides over."""
        return (self.batch, channels, *self.size)

    def result(self, channels: int) -> Shape:
        """Shape ``(N, channels, Ho, Wo)`` of what comes out; with K channels, of a mask."""
        return (self.batch, channels, *self.output)


def seeds() -> SearchStrategy[int]:
    """Return seeds for ``numpy.random.default_rng``: integers.

    Examples
    --------
    >>> 0 <= seeds().example() <= 2**16
    True
    """
    return st.integers(0, 2**16)


def dtypes() -> SearchStrategy[str]:
    """Return ``"float32"`` or ``"float64"``.

    Examples
    --------
    >>> dtypes().example() in ("float32", "float64")
    True
    """
    return st.sampled_from(["float64", "float32"])


def layouts() -> SearchStrategy[Callable[[np.ndarray], np.ndarray]]:
    """Return functions that copy a NumPy array into another memory layout.

    C-ordered, Fortran-ordered, non-contiguous, negative-stride, channels-last and read-only.

    Examples
    --------
    >>> arrange = layouts().example()
    >>> arrange(np.arange(6.0).reshape(2, 3)).tolist()
    [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """
    return st.sampled_from(list(known_layouts(np.empty(0)).values()))


@composite
def windows(
    draw: DrawFn,
    *,
    max_kernel: int = 4,
    max_stride: int = 3,
    max_dilation: int = 3,
    overpad: int = 2,
) -> Window:
    """Windows with independent axes: odd and even kernels, size 1, strides, dilations.

    Parameters
    ----------
    max_kernel, max_stride, max_dilation : int
    overpad : int
        By how many pixels the padding may exceed half the dilated kernel; such windows have
        their centre outside the image.

    Returns
    -------
    strategy of Window

    Examples
    --------
    >>> window = windows(max_kernel=5, max_stride=1).example()
    >>> max(window.kernel) <= 5 and window.stride == (1, 1)
    True
    """
    axes = []
    for _ in range(2):
        kernel = draw(st.integers(1, max_kernel))
        dilation = draw(st.integers(1, max_dilation))
        stride = draw(st.integers(1, max_stride))
        pad = draw(st.integers(0, dilation * (kernel // 2) + overpad))
        axes.append((kernel, stride, pad, dilation))
    return Window(*zip(*axes, strict=True))


@composite
def geometries(
    draw: DrawFn,
    window: SearchStrategy[Window] | None = None,
    *,
    min_batch: int = 1,
    max_batch: int = 2,
    max_output: int = 3,
) -> Geometry:
    """Windows with image sizes on which they have ``1 x 1`` to about `max_output` squared outputs.

    Parameters
    ----------
    window : strategy, optional
        By default `windows`.
    min_batch, max_batch : int
        ``min_batch=0`` includes the empty batch.
    max_output : int

    Returns
    -------
    strategy of Geometry

    Examples
    --------
    >>> geometry = geometries(windows(max_stride=1), max_output=2).example()
    >>> min(geometry.output) >= 1
    True
    """
    drawn = draw(windows() if window is None else window)
    size = []
    for axis in range(2):
        span = drawn.dilation[axis] * (drawn.kernel[axis] - 1) + 1 - 2 * drawn.pad[axis]
        least = max(1, span)
        room = drawn.stride[axis] * max_output - 1
        size.append(draw(st.integers(least, max(least, span + room))))
    batch = draw(st.integers(min_batch, max_batch))
    return Geometry(drawn, batch, (size[0], size[1]))


@composite
def shapes(
    draw: DrawFn, *, channels: int | None = None, max_batch: int = 2, max_side: int = 5
) -> Shape:
    """Small image shapes ``(N, C, H, W)``, size 1 included.

    Parameters
    ----------
    channels : int, optional
        By default 1 to 3.
    max_batch, max_side : int

    Returns
    -------
    strategy of tuple of int

    Examples
    --------
    >>> shapes(channels=4).example()[1]
    4
    """
    batch = draw(st.integers(1, max_batch))
    channels = draw(st.integers(1, 3)) if channels is None else channels
    return (batch, channels, draw(st.integers(1, max_side)), draw(st.integers(1, max_side)))


def images(shape: Shapes | None = None, *, dtype: str = "float64") -> SearchStrategy[np.ndarray]:
    """Images ``(N, C, H, W)`` of normal random numbers; of any other shape that is given.

    Parameters
    ----------
    shape : tuple of int or strategy, optional
        By default `shapes`.
    dtype : str

    Returns
    -------
    strategy of numpy.ndarray

    Examples
    --------
    >>> images((2, 3, 4, 5), dtype="float32").example().dtype.name
    'float32'
    """
    return _from_seed(lambda rng, shape: rng.standard_normal(shape), shape, dtype)


def embeddings(
    shape: Shapes | None = None, *, kind: str | None = None, dtype: str = "float64"
) -> SearchStrategy[np.ndarray]:
    """Embeddings ``(N, E, H, W)``, of which distances are taken.

    Parameters
    ----------
    shape : tuple of int or strategy, optional
    kind : {"random", "ties", "regions", "apart"}, optional
        Normal numbers; whole numbers from -1 to 1, so that many are equal; two constant regions
        and a boundary; or numbers no two of which are nearer than ``1 / (H W)`` within a
        channel, far enough from the kinks of the L1 distance for differences. By default any.
    dtype : str

    Returns
    -------
    strategy of numpy.ndarray

    Examples
    --------
    >>> set(embeddings((1, 2, 3, 4), kind="ties").example().ravel()) <= {-1, 0, 1}
    True
    """
    kinds = {
        "random": lambda rng, shape: rng.standard_normal(shape),
        "ties": lambda rng, shape: rng.integers(-1, 2, shape).astype(float),
        "regions": _regions,
        "apart": _apart,
    }
    if kind is not None:
        return _from_seed(kinds[kind], shape, dtype)
    return st.one_of(*(_from_seed(make, shape, dtype) for make in kinds.values()))


def masks(shape: Shapes, *, dtype: str = "float64") -> SearchStrategy[np.ndarray]:
    """Masks ``(N, K, Ho, Wo)``: weights in [0, 1], some of them exactly 0 or 1.

    Parameters
    ----------
    shape : tuple of int or strategy
    dtype : str

    Returns
    -------
    strategy of numpy.ndarray

    Examples
    --------
    >>> mask = masks((1, 9, 4, 5)).example()
    >>> bool(((mask >= 0) & (mask <= 1)).all())
    True
    """

    def make(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        return np.clip(rng.uniform(-0.3, 1.3, shape), 0, 1)

    return _from_seed(make, shape, dtype)


def labels(
    shape: Shapes, *, classes: int = 3, ignore: int | None = None, dtype: str = "int64"
) -> SearchStrategy[np.ndarray]:
    """Label images ``(N, H, W)``: classes 0 to `classes` - 1, with some pixels set to `ignore`.

    Parameters
    ----------
    shape : tuple of int or strategy
    classes : int
    ignore : int, optional
    dtype : str

    Returns
    -------
    strategy of numpy.ndarray

    Examples
    --------
    >>> set(labels((1, 4, 5), classes=2, ignore=255).example().ravel()) <= {0, 1, 255}
    True
    """

    def make(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        drawn = rng.integers(0, classes, shape)
        return drawn if ignore is None else np.where(rng.uniform(size=shape) < 0.2, ignore, drawn)

    return _from_seed(make, shape, dtype)


Maker = Callable[[np.random.Generator, Shape], np.ndarray]


def _from_seed(make: Maker, shape: Shapes | None, dtype: str) -> SearchStrategy[np.ndarray]:
    if shape is None:
        shape = shapes()
    drawn = st.just(shape) if isinstance(shape, tuple) else shape
    return st.builds(
        lambda shape, seed: make(np.random.default_rng(seed), shape).astype(dtype), drawn, seeds()
    )


def _regions(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    n, channels, height, width = shape
    y, x = np.mgrid[:height, :width]
    slope, offset = rng.standard_normal((2, n, 1, 1))
    side = (slope * (y - height / 2) + (x - width / 2) + offset > 0)[:, None]
    inside, outside = rng.standard_normal((2, n, channels, 1, 1))
    return np.where(side, inside, outside)


def _apart(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    n, channels, height, width = shape
    pixels = height * width
    order = rng.permuted(np.tile(np.arange(pixels, dtype=float), (n * channels, 1)), axis=1)
    jitter = rng.uniform(-0.25, 0.25, order.shape)
    return (2 * (order + jitter) / max(pixels, 1) - 1).reshape(shape)
