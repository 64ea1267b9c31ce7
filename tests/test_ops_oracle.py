"""Every operation against its formula written as loops, over geometry, dtype and memory layout."""

from __future__ import annotations

from functools import partial

import numpy as np
import oracles
import pytest
from hypothesis import assume, given
from op_cases import CASES, OPS
from problems import Problem, problems

from segaware_np import ops
from segaware_np.testing import check_same
from segaware_np.testing import strategies as proofs
from segaware_np.window import Window

pytestmark = pytest.mark.usefixtures("each_engine")


@pytest.mark.parametrize("name", [name for name in OPS if CASES[name].oracle])
@given(problem=problems(), layout=proofs.layouts())
def test_operation_computes_its_formula_in_any_memory_layout(name, problem: Problem, layout):
    case = OPS[name](problem)

    def output(*arrays):
        return case.run(arrays, gradients=False)[0]

    def arranged(*arrays):
        return output(*(a if a is None or not a.ndim else layout(a) for a in arrays))

    for function in (output, arranged):
        check_same(function, case.oracle, [*case.inputs.values()])


@pytest.mark.parametrize("norm", ["L1", "L2"])
@given(problem=problems(), layout=proofs.layouts())
def test_gradient_of_distances_where_some_are_equal(norm, problem: Problem, layout):
    problem.ties = True
    measure = problem.window, norm, problem.pick(False, True), problem.pick(False, True)
    embedding, dd = problem.embedding(), problem.mask()
    check_same(
        lambda dd, e: ops.distance_backward(
            layout(dd), ops.distance_forward(layout(e), *measure)[1]
        ),
        lambda dd, e: oracles.distance_gradient(dd, e, *measure),
        [dd, embedding],
    )


@pytest.mark.parametrize("kind", ["exponential", "normalized"])
@given(problem=problems())
def test_masks_of_a_scale_whose_exponentials_leave_the_range(kind, problem: Problem):
    distance = problem.distances() / 2
    forward, oracle = getattr(ops, f"{kind}_mask_forward"), getattr(oracles, f"{kind}_mask")
    check_same(lambda d: forward(d, 30.0)[0], lambda d: oracle(d, 30.0), [distance])


@given(proofs.geometries())
def test_max_pool_refuses_windows_that_see_padding_alone(geometry):
    w, x = geometry.window, np.zeros(geometry.image(1))
    pad = tuple(min(p, k - 1) for p, k in zip(w.pad, w.kernel, strict=True))
    window = Window(w.kernel, w.stride, pad, w.dilation)
    assume(min(axis.room for axis in window.axes(geometry.size)) >= 0)
    if np.isinf(oracles.pool(x, window, "max")).any():
        with pytest.raises(ValueError, match="window: .* has windows in the padding"):
            ops.max_pool_forward(x, window)
    else:
        ops.max_pool_forward(x, window)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.9])
def test_dropout_keeps_its_share_and_the_mean(ratio):
    y, factor = ops.dropout_forward(np.ones(40_000), ratio, seed=5)
    kept = np.count_nonzero(y) / y.size
    assert abs(kept - (1 - ratio)) < 5 * np.sqrt(ratio * (1 - ratio) / y.size) + 1e-12
    assert set(np.unique(factor)) <= {0.0, 1 / (1 - ratio)}
    other, _ = ops.dropout_forward(np.ones(40_000), ratio, seed=6)
    assert ratio == 0 or np.mean((y == 0) & (other == 0)) == pytest.approx(ratio**2, abs=0.02)


@pytest.mark.parametrize("name", OPS)
def test_results_are_arrays_even_of_no_axes(name):
    """Not NumPy's scalars, which other frameworks do not take by DLPack."""
    case = CASES[name]
    found = case.run(list(case.inputs.values()))
    assert all(isinstance(array, np.ndarray) for array in found if array is not None)


POINTWISE = {
    "absolute": (ops.absolute_forward, ops.absolute_backward, 1),
    "add": (ops.add_forward, ops.add_backward, 2),
    "dropout": (partial(ops.dropout_forward, ratio=0.5, seed=1), ops.dropout_backward, 1),
    "exponential": (partial(ops.exponential_forward, shift=1.0), ops.exponential_backward, 1),
    "line": (ops.power_forward, ops.power_backward, 1),
    "maximum": (ops.maximum_forward, ops.maximum_backward, 3),
    "power": (partial(ops.power_forward, power=2.0, shift=1.0), ops.power_backward, 1),
    "product": (ops.product_forward, ops.product_backward, 3),
    "relu": (ops.relu_forward, ops.relu_backward, 1),
    "scale": (partial(ops.scale_forward, axis=0), ops.scale_backward, 3),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", POINTWISE)
def test_results_of_a_number_are_0d_arrays_of_its_dtype(name, dtype):
    forward, backward, count = POINTWISE[name]
    y, cache = forward(*[np.array(0.7, dtype)] * count)
    gradients = backward(np.ones((), dtype), cache)
    for array in (y, *(gradients if isinstance(gradients, tuple) else (gradients,))):
        assert isinstance(array, np.ndarray) and array.shape == () and array.dtype == dtype
