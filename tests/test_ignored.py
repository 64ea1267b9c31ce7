"""What a loss ignores has no say: NaN there changes neither loss nor gradient."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

from segaware_np import caffe, ops
from segaware_np.window import Window

pytest_plugins = "segaware_np.testing.cuda.plugin"
WINDOW = Window.same(3)
rng = np.random.default_rng(0)

everything = pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")


@pytest.fixture(params=["numpy", "numpy, large", "cupy"])
def xp(request, monkeypatch):
    if request.param == "numpy, large":  # as where bands are worth preparing
        monkeypatch.setattr(import_module("segaware_np.cpu.small"), "_COLUMNS", 0)
    return request.getfixturevalue("cupy") if request.param == "cupy" else np


def host(array):
    return array if isinstance(array, (np.ndarray, np.generic)) else array.get()


def run(forward, backward, xp, *arrays):
    """Loss and gradient, on the host."""
    loss, cache = forward(*(xp.asarray(array) for array in arrays))
    return float(loss), host(backward(1.0, cache))


@everything
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_pixel_with_the_ignore_label_has_no_loss_and_no_gradient(xp, value, dtype):
    score, labels = rng.standard_normal((2, 3, 4, 5)).astype(dtype), rng.integers(0, 3, (2, 4, 5))
    labels[:, 1, 2:4] = 255
    back = ops.softmax_cross_entropy_backward
    loss, gradient = run(ops.softmax_cross_entropy_forward, back, xp, score, labels)
    score[:, 1, 1, 2], score[1, :, 1, 3] = value, value
    loss2, gradient2 = run(ops.softmax_cross_entropy_forward, back, xp, score, labels)
    assert loss2 == loss
    assert np.array_equal(gradient2, gradient)
    assert not gradient2[:, :, 1, 2:4].any()
    score[0, 0, 0, 0] = np.nan  # where a pixel counts, it shows
    loss3, gradient3 = run(ops.softmax_cross_entropy_forward, back, xp, score, labels)
    assert np.isnan(loss3) and np.isnan(gradient3[0, :, 0, 0]).all()
    assert np.isnan(gradient3).sum() == 3


@everything
@pytest.mark.parametrize("norm", ["L1", "L2"])
@pytest.mark.parametrize("hinge", ["linear", "squared"])
def test_a_pixel_whose_pairs_are_ignored_pulls_at_nobody(xp, value, norm, hinge):
    e, labels = rng.standard_normal((1, 2, 5, 6)), rng.integers(0, 2, (1, 5, 6))
    labels[0, 2, 3] = 255

    def train(e):
        d, measured = ops.distance_forward(xp.asarray(e), WINDOW, norm)
        parity = ops.label_parity_forward(xp.asarray(labels), WINDOW, 255)
        loss, cache = ops.embedding_loss_forward(
            d, parity, hinge=hinge, ignore_label=255, normalize="valid"
        )
        dd = ops.embedding_loss_backward(1.0, cache)
        return float(loss), host(ops.distance_backward(dd, measured))

    loss, gradient = train(e)
    e[0, 0, 2, 3] = value
    loss2, gradient2 = train(e)
    if np.isnan(value):  # an infinite distance is a removed pair, and `valid` counts fewer
        assert loss2 == loss
    assert np.isfinite(loss2) and np.isfinite(gradient2).all()
    assert not gradient[0, :, 2, 3].any() and not gradient2[0, :, 2, 3].any()


def test_a_pair_of_unknown_distance_that_counts_shows(xp):
    d, parity = np.array([np.nan, 1.0]).reshape(1, 2, 1, 1), np.ones((1, 2, 1, 1), np.int32)
    for hinge in ("linear", "squared"):
        loss, gradient = run(
            lambda d, parity, hinge=hinge: ops.embedding_loss_forward(d, parity, hinge=hinge),
            ops.embedding_loss_backward, xp, d, parity,
        )  # fmt: skip
        assert np.isnan(loss)
        assert np.isnan(gradient.ravel()).tolist() == [True, False]


LOSSES = {
    "SoftmaxWithLoss": "loss_param { ignore_label: 2 }",
    "SoftmaxWithLoss, class weights": (
        'loss_param { ignore_label: 2 weight_source: "weights.txt" normalization: VALID }'
    ),
    "SigmoidCrossEntropyLoss": "loss_param { ignore_label: 2 normalization: VALID }",
    "DistLoss": "dist_loss_param { alpha: 0.5 beta: 2 ignore_label: 2 }",
}


@everything
@pytest.mark.parametrize("name", LOSSES)
def test_what_a_loss_of_caffe_ignores_has_no_say(tmp_path, monkeypatch, name, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.txt").write_text("1 2 3")
    kind = name.partition(",")[0]
    truth = (1, 1, 3, 4) if kind == "SoftmaxWithLoss" else (1, 3, 3, 4)
    shapes = [" ".join(f"dim: {n}" for n in shape) for shape in ((1, 3, 3, 4), truth)]
    inputs = " ".join(f"shape {{ {shape} }}" for shape in shapes)
    (tmp_path / "net.prototxt").write_text(
        f'layer {{ name: "in" type: "Input" top: "x" top: "t" input_param {{ {inputs} }} }}'
        f'layer {{ name: "loss" type: "{kind}" bottom: "x" bottom: "t" top: "l" '
        f"propagate_down: true propagate_down: false {LOSSES[name]} }}\n"
        "force_backward: true"
    )
    x = rng.standard_normal((1, 3, 3, 4)).astype("f4")
    t = rng.integers(0, 2, truth).astype("f4")
    t[:, :, 1, 2] = 2

    def train():
        net = caffe.Net(str(tmp_path / "net.prototxt"))
        loss = float(net.forward(x=x, t=t)["l"])
        net.backward()
        return loss, net.blobs["x"].diff.copy()

    loss, gradient = train()
    x[:, 1, 1, 2] = value
    loss2, gradient2 = train()
    assert loss2 == loss
    assert np.array_equal(gradient, gradient2) and not gradient[:, :, 1, 2].any()
