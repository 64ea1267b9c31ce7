"""Weights and snapshots as HDF5, and arrays as NVIDIA's Caffe stores them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from segaware_np.caffe import Net, Solver
from segaware_np.caffe.formats.hdf5 import read_state, read_weights, write_weights
from segaware_np.caffe.formats.wire import LayerWeights, read_caffemodel
from segaware_np.commands import main as cli
from segaware_np.files import FormatError

h5py = pytest.importorskip("h5py")
TEXT = ('input: "x" input_shape { dim: 2 dim: 3 } layer { name: "a/b" type: "InnerProduct" '
        'bottom: "x" top: "y" inner_product_param { num_output: 3 weight_filler { type: "xavier" } '
        '} } layer { name: "l" type: "EuclideanLoss" bottom: "y" bottom: "x" top: "l" }')
SOLVER = ('base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 snapshot_format: HDF5 '
          'snapshot_prefix: "run"')


def test_weights_lie_where_caffe_puts_them(tmp_path: Path) -> None:
    net = Net(TEXT)
    net.save(tmp_path / "w.caffemodel.h5")
    with h5py.File(tmp_path / "w.caffemodel.h5") as file:
        np.testing.assert_array_equal(file["data/a/b/0"][()], net.params["a/b"][0].data)
        assert file["data/a/b/1"].shape == (3,)
    other = Net(TEXT, tmp_path / "w.caffemodel.h5", seed=5)
    np.testing.assert_array_equal(other.params["a/b"][0].data, net.params["a/b"][0].data)


def test_a_file_of_caffes_is_read(tmp_path: Path) -> None:
    """Groups for all layers, those that learn nothing too, numbers past nine in order."""
    arrays = [np.full((2,), k, "f4") for k in range(11)]
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_group("data/relu")
        for k in (10, *range(10)):
            file[f"data/conv/{k}"] = arrays[k]
    (layer,) = read_weights(tmp_path / "w.h5")
    assert layer.name == "conv"
    np.testing.assert_array_equal(layer.blobs, arrays)


def test_convert_to_and_from_hdf5(tmp_path: Path) -> None:
    net, paths = Net(TEXT), [str(tmp_path / f"w{end}") for end in (".npz", ".h5", ".caffemodel")]
    net.save(paths[0])
    for source, target in pairwise(paths):
        assert cli.main(["caffe", "convert", source, target]) == 0
    (layer,) = read_caffemodel(paths[2])
    np.testing.assert_array_equal(layer.blobs[0], net.params["a/b"][0].data)


def test_training_goes_on_from_an_hdf5_snapshot(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    batches = [{"x": rng.normal(size=(2, 3))} for _ in range(6)]

    def solver() -> Solver:
        return Solver(SOLVER, net=Net(TEXT, phase="TRAIN", dtype="float64"))

    whole, feed = solver(), iter(batches)
    whole.step(3, lambda: next(feed))
    assert whole.snapshot("s") == Path("s.solverstate.h5")
    assert Path("s.caffemodel.h5").exists()
    assert read_state("s.solverstate.h5").iteration == 3
    for name in ("s", "s.solverstate.h5"):
        again = solver()
        again.restore(name)
        rest = iter(batches[3:])
        again.step(3, lambda rest=rest: next(rest))
        if name == "s":
            whole.step(3, lambda: next(feed))
        np.testing.assert_array_equal(again.net.params["a/b"][0].data,
                                      whole.net.params["a/b"][0].data)


def test_a_state_of_caffes_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.solverstate.h5", "w") as file:
        file["iter"], file["current_step"] = 7, 1
        file["learned_net"] = np.bytes_("x.caffemodel.h5")
        file["history/0"] = np.ones(3, "f4")
    state = read_state(tmp_path / "s.solverstate.h5")
    assert (state.iteration, state.current_step, state.learned_net) == (7, 1, "x.caffemodel.h5")
    np.testing.assert_array_equal(state.history[0], np.ones(3))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    with pytest.raises(FileNotFoundError):
        read_weights(path)
    write_weights(path, [LayerWeights("a", "", [np.ones(500, "f4")])])
    data = path.read_bytes()
    for broken in (b"", b"rubbish", data[:200], data[:-600]):
        path.write_bytes(broken)
        with pytest.raises(FormatError, match="not one of Caffe's HDF5 files, or damaged"):
            read_weights(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("data/a/0", (1 << 40,), "f4")  # never written
    with pytest.raises(FormatError, match="declares 4398046511104 bytes in a file of"):
        read_weights(path)
    with pytest.raises(ValueError, match="each layer needs a name of its own, got 'a'"):
        write_weights(path, [LayerWeights("a", "", [np.ones(1)])] * 2)


def field(number: int, data: bytes) -> bytes:
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


@pytest.mark.parametrize(("kind", "dtype"), [(0, "<f8"), (1, "<f4"), (2, "<f2")])
def test_raw_data(tmp_path: Path, kind: int, dtype: str) -> None:
    array = np.array([[1.5, -2, 0.25]], dtype)
    blob = field(7, field(1, bytes([1, 3]))) + bytes([10 << 3, kind]) + field(12, array.tobytes())
    path = tmp_path / "w.caffemodel"

    def write(inner: bytes) -> None:
        layer = field(1, b"a") + field(7, inner)
        path.write_bytes(bytes([0xA2, 0x06, len(layer)]) + layer)

    write(blob)
    (found,) = read_caffemodel(path)[0].blobs
    np.testing.assert_array_equal(found, array)
    write(blob[:-2] if kind < 2 else blob.replace(bytes([10 << 3, 2]), bytes([10 << 3, 3])))
    with pytest.raises(FormatError, match="truncated|cut off|damaged|raw_data of type 3"):
        read_caffemodel(path)
