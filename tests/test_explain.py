"""The peephole: right numbers, an untouched network, and a wrong backward that shows."""

import numpy as np
import pytest

from segaware_np import Net, Window, layers, models
from segaware_np.explain import explain


def batch(rng, classes=4, shape=(2, 9, 11)):
    n, h, w = shape
    image = rng.normal(0, 50, (n, 3, h, w)).astype("float32")
    return {"image": image, "label": rng.integers(0, classes, shape)}


@pytest.fixture(scope="module")
def report():
    net = models.segmentation_network(
        4, (4, 5), (1, 1), aware=True, embedding_widths=(3, 4), embedding_depths=(1, 1),
        embedding_channels=5, context=(2,), refine=(1,), refine_width=5, dropout=0.5,
    )  # fmt: skip
    net.train()
    inputs = batch(np.random.default_rng(0))
    before = net.weights()
    state = net.state()
    report = explain(net, inputs)
    assert all((net.weights()[name] == value).all() for name, value in before.items())
    assert not any(p.grad.any() for p in net.parameters().values())
    assert net.state() == state and net.nodes["dropout"].layer.training
    return net, inputs, report


def test_every_layer_is_there_and_right(report):
    net, inputs, found = report
    assert [layer.name for layer in found.layers] == list(net.nodes)
    assert all(layer.error < 1e-12 for layer in found.layers if layer.error == layer.error)
    shapes = {name: value.shape for name, value in net.eval().forward(inputs, net.nodes).items()}
    assert {layer.name: layer.output for layer in found.layers} == shapes
    assert all(layer.formula for layer in found.layers)


def test_gradients_are_checked_wherever_there_are_any(report):
    _, _, found = report
    assert [layer.name for layer in found.layers if layer.slope != layer.slope] == []


def test_text_tells_formula_shapes_values_and_costs(report):
    _, _, found = report
    text = str(found)
    for words in ("exp(-|s| d_k)", "reads      image 2 x 3 x 9 x 11", "by complex step", "flop"):
        assert words in text


def test_flops_and_memory_of_a_convolution():
    net = Net(inputs=("image",))
    net.add("conv", layers.Convolution(3, 4, Window(3)), "image")
    (layer,) = explain(net, {"image": np.ones((2, 3, 5, 6), "float32")}).layers
    assert layer.flops == 2 * 2 * (3 * 4) * (4 * 3 * 9)
    assert layer.output_bytes == 4 * 2 * 4 * 3 * 4
    assert layer.kept_bytes == 0
    assert layer.parameters == {"weight": (4, 3, 3, 3), "bias": (4,)}


class WrongReLU(layers.ReLU):
    def backward(self, dy, need=None):
        return (
            0.99 * dy * (self.cache[0] > 0 if isinstance(self.cache, tuple) else self.cache > 0),
        )


def test_a_wrong_backward_shows():
    net = Net(inputs=("image",))
    net.add("wrong", WrongReLU(), "image")
    report = explain(net, {"image": np.random.default_rng(0).normal(size=(1, 2, 4, 4))})
    assert report.layers[0].error > 1e-3
    assert "off most: wrong" in str(report)


def test_layers_without_their_inputs_are_left_out():
    net = models.embedding_network((3,), (1,), 4)
    image = {"image": np.zeros((1, 3, 6, 6), "float32")}
    assert [layer.name for layer in explain(net, image).layers][-1] == "embedding"
    with pytest.raises(ValueError, match=r"inputs: expected names out of .* got \['picture'\]"):
        explain(net, {"picture": image["image"]})
    with pytest.raises(ValueError, match="inputs: expected some of"):
        explain(net, {})
