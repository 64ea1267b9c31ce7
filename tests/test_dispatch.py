"""Every fast form stands in for a plain formula of the same name and signature."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import numpy as np
import pytest

from segaware_np import cpu, gpu, ops
from segaware_np.dispatch import fast


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


@pytest.mark.parametrize("engine", [cpu, gpu], ids=["cpu", "gpu"])
def test_fast_forms_have_the_names_and_arguments_of_plain_ones(engine):
    for name in engine.__all__:
        arguments = list(inspect.signature(getattr(engine, name)).parameters)
        assert arguments == list(inspect.signature(PLAIN[name]).parameters), name


def test_fast_takes_the_fast_form_for_real_arrays_and_the_plain_one_for_proofs():
    plain = PLAIN["segaware_convolution"]
    assert fast(plain, np.zeros(1, "float32")) is cpu.segaware_convolution
    assert fast(plain, np.zeros(1, "float64")) is cpu.segaware_convolution
    assert fast(plain, np.zeros(1, complex)) is plain
    assert fast(plain, np.zeros(1, "float16")) is plain
