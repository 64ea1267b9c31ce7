"""No false alarms: what is right passes the proofs, whatever the numbers and the geometry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segaware_np.ops.distance import distance_backward, distance_forward
from segaware_np.ops.pooling import max_pool_backward, max_pool_forward
from segaware_np.ops.relu import relu_backward, relu_forward
from segaware_np.ops.segaware_convolution import (
    segaware_convolution_backward,
    segaware_convolution_forward,
)
from segaware_np.testing import GradientError, check_gradients, prove, strategies
from segaware_np.window import Window


@st.composite
def _segaware(draw: st.DrawFn):
    geometry = draw(strategies.geometries(max_output=2))
    groups, channels = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    x = draw(strategies.images(geometry.image(groups * channels)))
    mask = draw(strategies.masks(geometry.result(geometry.window.size)))
    weight = draw(strategies.images((groups * 2, channels, *geometry.window.kernel)))
    return geometry.window, groups, (x, mask, weight)


def _no_alarm_for_masked_convolution(case):
    window, groups, inputs = case

    def forward(x, mask, weight):
        return segaware_convolution_forward(x, mask, weight, window=window, groups=groups)

    check_gradients(forward, segaware_convolution_backward, [*inputs], entries=30)


def _no_alarm_for_distances(case):
    geometry, embedding, norm, method = case
    check_gradients(
        lambda e: distance_forward(e, geometry.window, norm, True, True),
        distance_backward,
        [embedding],
        method=method,
        entries=30,
    )


def _no_alarm_for_max_pool(case):
    shape_seed, ties = case
    rng = np.random.default_rng(shape_seed)
    x = rng.integers(-1, 2, (1, 2, 3, 4)) if ties else rng.standard_normal((1, 2, 3, 4))
    check_gradients(
        lambda x: max_pool_forward(x, Window(2, stride=2)), max_pool_backward, [x.astype(float)]
    )


def _no_alarm_for_relu(x):
    prove(relu_forward, relu_backward, [x])


def _no_alarm_for_elementary_functions(case):
    x, method = case

    def forward(x):
        return np.tanh(x) * np.exp(0.3 * x) + 1 / (2 + np.sin(x)), x

    def backward(dy, x):
        tanh, power = np.tanh(x), np.exp(0.3 * x)
        slope = (1 - tanh**2) * power + 0.3 * tanh * power - np.cos(x) / (2 + np.sin(x)) ** 2
        return dy * slope

    check_gradients(forward, backward, [x], method=method)


def _distances() -> st.SearchStrategy:
    return strategies.geometries().flatmap(
        lambda geometry: st.tuples(
            st.just(geometry),
            strategies.embeddings(geometry.image(2)),
            st.sampled_from(["L1", "L2"]),
            st.sampled_from(["auto", "differences"]),
        )
    )


PROPERTIES = {
    "masked convolution": (_segaware(), _no_alarm_for_masked_convolution),
    "distances": (_distances(), _no_alarm_for_distances),
    "max pooling": (st.tuples(strategies.seeds(), st.booleans()), _no_alarm_for_max_pool),
    "relu": (strategies.images(), _no_alarm_for_relu),
    "elementary": (
        st.tuples(strategies.images(), st.sampled_from(["auto", "differences"])),
        _no_alarm_for_elementary_functions,
    ),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_no_false_alarm(name: str):
    strategy, check = PROPERTIES[name]
    given(strategy)(check)()


@pytest.mark.slow
@pytest.mark.parametrize("name", PROPERTIES)
def test_no_false_alarm_in_ten_thousand_examples(name: str):
    strategy, check = PROPERTIES[name]
    settings(max_examples=2000, derandomize=False)(given(strategy)(check))()


@pytest.mark.parametrize("where", ["agreeing orders", "saturated"])
def test_no_false_alarm_where_differences_look_better_than_they_are(where: str):
    """By chance order 6 agrees with order 8; steps so short that a sigmoid near 1 does not move."""
    if where == "agreeing orders":
        x = np.random.default_rng(3572).standard_normal((1, 2, 3, 5))
        _no_alarm_for_elementary_functions((x, "differences"))
        return

    def forward(x):
        y = 1 / (1 + np.exp(-x))
        return y, y

    x = np.linspace(20, 40, 50)
    check_gradients(forward, lambda dy, y: dy * y * (1 - y), [x], method="differences", rtol=1e-3)


def test_no_false_alarm_at_a_kink_beside_infinite_entries():
    x, window = np.array([[[[0.0, 1e-9]]]]), Window((1, 2))
    check_gradients(
        lambda e: distance_forward(e, window, "L1", remove_center=True),
        distance_backward,
        [x],
        method="differences",
    )


def test_forward_without_a_cache():
    with pytest.raises(GradientError, match=r"forward must return \(output, cache\), got an array"):
        check_gradients(lambda x: 2 * x, lambda dy, cache: 2 * dy, [np.ones(2)])
