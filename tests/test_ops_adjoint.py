"""``<A x, y> == <x, A' y>`` for every linear operation in every argument.

The numbers are small and whole, so that sums are exact and both sides equal to the last bit. Only
means, interpolation and normalised masks, whose coefficients are fractions, get a few units in the
last place.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from op_cases import CASES, OPS
from problems import Problem, problems

from segaware_np.testing import check_adjoint
from segaware_np.testing import strategies as proofs

pytestmark = pytest.mark.usefixtures("each_engine")


@pytest.mark.parametrize("name", [name for name in OPS if CASES[name].linear])
@given(problem=problems(), seed=proofs.seeds())
def test_backward_is_the_exact_adjoint_in_every_linear_argument(name, problem: Problem, seed):
    case = OPS[name](problem)
    inputs = {
        key: np.round(4 * value) if key in case.linear and value is not None else value
        for key, value in case.inputs.items()
    }
    for at, key in enumerate(inputs):
        if key not in case.linear or inputs[key] is None:
            continue

        def run(x, dy=None, at=at):
            arguments = [*inputs.values()]
            return case.run([*arguments[:at], x, *arguments[at + 1 :]], dy)

        zero = np.zeros_like(inputs[key])
        constant = run(zero)[0]  # what the other terms of a sum contribute
        check_adjoint(
            lambda x, run=run, constant=constant: run(x)[0] - constant,
            lambda dy, run=run, zero=zero, at=at: run(zero, dy)[1 + at],
            (zero.shape, constant.shape),
            rtol=case.rounds,
            seed=seed,
        )
