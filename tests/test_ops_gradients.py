"""Every backward proved: the complex step over geometry, the whole ladder, and kinks by hand."""

from __future__ import annotations

from inspect import signature

import numpy as np
import pytest
from hypothesis import given
from op_cases import CASES, DIFFERENTIABLE, OPS
from problems import Problem, problems

from segaware_np import ops
from segaware_np.testing import check_gradients, prove
from segaware_np.window import Window

pytestmark = pytest.mark.usefixtures("each_engine")


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_every_entry_of_every_gradient_by_complex_step(name: str):
    case = CASES[name]
    report = check_gradients(
        case.forward, case.backward, [*case.inputs.values()], names=[*case.inputs],
        method="complex", rtol=1e-12, entries=1000,
    )  # fmt: skip
    real = [a for a in case.inputs.values() if a is not None and a.dtype.kind == "f"]
    assert len(report.inputs) == len(real)
    for found, array in zip(report.inputs, real, strict=True):
        assert found.checked == f"{array.size} of {array.size} entries"
        assert found.kinks == 0


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_whole_ladder(name: str):
    case = CASES[name]
    prove(
        case.forward, case.backward, [*case.inputs.values()], names=[*case.inputs],
        oracle=case.oracle, linear=[key for key in case.linear if case.inputs[key] is not None],
        may_alias=case.views,
    )  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@given(problem=problems(ties=False))
def test_gradients_over_geometry(name: str, problem: Problem):
    case = OPS[name](problem)
    check_gradients(
        case.forward, case.backward, [*case.inputs.values()], names=[*case.inputs],
        method="complex", rtol=1e-12, entries=30,
    )  # fmt: skip


# Gradients that nobody needs are not computed.


CHOOSY = [name for name in DIFFERENTIABLE if "need" in signature(CASES[name].backward).parameters]


@pytest.mark.parametrize("name", CHOOSY)
def test_only_what_is_needed_is_returned(name: str):
    case = CASES[name]
    inputs, names = [*case.inputs.values()], [*case.inputs]
    _, *everything = case.run(inputs)
    for need in ([], *([one] for one in names), names):
        _, *found = case.run(inputs, need=need)
        for one, want, got in zip(names, everything, found, strict=False):
            if one in need:
                np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
            else:
                assert got is None
    with pytest.raises(ValueError, match=r"need: expected names out of .*, got \['y'\]"):
        case.run(inputs, need=["y"])


# Kinks, where the rule is a choice.


def test_l1_distance_of_equal_embeddings_has_no_slope():
    e = np.zeros((1, 1, 1, 3))
    e[0, 0, 0, 2] = 1
    _, cache = ops.distance_forward(e, Window((1, 3), pad=(0, 1)), "L1")
    d = np.zeros((1, 3, 1, 3))
    d[0, 2, 0, 0] = 1  # between the equal pixels 0 and 1
    np.testing.assert_array_equal(ops.distance_backward(d, cache), np.zeros_like(e))
    d[0, 2, 0, 1] = 1  # between pixels 1 and 2
    np.testing.assert_array_equal(ops.distance_backward(d, cache).ravel(), [0, -1, 1])


def test_relu_has_no_slope_at_zero():
    x = np.array([-1.0, -0.0, 0.0, 1.0])
    _, cache = ops.relu_forward(x)
    np.testing.assert_array_equal(ops.relu_backward(np.ones(4), cache), [0, 0, 0, 1])


def test_absolute_has_no_slope_at_zero():
    _, cache = ops.absolute_forward(np.array([-2.0, 0.0, 3.0]))
    np.testing.assert_array_equal(ops.absolute_backward(np.ones(3), cache), [-1, 0, 1])


def test_max_pool_gives_to_the_first_maximum():
    x = np.array([[[[1.0, 3.0, 3.0], [3.0, 2.0, 3.0]]]])
    _, cache = ops.max_pool_forward(x, Window((2, 3)))
    dx = ops.max_pool_backward(np.full((1, 1, 1, 1), 5.0), cache)
    np.testing.assert_array_equal(dx[0, 0], [[0, 5, 0], [0, 0, 0]])


@pytest.mark.parametrize("hinge", ["linear", "squared"])
def test_hinge_has_no_slope_at_its_margin(hinge: str):
    d = np.array([0.5, 0.75, 2.0, 1.0]).reshape(1, 4, 1, 1)
    parity = np.array([1, 1, 0, 0]).reshape(1, 4, 1, 1)
    _, cache = ops.embedding_loss_forward(d, parity, hinge=hinge)
    slopes = {"linear": [0, 1, 0, -1], "squared": [0, 0.25, 0, -1]}[hinge]
    found = ops.embedding_loss_backward(1.0, cache).ravel()
    np.testing.assert_array_equal(found, np.array(slopes) / 4)


def test_maximum_ties_go_to_the_second_and_never_to_a_later_one():
    a, b, c = np.array([2.0, 1.0, 0.0]), np.array([2.0, 0.0, 1.0]), np.array([2.0, 1.0, 1.0])
    _, cache = ops.maximum_forward(a, b, c)
    da, db, dc = ops.maximum_backward(np.ones(3), cache)
    np.testing.assert_array_equal([da, db, dc], [[0, 1, 0], [1, 0, 1], [0, 0, 0]])
