"""Masks in tiles that stay in the cache: all K entries of some windows at a time."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from segaware_np.cpu.distance import distance as distances
from segaware_np.cpu.distance import distance_grad
from segaware_np.cpu.threads import parallel, scratch
from segaware_np.ops import mask as plain
from segaware_np.ops.distance import Measure

_VALUES = 1 << 16  # of one tile: a quarter of a megabyte in float32

Scale = np.ndarray | float
Tile = tuple[int, slice, slice]  # image, all offsets, some windows


def exponential_mask(distance: np.ndarray, scale: Scale) -> np.ndarray:
    """Fast form of `segaware_np.ops.mask.exponential_mask`."""
    if _promotes(distance, scale):
        return plain.exponential_mask(distance, scale)
    return _exponential(distance, scale, np.empty(distance.shape, distance.dtype))


def exponential_mask_grad(
    dmask: np.ndarray, distance: np.ndarray, scale: Scale, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fast form of `segaware_np.ops.mask.exponential_mask_grad`."""
    if _promotes(distance, scale):
        return plain.exponential_mask_grad(dmask, distance, scale, mask)
    dm, d, m = _flat(dmask), _flat(distance), _flat(mask)  # (N, K, windows)
    dd = np.empty_like(d)

    def work(tile: Tile) -> np.floating:
        np.multiply(m[tile], dm[tile], out=dd[tile])
        return _finish(dd[tile], d[tile], scale)

    return _total(dd, parallel(work, _tiles(d), d.size), distance)


def normalized_mask(distance: np.ndarray, scale: Scale) -> np.ndarray:
    """Fast form of `segaware_np.ops.mask.normalized_mask`."""
    if _promotes(distance, scale):
        return plain.normalized_mask(distance, scale)
    return _normalized(distance, scale, np.empty(distance.shape, distance.dtype))


def normalized_mask_grad(
    dmask: np.ndarray, distance: np.ndarray, scale: Scale, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fast form of `segaware_np.ops.mask.normalized_mask_grad`."""
    if _promotes(distance, scale):
        return plain.normalized_mask_grad(dmask, distance, scale, mask)
    dm, d, m = _flat(dmask), _flat(distance), _flat(mask)
    dd = np.empty_like(d)

    def work(tile: Tile) -> np.floating:
        g = dd[tile]
        np.subtract(dm[tile], np.einsum("kp,kp->p", m[tile], dm[tile]), out=g)
        g *= m[tile]
        return _finish(g, d[tile], scale)

    return _total(dd, parallel(work, _tiles(d), d.size), distance)


def local_mask(
    embedding: np.ndarray, scale: Scale, measure: Measure, normalized: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Fast form of `segaware_np.ops.mask.local_mask`: the mask replaces the distances."""
    d = distances(embedding, measure)
    if _promotes(d, scale):
        return (plain.normalized_mask if normalized else plain.exponential_mask)(d, scale), None
    return (_normalized if normalized else _exponential)(d, scale, d), None


def local_mask_grad(
    dmask: np.ndarray,
    embedding: np.ndarray,
    scale: Scale,
    mask: np.ndarray,
    d: np.ndarray | None,
    measure: Measure,
    normalized: bool,
    need: Collection[str],
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Fast form of `segaware_np.ops.mask.local_mask_grad`: measures the distances again."""
    back = normalized_mask_grad if normalized else exponential_mask_grad
    dd, ds = back(dmask, distances(embedding, measure), scale, mask)
    de = distance_grad(dd, embedding, measure) if "embedding" in need else None
    return de, ds if "scale" in need else None


def _exponential(distance: np.ndarray, scale: Scale, out: np.ndarray) -> np.ndarray:
    """Write the mask, which may take the place of the distances."""
    d, mask = _flat(distance), _flat(out)
    measured = out is distance  # then no distance is below 0

    def work(tile: Tile) -> None:
        x, m = d[tile], mask[tile]
        removed = None if scale > 0 and (measured or x.min() > -np.inf) else np.isinf(x)
        with np.errstate(over="ignore", invalid="ignore"):  # where the weight is 0; 0 * inf
            np.multiply(x, -scale, out=m)
        np.exp(m, out=m)
        if removed is not None:
            m[removed] = 0

    parallel(work, _tiles(d), d.size)
    return out


def _normalized(distance: np.ndarray, scale: Scale, out: np.ndarray) -> np.ndarray:
    """Write the mask, which may take the place of the distances."""
    d, mask = _flat(distance), _flat(out)

    def work(tile: Tile) -> None:
        m = mask[tile]
        removed = _logits(d[tile], scale, m)
        np.exp(m, out=m)
        total = m.sum(0)
        if removed is not None:
            empty = total == 0  # every entry removed: all have the same weight
            m[:, empty], total[empty] = 1, len(m)
        m /= total
        if removed is not None and np.isnan(total).any():
            m[removed & ~empty] = 0  # even beside a NaN

    parallel(work, _tiles(d), d.size)
    return out


def _logits(x: np.ndarray, scale: Scale, out: np.ndarray) -> np.ndarray | None:
    """Write ``-s (d - d')``, d' the distance of the largest weight, and minus infinity where an
    entry is removed; return where that is, if it had to be looked for."""
    removed, nearest = None, x.min(0) if scale > 0 else x.max(0)
    if scale == 0 or not np.isfinite(nearest).all():
        removed = np.isinf(x)
        x = np.where(removed, x.dtype.type(np.inf if scale > 0 else -np.inf), x)
        nearest = x.min(0) if scale > 0 else x.max(0)
        nearest[np.isinf(nearest) | (scale == 0)] = 0
    with np.errstate(over="ignore", invalid="ignore"):  # where the weight is 0; 0 * inf
        np.subtract(x, nearest, out=out)
        out *= -scale
    if scale == 0:
        out[removed] = -np.inf
    return removed


def _finish(g: np.ndarray, d: np.ndarray, scale: Scale) -> np.floating:
    """Turn g into ``dd = -s g`` in place; return this tile's part of ``ds = -sum(d g)``."""
    product = scratch("product", d.shape, d.dtype)
    removed = np.isinf(d)
    if removed.any():
        g[removed] = 0
        with np.errstate(invalid="ignore"):  # inf * 0
            np.multiply(d, g, out=product)
        product[removed] = 0
    else:
        np.multiply(d, g, out=product)
    g *= -scale
    return -product.sum()


def _total(
    dd: np.ndarray, parts: list[np.floating], distance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """dd in its own shape; ds summed in the order of the tiles, whoever computed them."""
    return dd.reshape(distance.shape), np.asarray(np.array(parts, distance.dtype).sum())


def _promotes(distance: np.ndarray, scale: Scale) -> bool:
    """Whether a scale of higher precision makes the result one as well."""
    return np.result_type(distance, scale) != distance.dtype


def _flat(array: np.ndarray) -> np.ndarray:
    n, k, h, w = array.shape
    return np.ascontiguousarray(array).reshape(n, k, h * w)


def _tiles(array: np.ndarray) -> list[Tile]:
    n, k, windows = array.shape
    step = max(1, _VALUES // max(1, k))
    return [
        (image, slice(None), slice(start, min(start + step, windows)))
        for image in range(n)
        for start in range(0, windows, step)
    ]
