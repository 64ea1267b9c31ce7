"""Pickles and copies of networks, solvers and loaders: whole, without what can be made again."""

import copy
import pickle

import numpy as np
import pytest
from training_run import make_net, make_trainer

from segaware_np import Window, caffe, layers, models, optim
from segaware_np.data import Augmentation, Loader, PairList, SyntheticScenes
from segaware_np.images import write_image, write_labels
from segaware_np.net import Net


def by_cloudpickle(thing):
    return pickle.loads(pytest.importorskip("cloudpickle").dumps(thing))


WAYS = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "cloudpickle": by_cloudpickle,
    "deepcopy": copy.deepcopy,
}


def averaging() -> Net:
    """A network whose last layers weigh neighbours by their colours, and its loss."""
    window, net = Window.same(3), Net(("image", "label"))
    net.add("conv", layers.NormalizedConvolution(3, 3, window), "image", "image")
    net.add("distance", layers.Distance(window), "image")
    net.add("score", layers.BilateralFilter(window, None), "conv", "distance")
    net.add("loss", layers.SoftmaxCrossEntropy(), "score", "label", weight=1.0)
    return net


NETWORKS = {
    "averaging": averaging,
    "embedding": lambda: models.embedding_network((4,), (1,), 4),
    "aware": lambda: models.segmentation_network(3, (4, 4), (1, 1), aware=True, dropout=0.5),
    "vgg": lambda: models.segaware_vgg16(3, width=1 / 64),
    "resnet": lambda: models.segaware_resnet101(3, width=1 / 64, blocks=(1, 1, 1, 1)),
}


def feed(side=65):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 3, side, side)).astype("float32")
    return {"image": image, "label": rng.integers(0, 3, (1, side, side))}


@pytest.fixture(params=WAYS)
def again(request):
    return WAYS[request.param]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_comes_back_as_it_was(again, name):
    net = NETWORKS[name]()
    twin = again(net)
    assert twin.description == net.description and twin.nodes.keys() == net.nodes.keys()
    for one in (net, twin):
        one.train().forward(feed())  # dropout draws from the same numbers
        one.backward()
    assert twin.losses == net.losses
    for name, parameter in net.parameters().items():
        np.testing.assert_array_equal(twin.parameters()[name].grad, parameter.grad)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pickle_holds_nothing_that_a_pass_left(name):
    net = NETWORKS[name]()
    before = pickle.dumps(net)
    net.forward(feed())
    shapes = 100 * len(net.nodes)  # of the outputs
    assert len(pickle.dumps(net)) < len(before) + shapes
    assert pickle.loads(pickle.dumps(net)).losses == {}
    assert net.losses and net.backward() == {}  # and the network itself still has it
    with pytest.raises(RuntimeError, match="needs a forward pass"):
        pickle.loads(before).backward()


def test_what_layers_share_they_share_again(again):
    net = Net(("image",))
    net.add("one", layers.Convolution(3, 3, Window(1)), "image")
    net.add("two", layers.Convolution(3, 3, Window(1)), "one", share="one")
    net.add("drop", layers.Dropout(0.5), "two")
    twin = again(net)
    assert twin.nodes["one"].layer.params is twin.nodes["two"].layer.params
    assert twin.nodes["drop"].layer.rng is twin.rng
    assert twin.parameters()["one.weight"] is not net.parameters()["one.weight"]


@pytest.mark.parametrize("rule", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_a_run_goes_on_from_its_copy(tmp_path, again, rule):
    trainer = make_trainer(tmp_path / "a", 4, optimizer=getattr(optim, rule))
    trainer.run()
    twin = again(trainer)
    assert twin.optimizer.parameters.keys() == trainer.optimizer.parameters.keys()
    for name, parameter in twin.optimizer.parameters.items():
        assert parameter is twin.net.parameters()[name]
    trainer.iterations = twin.iterations = 7
    trainer.run(resume=True)
    _go_on(twin)
    weights = twin.net.weights()
    for name, array in trainer.net.weights().items():
        np.testing.assert_array_equal(weights[name], array)


def _go_on(trainer):
    """Iterate without the folder's checkpoint, from what the copy itself holds."""
    batches = iter(trainer.loader)
    while trainer.optimizer.iteration < trainer.iterations:
        trainer._step(trainer._gradients(batches))
    batches.close()


def test_a_loader_comes_back_without_its_orders(tmp_path, again):
    loader = Loader(SyntheticScenes(5000, (8, 8)), 3, Augmentation(mirror=True), seed=4)
    small = len(pickle.dumps(loader))
    batch = loader.batch(7)
    assert len(pickle.dumps(loader)) < small + 100
    np.testing.assert_array_equal(again(loader).batch(7)["image"], batch["image"])


def test_a_list_of_files_comes_back(tmp_path, again):
    write_image(tmp_path / "a.png", np.full((4, 5, 3), 7, np.uint8))
    write_labels(tmp_path / "b.png", np.ones((4, 5), int))
    (tmp_path / "list.txt").write_text("a.png b.png\n")
    image, labels = again(PairList(tmp_path / "list.txt", classes=2))[0]
    assert (image == 7).all() and (labels == 1).all()


def test_gradients_stay_behind():
    net = make_net()
    net.parameters()["conv.weight"].grad[...] = 3
    twin = copy.deepcopy(net)
    assert not twin.parameters()["conv.weight"].grad.any()
    assert (net.parameters()["conv.weight"].grad == 3).all()


CAFFE = """
input: "x" input_shape { dim: 1 dim: 3 dim: 9 dim: 8 }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" param { name: "w" } param { name: "b" }
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "a" type: "Convolution" bottom: "a" top: "c" param { name: "w" } param { name: "b" }
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
layer { name: "drop" type: "Dropout" bottom: "c" top: "c" }
layer { name: "i" type: "InnerProduct" bottom: "c" top: "i" inner_product_param { num_output: 2
        weight_filler { type: "gaussian" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "i" bottom: "i" top: "loss" }
"""


def test_a_network_of_caffe_comes_back_as_it_was(again):
    net = caffe.Net(CAFFE, phase="TRAIN", seed=3)
    x = np.random.default_rng(0).normal(size=(2, 3, 9, 8))
    net.forward(x=x)  # of another size, and dropout has drawn
    net.params["i"][0].lr_mult = 0.5
    twin = again(net)
    assert twin.params["i"][0].lr_mult == 0.5
    for one in (net, twin):
        one.forward(x=x)
    np.testing.assert_array_equal(twin.blobs["i"].data, net.blobs["i"].data)
    twin.params["a"][0].data[...] = 0  # shared by two layers
    assert not twin.params["a#2"][0].data.any() and net.params["a"][0].data.any()


def test_a_pickle_of_caffes_network_holds_nothing_that_a_pass_left():
    net = caffe.Net(CAFFE, phase="TRAIN")
    before = len(pickle.dumps(net))
    net.forward(x=np.zeros((50, 3, 9, 8)))
    net.backward()
    assert len(pickle.dumps(net)) < before + 100


def test_networks_of_caffe_that_share_parameters_share_them_again(again):
    train, test = caffe.Net(CAFFE, phase="TRAIN"), caffe.Net(CAFFE)
    test.share_from(train)
    first, second = again((train, test))
    first.params["i"][0].data[...] = 7
    assert (second.params["i"][0].data == 7).all() and (train.params["i"][0].data != 7).all()


def test_a_solver_of_caffe_is_kept_by_its_snapshots():
    solver = caffe.Solver('base_lr: 1 lr_policy: "fixed" max_iter: 1', net=caffe.Net(CAFFE))
    with pytest.raises(TypeError, match="a Solver is kept by snapshot and restore"):
        pickle.dumps(solver)
