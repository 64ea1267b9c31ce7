"""Every fast form stands in for a plain formula of the same name and signature."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import numpy as np
import pytest

from segaware_np import cpu, gpu, ops
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
    assert names == set(ops.__all__) - {"position_image"}
    assert all(callable(getattr(ops, name)) for name in names)


FORMS = {
    (room.__name__.rpartition(".")[2], name): function
    for room in (cpu, gpu)
    for name, plain in PLAIN.items()
    if not name.startswith("_")
    and (function := form(room.__name__.rpartition(".")[2], plain)) is not plain
}


@pytest.mark.parametrize(("room", "name"), FORMS)
def test_fast_forms_have_the_arguments_of_plain_ones(room, name):
    arguments = list(inspect.signature(FORMS[room, name]).parameters)
    assert arguments == list(inspect.signature(PLAIN[name]).parameters)


@pytest.mark.parametrize("room", [cpu, gpu], ids=["cpu", "gpu"])
def test_every_function_of_a_formulas_file_is_its_form_or_a_part_of_another(room):
    named = {name for place, name in FORMS if room.__name__.endswith(place)}
    assert len(named) == {"cpu": 26, "gpu": 29}[room.__name__.rpartition(".")[2]]


def test_fast_takes_the_fast_form_for_real_arrays_and_the_plain_one_for_proofs():
    plain = PLAIN["segaware_convolution"]
    assert fast(plain, np.zeros(1, "float32")) is FORMS["cpu", "segaware_convolution"]
    assert fast(plain, np.zeros(1, "float64")) is FORMS["cpu", "segaware_convolution"]
    assert fast(plain, np.zeros(1, complex)) is plain
    assert fast(plain, np.zeros(1, "float16")) is plain
