"""Pictures beyond the memory: lazy pieces give what the whole gives, wherever they are computed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from segaware_np import Window, crf, inference, models, ops
from segaware_np.commands.main import main
from segaware_np.cpu.threads import get_num_threads, set_num_threads

da = pytest.importorskip("dask.array", reason="dask is not installed")
zarr = pytest.importorskip("zarr", minversion="3.1", reason="zarr 3 is not installed")
import dask  # noqa: E402

from segaware_np import large  # noqa: E402

rng = np.random.default_rng(5)
IMAGE = rng.integers(0, 256, (4 * 40 + 1, 4 * 55 + 1, 3), np.uint8)  # needs nothing around it
TILE = 96


@pytest.fixture(scope="module")
def net():
    return models.segmentation_network(
        5, (4, 6, 8), (1, 1, 1), aware=True, embedding="rgb", refine=(1, 2), refine_width=6
    )


@pytest.fixture(scope="module")
def whole(net):
    return inference.score(net, IMAGE)


def test_scores_and_labels_are_those_of_the_whole(net, whole):
    scores = large.score(net, IMAGE, tile=TILE).compute()
    np.testing.assert_allclose(scores, whole, rtol=0, atol=1e-5 * np.ptp(whole))
    labels = large.predict(net, IMAGE, tile=TILE)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels.compute(), whole.argmax(0))


def test_the_same_bits_on_any_number_of_threads_and_from_any_source(net, tmp_path):
    count = get_num_threads()
    set_num_threads(1)  # of each piece: another number sums in another order
    try:
        with dask.config.set(scheduler="synchronous"):
            one = large.score(net, IMAGE, tile=TILE).compute()
        with dask.config.set(scheduler="threads", num_workers=3):
            assert np.array_equal(large.score(net, IMAGE, tile=TILE).compute(), one)
        stored = zarr.create_array(tmp_path / "image.zarr", data=IMAGE, chunks=(50, 70, 3))
        assert np.array_equal(large.score(net, stored, tile=TILE).compute(), one)
        lazy = da.from_array(IMAGE, chunks=(60, 45, 2))
        assert np.array_equal(large.score(net, lazy, tile=TILE).compute(), one)
        np.save(tmp_path / "image.npy", IMAGE)
        mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
        assert np.array_equal(large.score(net, mapped, tile=TILE).compute(), one)
    finally:
        set_num_threads(count)


def test_a_network_in_training_stays_so_and_its_copy_is_in_use(net):
    drops = models.segmentation_network(5, (4,), (1,), dropout=0.5)
    drops.train()
    first, second = (large.score(drops, IMAGE[:61, :81], tile=60).compute() for _ in range(2))
    assert np.array_equal(first, second)
    assert drops.nodes["dropout"].layer.training if "dropout" in drops.nodes else True


def test_any_size_is_padded_alike(net):
    image = IMAGE[:150, :199]
    tiled = inference.tiled(
        lambda part: inference.score(net, part), image, TILE, inference.reach(net)
    )
    np.testing.assert_allclose(
        large.score(net, image, tile=TILE).compute(), tiled, rtol=0, atol=1e-5 * np.ptp(tiled)
    )


def test_refined_scores_are_those_of_the_whole():
    score = rng.normal(size=(3, 61, 83)).astype("float32")
    image, embedding = IMAGE[:61, :83], rng.normal(size=(4, 61, 83)).astype("float32")
    options = {"window": Window.same(5, dilation=2), "iterations": 2}
    for guides in (
        {"image": image},
        {"embedding": embedding},
        {"image": image, "embedding": embedding},
    ):
        found = large.refine(score, **guides, tile=40, **options).compute()
        np.testing.assert_allclose(found, crf.refine(score, **guides, **options), atol=1e-5)


def test_any_operation_of_windows_is_that_of_the_whole():
    x, window = rng.normal(size=(2, 3, 47, 58)), Window.same((3, 5), dilation=(2, 1))

    def twice(x):
        once = ops.bilateral_filter_forward(x, x, 0.3, window=window)[0]
        return ops.bilateral_filter_forward(once, x, 0.3, window=window)[0]

    found = large.map_window(twice, x, window=window, steps=2, tile=20).compute()
    np.testing.assert_allclose(found, twice(x), atol=1e-12)
    less = large.map_window(twice, x, window=window, steps=1, tile=20).compute()
    assert np.abs(less - twice(x)).max() > 1e-3


def test_a_failing_piece_names_its_place(net):
    class Broken:
        shape, dtype = IMAGE.shape, IMAGE.dtype

        def __getitem__(self, index):
            if index[0].stop > 120:
                raise OSError("chunk 1.0 is damaged")
            return IMAGE[index]

    lazy = large.score(net, Broken(), tile=TILE)
    place = r"rows (56|112) to 1\d\d, columns \d+ to \d+: OSError: chunk 1.0 is damaged"
    with dask.config.set(scheduler="synchronous"), pytest.raises(RuntimeError, match=place):
        lazy.compute()


def test_bad_arguments_are_named_before_any_work(net, tmp_path):
    with pytest.raises(ValueError, match="image: expected uint8 of shape"):
        large.score(net, IMAGE.astype(float))
    with pytest.raises(ValueError, match="tile: expected at least"):
        large.score(net, IMAGE, tile=20)
    with pytest.raises(ValueError, match="window: expected outputs as large as the input"):
        large.map_window(np.sin, IMAGE[..., 0], window=Window(3))
    (tmp_path / "x.zarr").mkdir()
    with pytest.raises(FileExistsError, match="resume it, or take another name"):
        large.write(da.zeros((4, 4)), tmp_path / "x.zarr")


def test_writing_resumes_with_the_chunks_that_are_missing(tmp_path):
    path, made = tmp_path / "ones.zarr", []

    def block(block_info=None):
        place = block_info[None]["chunk-location"]
        made.append(place)
        if len(made) == 4:
            raise OSError("no more")
        return np.full((2, 2), place[0] * 10 + place[1])

    def lazy():
        return da.map_blocks(
            block, chunks=((2, 2, 2), (2, 2)), dtype=int, meta=np.empty((0, 0), int)
        )

    with dask.config.set(scheduler="synchronous"):
        with pytest.raises(OSError, match="no more"):
            large.write(lazy(), path, model="a")
        assert zarr.open(path, mode="r").attrs["finished"] is False
        written = sum(file.name[0].isdigit() for file in path.iterdir())
        assert 0 < written < 4
        with pytest.raises(ValueError, match="to resume, got"):
            large.write(lazy(), path, resume=True, model="b")
        large.write(lazy(), path, resume=True, model="a")
    assert len(made) == 4 + 6 - written
    found = zarr.open(path, mode="r")
    assert found.attrs["finished"] is True
    assert found[::2, ::2].tolist() == [[0, 1], [10, 11], [20, 21]]


@pytest.fixture
def files(net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models.segmentation_network(3, (4,), (1,), embedding="rgb", aware=True).save("model.npz")
    np.save("photo.npy", IMAGE)
    zarr.create_array("photo.zarr", data=IMAGE, chunks=(64, 64, 3))
    return models.load("model.npz")


def test_the_program_labels_a_store(files, capsys):
    expected = inference.predict(files, IMAGE)
    for number, source in enumerate(("photo.npy", "photo.zarr")):
        assert main(["predict", "model.npz", source, "-o", f"{number}.zarr", "--tile", "64"]) == 0
        assert np.array_equal(zarr.open(f"{number}.zarr", mode="r")[...], expected)
    assert main(["predict", "model.npz", "photo.npy", "-o", "0.zarr", "--tile", "64"]) == 2
    assert "resume" in capsys.readouterr().err
    assert (
        main(["predict", "model.npz", "photo.npy", "-o", "0.zarr", "--tile", "64", "--resume"]) == 0
    )
    assert main(["predict", "model.npz", "photo.npy", "-o", "2.zarr", "--memory", "1"]) == 2
    assert "--tile" in capsys.readouterr().err and not os.path.exists("2.zarr")


def test_the_program_opens_a_tiff_piece_by_piece(files):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    tifffile.imwrite("photo.tif", IMAGE, tile=(64, 64), photometric="rgb")
    assert main(["predict", "model.npz", "photo.tif", "-o", "tif.zarr", "--tile", "64"]) == 0
    assert np.array_equal(zarr.open("tif.zarr", mode="r")[...], inference.predict(files, IMAGE))


@pytest.mark.parametrize(("options", "message"), [
    ({"photometric": "cielab"}, "photo.tif: expected colours in RGB, got CIELAB"),
    ({"photometric": "rgb", "extratags": [(274, "H", 1, 6, True)]},
     "photo.tif: expected a picture stored upright, got orientation 6"),
])
def test_a_tiff_that_is_to_be_turned_or_converted_is_refused(files, capsys, options, message):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    tifffile.imwrite("photo.tif", IMAGE, **options)
    assert main(["predict", "model.npz", "photo.tif", "-o", "a.zarr"]) == 2
    assert message in capsys.readouterr().err and not os.path.exists("a.zarr")


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_a_damaged_picture_and_a_pipe_are_named(files, capsys, suffix):
    if suffix == ".tif":
        pytest.importorskip("tifffile", reason="tifffile is not installed")
    with open(f"cut{suffix}", "wb") as file:
        file.write(b"II*\0\x08")
    os.mkfifo(f"pipe{suffix}")
    for name, message in (("cut", "damaged or of another kind"), ("pipe", "expected a file, got")):
        assert main(["predict", "model.npz", name + suffix, "-o", "a.zarr"]) == 2
        assert f"{name}{suffix}: {message}" in capsys.readouterr().err


def test_a_killed_worker_changes_no_bit(files):
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    with dask.config.set(scheduler="synchronous"):
        expected = large.score(files, IMAGE, tile=48).compute()
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    )
    with cluster, distributed.Client(cluster) as client:
        client.run(set_num_threads, get_num_threads())
        started = client.submit(slowly, expected.shape[0])
        pids = list(client.run(os.getpid).values())
        threading.Timer(0.2, os.kill, (pids[0], signal.SIGKILL)).start()
        found = large.score(files, IMAGE, tile=48).compute()
        started.cancel()
    assert np.array_equal(found, expected)


def slowly(value):
    time.sleep(0.5)
    return value


def test_nothing_of_dask_is_imported_without_a_large_picture():
    code = (
        "import sys, segaware_np.large, segaware_np.commands.predict, segaware_np.inference\n"
        "print([m for m in ('dask', 'zarr', 'distributed', 'tifffile') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
