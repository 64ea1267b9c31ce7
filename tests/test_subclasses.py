"""Subclasses of `numpy.ndarray`: refused where they compute by rules of their own, else welcome."""

from __future__ import annotations

import numpy as np
import pytest
from op_cases import CASES, DIFFERENTIABLE


class Metres(np.ndarray):
    """Numbers with a unit, as astropy and pint have them."""

    def __array_ufunc__(self, *arguments, **options):
        raise AssertionError("an operation computes with a unit")


class Named(np.ndarray):
    """An array that knows where it comes from, as readers of images and memory maps give it."""

    source = "a file"


OWN = {"masked array": np.ma.masked_array, "unit": lambda array: array.view(Metres)}
own = pytest.mark.parametrize("kind", OWN.values(), ids=OWN)


@own
@pytest.mark.parametrize("name", CASES)
def test_no_input_of_an_operation_may_have_an_arithmetic_of_its_own(name, kind):
    case = CASES[name]
    for i, argument in enumerate(case.inputs):
        inputs = [kind(a) if i == j else a for j, a in enumerate(case.inputs.values())]
        with pytest.raises(TypeError, match="which has an arithmetic of its own") as error:
            case.forward(*inputs)
        assert str(error.value).startswith((f"{argument}:", f"xs[{i}]:"))


@own
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_no_gradient_of_an_output_may_have_an_arithmetic_of_its_own(name, kind):
    case = CASES[name]
    y, cache = case.forward(*case.inputs.values())
    with pytest.raises(TypeError, match="^d.*: .*which has an arithmetic of its own"):
        case.backward(kind(np.ones_like(y)), cache)


@pytest.mark.parametrize("name", CASES)
def test_an_array_that_only_knows_more_is_an_array(name):
    case = CASES[name]
    named = [a.view(Named) for a in case.inputs.values()]
    for have, want in zip(case.run(named), case.run([*case.inputs.values()]), strict=True):
        assert np.array_equal(have, want)
