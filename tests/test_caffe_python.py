"""Python layers: registered, never loaded; FCN's data and ENet's dropout are built in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from segaware_np.caffe import Net, PythonLayer, register_layer
from segaware_np.caffe.layers.python import REGISTERED
from segaware_np.files import FormatError

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(4)


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segaware_np.caffe.layers.python.REGISTERED", dict(REGISTERED))


def layer(module: str, name: str, tops: str, param: str = "", more: str = "") -> str:
    names = " ".join(f'top: "{top}"' for top in tops.split())
    return (f'layer {{ name: "l" type: "Python" {names} {more} python_param {{ module: "{module}" '
            f'layer: "{name}" param_str: "{param}" }} }}')


# -- the registry ---------------------------------------------------------------------------------


class Cube(PythonLayer):
    """As somebody wrote it for pycaffe, with another base class."""

    def setup(self, bottom, top):
        self.factor = float(self.param_str)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data ** 3

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = 3 * self.factor * bottom[0].data ** 2 * top[0].diff


INPUT = 'force_backward: true input: "x" input_shape { dim: 2 dim: 3 } '


def test_a_registered_class_computes_forward_and_backward() -> None:
    register_layer("mine", "Cube", Cube)
    net = Net(INPUT + layer("mine", "Cube", "y", "2", 'bottom: "x"'), dtype="float64")
    x, dy = RNG.normal(size=(2, 2, 3))
    np.testing.assert_allclose(net.forward(x=x)["y"], 2 * x**3)
    np.testing.assert_allclose(net.backward(y=dy)["x"], 6 * x**2 * dy)
    assert net.forward(x=RNG.normal(size=(5, 3)))["y"].shape == (5, 3)


def test_a_python_loss_counts_with_the_weight_that_is_written() -> None:
    class Total(PythonLayer):
        def reshape(self, bottom, top):
            top[0].reshape(1)

        def forward(self, bottom, top):
            top[0].data[...] = bottom[0].data.sum()

        def backward(self, top, propagate_down, bottom):
            bottom[0].diff[...] = top[0].diff

    register_layer("mine", "Total", Total)
    for weight, loss in (("", 0), ("loss_weight: 2", 12)):
        net = Net(INPUT + layer("mine", "Total", "y", "", f'bottom: "x" {weight}'))
        net.forward(x=np.ones((2, 3)))
        assert net.loss == loss
        np.testing.assert_array_equal(net.backward()["x"], (weight and 2.0) or 0.0)


def test_what_is_not_registered_is_refused_by_name_and_nothing_is_run(tmp_path: Path,
                                                                      monkeypatch) -> None:
    (tmp_path / "evil.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FormatError, match=r"register_layer\('evil', 'Layer', cls\)"):
        Net(layer("evil", "Layer", "y"))
    text = layer("voc_layers", "VOCSegDataLayer", "data label", "open(\\'ran\\', \\'w\\')")
    with pytest.raises(FormatError, match="param_str: expected a dict of literals"):
        Net(text)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(TypeError, match="cls: expected a subclass of PythonLayer"):
        register_layer("a", "b", dict)


def test_examples_of_pycaffe_and_enet_come_built_in() -> None:
    a, b = RNG.normal(size=(2, 2, 3))
    loss = layer("pyloss", "EuclideanLossLayer", "y", "", 'bottom: "x" bottom: "t" loss_weight: 1')
    net = Net(INPUT + 'input: "t" input_shape { dim: 2 dim: 3 } ' + loss, dtype="float64")
    net.forward(x=a, t=b)
    assert net.loss == pytest.approx(((a - b) ** 2).sum() / 4)
    np.testing.assert_allclose(net.backward()["x"], (a - b) / 2)

    image = ('force_backward: true input: "x" input_shape { dim: 2 dim: 50 dim: 2 dim: 2 } '
             + layer("spatial_dropout", "SpatialDropoutLayer", "y",
                     "{\\'phase\\': \\'TRAIN\\', \\'p\\': \\'0.2\\'}", 'bottom: "x"'))
    net = Net(image, dtype="float64")
    y = net.forward(x=np.ones((2, 50, 2, 2)))["y"]
    assert set(np.unique(y)) == {0, 1.25}
    assert (y == y[..., :1, :1]).all()  # whole channels
    assert 60 < (y[:, :, 0, 0] > 0).sum() < 95
    np.testing.assert_array_equal(net.backward(y=np.full_like(y, 3))["x"], 3 * y)
    use = Net(image.replace("TRAIN", "TEST"))
    np.testing.assert_array_equal(use.forward(x=np.ones((2, 50, 2, 2)))["y"], 1.25)  # as ENet's


# -- FCN's data -----------------------------------------------------------------------------------


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def mat(path: Path, **arrays: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, arrays)


COLOUR = np.zeros((4, 5, 3), np.uint8) + np.array([10, 20, 30], np.uint8)  # red, green, blue
MAP = np.arange(20, dtype=np.uint8).reshape(4, 5)


def listing(path: Path, names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(names.split()))


def test_voc_and_sbdd(tmp_path: Path) -> None:
    listing(tmp_path / "ImageSets" / "Segmentation" / "seg11valid.txt", "a b")
    listing(tmp_path / "train.txt", "a b")
    for k, name in enumerate("ab"):
        save(tmp_path / "JPEGImages" / f"{name}.jpg", COLOUR)
        save(tmp_path / "img" / f"{name}.jpg", COLOUR)
        save(tmp_path / "SegmentationClass" / f"{name}.png", MAP + np.uint8(k))
        struct = np.zeros((1,), dtype=[("Segmentation", object)])
        struct[0]["Segmentation"] = MAP + np.uint8(k)
        mat(tmp_path / "cls" / f"{name}.mat", GTcls=struct)
    voc = layer("voc_layers", "VOCSegDataLayer", "data label",
                f"{{'voc_dir': '{tmp_path}', 'split': 'seg11valid', 'mean': (1, 2, 3)}}")
    net = Net(voc)
    outputs = [{k: v.copy() for k, v in net.forward().items()} for _ in range(3)]
    assert [int(out["label"][0, 0, 0, 0]) for out in outputs] == [0, 1, 0]  # in order
    np.testing.assert_array_equal(outputs[1]["label"][0, 0], MAP + 1)
    np.testing.assert_allclose(outputs[0]["data"][0, :, 1, 1], [29, 18, 7], atol=2)  # JPEG
    sbdd = layer("voc_layers", "SBDDSegDataLayer", "data label",
                 f"{{'sbdd_dir': '{tmp_path}', 'split': 'train', 'mean': (1, 2, 3)}}")
    first = [int(Net(sbdd, seed=s).forward()["label"][0, 0, 0, 0]) for s in range(8)]
    assert set(first) == {0, 1}  # drawn
    net = Net(sbdd.replace("(1, 2, 3)}", "(1, 2, 3), 'randomize': False}"))
    assert [int(net.forward()["label"][0, 0, 0, 0]) for _ in range(3)] == [0, 1, 0]
    with pytest.raises(FormatError, match="expected 'mean' in it"):
        Net(voc.replace("'mean'", "'average'"))
    with pytest.raises(FormatError, match="expected 2 tops, got 1"):
        Net(voc.replace('top: "label"', ""))
    with pytest.raises(FileNotFoundError):
        Net(voc.replace("seg11valid", "other"))


def test_nyud(tmp_path: Path) -> None:
    listing(tmp_path / "test.txt", "7")
    save(tmp_path / "data" / "images" / "img_7.png", COLOUR)
    save(tmp_path / "data" / "hha" / "img_7.png", COLOUR)
    save(tmp_path / "data" / "depth" / "img_7.png", MAP.astype(np.uint16) + 1000)
    mat(tmp_path / "segmentation" / "img_7.mat", segmentation=MAP)
    text = layer("nyud_layers", "NYUDSegDataLayer", "color hha depth label", "{'tops': ['color', "
                 f"'hha', 'depth', 'label'], 'nyud_dir': '{tmp_path}', 'split': 'test'}}")
    out = Net(text, dtype="float64").forward()
    np.testing.assert_allclose(out["color"][0, :, 0, 0], [30 - 116.19, 20 - 97.203, 10 - 92.318],
                               1e-6)
    np.testing.assert_allclose(out["hha"][0, :, 0, 0], [10 - 132.431, 20 - 94.076, 30 - 118.477],
                               1e-6)
    np.testing.assert_allclose(out["depth"][0, 0], np.log(MAP + 1000.0) - 7.844, 1e-5)
    np.testing.assert_array_equal(out["label"][0, 0].ravel()[:3], [255, 0, 1])
    with pytest.raises(FormatError, match="tops: expected some of color, depth, hha, label"):
        Net(text.replace("'hha',", "'smell',"))


def test_siftflow(tmp_path: Path) -> None:
    inner = "spatial_envelope_256x256_static_8outdoorcategories"
    listing(tmp_path / "trainval.txt", "a")
    save(tmp_path / "Images" / inner / "a.jpg", COLOUR)
    mat(tmp_path / "SemanticLabels" / inner / "a.mat", S=MAP)
    mat(tmp_path / "GeoLabels" / inner / "a.mat", S=MAP.astype(np.int16) - 1)
    out = Net(layer("siftflow_layers", "SIFTFlowSegDataLayer", "data sem geo",
                    f"{{'siftflow_dir': '{tmp_path}', 'split': 'trainval'}}")).forward()
    np.testing.assert_allclose(out["data"][0, :, 0, 0], [30 - 114.578, 20 - 115.294, 10 - 108.353],
                               atol=2)
    np.testing.assert_array_equal(out["sem"][0, 0].ravel()[:3], [255, 0, 1])
    np.testing.assert_array_equal(out["geo"][0, 0].ravel()[:4], [255, 255, 0, 1])


def test_pascal_context(tmp_path: Path) -> None:
    listing(tmp_path / "VOC2010" / "ImageSets" / "Main" / "val.txt", "a")
    save(tmp_path / "VOC2010" / "JPEGImages" / "a.jpg", COLOUR)
    context = tmp_path / "context"
    mat(context / "trainval" / "a.mat", LabelMap=np.array([[1, 2, 3, 4]]))
    (context / "labels.txt").write_text("1: table\n2: tv monitor\n3: cloth\n4: sky\n")
    (context / "59_labels.txt").write_text("1: sky\n2: clothes\n3: diningtable\n")
    text = layer("pascalcontext_layers", "PASCALContextSegDataLayer", "data label",
                 f"{{'voc_dir': '{tmp_path}', 'context_dir': '{context}', 'split': 'val'}}")
    out = Net(text).forward()
    assert out["label"][0, 0].tolist() == [[3, 0, 2, 1]]
    (context / "59_labels.txt").write_text("1: ghost\n")
    with pytest.raises(FormatError, match=r"labels.txt: 'ghost' is not there"):
        Net(text)
