"""Descriptions of older Caffes, and layers of forks: the same network in the present form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segaware_np.caffe import Net, Solver
from segaware_np.caffe.formats.schema import bind
from segaware_np.caffe.formats.text import parse
from segaware_np.caffe.formats.upgrade import present_type, upgraded, write
from segaware_np.commands import main as cli
from segaware_np.files import FormatError

OLD = """
name: "old" input: "x" input_dim: 1 input_dim: 2 input_dim: 9 input_dim: 9
layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
         weight_decay: 0 strict_dim: false
         convolution_param { num_output: 3 kernel_size: 3 hole: 2 pad: 2
                             weight_filler { type: "xavier" } } }
layers { name: "r" type: RELU bottom: "c" top: "c" }
layers { name: "d" type: INNER_PRODUCT bottom: "c" top: "d" param: "shared" param: ""
         blob_share_mode: PERMISSIVE inner_product_param { num_output: 2 } }
layers { name: "l" type: SOFTMAX_LOSS bottom: "d" bottom: "y" top: "l"
         softmaxloss_param { ignore_label: 255 } include: { phase: TRAIN } }
"""
NEW = """
name: "old" input: "x" input_dim: 1 input_dim: 2 input_dim: 9 input_dim: 9
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
        param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        convolution_param { num_output: 3 kernel_size: 3 dilation: 2 pad: 2
                            weight_filler { type: "xavier" } } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "d" type: "InnerProduct" bottom: "c" top: "d"
        param { name: "shared" share_mode: PERMISSIVE } param { name: "" }
        inner_product_param { num_output: 2 } }
layer { name: "l" type: "SoftmaxWithLoss" bottom: "d" bottom: "y" top: "l"
        loss_param { ignore_label: 255 } include: { phase: TRAIN } }
"""


def plain(fields: list) -> dict:
    """A tree without lines and without the order of fields that differ in name."""
    out: dict = {}
    for name, value, _ in fields:
        out.setdefault(name, []).append(plain(value) if isinstance(value, list) else value[:2])
    return out


def new(text: str) -> dict:
    return plain(upgraded(parse(text)))


def test_the_old_form_is_what_caffe_makes_of_it() -> None:
    assert new(OLD) == plain(parse(NEW))
    assert new(NEW) == plain(parse(NEW))
    old, present = (Net(text.replace('"y"', '"d"'), seed=3) for text in (OLD, NEW))
    x = np.random.default_rng(0).normal(size=(1, 2, 9, 9))
    np.testing.assert_array_equal(old.forward(x=x)["d"], present.forward(x=x)["d"])
    assert [blob.lr_mult for blob in old.params["c"]] == [1, 2]


def test_lines_of_errors_are_those_of_the_file() -> None:
    text = 'input: "x" input_dim: [1, 1, 1, 1]\n\nlayers { type: RELU bottom: "y" top: "y" }'
    with pytest.raises(FormatError, match=r"line 3: layer '' \(ReLU\): bottom 'y'"):
        Net(text)
    with pytest.raises(FormatError, match="line 2: layers: expected a message in braces"):
        Net('input: "x"\nlayers: RELU')


@pytest.mark.parametrize(("old", "present"), [
    ("SIGMOID_CROSS_ENTROPY_LOSS", "SigmoidCrossEntropyLoss"), ("ABSVAL", "AbsVal"),
    ("HDF5_DATA", "HDF5Data"), ("IMAGE_SEG_DATA", "ImageSegData"), ("BN", "BN"), ("TANH", "TanH"),
    ("MULTI_STAGE_MEANFIELD", "MultiStageMeanfield"), ("ELTWISE", "Eltwise"), ("MVN", "MVN"),
    ("ARGMAX", "ArgMax"), ("DUMMY_DATA", "DummyData"), ("POWER", "Power"), ("LRN", "LRN"),
])
def test_types(old: str, present: str) -> None:
    assert present_type(old) == present


def test_transformations_leave_the_data_parameters() -> None:
    old = ('layers { type: DATA top: "x" data_param { source: "s" scale: 0.5 crop_size: 3 mirror: 1'
           ' mean_file: "m" batch_size: 2 } transform_param { mean_value: 7 scale: 2 } }')
    want = ('layer { type: "Data" top: "x" data_param { source: "s" batch_size: 2 } transform_param'
            ' { scale: 0.5 crop_size: 3 mirror: 1 mean_file: "m" mean_value: 7 } }')
    assert new(old) == plain(parse(want))


@pytest.mark.parametrize(("given", "want"), [
    ("hole: 3", "dilation: 3"), ("hole_h: 3 hole_w: 2", "dilation: 3 dilation: 2"),
    ("hole_w: 2", "dilation: 1 dilation: 2"),
])
def test_holes_are_dilations_in_both_forms(given: str, want: str) -> None:
    new_form = 'layer {{ type: "Convolution" convolution_param {{ pad: 1 {} }} }}'
    old_form = "layers {{ type: CONVOLUTION convolution_param {{ pad: 1 {} }} }}"
    expected = plain(parse(new_form.format(want)))
    assert new(new_form.format(given)) == new(old_form.format(given)) == expected


def test_labels_of_deeplabs_first_lists() -> None:
    for given, want in (("true", "PIXEL"), ("false", "NONE")):
        text = 'layers {{ type: IMAGE_SEG_DATA image_data_param {{ {} }} }}'
        fields = new(text.format(f"has_label: {given}"))["layer"][0]["image_data_param"][0]
        assert fields == {"label_type": [("name", want)]}


def test_the_form_before() -> None:
    old = """
    input: "x" input_dim: 1 input_dim: 1 input_dim: 8 input_dim: 8
    layers { layer { name: "pad" type: "padding" pad: 2 } bottom: "x" top: "p" }
    layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 5 stride: 2 biasterm: false
                     weight_filler { type: "constant" value: 1 } blobs_lr: 3. }
             bottom: "p" top: "c" }
    layers { layer { name: "n" type: "lrn" local_size: 5 alpha: 0.1 beta: 0.5 }
             bottom: "c" top: "n" }
    layers { layer { name: "f" type: "innerproduct" num_output: 2 } bottom: "n" top: "f" }
    """
    net = Net(old)
    assert net.blobs["c"].shape == (1, 4, 4, 4)  # as with pad 2, stride 2
    assert net.params["c"][0].lr_mult == 3
    assert len(net.params["c"]) == 1
    x = np.ones((1, 1, 8, 8))
    net.forward(x=x)
    assert net.blobs["c"].data[0, 0, 1, 1] == 25  # all of the window, 9 of it at the corner
    assert net.blobs["c"].data[0, 0, 0, 0] == 9
    with pytest.raises(FormatError, match="line 1: kernel_size has no meaning for .* 'relu'"):
        Net('input: "x" layers { layer { type: "relu" kernelsize: 2 } }')


def test_solvers_bring_their_networks_up_to_date() -> None:
    text = """base_lr: 0.1 lr_policy: "fixed" net_param {
        input: "x" input_dim: 1 input_dim: 2 input_dim: 1 input_dim: 1
        layers { name: "f" type: INNER_PRODUCT bottom: "x" top: "f"
                 inner_product_param { num_output: 2 } }
        layers { name: "l" type: EUCLIDEAN_LOSS bottom: "f" bottom: "x" top: "l" } }"""
    assert Solver(text).net.params["f"][0].shape == (2, 2)


def test_an_input_named_twice_is_one() -> None:
    net = Net('input: "x" layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 } '
              '} } layer { name: "y" type: "AbsVal" bottom: "x" top: "y" }')
    assert net.inputs == ["x"]


def test_the_command_writes_the_present_form(tmp_path: Path) -> None:
    source, target = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    source.write_text(OLD + 'layers { name: "s${A}" type: SILENCE loss_weight: ${B} }\n')
    assert cli.main(["caffe", "upgrade", str(source), str(target)]) == 0
    text = target.read_text()
    assert 'name: "s${A}"' in text
    assert "loss_weight: ${B}" in text
    assert "layers" not in text
    body, _, _ = text.partition('layer {\n  name: "s${A}"')
    assert plain(parse(body)) == plain(parse(NEW))
    source.write_text("layers {")
    before = target.read_bytes()
    assert cli.main(["caffe", "upgrade", str(source), str(target)]) == 2
    assert target.read_bytes() == before


def test_what_is_written_reads_as_the_same() -> None:
    text = r'''a: "q\"\\ ${X}
    \n" b { c: 1 c: 2 d { e: -1.5e3 } } b {} f: TRUE'''.replace("\n    ", "")
    assert plain(parse(write(parse(text)))) == plain(parse(text))
    assert bind(parse(write(parse(NEW))), "NetParameter").layer[0].type == "Convolution"
