"""Gaussian filter of every pixel with every other, in features of any dimension."""

from __future__ import annotations

from math import pi, sqrt
from typing import NamedTuple

import numpy as np
from scipy import sparse

from segaware_np.xp import Array, check_array, module_of


def gaussian_filter(x: Array, lattice: Lattice) -> Array:
    """Plain formula: splat to the vertices, blur along each axis, slice: ``S Bd ... B0 S' x``."""
    values = lattice.splat @ _rows(x)
    for blur in lattice.blurs:
        values = blur @ values
    return _image(lattice.slice @ values, x)


def gaussian_filter_grad(dy: Array, lattice: Lattice) -> Array:
    """Plain formula of the adjoint: the same matrices, transposed, the other way round."""
    values = lattice.slice.T @ _rows(dy)
    for blur in reversed(lattice.blurs):  # each is symmetric; their product is not
        values = blur @ values
    return _image(lattice.splat.T @ values, dy)


NORMALIZATIONS = ("symmetric", "output", None)
FARTHEST = 2.0**40  # standard deviations: beyond, double precision has no place for the weights


class Lattice(NamedTuple):
    """A Gaussian of given features, as sparse matrices; see `permutohedral_lattice`.

    Attributes
    ----------
    splat : (V, N H W) sparse matrix
        From the pixels to the vertices of the simplices that they lie in.
    blurs : tuple of (V, V) sparse matrices
        Along each axis of the lattice.
    slice : (N H W, V) sparse matrix
        From the vertices back to the pixels.
    shape : (N, H, W)
        Of the images that it filters.
    """

    splat: sparse.sparray
    blurs: tuple[sparse.sparray, ...]
    slice: sparse.sparray
    shape: tuple[int, int, int]


class GaussianFilterCache(NamedTuple):
    lattice: Lattice
    x_shape: tuple[int, ...]


def permutohedral_lattice(features: Array, normalization: str | None = "symmetric") -> Lattice:
    """Prepare the Gaussian filter of all pixels with all others, by how near their features are.

    ``k(p, q) = exp(-1/2 |f(p) - f(q)|^2)``, as sparse matrices: the pixels of an image with E
    features are points in E dimensions, and a point is a mean of the E + 1 vertices of the simplex
    of the permutohedral lattice that it lies in. Work and memory grow with ``E * N * H * W``, not
    with the square of the pixels.

    Parameters
    ----------
    features : (N, E, H, W) float array
        Of NumPy, real, each divided by its standard deviation, such as position and colour.
    normalization : {"symmetric", "output", None}
        With D the sums of the kernel at each pixel: ``D^-1/2 K D^-1/2`` as Krähenbühl and Koltun,
        ``D^-1 K`` (averages, as CRF-as-RNN), or K itself.

    Returns
    -------
    Lattice

    Raises
    ------
    TypeError, ValueError
        If `features` is no image of finite real numbers within 2**40 standard deviations, or
        `normalization` is unknown.

    Notes
    -----
    An approximation. On small images, in five dimensions, averages are within 1 % of brute force,
    in the norm, symmetric ones within 4 %, sums of K itself within 30 %: vertices that no pixel
    touches are left out, and what would pass over them is lost. The pixel itself takes part.

    No gradient of the features is given. The weights are piecewise linear in them, so that they
    have one almost everywhere, but it jumps from simplex to simplex and is not the Gaussian's.

    Vertices are found by keys that are linear in their coordinates, modulo 2**64 with factors of
    64 random bits, so that a neighbour's key is a sum. That two of n vertices share a key has the
    probability n**2 / 2**65: one in ten million for a million vertices.

    Adams, Baek, Davis: *Fast High-Dimensional Filtering Using the Permutohedral Lattice*
    (Eurographics 2010).

    Examples
    --------
    Two pixels that are alike and one far away:

    >>> lattice = permutohedral_lattice(np.array([[[[0.0, 0.0, 99.0]]]]), "output")
    >>> y, _ = gaussian_filter_forward(np.array([[[[1.0, 3.0, 5.0]]]]), lattice)
    >>> y.round(6).ravel().tolist()
    [2.0, 2.0, 5.0]
    """
    check_array("features", features, ("N", "E", "H", "W"))
    check_host("features", features)
    if features.dtype.kind != "f":
        raise TypeError(f"features: expected real numbers, got {features.dtype}")
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization: expected one of {NORMALIZATIONS}, got {normalization!r}")
    n, _, *size = features.shape
    points = _rows(features).astype(np.float64)
    if not (abs(points) < FARTHEST).all():
        raise ValueError("features: expected finite numbers below 2**40 standard deviations, got "
                         "others")
    zero, rank, weights = _simplices(points)
    keys, steps = _keys(zero, rank, np.repeat(np.arange(n), size[0] * size[1]))
    found, vertices = np.unique(keys, return_inverse=True)
    dtype = np.promote_types(features.dtype, np.float32)
    ends = np.arange(0, keys.size + 1, keys.shape[1])
    weights *= _mass(keys.shape[1] - 1) ** 0.5  # half of the scale here, half on the way back
    slicing = sparse.csr_array(
        (weights.ravel().astype(dtype), vertices.ravel(), ends), (len(keys), len(found))
    )
    blurs = tuple(_blur(found, step, dtype) for step in steps)
    plain = Lattice(slicing.T, blurs, slicing, (n, size[0], size[1]))
    return _normalized(plain, normalization)


def gaussian_filter_forward(x: Array, lattice: Lattice) -> tuple[Array, GaussianFilterCache]:
    """Sum all pixels of an image, weighted by how near their features are.

    ``y[n, c, p] = sum_q k(p, q) x[n, c, q]``, by a lattice, with its normalisation.

    Parameters
    ----------
    x : (N, C, H, W) float array
        Of NumPy: the matrices are SciPy's.
    lattice : Lattice
        Of the features, by `permutohedral_lattice`; of any number of filters.

    Returns
    -------
    y : (N, C, H, W) array

    Raises
    ------
    TypeError, ValueError
        If `x` is not an image of the lattice's size on the host, or `lattice` is none.

    Notes
    -----
    Exactly linear in `x`; the backward is its adjoint.

    Examples
    --------
    >>> lattice = permutohedral_lattice(np.zeros((1, 2, 1, 4)), "output")  # all alike
    >>> y, cache = gaussian_filter_forward(np.array([[[[1.0, 2.0, 3.0, 6.0]]]]), lattice)
    >>> y.round(6).ravel().tolist()
    [3.0, 3.0, 3.0, 3.0]
    >>> gaussian_filter_backward(np.ones((1, 1, 1, 4)), cache).round(6).ravel().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    check_lattice("lattice", lattice)
    n, *size = lattice.shape
    check_array("x", x, (n, "C", *size))
    check_host("x", x)
    return gaussian_filter(x, lattice), GaussianFilterCache(lattice, x.shape)


def gaussian_filter_backward(dy: Array, cache: GaussianFilterCache) -> Array:
    """Gradient ``dx``."""
    check_array("dy", dy, cache.x_shape)
    check_host("dy", dy)
    return gaussian_filter_grad(dy, cache.lattice)


def check_lattice(name: str, lattice: object) -> None:
    """Raise unless it is a `Lattice`.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    lattice : object

    Raises
    ------
    TypeError

    Examples
    --------
    >>> check_lattice("lattice", permutohedral_lattice(np.zeros((1, 2, 3, 3))))
    """
    if not isinstance(lattice, Lattice):
        raise TypeError(f"{name}: expected a Lattice by permutohedral_lattice, got "
                        f"{type(lattice).__name__}")


def check_host(name: str, array: Array) -> None:
    """Raise unless the array is NumPy's.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    array : array

    Raises
    ------
    TypeError

    Examples
    --------
    >>> check_host("x", np.zeros(3))
    """
    if (module := module_of(name, array)) is not np:
        raise TypeError(f"{name}: expected a NumPy array, as the lattice's matrices are SciPy's, "
                        f"got a {module.__name__} array")


def _rows(x: Array) -> Array:
    """Pixels as rows, channels as columns: a sparse product then adds whole rows."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)).reshape(-1, x.shape[1])


def _image(rows: Array, like: Array) -> Array:
    n, c, h, w = like.shape
    image = np.moveaxis(rows.reshape(n, h, w, c), -1, 1)
    return np.ascontiguousarray(image, dtype=like.dtype)


def _simplices(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where points (P, E) lie: their simplex's vertex 0, the ranks in it, weights of all vertices.

    Points are lifted into the plane of E + 1 coordinates of sum 0, scaled so that blurring with
    1/2, 1, 1/2 along the axes has the variance that is left to a Gaussian of variance 1. Vertex 0
    has coordinates that E + 1 divides; they are returned divided by it.
    """
    d = points.shape[1]
    i = np.arange(1, d + 1)
    scaled = points * ((d + 1) * sqrt(2 / 3) / np.sqrt(i * (i + 1)))
    lifted = np.zeros((len(points), d + 1))
    lifted[:, :d] = scaled[:, ::-1].cumsum(1)[:, ::-1]
    lifted[:, 1:] -= i * scaled
    lifted /= d + 1
    zero = np.rint(lifted)
    order = np.argsort(zero - lifted, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(d + 1)[None], axis=1)
    rank += zero.sum(1, dtype=np.int64, keepdims=True)  # rounding left the plane: walk back
    shift = (rank < 0).astype(np.int8) - (rank > d)
    rank += (d + 1) * shift
    zero += shift
    falling = np.empty_like(lifted)
    np.put_along_axis(falling, rank, lifted - zero, axis=1)
    rest = 1 - (falling[:, :1] - falling[:, -1:])
    weights = np.concatenate([rest, (falling[:, :-1] - falling[:, 1:])[:, ::-1]], axis=1)
    return zero.astype(np.int64), rank, weights


def _keys(
    zero: np.ndarray, rank: np.ndarray, image: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keys of all vertices of the points' simplices (P, E + 1), and the step along each axis.

    Vertex k is vertex 0, plus k in all coordinates, less E + 1 in those of the k last ranks. The
    last coordinate follows from the others.
    """
    size = zero.shape[1]
    factors = np.random.default_rng(0).integers(0, 2**64, size + 1, np.uint64) | np.uint64(1)
    along, of_image = factors[:size], factors[size]
    along[-1] = 0
    ranked = np.empty(rank.shape, np.uint64)
    np.put_along_axis(ranked, rank, along[None], axis=1)
    steps = along[:-1].sum() - np.uint64(size) * along
    keys = np.empty(rank.shape, np.uint64)
    keys[:, 0] = (zero.astype(np.uint64) * along).sum(1) * np.uint64(size)
    keys[:, 0] += image.astype(np.uint64) * of_image
    for k in range(1, size):  # each one less in the ranks that are left
        keys[:, k] = keys[:, k - 1] + along.sum() - np.uint64(size) * ranked[:, size - k]
    return keys, steps


def _blur(keys: np.ndarray, step: np.uint64, dtype: np.dtype) -> sparse.sparray:
    """1/2, 1, 1/2 along an axis, over the vertices that there are."""
    count, wanted = len(keys), keys + step
    at = np.minimum(np.searchsorted(keys, wanted), max(count - 1, 0))
    there = np.flatnonzero(keys[at] == wanted)
    ahead = sparse.csr_array(
        (np.full(len(there), 0.5, dtype), (there, at[there])), (count, count)
    )
    return (ahead + ahead.T + sparse.csr_array(sparse.identity(count, dtype))).tocsr()


def _mass(d: int) -> float:
    """Scale with which the weights of a dense lattice sum up to the Gaussian's integral."""
    return sqrt(d + 1) / 2 * (pi / 3) ** (d / 2)


def _normalized(lattice: Lattice, normalization: str | None) -> Lattice:
    if normalization is None:
        return lattice
    n, h, w = lattice.shape
    sums = gaussian_filter(np.ones((n, 1, h, w), lattice.slice.dtype), lattice).ravel()
    if normalization == "output":
        return lattice._replace(slice=(_diagonal(1 / sums) @ lattice.slice).tocsr())
    slicing = (_diagonal(sums**-0.5) @ lattice.slice).tocsr()
    return lattice._replace(splat=slicing.T, slice=slicing)


def _diagonal(values: np.ndarray) -> sparse.sparray:
    return sparse.csr_array(sparse.diags(values))  # `diags_array` is younger than the oldest SciPy
