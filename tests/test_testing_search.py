"""`prove` with a hypothesis strategy: failures are kept, shown as code, and not timed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase

from segaware_np.testing import GradientError, prove, strategies
from segaware_np.testing.examples import source

IMAGES = st.tuples(strategies.images())


@pytest.fixture
def profile() -> Iterator:
    """Load hypothesis settings for one test."""
    before = settings.get_current_profile_name()

    def load(**options) -> None:
        settings.register_profile("one test", derandomize=False, **options)
        settings.load_profile("one test")

    yield load
    settings.load_profile(before)


def square_forward(x):
    return x * x, x


def square_backward(dy, x):
    return 2 * x * dy


def wrong_in_rare_sizes(dy, x):
    return 2 * x * dy if x.size < 20 else x * dy


SEEN: list[int] = []


def watched_forward(x):
    SEEN.append(x.size)
    return x * x, x


def first_seen(backward) -> int:
    """The size of the first example that a proof tries."""
    SEEN.clear()
    if backward is square_backward:
        prove(watched_forward, backward, IMAGES)
    else:
        with pytest.raises(GradientError):
            prove(watched_forward, backward, IMAGES)
    return SEEN[0]


def test_a_saved_failure_is_tried_first_by_its_own_proof_and_no_other(profile, monkeypatch):
    """Its smallest example has 20 entries; a proof for which nothing is saved begins with one."""
    profile(database=InMemoryExampleDatabase(), max_examples=100)
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "test_mine.py::test_square (call)")
    assert first_seen(wrong_in_rare_sizes) == 1
    assert first_seen(square_backward) == 1  # of the same test
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "test_mine.py::test_other (call)")
    assert first_seen(wrong_in_rare_sizes) == 1
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "test_mine.py::test_square (setup)")
    assert first_seen(wrong_in_rare_sizes) == 20


def test_the_message_ends_in_code_that_meets_the_failure_again():
    with pytest.raises(GradientError) as found:
        prove(square_forward, wrong_in_rare_sizes, IMAGES)
    story, _, code = str(found.value).rpartition("inputs=")
    assert "smallest example" in story and "prove(..., " in story
    inputs = eval(code.removesuffix(")"), {"np": np})
    assert inputs[0].size == 20
    with pytest.raises(GradientError) as again:
        prove(square_forward, wrong_in_rare_sizes, inputs)
    assert story.startswith(str(again.value))  # to the last digit


def test_code_of_every_kind_of_input():
    nest = [np.zeros((0, 3), "int8"), {"a": (np.array([0.1, -np.inf, np.nan]),)}, (1, None), "inf"]
    made = eval(source(nest), {"np": np})
    assert made[0].shape == (0, 3) and made[0].dtype == np.int8
    np.testing.assert_array_equal(made[1]["a"][0], nest[1]["a"][0])
    assert made[2:] == [(1, None), "inf"]


def test_an_example_that_is_too_large_is_not_printed():
    with pytest.raises(GradientError, match="too large to print"):
        prove(square_forward, lambda dy, x: x * dy, st.just((np.ones((40, 40)) / 3,)))


def test_slow_operations_are_no_error(profile):
    """Hypothesis by itself stops at 200 ms an example."""
    profile(max_examples=3, deadline=200)

    def forward(x):
        time.sleep(0.01)
        return x * x, x

    assert prove(forward, square_backward, st.tuples(strategies.images((1, 1, 2, 2)))) is None


def test_an_error_of_the_operation_itself_comes_out():
    def forward(x):
        return x.reshape(-1, 7), x

    with pytest.raises(ValueError, match="cannot reshape"):
        prove(forward, square_backward, IMAGES)
