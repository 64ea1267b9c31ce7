"""Solvers and policies against Caffe's formulas, written out number by number."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from segaware_np import optim
from segaware_np.optim import SGD, AdaDelta, AdaGrad, Adam, Nesterov, NonFiniteError, RMSProp
from segaware_np.parameter import Parameter
from segaware_np.policies import (
    Exponential,
    Fixed,
    Inverse,
    MultiStep,
    Polynomial,
    Sigmoid,
    Step,
    named,
)

SOLVERS = [SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam]
SHAPES = {"conv.weight": (2, 3, 1, 2), "conv.bias": (2,), "mask.scale": (), "frozen": (3,)}
MULTIPLIERS = {"conv.weight": (1, 1), "conv.bias": (2, 0), "mask.scale": (0.5, 3), "frozen": (0, 1)}


def make_parameters(dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: Parameter(np.asarray(rng.normal(size=shape), dtype), *MULTIPLIERS[name])
        for name, shape in SHAPES.items()
    }


def gradients(iteration, seed=1):
    rng = np.random.default_rng((seed, iteration))
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def put_gradients(parameters, iteration):
    for name, value in gradients(iteration).items():
        parameters[name].grad[...] = value


def naive_rule(solver, g, rate, t, memory):
    """One number's update by Caffe's solver; ``memory`` is a list that the rule keeps."""
    name = type(solver).__name__
    if name in ("SGD", "Nesterov"):
        before = memory[0]
        memory[0] = solver.momentum * before + rate * g
        if name == "SGD":
            return memory[0]
        return (1 + solver.momentum) * memory[0] - solver.momentum * before
    if name == "AdaGrad":
        memory[0] += g**2
        return rate * g / (memory[0] ** 0.5 + solver.delta)
    if name == "RMSProp":
        memory[0] = solver.rms_decay * memory[0] + (1 - solver.rms_decay) * g**2
        return rate * g / (memory[0] ** 0.5 + solver.delta)
    if name == "AdaDelta":
        mu, delta = solver.momentum, solver.delta
        memory[0] = mu * memory[0] + (1 - mu) * g**2
        update = g * ((delta + memory[1]) / (delta + memory[0])) ** 0.5
        memory[1] = mu * memory[1] + (1 - mu) * update**2
        return rate * update
    beta1, beta2 = solver.momentum, solver.momentum2
    memory[0] = beta1 * memory[0] + (1 - beta1) * g
    memory[1] = beta2 * memory[1] + (1 - beta2) * g**2
    correction = math.sqrt(1 - beta2**t) / (1 - beta1**t)
    return rate * correction * memory[0] / (math.sqrt(memory[1]) + solver.delta)


def naive_run(solver, start, steps, batches):
    """Learn by scalars only; returns {name: flat list of numbers}."""
    weights = {name: p.data.ravel().tolist() for name, p in start.items()}
    memory = {name: [[0.0, 0.0] for _ in values] for name, values in weights.items()}
    for t in range(1, steps + 1):
        grads = {n: np.ravel(g).tolist() for n, g in gradients(t).items() if n != "frozen"}
        norm = math.sqrt(sum(g * g for values in grads.values() for g in values))
        clip = min(1.0, (solver.clip_norm or math.inf) / norm)
        for name, values in grads.items():
            lr_mult, decay_mult = MULTIPLIERS[name]
            for i, g in enumerate(values):
                w = weights[name][i]
                pull = w if solver.regularization == "L2" else (w > 0) - (w < 0)
                g = g * clip / batches + solver.weight_decay * decay_mult * pull
                rate = solver.policy(t - 1) * lr_mult
                weights[name][i] = w - naive_rule(solver, g, rate, t, memory[name][i])
    return weights


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("options", "batches"),
    [
        ({}, 1),
        ({"weight_decay": 0.1}, 1),
        ({"weight_decay": 0.1, "regularization": "L1"}, 3),
        ({"clip_norm": 0.7, "weight_decay": 0.1}, 4),
        ({"clip_norm": 1e6}, 2),
    ],
)
def test_trajectory_is_caffes(solver, options, batches, monkeypatch):
    monkeypatch.setattr(optim, "_CPU_BLOCK", 5)  # so that arrays are walked through in blocks
    parameters = make_parameters()
    learner = solver(parameters, Exponential(0.1, 0.9), **options)
    wanted = naive_run(learner, make_parameters(), 6, batches)
    for t in range(1, 7):
        put_gradients(parameters, t)
        norm = learner.step(batches)
        flat = np.concatenate([np.ravel(g) for n, g in gradients(t).items() if n != "frozen"])
        assert norm == pytest.approx(np.linalg.norm(flat), rel=1e-14)
    for name, p in parameters.items():
        np.testing.assert_allclose(p.data.ravel(), wanted[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("solver", SOLVERS)
def test_float32_stays_float32_and_in_place(solver):
    parameters = make_parameters("float32")
    wide = make_parameters()
    learners = [solver(p, Fixed(np.float64(0.1)), weight_decay=0.1) for p in (parameters, wide)]
    arrays = {name: p.data for name, p in parameters.items()}
    for t in range(1, 4):
        for p, learner in zip((parameters, wide), learners, strict=True):
            put_gradients(p, t)
            learner.step()
    for name, p in parameters.items():
        assert p.data is arrays[name]
        assert p.data.dtype == np.float32
        np.testing.assert_allclose(p.data, wide[name].data, rtol=2e-4, atol=2e-5)
    assert {a.dtype for a in learners[0].state()[0].values()} == {np.dtype("float32")}


def test_frozen_parameters_do_not_count():
    parameters = make_parameters()
    put_gradients(parameters, 1)
    parameters["frozen"].grad[...] = np.nan
    before = parameters["frozen"].data.copy()
    learner = SGD(parameters, 0.1)
    learner.step()
    np.testing.assert_array_equal(parameters["frozen"].data, before)
    assert not any("frozen" in name for name in learner.state()[0])


def test_parameter_under_two_names_is_learned_once():
    p = Parameter(np.ones(3))
    p.grad[...] = 1
    learner = SGD({"a": p, "b": p}, 0.25)
    assert list(learner.parameters) == ["a"]
    assert learner.step() == pytest.approx(math.sqrt(3))
    np.testing.assert_array_equal(p.data, 0.75)


@pytest.mark.parametrize("solver", SOLVERS)
def test_state_continues_exactly(solver):
    straight, broken = make_parameters("float32"), make_parameters("float32")
    options = {"weight_decay": 0.01, "clip_norm": 2.0}
    one = solver(straight, Inverse(0.1, 0.5, 0.75), **options)
    first = solver(broken, Inverse(0.1, 0.5, 0.75), **options)
    for t in range(1, 4):
        put_gradients(broken, t)
        first.step(2)
    arrays, counters = first.state()
    second = solver(broken, Inverse(0.1, 0.5, 0.75), **options)
    second.set_state({name: a.copy() for name, a in arrays.items()}, counters)
    for t in range(1, 7):
        put_gradients(straight, t)
        one.step(2)
    for t in range(4, 7):
        put_gradients(broken, t)
        second.step(2)
    assert second.iteration == one.iteration == 6
    for name in straight:
        np.testing.assert_array_equal(straight[name].data, broken[name].data)


def spoiled(arrays, counters, how):
    arrays, counters = dict(arrays), dict(counters)
    name = "conv.bias/mean"
    if how == "missing":
        del arrays[name]
    elif how == "unknown":
        arrays["other/mean"] = np.zeros(2)
    elif how == "shape":
        arrays[name] = np.zeros(3)
    elif how == "dtype":
        arrays[name] = arrays[name].astype("float32")
    elif how == "solver":
        counters["solver"] = "SGD"
    elif how == "iteration":
        counters["iteration"] = -1
    else:
        del counters["iteration"]
    return arrays, counters


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("missing", ValueError, "conv.bias/mean is missing"),
        ("unknown", ValueError, "other/mean is unknown"),
        ("shape", ValueError, r"conv.bias/mean: expected \(2,\) float64, got \(3,\) float64"),
        ("dtype", ValueError, r"conv.bias/mean: expected \(2,\) float64, got \(2,\) float32"),
        ("solver", ValueError, "expected that of Adam, got SGD"),
        ("iteration", ValueError, "iteration: expected an integer of at least 0, got -1"),
        ("no iteration", TypeError, "iteration: expected an integer of at least 0, got None"),
    ],
)
def test_wrong_state_changes_nothing(how, error, message):
    parameters = make_parameters()
    learner = Adam(parameters)
    put_gradients(parameters, 1)
    learner.step()
    before = {name: a.copy() for name, a in learner.state()[0].items()}
    other = Adam(make_parameters())
    with pytest.raises(error, match=message):
        learner.set_state(*spoiled(*other.state(), how))
    assert learner.iteration == 1
    for name, array in learner.state()[0].items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(value):
    parameters = make_parameters()
    learner = SGD(parameters, 0.1)
    put_gradients(parameters, 1)
    learner.step()
    before = {name: p.data.copy() for name, p in parameters.items()}
    put_gradients(parameters, 2)
    parameters["conv.weight"].grad[1, 1] = value
    with pytest.raises(NonFiniteError, match=r"iteration 2: .* of conv.weight is (nan|inf)"):
        learner.step()
    assert learner.iteration == 1
    for name, p in parameters.items():
        np.testing.assert_array_equal(p.data, before[name])


@pytest.mark.parametrize("solver", [SGD, RMSProp, AdaDelta, Adam])
def test_zero_gradient_moves_nothing(solver):
    parameters = make_parameters()
    before = {name: p.data.copy() for name, p in parameters.items()}
    solver(parameters, 0.1, clip_norm=1).step()
    for name, p in parameters.items():
        np.testing.assert_array_equal(p.data, before[name])


# ------------------------------------------------------------------------------------- policies


@pytest.mark.parametrize(
    ("policy", "formula"),
    [
        (Fixed(0.3), lambda i: 0.3),
        (Step(0.3, 0.5, 4), lambda i: 0.3 * 0.5 ** (i // 4)),
        (MultiStep(0.3, 0.5, (3, 4, 9)), lambda i: 0.3 * 0.5 ** sum(i >= s for s in (3, 4, 9))),
        (Exponential(0.3, 0.9), lambda i: 0.3 * 0.9**i),
        (Inverse(0.3, 0.1, 0.75), lambda i: 0.3 * (1 + 0.1 * i) ** -0.75),
        (Polynomial(0.3, 20, 0.9), lambda i: 0.3 * (1 - i / 20) ** 0.9),
        (Sigmoid(0.3, -0.5, 6), lambda i: 0.3 / (1 + math.exp(0.5 * (i - 6)))),
    ],
    ids=lambda case: type(case).__name__,
)
def test_policies(policy, formula):
    for iteration in range(20):
        assert policy(iteration) == pytest.approx(formula(iteration), rel=1e-14)


def test_policies_far_out():
    assert Polynomial(0.3, 20, 0.9)(21) == 0
    assert Sigmoid(0.3, -1.0, 5)(10**6) == 0
    assert Sigmoid(0.3, 1.0, 5)(10**6) == 0.3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Fixed(-1), ValueError, "lr: expected a finite number of at least 0, got -1"),
        (lambda: Fixed(math.nan), ValueError, "lr: .*got nan"),
        (lambda: Fixed("0.1"), TypeError, "lr: .*got '0.1'"),
        (lambda: Step(0.1, -0.5, 3), ValueError, "gamma: .*got -0.5"),
        (lambda: Step(0.1, 0.5, 0), ValueError, "size: expected an integer of at least 1, got 0"),
        (lambda: Step(0.1, 0.5, 2.5), TypeError, "size: .*got 2.5"),
        (lambda: MultiStep(0.1, 0.5, (5, 3)), ValueError, "steps: expected ascending"),
        (lambda: MultiStep(0.1, 0.5, (True,)), TypeError, "steps: .*got True"),
        (lambda: Polynomial(0.1, 0), ValueError, "iterations: .*got 0"),
        (lambda: Sigmoid(0.1, math.inf, 3), ValueError, "gamma: expected a finite number, got inf"),
        (lambda: SGD({}, 0.1), ValueError, "parameters: expected at least one"),
        (lambda: SGD(make_parameters(), 0.1, momentum=1), ValueError, r"momentum: .*, got 1"),
        (lambda: SGD(make_parameters(), 0.1, weight_decay=-1), ValueError, "weight_decay: .* -1"),
        (lambda: SGD(make_parameters(), 0.1, clip_norm=0), ValueError, "clip_norm: .*above 0"),
        (lambda: SGD(make_parameters(), 0.1, regularization="L3"), ValueError, "got 'L3'"),
        (lambda: RMSProp(make_parameters(), 0.1, rms_decay=None), TypeError, "rms_decay: "),
        (lambda: Adam(make_parameters(), delta=0), ValueError, "delta: .*got 0"),
        (lambda: SGD(make_parameters(), 0.1).step(0), ValueError, "batches: .*got 0"),
        (lambda: SGD(make_parameters("int64"), 0.1), TypeError, "float32 or all in float64"),
        (
            lambda: SGD(make_parameters() | {"other": make_parameters("float32")["frozen"]}, 0.1),
            None,
            None,
        ),
        (
            lambda: SGD(make_parameters() | {"x": Parameter(np.zeros(2, "float32"))}, 0.1),
            TypeError,
            "x: .*got float32",
        ),
        (
            lambda: SGD({"x": Parameter(np.zeros((2, 3), order="F"))}, 0.1),
            ValueError,
            "x: expected C-contiguous arrays",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    if error is None:  # a frozen parameter may be of another dtype
        call()
        return
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("fixed", Fixed(0.5)),
        ("step", Step(0.5, 0.1, 7)),
        ("multistep", MultiStep(0.5, 0.1, (3, 9))),
        ("exp", Exponential(0.5, 0.1)),
        ("inv", Inverse(0.5, 0.1, 2.0)),
        ("poly", Polynomial(0.5, 100, 2.0)),
        ("sigmoid", Sigmoid(0.5, 0.1, 7)),
    ],
)
def test_policies_by_name(name, policy):
    options = dict(lr=0.5, gamma=0.1, power=2.0, size=7, steps=(3, 9), iterations=100)
    assert named(name, **options) == policy


def test_a_policy_that_does_not_exist():
    with pytest.raises(ValueError, match="name: expected one of fixed, step, .*, got 'cosine'"):
        named("cosine", lr=1.0)
    with pytest.raises(TypeError, match="gamma"):
        named("exp", lr=1.0)


def test_solvers_need_no_layers():
    program = "import sys, segaware_np.optim; print(*sorted(sys.modules))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = {name.split(".")[1] for name in done.stdout.split() if name.startswith("segaware_np.")}
    assert "optim" in found
    assert not found & {"layers", "ops", "cpu", "gpu", "net"}
