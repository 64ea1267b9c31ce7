"""Layers of forks of Caffe, against their formulas told here."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat
from test_caffe_layers import RNG, X, run, single

from segaware_np.caffe import Net
from segaware_np.files import FormatError


def layer(type_: str, options: str, phase: str = "TRAIN", tops: str = 'top: "y"') -> Net:
    return Net(f'force_backward: true input: "x" input_shape {{ dim: 2 dim: 3 dim: 4 dim: 5 }} '
               f'layer {{ name: "l" type: "{type_}" bottom: "x" {tops} {options} }}',
               phase=phase, dtype="float64")


def channels(values: list[float]) -> np.ndarray:
    return np.array(values).reshape(1, 3, 1, 1)


# -- normalisation --------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_segnets_normalisation_learns_with_the_batch_in_both_phases(phase: str) -> None:
    x = RNG.normal(3, 2, (2, 3, 4, 5))
    net = layer("BN", "bn_param { scale_filler { value: 2 } shift_filler { value: 0.5 } }", phase,
                'top: "y" top: "mean" top: "variance"')
    out = net.forward(x=x)
    mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(out["y"], 2 * (x - mean) / np.sqrt(variance + 1e-9) + 0.5, 1e-12)
    np.testing.assert_allclose(out["mean"], mean, 1e-12)
    np.testing.assert_allclose(out["variance"], variance, 1e-12)
    assert [blob.shape for blob in net.params["l"]] == [(1, 3, 1, 1)] * 2
    assert "SegNet's" in net.notes[0]


def test_segnets_normalisation_in_use_scales_and_shifts_alone() -> None:
    x = RNG.normal(3, 2, (2, 3, 4, 5))
    net = layer("BN", "bn_param { bn_mode: INFERENCE }")
    factor, summand = channels([1, -2, 3]), channels([0, 5, -1])
    for blob, value in zip(net.params["l"], (factor, summand), strict=True):
        blob.data[...] = value
    np.testing.assert_allclose(net.forward(x=x)["y"], factor * x + summand, 1e-14)


def test_pspnets_normalisation_follows_the_batches() -> None:
    x = RNG.normal(3, 2, (2, 3, 4, 5))
    text = "bn_param { slope_filler { value: 2 } momentum: 0.75 eps: 0.01 }"
    net = layer("BN", text)
    y = net.forward(x=x)["y"]
    mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(y, 2 * (x - mean) / np.sqrt(variance + np.float32(0.01)), 1e-12)
    slope, _, running_mean, running_variance = net.params["l"]
    np.testing.assert_allclose(running_mean.data, 0.25 * mean, 1e-12)
    np.testing.assert_allclose(running_variance.data, 0.25 * variance, 1e-12)
    assert (slope.lr_mult, running_mean.lr_mult) == (1, 0)
    use = layer("BN", text, "TEST")
    for blob, other in zip(use.params["l"], net.params["l"], strict=True):
        blob.data[...] = other.data
    z = use.forward(x=x)["y"]
    want = 2 * (x - 0.25 * mean) / np.sqrt(0.25 * variance + np.float32(0.01))
    np.testing.assert_allclose(z, want, 1e-12)
    np.testing.assert_allclose(use.params["l"][2].data, 0.25 * mean, 1e-12)  # as it was
    assert "PSPNet's" in net.notes[0]


def test_a_frozen_normalisation_neither_learns_nor_follows() -> None:
    net = layer("BN", "bn_param { frozen: true momentum: 0.5 }")
    x = RNG.normal(3, 2, (2, 3, 4, 5))
    before = [blob.data.copy() for blob in net.params["l"]]
    net.forward(x=x)
    for blob, value in zip(net.params["l"], before, strict=True):
        np.testing.assert_array_equal(blob.data, value)
        assert not blob.wanted
    np.testing.assert_array_equal(before[3], 1)


def test_a_normalisation_of_either_kind_is_asked_for() -> None:
    with pytest.raises(FormatError, match=r"SegNet's .* or PSPNet's .*\? Write the fields"):
        layer("BN", "")
    with pytest.raises(FormatError, match="SegNet's"):
        layer("BN", "bn_param { bn_mode: LEARN frozen: true }")
    assert len(layer("BN", "param {} param {}").params["l"]) == 2
    assert len(layer("BN", "param {} param {} param {} param {}").params["l"]) == 4


def test_the_log_says_which_reading_was_taken_with_its_line(caplog: pytest.LogCaptureFixture
                                                            ) -> None:
    with caplog.at_level(logging.INFO, "segaware_np.caffe"):
        layer("BN", "bn_param { bn_mode: LEARN }")
    assert "text, line 1: BN: SegNet's" in caplog.text


def test_mean_and_variance_of_samples() -> None:
    x = RNG.normal(3, 2, (2, 3, 4, 5))
    for options, axes in (("", (2, 3)), ("mvn_param { across_channels: true }", (1, 2, 3))):
        want = (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)
        np.testing.assert_allclose(run("MVN", options, x), want, 1e-8)
    want = x - x.mean((2, 3), keepdims=True)
    centred = run("MVN", "mvn_param { normalize_variance: false }", x)
    np.testing.assert_allclose(centred, want, 1e-12)
    flat = np.full((1, 1, 2, 2), 5.0)
    assert not run("MVN", "", flat).any()


# -- unpooling ------------------------------------------------------------------------------------


def test_pooling_tells_where_its_maxima_were() -> None:
    x = np.array([[1.0, 9, 2], [9, 3, 4], [5, 6, 7]])[None, None]
    y, places = run("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", x, tops=2)
    assert y[0, 0].tolist() == [[9, 4], [6, 7]]
    assert places[0, 0].tolist() == [[1, 5], [7, 8]]  # the first of equal ones; by rows of 3
    padded, places = run("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", x, tops=2)
    assert padded[0, 0].tolist() == [[9, 9], [9, 7]]
    assert places[0, 0].tolist() == [[1, 1], [3, 8]]
    with pytest.raises(FormatError, match="goes with MAX"):
        run("Pooling", "pooling_param { pool: AVE kernel_size: 2 }", x, tops=2)


@pytest.mark.parametrize("option", ["round_mode: FLOOR", "ceil_mode: false"])
def test_pooling_rounded_down_leaves_cut_windows_out(option: str) -> None:
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    text = f"pooling_param {{ kernel_size: 3 stride: 2 {option} }}"
    assert run("Pooling", text, x)[0, 0].tolist() == [[10]]
    assert run("Pooling", text.replace(option, ""), x)[0, 0].tolist() == [[10, 11], [14, 15]]
    assert run("Pooling", text.replace("kernel", "pool: AVE kernel"), x)[0, 0].tolist() == [[5]]


@pytest.mark.parametrize("type_", ["Upsample", "Unpooling"])
def test_unpooling_brings_maxima_back(type_: str) -> None:
    option = {"Upsample": "upsample_param { upsample_h: 4 upsample_w: 6 }",
              "Unpooling": "unpooling_param { kernel_size: 2 stride: 2 unpool_h: 4 unpool_w: 6 }"}
    x = RNG.permutation(2 * 3 * 24).reshape(2, 3, 4, 6).astype(float) + 1
    y, places = run("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", x, tops=2)
    back = run(type_, option[type_], y, places)
    np.testing.assert_array_equal(back, x * (back > 0))
    assert (back > 0).sum() == y.size
    with pytest.raises(ValueError, match="lies outside a plane of 4x6"):
        run(type_, option[type_], y, places + 20)


def test_upsampling_by_a_factor() -> None:
    x = np.array([[1.0, 2], [3, 4]])[None, None]
    mask = np.array([[0.0, 2], [8, 10]])[None, None]
    y = run("Upsample", "upsample_param { scale: 2 }", x, mask)
    assert y[0, 0, ::2, ::2].tolist() == [[1, 2], [3, 4]]
    assert run("Upsample", "upsample_param { scale: 3 pad_out_h: true }", x, mask).shape == (
        1, 1, 5, 6)
    repeated = run("Upsample", "upsample_param { scale: 2 }", x)
    assert repeated[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


def test_unpooling_over_windows() -> None:
    x = np.array([[1.0, 2]])[None, None]
    text = "unpooling_param {{ unpool: {} kernel_size: 3 stride: 2 unpool_h: 2 unpool_w: 4 }}"
    rows = {"MAX": [[1, 0, 2, 0], [0, 0, 0, 0]], "TILE": [[1, 1, 3, 2]] * 2,
            "AVE": [[1 / 6, 1 / 6, 1 / 6 + 2 / 4, 2 / 4]] * 2}
    for kind, want in rows.items():
        np.testing.assert_allclose(run("Unpooling", text.format(kind), x)[0, 0], want)
    with pytest.raises(FormatError, match="begin beyond"):
        run("Unpooling", text.format("TILE"), np.ones((1, 1, 1, 3)))
    with pytest.raises(FormatError, match="expected unpool_size"):
        run("Unpooling", "unpooling_param { kernel_size: 2 }", x)


def test_every_channel_by_itself() -> None:
    net = layer("DepthwiseConvolution", "convolution_param { num_output: 3 kernel_size: 2 "
                "bias_term: false weight_filler { value: 1 } }")
    assert net.params["l"][0].shape == (3, 1, 2, 2)
    x = RNG.normal(size=(2, 3, 4, 5))
    want = x[:, :, 1:, 1:] + x[:, :, 1:, :-1] + x[:, :, :-1, 1:] + x[:, :, :-1, :-1]
    np.testing.assert_allclose(net.forward(x=x)["y"], want, 1e-12, 1e-12)


# -- shapes ---------------------------------------------------------------------------------------


def test_padding_adds_zeros_or_cuts() -> None:
    x = RNG.normal(size=X)
    want = np.pad(x, ((0, 0), (0, 0), (1, 2), (1, 2)))
    both = "padding_param { pad_beg: 1 pad_end: 2 }"
    np.testing.assert_array_equal(run("Padding", both, x), want)
    np.testing.assert_array_equal(run("Padding", "padding_param { pad_beg: -1 }", x),
                                  x[:, :, 1:, 1:])
    with pytest.raises(FormatError, match="both of one sign"):
        run("Padding", "padding_param { pad_beg: 1 pad_end: -1 }", x)


def test_a_crop_that_aligns_itself() -> None:
    net = Net("""
        input: "x" input_dim: 1 input_dim: 1 input_dim: 9 input_dim: 9
        layer { name: "c" type: "Convolution" bottom: "x" top: "c"
                convolution_param { num_output: 1 kernel_size: 5 } }
        layer { name: "z" type: "AutoCrop" bottom: "x" bottom: "c" top: "z" }
    """)
    x = np.arange(81.0).reshape(1, 1, 9, 9)
    np.testing.assert_array_equal(net.forward(x=x)["z"], x[:, :, 2:7, 2:7])
    with pytest.raises(FormatError, match="do not align them by whole pixels"):
        run("AutoCrop", "", x, x)


# -- losses ---------------------------------------------------------------------------------------


def test_losses_of_probabilities_and_gains() -> None:
    p = RNG.dirichlet(np.ones(5), 4)
    labels = np.array([1, 0, 4, 2])
    want = -np.log(p[np.arange(4), labels]).mean()
    assert run("MultinomialLogisticLoss", "", p, labels) == pytest.approx(want)
    assert run("MultinomialLogisticLoss", "", p * 0, labels) == pytest.approx(-np.log(1e-20))
    score, gains = RNG.normal(size=(4, 5)), RNG.uniform(size=(5, 5))
    log_p = score - np.log(np.exp(score).sum(1, keepdims=True))
    each = -(gains[labels] * log_p).sum(1)
    assert run("InfogainLoss", "", score, labels, gains) == pytest.approx(each.mean())
    options = "loss_param { ignore_label: 4 normalization: BATCH_SIZE }"
    assert run("InfogainLoss", options, score, labels, gains) == pytest.approx(
        (each.sum() - each[2]) / 4)
    with pytest.raises(FormatError, match="expected a third bottom, or the source"):
        run("InfogainLoss", "", score, labels)
    with pytest.raises(ValueError, match="not one of 5 classes"):
        run("MultinomialLogisticLoss", "", p, labels + 1)


def test_labelled_classes_gain() -> None:
    x = RNG.normal(size=(2, 3, 1, 2))
    labels = np.array([[0, 2], [1, 255]])
    y = run("BiasChannel", "bias_channel_param { bg_bias: 5 fg_bias: 6 ignore_label: 255 }", x,
            labels)
    np.testing.assert_allclose((y - x)[:, :, 0, 0], [[5, 0, 6], [0, 6, 0]])
    text = "bias_channel_param { bg_bias: 5 fg_bias: 6 ignore_label: 255 label_type: PIXEL }"
    y = run("BiasChannel", text, x, np.array([[[[0, 2]]], [[[1, 255]]]]))
    np.testing.assert_allclose((y - x)[:, :, 0].transpose(0, 2, 1).reshape(4, 3),
                               [[5, 0, 0], [0, 0, 6], [0, 6, 0], [0, 0, 0]], atol=1e-12)
    with pytest.raises(ValueError, match="not one of 3 classes"):
        run("BiasChannel", "", x, labels)


def test_contrastive_loss() -> None:
    a, b = RNG.normal(size=(2, 4, 3))
    alike = np.array([1, 0, 1, 0])
    d2 = ((a - b) ** 2).sum(1)
    for options, other in (
        ("contrastive_loss_param { margin: 3 }", np.maximum(3 - np.sqrt(d2), 0) ** 2),
        ("contrastive_loss_param { margin: 3 legacy_version: true }", np.maximum(3 - d2, 0)),
    ):
        want = np.where(alike, d2, other).sum() / 8
        assert run("ContrastiveLoss", options, a, b, alike) == pytest.approx(want)
    loss = single("ContrastiveLoss", "contrastive_loss_param { margin: 3 }", [a, b, alike])
    _, cache = loss.forward(a, b, alike)
    da, db, _ = loss.backward([np.array(2.0)], cache, [True] * 3)[0]
    d = np.sqrt(d2)[:, None]
    gap = np.maximum(3 - d, 0) / (d + 1e-4)  # as in Caffe
    np.testing.assert_allclose(da, 2 * (a - b) * np.where(alike[:, None], 1, -gap) / 4, 1e-12)
    np.testing.assert_array_equal(db, -da)


def test_weights_of_classes_in_the_description() -> None:
    score, labels = RNG.normal(size=(3, 2, 1, 4)), RNG.integers(0, 2, (3, 1, 1, 4))
    log_p = score - np.log(np.exp(score).sum(1, keepdims=True))
    nll = -np.take_along_axis(log_p, labels, 1)
    weights = np.array([0.25, 2.0])
    text = ("loss_param { weight_by_label_freqs: true class_weighting: 0.25 class_weighting: 2 "
            "ignore_label: 255 }")
    loss = run("SoftmaxWithLoss", text, score, labels)
    assert loss == pytest.approx((weights[labels] * nll).mean())  # by pixels, not by weights
    unweighted = run("SoftmaxWithLoss", text.replace("true", "false"), score, labels)
    assert unweighted == pytest.approx(nll.mean())
    with pytest.raises(FormatError, match="2 class weights for 3 classes"):
        run("SoftmaxWithLoss", text, np.zeros((3, 3, 1, 4)), labels)


def test_accuracy_under_another_name() -> None:
    score = np.array([[[[1.0, 0, 5]], [[0, 2, 3]]]])
    labels = np.array([[[[0, 0, 255]]]])
    text = "eltwise_accuracy_param { ignore_label: 255 }"
    assert run("EltwiseAccuracy", text, score, labels) == 0.5


def test_bayesian_dropout_draws_in_use() -> None:
    net = layer("Dropout", "dropout_param { dropout_ratio: 0.4 sample_weights_test: true }", "TEST")
    y = net.forward(x=np.ones((2, 3, 4, 5)))["y"]
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.6], 1e-6)


# -- what writes ----------------------------------------------------------------------------------


def test_matrices_are_written_where_a_folder_is_given(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("one.jpg\ntwo.jpg\n")
    text = (f'mat_write_param {{ prefix: "a/b_" source: "{tmp_path}/names.txt" strip: 4 }}')
    net_text = (f'input: "x" input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5 '
                f'layer {{ name: "w" type: "MatWrite" bottom: "x" {text} }}')
    x = RNG.normal(size=(2, 3, 4, 5)).astype("f4")
    quiet = Net(net_text)
    quiet.forward(x=x)
    assert "nothing is written" in quiet.notes[0]
    net = Net(net_text, output=tmp_path / "out")
    for scale in (1, 2):
        net.forward(x=scale * x)
    found = loadmat(tmp_path / "out" / "a" / "b_two_blob_0.mat")["data"]
    np.testing.assert_array_equal(found.transpose(3, 2, 1, 0), 2 * x)
    with pytest.raises(ValueError, match="has 2 names, this is pass 3"):
        net.forward(x=x)
    with pytest.raises(ValueError, match="lies outside"):
        Net(net_text.replace("a/b_", "../b_"), output=tmp_path / "out").forward(x=x)
    assert not list(tmp_path.glob("*.mat"))
