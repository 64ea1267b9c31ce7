"""The permutohedral lattice beside sums over all pairs of pixels."""

from __future__ import annotations

import numpy as np
import pytest

from segaware_np import ops


def picture(d, side=24):
    """Smooth features of d dimensions, position first: (1, d, side, side)."""
    y, x = np.mgrid[:side, :side] / 6.0
    waves = [np.sin(x * np.cos(k) + y * np.sin(k) + k) for k in range(d - 2)]
    return np.stack([x, y, *waves])[None]


def brute_force(features):
    f = features[0].reshape(features.shape[1], -1).T
    return np.exp(-((f[:, None] - f[None]) ** 2).sum(-1) / 2)


def normalized(matrix, normalization):
    sums = matrix.sum(1)
    if normalization == "symmetric":
        return matrix / np.sqrt(sums) / np.sqrt(sums)[:, None]
    return matrix / sums[:, None] if normalization == "output" else matrix


@pytest.mark.parametrize("d", [2, 3, 5])
@pytest.mark.parametrize(
    ("normalization", "error"), [("symmetric", 0.04), ("output", 0.01), (None, 0.3)]
)
def test_is_near_the_sums_over_all_pairs(d, normalization, error):
    features = picture(d)
    x = np.random.default_rng(0).random((1, 3, 24, 24))
    y, _ = ops.gaussian_filter_forward(x, ops.permutohedral_lattice(features, normalization))
    want = x.reshape(3, -1) @ normalized(brute_force(features), normalization).T
    assert np.linalg.norm(y.reshape(3, -1) - want) / np.linalg.norm(want) < error


def test_one_pixel_hears_another_by_their_distance():
    """In one dimension, along an impulse, the lattice is a piecewise linear Gaussian."""
    place = np.linspace(0, 6, 241)
    x = np.zeros((1, 1, 1, 241))
    x[..., 120] = 1
    y, _ = ops.gaussian_filter_forward(x, ops.permutohedral_lattice(place[None, None, None], None))
    assert abs(y[0, 0, 0] - np.exp(-((place - 3) ** 2) / 2)).max() < 0.12


def test_averages_of_ones_are_ones_and_the_symmetric_one_is_nearly_symmetric():
    one = np.ones((1, 1, 24, 24))
    y, cache = ops.gaussian_filter_forward(one, ops.permutohedral_lattice(picture(5), "output"))
    np.testing.assert_allclose(y, one, rtol=1e-12)
    _, cache = ops.gaussian_filter_forward(one, ops.permutohedral_lattice(picture(5)))
    x = np.random.default_rng(0).random(one.shape)
    there = ops.gaussian_filter_forward(x, cache.lattice)[0]
    back = ops.gaussian_filter_backward(x, cache)
    assert 1e-3 < np.linalg.norm(back - there) / np.linalg.norm(there) < 0.1


def test_images_of_a_batch_do_not_see_each_other():
    features = np.concatenate([picture(3), picture(3) + 1, picture(3)])
    x = np.random.default_rng(0).random((3, 2, 24, 24))
    y, _ = ops.gaussian_filter_forward(x, ops.permutohedral_lattice(features))
    for n in range(3):
        one, alone = slice(n, n + 1), ops.permutohedral_lattice(features[n : n + 1])
        want, _ = ops.gaussian_filter_forward(x[one], alone)
        np.testing.assert_allclose(y[one], want, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_keeps_the_dtype(dtype):
    x = np.random.default_rng(0).random((1, 2, 24, 24))
    lattice = ops.permutohedral_lattice(picture(5).astype(dtype))
    y, cache = ops.gaussian_filter_forward(x.astype(dtype), lattice)
    assert y.dtype == ops.gaussian_filter_backward(y, cache).dtype == dtype
    exact = ops.permutohedral_lattice(picture(5).astype(dtype).astype(float))
    want, _ = ops.gaussian_filter_forward(x.astype(dtype).astype(float), exact)
    np.testing.assert_allclose(y, want, rtol=2e-2 if dtype == "float16" else 2e-5)


def test_a_pixel_that_is_not_a_number_spoils_only_those_that_hear_it():
    features = np.zeros((1, 1, 1, 6))
    features[..., 3:] = 99
    x = np.array([[[[1.0, np.nan, 1.0, 2.0, 2.0, 2.0]]]])
    y, _ = ops.gaussian_filter_forward(x, ops.permutohedral_lattice(features, "output"))
    assert np.isnan(y[..., :3]).all()
    np.testing.assert_allclose(y[..., 3:], 2)


def lattice():
    return ops.permutohedral_lattice(np.zeros((1, 2, 3, 4)))


X = np.zeros((1, 2, 3, 4))


def dense(**changes):
    arguments = {"unary": X, "first_q": X, "weights": np.zeros((1, 2, 2)), "wc": np.eye(2)}
    options = {"lattices": [lattice()], "iterations": 2}
    return ops.dense_mean_field_forward(**{**arguments, **options, **changes})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.permutohedral_lattice(X[0]), ValueError, "features: expected shape"),
        (lambda: ops.permutohedral_lattice(X * 1j), TypeError, "features: expected real numbers"),
        (lambda: ops.permutohedral_lattice(X + np.nan), ValueError, "features: expected finite"),
        (lambda: ops.permutohedral_lattice(X + 1e30), ValueError, "features: .* below 2..40"),
        (lambda: ops.permutohedral_lattice(X, "both"), ValueError, "normalization: .*'both'"),
        (lambda: ops.gaussian_filter_forward(X, X), TypeError, "lattice: expected a Lattice"),
        (lambda: ops.gaussian_filter_forward(X[:, :, 1:], lattice()), ValueError, "x: expected"),
        (lambda: dense(lattices=lattice()), TypeError, "lattices: expected a list of Lattice"),
        (lambda: dense(lattices=[]), ValueError, "lattices: expected at least one"),
        (lambda: dense(lattices=[X]), TypeError, r"lattices\[0\]: expected a Lattice"),
        (lambda: dense(lattices=[lattice(), ops.permutohedral_lattice(X[..., 1:])]),
         ValueError, r"lattices\[1\]: expected one of images \(1, 3, 4\), got \(1, 3, 3\)"),
        (lambda: dense(weights=np.eye(2)), ValueError, "weights: expected shape"),
        (lambda: dense(wc=np.eye(3)), ValueError, "wc: expected shape"),
        (lambda: dense(first_q=X[:, :1]), ValueError, "first_q: expected shape"),
        (lambda: dense(iterations=0), ValueError, "iterations: .* at least 1"),
    ],
)  # fmt: skip
def test_bad_calls_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()
