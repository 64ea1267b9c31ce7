"""The golden networks once more with CuPy arrays: on a GPU, or on the strict stand-in."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from caffe_cases import cases, check_network
from published import segaware_vgg16
from test_caffe_layers import EVERY, away_from_kinks, description

from segaware_np.caffe import Net, Solver
from segaware_np.caffe.labelling import Labeller

pytest_plugins = "segaware_np.testing.cuda.plugin"


@pytest.mark.parametrize("path", cases(solver=False))
def test_network(cupy: ModuleType, path: Path) -> None:
    check_network(path, "float32", fuse=True, xp=cupy)


@pytest.mark.parametrize(("type_", "options", "bottoms"), EVERY,
                         ids=[f"{type_}-{i}" for i, (type_, *_) in enumerate(EVERY)])
def test_layer(cupy: ModuleType, type_: str, options: str, bottoms: list) -> None:
    """Each layer type by itself gives what it gives with NumPy."""
    arrays = [b if isinstance(b, np.ndarray) else away_from_kinks(b).astype("f4") for b in bottoms]
    if type_ == "SegAccuracy":
        arrays[1] = np.floor(arrays[1] % 4)  # labels
    inputs = {f"b{i}": array for i, array in enumerate(arrays)}
    text = description(type_, options, bottoms)
    found = []
    for xp in (np, cupy):
        net = Net(text, phase="TRAIN", xp=xp)
        tops = net.forward({name: xp.asarray(array) for name, array in inputs.items()})
        back = net.backward({name: xp.ones_like(top) for name, top in tops.items()})
        diffs = {name: blob.diff for name, blob in net.learned().items()}
        found.append({f"{kind} {name}": array if xp is np else cupy.asnumpy(array)
                      for kind, arrays in (("top", tops), ("back", back), ("param", diffs))
                      for name, array in arrays.items()})
    for name, want in found[0].items():
        np.testing.assert_allclose(found[1][name], want, 1e-3, 1e-5, err_msg=name)


def test_training_and_its_files(cupy: ModuleType, tmp_path: Path) -> None:
    """Two iterations of a small VGG-16, as with NumPy, and a snapshot taken up again."""
    rng = np.random.default_rng(0)
    arrays = {"data": rng.normal(0, 40, (1, 3, 33, 33)).astype("f4"),
              "label": rng.integers(0, 3, (1, 1, 33, 33)).astype("f4")}
    text = 'type: "Adam" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9'
    runs = []
    for xp in (np, cupy):
        net = Net(segaware_vgg16(1 / 32, 33, classes=3), phase="TRAIN", xp=xp)
        solver = Solver(text, net=net)
        on_device = {name: xp.asarray(array) for name, array in arrays.items()}
        losses = [solver.step(1, lambda fed=on_device: fed) for _ in range(2)]
        runs.append((solver, losses))
    (_, plain), (solver, losses) = runs
    np.testing.assert_allclose(losses, plain, 1e-3)
    path = solver.snapshot(tmp_path / "run")
    again = Solver(text, net=Net(segaware_vgg16(1 / 32, 33, classes=3), phase="TRAIN", xp=cupy))
    again.restore(path)
    for name, blob in solver.net.learned().items():
        twin = again.net.learned()[name].data
        np.testing.assert_array_equal(cupy.asnumpy(twin), cupy.asnumpy(blob.data))


def test_labels_of_a_picture(cupy: ModuleType) -> None:
    """Coarse scores of a network without padding, sampled where they lie."""
    text = """input: "x" input_shape { dim: 1 dim: 3 dim: 16 dim: 16 }
        layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {
            num_output: 4 kernel_size: 5 stride: 3 weight_filler { type: "gaussian" } } }"""
    image = np.random.default_rng(0).integers(0, 256, (20, 14, 3), dtype=np.uint8)
    plain, labels = (Labeller(Net(text, xp=xp))(image) for xp in (np, cupy))
    assert len(np.unique(plain)) > 1 and labels.shape == (20, 14)
    assert (labels == plain).mean() > 0.99  # of nearly equal scores either may win
