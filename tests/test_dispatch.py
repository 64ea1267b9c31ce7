"""Every fast form stands in for a plain formula of the same name and signature."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
from op_cases import FORMULAS

from segaware_np import ops
from segaware_np.dispatch import fast, form


def plain_functions():
    for module in pkgutil.iter_modules(ops.__path__):
        contents = vars(importlib.import_module(f"{ops.__name__}.{module.name}"))
        for name, function in contents.items():
            if inspect.isfunction(function) and function.__module__.startswith(ops.__name__):
                yield name, function


PLAIN = dict(plain_functions())


def test_every_operation_is_public():
    names = {name for name in PLAIN if name.endswith(("_forward", "_backward"))}
    assert names == set(ops.__all__) - {"permutohedral_lattice", "position_image"}
    assert all(callable(getattr(ops, name)) for name in names)


FORMS = {
    (package, name): function
    for package in ("cpu", "gpu")
    for name, plain in PLAIN.items()
    if not name.startswith("_") and (function := form(package, plain)) is not plain
}
BOTH = {
    *("average_pool", "average_pool_grad", "col2im", "convolution", "convolution_grad"),
    *("distance", "distance_grad", "exponential_mask", "exponential_mask_grad", "im2col"),
    *("local_mask", "local_mask_grad", "masked_sum", "masked_sum_grad", "max_pool"),
    *("max_pool_grad", "normalized_mask", "normalized_mask_grad", "resize", "resize_grad"),
    *("segaware_convolution", "segaware_convolution_grad", "softmax", "softmax_grad"),
}
# A form in a file of another name than its formula's would never run: here it is missed.
HOT = {
    "cpu": BOTH | {"mean_field_update", "mean_field_update_grad"},
    "gpu": BOTH
    | {"cross_entropy", "cross_entropy_grad", "hinge_loss", "hinge_loss_grad", "label_parity"},
}


@pytest.mark.parametrize("package", HOT)
def test_these_formulas_and_no_others_have_fast_forms(package):
    assert {name for place, name in FORMS if place == package} == HOT[package]


@pytest.mark.parametrize("package", HOT)
def test_the_table_of_cases_runs_every_fast_form(package):
    assert HOT[package] <= set().union(*FORMULAS.values())


# How the engines spell the arrays of the formulas.
SPELLINGS = {"np.ndarray": "Array", "Scale": "Array | float", "Gradient": "Array | None"}


@pytest.mark.parametrize(("package", "name"), FORMS)
def test_fast_forms_have_the_signatures_of_plain_ones(package, name):
    signature = str(inspect.signature(FORMS[package, name]))
    for spelling, meaning in SPELLINGS.items():
        signature = signature.replace(spelling, meaning)
    assert signature == str(inspect.signature(PLAIN[name]))


def test_fast_takes_the_fast_form_for_real_arrays_and_the_plain_one_for_proofs():
    plain = PLAIN["segaware_convolution"]
    assert fast(plain, np.zeros(1, "float32")) is FORMS["cpu", "segaware_convolution"]
    assert fast(plain, np.zeros(1, "float64")) is FORMS["cpu", "segaware_convolution"]
    assert fast(plain, np.zeros(1, complex)) is plain
    assert fast(plain, np.zeros(1, "float16")) is plain
