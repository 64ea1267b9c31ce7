"""Networks: the graph, and gradients of whole models by the complex step."""

from __future__ import annotations

import numpy as np
import pytest

from segaware_np import Net, Window, layers, models, ops
from segaware_np.files import FormatError
from segaware_np.inference import predict

STEP = 1e-30


def feed(rng, dtype="float64", classes=4, shape=(2, 13, 17), ignore=255):
    labels = rng.integers(0, classes, shape)
    labels[0, :3] = ignore
    n, h, w = shape
    return {"image": (50 * rng.standard_normal((n, 3, h, w))).astype(dtype), "label": labels}


def tiny_embedding(**options):
    return models.embedding_network((4, 5, 6), (2, 2, 1), 7, **options)


def tiny_segmentation(aware=True, **options):
    return models.segmentation_network(
        4,
        (4, 5, 6),
        (2, 2, 1),
        aware=aware,
        embedding_widths=(3, 4, 5),
        embedding_channels=6,
        context=(2,),
        refine=(1, 2),
        refine_width=5,
        scale=0.3,
        **options,
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda **o: tiny_embedding(hinge="squared", normalize="valid", **o),
        lambda **o: tiny_embedding(**o),
        lambda **o: tiny_segmentation(embedding_lr_mult=1.0, **o),
        lambda **o: tiny_segmentation(norm="L2", embedding="rgb", dropout=0.3, **o),
        lambda **o: tiny_segmentation(aware=False, **o),
    ],
    ids=["embedding-squared", "embedding", "aware", "rgb-l2-dropout", "plain"],
)
def test_every_parameter_gradient_by_complex_step(make):
    rng = np.random.default_rng(3)
    net, twin = make(dtype="float64", seed=1).train(), make(dtype="complex128", seed=1).train()
    for name, parameter in net.parameters().items():
        if name.startswith(("classifier", "correction")):  # start small: make them matter
            parameter.data[...] *= 50
    batch = feed(rng)
    rngs = net.state()
    net.forward(batch)
    net.backward()
    weights = net.weights()
    wide = {**batch, "image": batch["image"].astype(complex)}
    for name, parameter in net.parameters().items():
        models.transfer(weights, twin)
        direction = rng.standard_normal(parameter.data.shape)
        twin.parameters()[name].data[...] += 1j * STEP * direction
        twin.set_state(rngs)  # the same entries drop out
        losses = twin.forward(wide)
        slope = sum(twin.nodes[key].weight * value.imag / STEP for key, value in losses.items())
        scale = np.abs(parameter.grad * direction).sum()
        assert abs(slope - (parameter.grad * direction).sum()) <= 1e-12 * max(scale, 1e-3), name


def test_gradient_of_the_image_and_forks_by_complex_step():
    rng = np.random.default_rng(0)
    net, twin = tiny_segmentation(dtype="float64"), tiny_segmentation(dtype="complex128")
    batch = feed(rng)
    net.forward(batch)
    dx = net.backward(inputs=["image"])["image"]
    direction = rng.standard_normal(dx.shape)
    twin.forward({**batch, "image": batch["image"] + 1j * STEP * direction})
    slope = complex(twin._losses["loss"]).imag / STEP
    assert np.isclose(slope, (dx * direction).sum(), rtol=1e-11, atol=0)


def graph(dtype="float64"):
    """x -> a -> (b, c) -> sum: one fork, one join."""
    net = Net(("x",), dtype)
    net.add("a", layers.Convolution(2, 3, Window.same(3)), "x")
    net.add("b", layers.ReLU(), "a")
    net.add("c", layers.Multiply(3.0), "a")
    net.add("sum", layers.Add(), "b", "c")
    return net


ONES = np.ones((1, 3, 4, 5))


def run(net):
    net.forward({"x": np.ones((1, 2, 4, 5))})
    return net


def test_after_a_failed_forward_pass_there_is_nothing_to_go_back_through():
    net = run(graph())
    with pytest.raises(ValueError, match="weight: expected shape"):
        net.forward({"x": np.ones((1, 3, 4, 5))})
    with pytest.raises(RuntimeError, match="needs a forward pass"):
        net.backward({"sum": ONES})


def test_frozen_layers_keep_no_gradient():
    rng = np.random.default_rng(2)
    x, d = rng.standard_normal((1, 2, 4, 5)), rng.exponential(size=(1, 9, 4, 5))
    frozen = {"lr_mult": 0.0}
    for layer, inputs in (
        (layers.Scale(2, **frozen), (x,)),
        (layers.Convolution(2, 2, Window.same(3), **frozen), (x,)),
        (layers.SegawareConvolution(2, 2, Window.same(3), scale_lr_mult=0.0, **frozen), (x, d)),
        (layers.BilateralFilter(Window.same(3), None, scale_lr_mult=0.0), (x, d)),
        (layers.NormalizedConvolution(2, 2, Window.same(3), scale_lr_mult=0.0, **frozen), (x, x)),
    ):
        layer.initialize(rng, "float64")
        gradients = layer.backward(layer.forward(*inputs))
        assert all(np.abs(gradient).max() > 0 for gradient in gradients)
        assert not any(p.grad.any() for p in layer.params.values())


@pytest.mark.parametrize("norm", [None, "L1", "L2"])
@pytest.mark.parametrize("kind", ["filter", "convolution"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_layer_guided_by_likeness_has_the_gradient_of_its_formula(kind, norm, sign):
    """By the central difference of what the operations say, in x, guide and every parameter."""
    rng, window = np.random.default_rng(3), Window.same((3, 5))
    x, guide = rng.normal(size=(2, 4, 6, 5)), rng.normal(size=(2, 3, 6, 5))
    if norm is None:
        guide = rng.exponential(size=(2, 15, 6, 5))
    layer = (
        layers.BilateralFilter(window, norm, scale=0.4 * sign)
        if kind == "filter"
        else layers.NormalizedConvolution(4, 2, window, norm, scale=0.4 * sign, groups=2)
    )
    layer.initialize(rng, "float64")

    def formula():
        if norm is None:
            mask, _ = ops.normalized_mask_forward(guide, abs(layer.params["scale"].data))
        else:
            mask, _ = ops.local_mask_forward(
                guide, abs(layer.params["scale"].data), window, normalized=True, norm=norm,
                remove_bounds=kind == "filter",
            )  # fmt: skip
        if kind == "filter":
            return ops.masked_sum_forward(x, mask, window)[0]
        filters = layer.params["weight"].data, layer.params["bias"].data
        return ops.segaware_convolution_forward(x, mask, *filters, window=window, groups=2)[0]

    y = layer.forward(x, guide)
    np.testing.assert_allclose(y, formula(), rtol=1e-12)
    dy = rng.normal(size=y.shape)
    arrays = [x, guide, *(p.data for p in layer.params.values())]
    gradients = [*layer.backward(dy), *(p.grad for p in layer.params.values())]
    for array, gradient in zip(arrays, gradients, strict=True):
        before, step = array.copy(), 1e-6 * rng.normal(size=array.shape)
        ends = []
        for side in (1, -1):
            array[...] = before + side * step
            ends.append((formula() * dy).sum())
        array[...] = before
        np.testing.assert_allclose(ends[0] - ends[1], 2 * (gradient * step).sum(), rtol=1e-5)


def test_a_numpy_factor_does_not_change_the_dtype():
    assert layers.Multiply(np.float64(2)).forward(np.ones(3, "float32")).dtype == "float32"


def test_no_result_shares_memory_with_what_the_caller_has():
    """Dropout in use hands on its input, addition its gradient: a network copies them."""
    net = Net(("a", "b"), dtype="float64").eval()
    net.add("drop", layers.Dropout(), "a")
    net.add("sum", layers.Add(), "drop", "b")
    net.add("again", layers.Dropout(), "sum")
    a, b, dy = np.ones((1, 2, 3, 4)), np.full((1, 2, 3, 4), 2.0), np.full((1, 2, 3, 4), 3.0)
    results = net.forward({"a": a, "b": b}, ["drop", "sum", "again"])
    results |= net.backward({"again": dy}, ["a", "b"])
    for k, array in enumerate(results.values()):
        array[...] = 10 + k
    assert [np.unique(array).tolist() for array in (a, b, dy)] == [[1.0], [2.0], [3.0]]
    assert [np.unique(array).tolist() for array in results.values()] == [[10 + k] for k in range(5)]


def test_fork_gradients_add_up():
    net, rng = graph(), np.random.default_rng(1)
    x, dy = rng.standard_normal((1, 2, 4, 5)), rng.standard_normal((1, 3, 4, 5))
    a = net.forward({"x": x}, ["a", "sum"])["a"]
    net.backward({"sum": dy})
    bias = net.parameters()["a.bias"].grad
    np.testing.assert_allclose(bias, (dy * (a > 0) + 3 * dy).sum((0, 2, 3)), rtol=1e-12)


def test_gradients_accumulate_until_cleared():
    net, x = graph(), np.ones((1, 2, 4, 5))
    grad = net.parameters()["a.weight"].grad
    for times in (1, 2):
        net.forward({"x": x})
        net.backward({"sum": np.ones((1, 3, 4, 5))})
        if times == 1:
            once = grad.copy()
    np.testing.assert_allclose(grad, 2 * once, rtol=1e-14)
    net.zero_grad()
    assert not grad.any()


def test_only_what_the_outputs_need_is_run():
    net = tiny_segmentation()
    image = feed(np.random.default_rng(0), "float32")["image"]
    score = net.forward({"image": image}, ["score"])  # no labels
    assert list(score) == ["score"] and score["score"].shape == (2, 4, 13, 17)


def test_keep_changes_nothing_and_leaves_nothing():
    net = tiny_segmentation()
    image = feed(np.random.default_rng(0), "float32")["image"]
    kept = net.forward({"image": image}, ["score"])["score"]
    freed = net.forward({"image": image}, ["score"], keep=False)["score"]
    assert (kept == freed).all()
    assert all(node.layer.cache is None for node in net.nodes.values())
    with pytest.raises(RuntimeError, match="keep=True"):
        net.backward({"score": freed})


def test_frozen_embedding_gets_no_gradient():
    net = tiny_segmentation()
    net.forward(feed(np.random.default_rng(0), "float32"))
    net.backward()
    for name, parameter in net.parameters().items():
        assert parameter.grad.any() != name.startswith("emb"), name


def test_dropout_only_in_training():
    net = tiny_segmentation(dropout=0.5)
    batch = feed(np.random.default_rng(0), "float32")
    calm = [net.eval().forward(batch, ["score"])["score"] for _ in range(2)]
    wild = [net.train().forward(batch, ["score"])["score"] for _ in range(2)]
    assert (calm[0] == calm[1]).all() and (wild[0] != wild[1]).any()


def test_plain_and_aware_networks_share_their_weights():
    plain, aware = tiny_segmentation(aware=False, seed=1), tiny_segmentation(seed=2)
    copied = models.transfer(plain.weights(), aware)
    assert set(copied) == set(plain.parameters())
    for name, parameter in aware.parameters().items():
        if name.endswith(".scale"):
            parameter.data[...] = 0  # no masks: the plain network
    image = feed(np.random.default_rng(0), "float32")["image"]
    one, other = (net.forward({"image": image}, ["score"])["score"] for net in (plain, aware))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_stages_choose_which_convolutions_are_aware():
    net = tiny_segmentation(aware=["stage1", "refine"])
    kinds = {name: type(node.layer).__name__ for name, node in net.nodes.items()}
    assert kinds["conv1_2"] == kinds["refine2"] == "SegawareConvolution"
    assert kinds["conv2_1"] == kinds["context1"] == "Convolution"


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_save_and_load_rebuild_the_network(tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    net = tiny_segmentation(aware=["refine"], seed=5)
    net.save(tmp_path / f"net{suffix}")
    again = models.load(tmp_path / f"net{suffix}")
    image = feed(np.random.default_rng(0), "float32")["image"]
    one, other = (n.forward({"image": image}, ["score"])["score"] for n in (net, again))
    assert (one == other).all()
    assert [p.name for p in tmp_path.iterdir()] == [f"net{suffix}"]


def test_weights_of_another_network_are_refused_and_nothing_is_written(tmp_path):
    net, other = tiny_segmentation(), tiny_embedding()
    other.save(tmp_path / "other.npz")
    before = net.weights()
    with pytest.raises(ValueError, match="weights of another network: .* is missing"):
        net.load(tmp_path / "other.npz")
    assert all((before[name] == array).all() for name, array in net.weights().items())
    (tmp_path / "bad.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:1000])
    with pytest.raises(FormatError, match="bad.npz: damaged"):
        models.load(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda n: n.add("a", layers.ReLU(), "x"), ValueError, "name: 'a' is taken"),
        (lambda n: n.add("d", layers.ReLU(), "y"), ValueError, "reads .'y'., which nothing"),
        (lambda n: n.forward({}), ValueError, "'x'. are needed .* and missing"),
        (lambda n: n.forward({"x": None, "y": 1}), ValueError, "out of .'x'., got .'y'."),
        (lambda n: n.forward({"x": np.ones((1, 2, 3, 3), "f4")}), TypeError, "expected float64"),
        (lambda n: n.forward({"x": [1.0]}), TypeError, "NumPy or CuPy array, got list"),
        (lambda n: n.forward({"x": np.ones((1, 2, 3, 3))}, ["z"]), ValueError, "outputs: .*'z'"),
        (lambda n: n.add("d", n.nodes["a"].layer, "a"), ValueError, "expected a new one, .* 'a'"),
        (lambda n: n.backward(), RuntimeError, "needs a forward pass"),
        (lambda n: run(n).backward({"sum": ONES}, ["y"]), ValueError, "out of .'x'., got .'y'."),
        (lambda n: n.loss, RuntimeError, "no loss layer ran"),
        (lambda n: Net(dtype="int32"), ValueError, "dtype: expected one of"),
        (lambda n: n.set_state({"rng": 3}), ValueError, "not the random state"),
        (lambda n: models.segmentation_network(aware=["stage9"]), ValueError, "aware: .*stage9"),
        (lambda n: models.segmentation_network(embedding="x"), ValueError, "embedding: .*'x'"),
        (lambda n: models.embedding_network((4,), (1, 2)), ValueError, "depths: expected 1"),
        (lambda n: models.build({"model": "x"}), ValueError, "description: not that of"),
        (lambda n: layers.Convolution(3, 4, Window(1), groups=2), ValueError, "groups: .* got 2"),
        (lambda n: layers.Convolution(3, 4, Window(1), init="he"), ValueError, "init: .*'he'"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call(graph())


def test_summary_lists_layers_shapes_and_parameters():
    net = graph()
    net.forward({"x": np.ones((1, 2, 4, 5))})
    lines = net.summary().splitlines()
    assert lines[1].split() == ["a", "Convolution", "x", "1x3x4x5", "57"]
    assert lines[-1] == "57 parameters"


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (models.segaware_vgg16, {}),
        (models.segaware_resnet101, {"blocks": (1, 1, 2, 1)}),
    ],
    ids=["vgg16", "resnet101"],
)
def test_published_networks_by_complex_step(build, options):
    rng = np.random.default_rng(5)
    net = build(4, 1 / 32, dtype="float64", **options)
    for name, p in net.parameters().items():
        p.data += 0.1 * rng.standard_normal(p.data.shape) * np.abs(p.data).max(initial=0.01)
        if name == "half_scaled.scale":
            p.data /= 200  # at 200 the CRF's masks are all but 0 and 1
    twin = models.build(net.description, dtype="complex128")
    batch = feed(rng, shape=(1, 33, 65))
    losses = net.forward(batch)
    dx = net.backward(inputs=["image"])["image"]
    models.transfer(net.weights(), twin)
    slope, expected = 0.0, 0.0
    direction = rng.standard_normal(dx.shape)
    expected += (dx * direction).sum()
    for name, p in net.parameters().items():
        if p.lr_mult:
            v = rng.standard_normal(p.data.shape) * max(np.abs(p.data).max(initial=0), 0.01)
            twin.parameters()[name].data[...] += 1j * STEP * v
            expected += (p.grad * v).sum()
    out = twin.forward({**batch, "image": batch["image"] + 1j * STEP * direction})
    slope = sum(value.imag for value in out.values()) / STEP
    assert set(out) == set(losses)
    assert abs(slope - expected) <= 1e-10 * abs(expected)


@pytest.mark.parametrize("build", [models.segaware_vgg16, models.segaware_resnet101])
def test_published_networks_label_every_pixel(build):
    options = {"blocks": (1, 1, 1, 1)} if build is models.segaware_resnet101 else {}
    labels = predict(build(4, 1 / 32, **options), np.zeros((33, 40, 3), np.uint8))
    assert labels.shape == (33, 40)


def test_scales_of_the_resnet_share_their_weights():
    net = models.segaware_resnet101(4, 1 / 32, blocks=(1, 1, 1, 1))
    own = net.nodes["conv1"].layer.params["weight"]
    assert net.nodes["scale05_conv1"].layer.params["weight"] is own
    assert sum(p is own for p in net.parameters().values()) == 1
    with pytest.raises(ValueError, match="share: no layer 'nobody'"):
        net.add("lonely", layers.ReLU(), "image", share="nobody")
