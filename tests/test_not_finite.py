"""A NaN or an infinity reaches the results whose formula uses it, and no others, in every form."""

from __future__ import annotations

from importlib import import_module
from itertools import product

import numpy as np
import oracles
import pytest

from segaware_np import dispatch, ops
from segaware_np.window import Window

pytest_plugins = "segaware_np.testing.cuda.plugin"
pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")

FORMS = ["plain", "cpu, small", "cpu, bands", "gpu", "gpu, columns"]


@pytest.fixture(params=FORMS)
def xp(request, monkeypatch):
    """The array module on which each form works."""
    if request.param == "plain":
        monkeypatch.setattr(dispatch, "form", lambda package, plain: plain)
    if request.param == "cpu, bands":
        monkeypatch.setattr(import_module("segaware_np.cpu.small"), "_COLUMNS", 0)
    if request.param == "gpu, columns":
        monkeypatch.setattr(import_module("segaware_np.gpu.convolution"), "IMPLICIT_CHANNELS", 0)
    return request.getfixturevalue("cupy") if "gpu" in request.param else np


def host(array):
    return array if isinstance(array, np.ndarray) else array.get()


SHAPES = {"x": (1, 2, 4, 5), "weight": (4, 1, 3, 2), "dy": (1, 4, 4, 3)}
WINDOW, GROUPS = Window((3, 2), stride=(1, 2), pad=(2, 1), dilation=(2, 1)), 2
PLACES = [
    ("x", (0, 1, 3, 4)), ("x", (0, 0, 0, 0)), ("weight", (0, 0, 0, 0)), ("weight", (3, 0, 2, 1)),
    ("weight", (2, 0, 1, 0)), ("dy", (0, 0, 0, 0)), ("dy", (0, 3, 3, 2)), ("dy", (0, 2, 2, 1)),
]  # fmt: skip


def users(name: str, place: tuple) -> list[np.ndarray]:
    """Where y, dx and dweight use an entry: found by moving it by one, with loops."""
    base = {key: np.ones(shape) for key, shape in SHAPES.items()}
    moved = {**base, name: base[name].copy()}
    moved[name][place] += 1
    return [
        np.asarray(compute(**moved) != compute(**base))
        for compute in (forward_by_loops, dx_by_loops, dweight_by_loops)
    ]


def forward_by_loops(x, weight, dy):
    return oracles.convolution(x, weight, None, WINDOW, GROUPS)


def dx_by_loops(x, weight, dy):
    dx, per_group = np.zeros(x.shape), weight.shape[0] // GROUPS
    for (k, i, j, _, q), o in product(oracles.taps(x.shape[2:], WINDOW), range(len(weight))):
        if q is not None:
            dx[0, o // per_group, q[0], q[1]] += weight[o, 0].flat[k] * dy[0, o, i, j]
    return dx


def dweight_by_loops(x, weight, dy):
    dweight, per_group = np.zeros(weight.shape), weight.shape[0] // GROUPS
    for (k, i, j, _, q), o in product(oracles.taps(x.shape[2:], WINDOW), range(len(weight))):
        if q is not None:
            dweight[o, 0].flat[k] += dy[0, o, i, j] * x[0, o // per_group, q[0], q[1]]
    return dweight


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("name", "place"), PLACES)
def test_a_convolution_shows_it_where_it_is_used(xp, name, place, masked, value):
    arrays = {key: np.ones(shape) for key, shape in SHAPES.items()}
    arrays[name][place] = value
    x, weight, dy = (xp.asarray(array) for array in arrays.values())
    if masked:
        mask = xp.asarray(np.full((1, WINDOW.size, *dy.shape[2:]), 0.5))
        y, cache = ops.segaware_convolution_forward(x, mask, weight, window=WINDOW, groups=GROUPS)
        dx, _, dweight, _ = ops.segaware_convolution_backward(dy, cache)
    else:
        y, cache = ops.convolution_forward(x, weight, window=WINDOW, groups=GROUPS)
        dx, dweight, _ = ops.convolution_backward(dy, cache)
    for have, want in zip((y, dx, dweight), users(name, place), strict=True):
        np.testing.assert_array_equal(~np.isfinite(host(have)), want)


def test_a_gradient_by_a_window_that_is_turned_round_shows_it_where_it_is_used(xp):
    window, weight = Window.same(3), np.ones((1, 1, 3, 3))
    weight[0, 0, 0, 0] = np.nan
    x = xp.ones((1, 1, 3, 3))
    y, cache = ops.convolution_forward(x, xp.asarray(weight), window=window)
    dx = ops.convolution_backward(xp.ones((1, 1, 3, 3)), cache, {"x"})[0]
    # The weight looks up and to the left; so the last row and column give no gradient through it.
    assert np.isnan(host(y)[0, 0]).tolist() == [[False] * 3, *[[False, True, True]] * 2]
    assert np.isnan(host(dx)[0, 0]).tolist() == [*[[True, True, False]] * 2, [False] * 3]


inf, nan, huge = np.inf, np.nan, 3e38
third = [1 / 3] * 3
EXPONENTIAL = {
    (0, -inf, 1): {1: [1, 0, np.exp(-1)], -1: [1, 0, np.e], 0: [1, 0, 1]},
    (huge, 0, inf): {2: [0, 1, 0], 0: [1, 1, 0]},
    (nan, 1, inf): {1: [nan, np.exp(-1), 0], -1: [nan, np.e, 0]},
}
NORMALIZED = {
    (0, -inf, 0): {1: [0.5, 0, 0.5], -1: [0.5, 0, 0.5], 0: [0.5, 0, 0.5]},
    (inf, -inf, inf): {1: third, -1: third, 0: third},
    (huge, huge, huge): {2: third, -2: third, 0: third},
    (huge, 2.9e38, inf): {2: [0, 1, 0], -2: [1, 0, 0], 0: [0.5, 0.5, 0]},
    (-huge, huge, 0): {2: [1, 0, 0], -2: [0, 1, 0], 0: third},
    (nan, 1, inf): {1: [nan, nan, 0], -1: [nan, nan, 0], 0: [nan, nan, 0]},
}


@pytest.mark.parametrize(
    ("kind", "distance", "scale", "weights"),
    [
        (kind, d, scale, weights)
        for kind, table in (("exponential", EXPONENTIAL), ("normalized", NORMALIZED))
        for d, by_scale in table.items()
        for scale, weights in by_scale.items()
    ],
)
def test_a_mask_at_the_edge_of_its_numbers(xp, kind, distance, scale, weights):
    d = xp.asarray(np.array(distance, "f4").reshape(1, 3, 1, 1))
    mask, _ = getattr(ops, f"{kind}_mask_forward")(d, float(scale))
    np.testing.assert_allclose(host(mask).ravel(), weights, rtol=1e-6)


@pytest.mark.parametrize("value", [nan, inf])
def test_a_gradient_of_a_maximum_goes_to_that_pixel_alone(xp, value):
    _, cache = ops.max_pool_forward(xp.asarray([[[[1.0, 5.0, 2.0, 3.0, 0.0]]]]), Window((1, 2)))
    dy = xp.asarray([[[[1.0, value, 1.0, 1.0]]]])  # the maximum of (5, 2) is the second pixel
    dx = host(ops.max_pool_backward(dy, cache)).ravel()
    assert dx.tolist() == [0, value, 0, 2, 0] or (np.isnan(dx[1]) and dx[[0, 2, 3, 4]].sum() == 2)


@pytest.mark.parametrize("value", [nan, inf])
def test_a_resize_shows_it_in_the_samples_beside_it(xp, value):
    x = xp.asarray([[[[0.0, value, 2.0, 3.0]]]])
    y, cache = ops.resize_forward(x, (1, 7))  # at 0, 0.5, 1 ... of the input
    assert np.isfinite(host(y)).ravel().tolist() == [True, False, False, False, True, True, True]
    dy = xp.asarray([[[[0.0, 0.0, value, 0.0, 0.0, 0.0, 0.0]]]])  # at pixel 1
    dx = host(ops.resize_backward(dy, cache)).ravel()
    assert np.isfinite(dx).tolist() == [True, False, True, True]
