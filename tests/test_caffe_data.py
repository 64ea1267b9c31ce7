"""Data layers and the command line, on small files made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segaware_np.caffe import Net
from segaware_np.caffe.fillers import fill
from segaware_np.caffe.formats.schema import Message, bind
from segaware_np.caffe.formats.text import parse
from segaware_np.commands import main as cli
from segaware_np.files import FormatError
from segaware_np.images import write_image

Image = pytest.importorskip("PIL.Image")
MEAN = "mean_value: 104 mean_value: 117 mean_value: 123"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Four pictures of 6x8, all of one colour, and their label maps."""
    lines = []
    for i in range(4):
        image = np.full((6, 8, 3), (10 * i, 100, 200), np.uint8)
        labels = np.full((6, 8), i, np.uint8)
        labels[0, 0] = 255
        Image.fromarray(image).save(tmp_path / f"i{i}.png")
        Image.fromarray(labels).save(tmp_path / f"l{i}.png")
        lines.append(f"/i{i}.png /l{i}.png")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    (tmp_path / "numbers.txt").write_text("\n".join(f"/i{i}.png {i + 40}" for i in range(4)))
    return tmp_path


def data_layer(root: Path, type_: str, tops: str, more: str, transform: str = "",
               source: str = "list.txt") -> str:
    names = " ".join(f'top: "{top}"' for top in tops.split())
    return (f'layer {{ name: "data" type: "{type_}" {names} '
            f"transform_param {{ {transform} {MEAN} }} "
            f'image_data_param {{ source: "{root}/{source}" root_folder: "{root}" {more} }} }}\n')


def test_image_seg_data(pairs: Path) -> None:
    text = data_layer(pairs, "ImageSegData", "data label dim", "batch_size: 3 label_type: PIXEL",
                      "crop_size: 9")
    net = Net(text)
    assert net.blobs["data"].shape == (3, 3, 9, 9)
    out = net.forward()
    told = Net(text.replace("label_type: PIXEL", "")).forward()  # the names tell
    np.testing.assert_array_equal(told["label"], out["label"])
    np.testing.assert_array_equal(out["data"][:, :, 2, 3],
                                  [[200 - 104, 100 - 117, 10 * i - 123] for i in range(3)])
    assert not out["data"][:, :, 6:].any()  # filled up with the mean
    np.testing.assert_array_equal(out["label"][:, 0, 1, 1], [0, 1, 2])
    assert (out["label"][:, 0, 6:] == 255).all()
    assert (out["label"][:, 0, 0, 0] == 255).all()
    np.testing.assert_array_equal(out["dim"][0].ravel(), [6, 8])
    np.testing.assert_array_equal(net.forward()["label"][:, 0, 1, 1], [3, 0, 1])  # round and round


def test_training_crops_are_a_function_of_the_seed(pairs: Path) -> None:
    text = data_layer(pairs, "TwoImageData", "data label", "batch_size: 2 shuffle: true",
                      "crop_size: 4 mirror: true scale_factors: 0.5 scale_factors: 2")
    nets = [Net(text, phase="TRAIN", seed=seed) for seed in (1, 1, 2)]
    runs = [[net.forward()["label"].copy() for _ in range(6)] for net in nets]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (np.array(runs[0]) != np.array(runs[2])).any()


def test_pictures_of_their_own_size(pairs: Path) -> None:
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(pairs / "i1.png")
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(pairs / "l1.png")
    text = data_layer(pairs, "ImageSegData", "data label", "batch_size: 1")
    net = Net(text + 'layer { name: "p" type: "Power" bottom: "data" top: "p" }')
    assert [net.forward()["p"].shape for _ in range(2)] == [(1, 3, 6, 8), (1, 3, 5, 7)]
    with pytest.raises(FormatError, match="images of one batch differ in size"):
        Net(text.replace("batch_size: 1", "batch_size: 2")).forward()


def test_image_data_has_numbers_for_labels(pairs: Path) -> None:
    text = data_layer(pairs, "ImageData", "data label", "batch_size: 2", source="numbers.txt")
    out = Net(text).forward()
    np.testing.assert_array_equal(out["label"], [40, 41])
    (pairs / "numbers.txt").write_bytes(b"\xff\xff")
    with pytest.raises(FormatError, match="numbers.txt: expected text in UTF-8"):
        Net(text)
    (pairs / "numbers.txt").write_text("/i0.png x")
    with pytest.raises(FormatError, match=r"numbers.txt:1: expected 'image label'"):
        Net(text)


def test_lists_whose_labels_do_not_count(pairs: Path) -> None:
    """The published test lists say 'image 0' and label_type NONE."""
    for kind, label in (("NONE", 255), ("IMAGE", 41)):
        text = data_layer(pairs, "ImageSegData", "data label dim",
                          f"batch_size: 2 label_type: {kind}", "crop_size: 7", "numbers.txt")
        out = Net(text).forward()
        np.testing.assert_array_equal(out["label"][1, 0, :6], label)
        np.testing.assert_array_equal(out["dim"][:, 0, 0], [[6, 7]] * 2)  # at most the crop
    told = Net(text.replace("label_type: IMAGE", "")).forward()  # the numbers tell
    np.testing.assert_array_equal(told["label"], out["label"])
    for kind, inside in (("NONE", 7), ("IMAGE", 41)):
        other = Net(text.replace("label_type: IMAGE", f"label_type: {kind} ignore_label: 7"))
        label = other.forward()["label"]
        assert (label[1, 0, :6] == inside).all() and (label[:, 0, 6:] == 7).all()
    with pytest.raises(FormatError, match="ignore_label: expected at least 0, got -1"):
        Net(text.replace("label_type: IMAGE", "ignore_label: -1"))
    (pairs / "numbers.txt").write_text("/i0.png")
    assert Net(text.replace("IMAGE", "NONE").replace("batch_size: 2", "")).forward()["data"].any()


def test_names_without_a_root_begin_here_or_beside_the_list(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pairs / "lists").mkdir()
    layer = ('layer {{ name: "d" type: "{}" top: "x" top: "l" '
             'image_data_param {{ source: "{}" }} }}')
    for type_, line in (("ImageData", "i1.png 3"), ("ImageSegData", "i1.png l1.png"),
                        ("ImageData", "i1.png\t3"), ("ImageSegData", f"{pairs}/i1.png l1.png")):
        for folder in ("lists", "."):
            (pairs / folder / "some.txt").write_text("\ufeff" + line + "\n", "utf-8")
            if "/" in line and folder == "lists":
                continue
            for here in (pairs, pairs / "lists") if folder == "." else (pairs,):
                monkeypatch.chdir(here)
                out = Net(layer.format(type_, pairs / folder / "some.txt")).forward()
                assert out["l"].ravel()[9 if "l1" in line else 0] == (1 if "l1" in line else 3)
    (pairs / "some.txt").write_text("i1.png 3\n\nnone.png 3\n")
    with pytest.raises(FileNotFoundError, match="some.txt:3: no such file: .*none.png"):
        Net(layer.format("ImageData", pairs / "some.txt"))


@pytest.mark.parametrize(("fork", "background"), [("HED", 1.0), ("RCF", 1.1)])
def test_edges_count_by_the_others_share(pairs: Path, fork: str, background: float) -> None:
    """HED's and RCF's loss under Caffe's name, by its sums over pixels."""
    rng = np.random.default_rng(1)
    grey = rng.choice([0, 0, 0, 100, 200, 255], (4, 6, 8)).astype(np.uint8)
    for i, labels in enumerate(grey):
        Image.fromarray(labels).save(pairs / f"l{i}.png")
    crop = 'layer { type: "Crop" bottom: "s" bottom: "label" top: "c" %s }' % (
        "" if fork == "HED" else "crop_param { }")
    text = (data_layer(pairs, "ImageLabelmapData", "data label", "batch_size: 2") + """
        layer { name: "s" type: "Convolution" bottom: "data" top: "s" convolution_param {
            num_output: 1 kernel_size: 1 weight_filler { type: "gaussian" std: 0.01 } } }"""
            + crop + """
        layer { name: "l" type: "SigmoidCrossEntropyLoss" bottom: "c" bottom: "label" top: "l" }""")
    net = Net("force_backward: true " + text, phase="TRAIN", dtype="float64")
    loss = net.forward()["l"].item()
    net.backward()
    x, want, slope = net.blobs["s"].data, 0.0, np.zeros((2, 1, 6, 8))
    for n in range(2):
        edge = np.rint(grey[n] / 255) if fork == "HED" else grey[n] / 255
        edges, others = int((edge == 1).sum()), int((edge == 0).sum())
        for at in np.ndindex(6, 8):
            p = 1 / (1 + np.exp(-x[n, 0][at]))
            if edge[at] == 1:
                want -= others / (edges + others) * np.log(p) / 2
                slope[n, 0][at] = others / (edges + others) * (p - 1) / 2
            elif edge[at] == 0:
                want -= background * edges / (edges + others) * np.log(1 - p) / 2
                slope[n, 0][at] = background * edges / (edges + others) * p / 2
    assert loss == pytest.approx(want, 1e-9)
    np.testing.assert_allclose(net.blobs["c"].diff, slope, 1e-7, 1e-12)
    assert sum(f"as {fork}'s" in note for note in net.notes) == 2


def pattern(pairs: Path) -> tuple[np.ndarray, str]:
    """Make all pictures the same, with something to see, and give the layer for them."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    for i in range(4):
        Image.fromarray(image).save(pairs / f"i{i}.png")
    text = data_layer(pairs, "ImageSegData", "data label", "shuffle: true", "TRANSFORM")
    return image, text.replace(MEAN, "")


def test_new_size_and_grey(pairs: Path) -> None:
    image, text = pattern(pairs)
    stretched = Net(text.replace("TRANSFORM", "").replace(
        "shuffle", "new_height: 12 new_width: 4 shuffle")).forward()
    assert stretched["data"].shape == (1, 3, 12, 4)
    assert stretched["label"].shape == (1, 1, 12, 4)
    rows = np.array(Image.fromarray(image).resize((8, 12), Image.Resampling.BILINEAR))  # up alone
    halves = (rows[:, ::2].astype(float) + rows[:, 1::2]) / 2
    np.testing.assert_allclose(stretched["data"][0].transpose(1, 2, 0)[..., ::-1], halves, atol=1)
    grey = Net(text.replace("TRANSFORM", "scale: 2 mean_value: 10").replace(
        "shuffle", "is_color: false shuffle")).forward()["data"]
    want = np.rint(image @ [0.299, 0.587, 0.114])
    np.testing.assert_array_equal(grey, 2 * (want[None, None] - 10))


def test_mean_file(pairs: Path) -> None:
    """Subtracted pixel by pixel, before cropping and mirroring."""
    image, text = pattern(pairs)
    mean = image[..., ::-1].transpose(2, 0, 1).astype("f4")
    data = b"".join(bytes([8 * n + 8, side]) for n, side in enumerate((1, 3, 6, 8)))
    (pairs / "mean.binaryproto").write_bytes(data + b"\x2a\xc0\x04" + mean.tobytes())
    with_mean = text.replace("TRANSFORM", f'mirror: true crop_size: 5 '
                                          f'mean_file: "{pairs}/mean.binaryproto"')
    net = Net(with_mean, phase="TRAIN")
    for _ in range(8):
        assert not net.forward()["data"].any()
    with pytest.raises(FormatError, match=r"a mean of the picture's size \(6, 4\), got \(6, 8\)"):
        Net(with_mean.replace("shuffle", "new_height: 6 new_width: 4 shuffle")).forward()


def test_rand_skip(pairs: Path) -> None:
    text = data_layer(pairs, "ImageData", "data label", "rand_skip: 4", source="numbers.txt")
    starts = set()
    for seed in range(12):
        net = Net(text, seed=seed)
        first, second = (int(net.forward()["label"][0]) for _ in range(2))
        assert second - 40 == (first - 39) % 4
        starts.add(first)
    assert starts == {40, 41, 42, 43}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size: 1", "crop_size: 3", "crop_size has no effect in image_data_param"),
        ("batch_size: 1", "new_height: 3", "new_height and new_width: expected both or none"),
        ("batch_size: 1", "batch_size: 0", "batch_size: expected at least 1, got 0"),
        ("batch_size: 1", "is_color: false", "expected one mean_value or 1, got 3"),
        (MEAN, "force_gray: true", "use is_color: false"),
        (MEAN, "scale_factors: 0", "scale_factors: expected positive numbers"),
        (MEAN, 'mean_file: "x" mean_value: 1', "mean_file and mean_value exclude each other"),
        ("source:", "#", "source: expected the name of a list"),
    ],
)
def test_options_that_cannot_be(pairs: Path, old: str, new: str, message: str) -> None:
    text = data_layer(pairs, "ImageSegData", "data label", "batch_size: 1")
    text = text.replace("root_folder", "\nroot_folder").replace(old, new)
    with pytest.raises(FormatError, match=message):
        Net(text)


def test_hdf5_data(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    rows = np.arange(10.0).reshape(5, 2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = rows, rows[:, 0]
    (tmp_path / "list.txt").write_text(str(tmp_path / "a.h5"))
    text = ('layer { name: "d" type: "HDF5Data" top: "x" top: "y" hdf5_data_param { '
            f'source: "{tmp_path}/list.txt" batch_size: 3 }} }}')
    net = Net(text)
    assert [net.forward()["y"].tolist() for _ in range(2)] == [[0, 2, 4], [6, 8, 0]]
    for broken in ({"x": rows}, {"x": rows, "y": rows[:3]}, {"x": rows, "y": 3.0},
                   {"x": rows, "y": "text"}):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for name, value in broken.items():
                file[name] = value
        with pytest.raises(FormatError, match="'d' .HDF5Data"):
            Net(text)
    with h5py.File(tmp_path / "a.h5", "w") as file:  # a few bytes that declare 4 TiB
        file.create_dataset("x", (2**40,), "f4", chunks=(1024,))
    with pytest.raises(FormatError, match=r"a.h5: /x declares 4398046511104 bytes in a file of "):
        Net(text)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("x")
    with pytest.raises(FormatError, match=r"a.h5: /x is no dataset"):
        Net(text)
    (tmp_path / "list.txt").write_text("")
    with pytest.raises(FormatError, match="need at least one array"):
        Net(text)


@pytest.mark.parametrize("layer", ["HDF5Data", "ImageData"])
def test_the_order_of_an_epoch_is_drawn_once(tmp_path: Path, monkeypatch, layer: str) -> None:
    if layer == "HDF5Data":
        with pytest.importorskip("h5py").File(tmp_path / "a.h5", "w") as file:
            file["x"], file["y"] = np.zeros((5, 2)), np.arange(5.0)
        source, param = "a.h5", "hdf5_data_param { batch_size: 3"
    else:
        names = [f"{i}.png" for i in range(5)]
        for name in names:
            write_image(tmp_path / name, np.zeros((2, 2, 3), np.uint8))
        source, param = "\n".join(f"{n} {n[0]}" for n in names), "image_data_param { batch_size: 3"
    (tmp_path / "list.txt").write_text(source)
    monkeypatch.chdir(tmp_path)
    net = Net(f'layer {{ name: "d" type: "{layer}" top: "x" top: "y" {param} shuffle: true '
              'source: "list.txt" }} }}'.replace("}}", "}"), seed=987)
    fresh, drawn = np.random.default_rng, []

    def draw(key):
        drawn.append(key)
        return fresh(key)

    monkeypatch.setattr(np.random, "default_rng", draw)
    seen = np.concatenate([net.forward()["y"].ravel() for _ in range(5)])
    orders = [key for key in drawn if key[0] == 987 and (len(key) == 3 or key[2] == 0)]
    assert len(orders) == len(set(orders)) == 3
    assert seen.tolist() == [i for key in orders for i in fresh(key).permutation(5)]


def filler(text: str) -> Message:
    return bind(parse(text), "FillerParameter")


def test_fillers() -> None:
    rng, shape = np.random.default_rng(0), (40, 30, 3, 3)
    xavier = fill(filler('type: "xavier"'), shape, rng)
    assert abs(xavier).max() <= np.sqrt(3 / 270) < 1.01 * abs(xavier).max()
    both = fill(filler('type: "xavier" variance_norm: AVERAGE'), shape, rng)
    assert both.std() == pytest.approx(np.sqrt(2 / (270 + 360)), rel=0.02)
    assert fill(filler('type: "msra" variance_norm: FAN_OUT'), shape, rng).std() == pytest.approx(
        np.sqrt(2 / 360), rel=0.02)
    assert fill(filler('type: "msra"'), (3, 0, 3, 3), rng).shape == (3, 0, 3, 3)
    sparse = fill(filler('type: "gaussian" std: 2 mean: 1 sparse: 10'), shape, rng)
    assert (sparse != 0).mean() == pytest.approx(0.25, abs=0.03)
    uniform = fill(filler('type: "uniform" min: 2 max: 3'), shape, rng)
    assert (uniform >= 2).all() and (uniform < 3).all()
    bilinear = fill(filler('type: "bilinear"'), (1, 1, 4, 4), rng)[0, 0]
    np.testing.assert_allclose(bilinear[0], [0.0625, 0.1875, 0.1875, 0.0625])


def run(*arguments: str) -> int:
    return cli.main(["caffe", *arguments])


NET = """
input: "data" input_shape { dim: 1 dim: 3 dim: 33 dim: 33 }
layer { name: "c" type: "Convolution" bottom: "data" top: "score"
        convolution_param { num_output: ${CLASSES} kernel_size: 3 pad: 1 stride: 2
                            weight_filler { type: "msra" } } }
"""


def test_command_run_and_convert(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, weights = pairs / "net.prototxt", pairs / "net.caffemodel"
    model.write_text(NET)
    net = Net(model, variables={"CLASSES": 5})
    net.save(weights)
    out = pairs / "out"
    assert run("run", str(model), str(weights), str(pairs / "i1.png"), "-o", str(out),
               "-D", "CLASSES=5") == 0
    labels = np.asarray(Image.open(out / "i1.png"))
    assert labels.shape == (6, 8) and labels.max() < 5
    for middle in ("w.npz", "w.safetensors"):
        assert run("convert", str(weights), str(pairs / middle)) == 0
        assert run("run", str(model), str(pairs / middle), str(pairs / "i1.png"), "-o",
                   str(pairs / middle[2:]), "-D", "CLASSES=5") == 0
        np.testing.assert_array_equal(np.asarray(Image.open(pairs / middle[2:] / "i1.png")), labels)
        assert run("convert", str(pairs / middle), str(pairs / "again.caffemodel")) == 0
        assert (pairs / "again.caffemodel").read_bytes()[2:] in weights.read_bytes()
    model.write_text(NET.replace("dim: 3 dim: 33", "dim: 4 dim: 33").replace("${CLASSES}", "5"))
    Net(model).save(weights)
    assert run("run", str(model), str(weights), str(pairs / "i1.png"), "-o", str(out)) == 2
    assert "expected images (N, 3, H, W), got (1, 4, 33, 33)" in capsys.readouterr().err
    assert run("convert", str(weights), str(pairs / "w.txt")) == 2
    assert "expected a .caffemodel" in capsys.readouterr().err


def test_command_train_and_show(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = NET[NET.index("layer") :].replace("stride: 2", "")
    (pairs / "train.prototxt").write_text(
        data_layer(pairs, "ImageSegData", "data label", "batch_size: 2 label_type: PIXEL",
                   "crop_size: 5 scale: 0.01")
        + body + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" '
                 "top: \"loss\" loss_param { ignore_label: 255 } }")
    (pairs / "solver.prototxt").write_text(
        f'net: "{pairs}/train.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 3 display: 1 '
        f'snapshot_prefix: "{pairs}/s"')
    assert run("train", str(pairs / "solver.prototxt"), "-D", "CLASSES=4") == 0
    assert "trained to iteration 3" in capsys.readouterr().out
    assert (pairs / "s_iter_3.caffemodel").exists()
    assert run("train", str(pairs / "solver.prototxt"), "-D", "CLASSES=4",
               "--snapshot", str(pairs / "s_iter_3")) == 0
    assert run("show", str(pairs / "train.prototxt"), "-D", "CLASSES=4", "--phase", "TRAIN") == 0
    shown = capsys.readouterr().out
    assert "Convolution" in shown and "112 parameters" in shown
    assert run("show", str(pairs / "train.prototxt")) == 2
    assert "no value given for CLASSES" in capsys.readouterr().err
