"""What a command will write, and whether it can, is looked at before the work."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
from command_line import fails, run
from tiny import check

from segaware_np import demo
from segaware_np.commands import predict, train
from segaware_np.files import FormatError, atomic_write, check_folder, check_writable
from segaware_np.images import read_image, read_labels, voc_palette, write_image, write_labels
from segaware_np.metrics import Confusion, Evaluation
from segaware_np.models import segmentation_network
from segaware_np.ops.softmax import softmax_cross_entropy_forward
from segaware_np.train import Trainer

IMAGE = np.zeros((4, 6, 3), np.uint8)
needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("a.png", IMAGE)
    segmentation_network(3, (4,), (1,)).save("m.npz")
    return tmp_path


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- files ------------------------------------------------------------------------------------


@needs_pipes
def test_a_pipe_is_neither_read_nor_replaced():
    os.mkfifo("pipe.png")
    for call in (read_image, read_labels, check_writable, lambda path: write_image(path, IMAGE)):
        check(lambda call=call: call("pipe.png"), FormatError,
              "pipe.png: expected a file, got a pipe, a socket or a device")


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="no /dev/null here")
def test_a_device_is_not_replaced_by_a_file(capsys):
    before = os.stat("/dev/null").st_ino
    assert "/dev/null: expected a file, got a pipe" in fails(
        capsys, "evaluate", "m.npz", "scenes", "--json", "/dev/null")
    with pytest.raises(FormatError), atomic_write("/dev/null") as file:
        file.write(b"x")
    assert os.stat("/dev/null").st_ino == before


def test_a_name_as_long_as_a_name_may_be(folder):
    name = "n" * 251 + ".png"
    check_writable(name)
    write_image(name, IMAGE)
    assert name in names(folder)
    with pytest.raises(OSError, match="too long"):
        check_writable("n" + name)
    assert names(folder) == sorted(["a.png", "m.npz", name])


def test_a_folder_that_can_be_made(folder):
    check_folder(".")
    check_folder("some/where/else")
    for path in ("a.png", "a.png/b/c"):
        check(lambda path=path: check_folder(path), NotADirectoryError,
              "expected a folder, got the file a.png")
    assert names(folder) == ["a.png", "m.npz"]


# --- commands ---------------------------------------------------------------------------------

BEFORE_THE_WORK = [
    (["predict", "m.npz", "a.png", "-o", "a.png"], "expected a folder, got the file a.png"),
    (["predict", "m.npz", "a.png", "-o", "a.png/b"], "expected a folder, got the file a.png"),
    (["predict", "m.npz", "a.png", "-o", "taken"], "a file to write, got the folder taken"),
    (["predict", "m.npz", "a.png", "a_overlay.png", "-o", "out"],
     "a.png and a_overlay.png would both be labelled in out"),
    (["predict", "m.npz", "a_overlay.png", "a.png", "-o", "."], "would replace the image a_over"),
    (["predict", "m.npz", "pipe.png"], "pipe.png: expected a file, got a pipe"),
    (["train", "scenes", "-o", "a.png"], "expected a folder, got the file a.png"),
    (["train", "scenes", "-o", "taken"], "a file to write, got the folder taken"),
    (["demo", "-o", "a.png"], "expected a folder, got the file a.png"),
    (["demo", "-o", "taken"], "a file to write, got the folder taken"),
    (["masks", "a.png", "-o", "m.txt"], "path: expected the suffix of an image format, got m.txt"),
    (["masks", "a.png", "-o", "m.xbm"], "path: expected a format of pictures in colour"),
    (["masks", "a.png", "-o", "taken/a.png"], "expected a file to write, got the folder taken"),
    (["explore", "a.png", "-o", "no/e.html"], "no such folder: no"),
    (["evaluate", "m.npz", "scenes", "--json", "taken"], "expected a file to write"),
    (["caffe", "convert", "w.caffemodel", "no/w.npz"], "no such folder: no"),
    (["train", "scenes", "--classes", "256"], "--ignore-label: expected a choice, for 255"),
]  # fmt: skip


@needs_pipes
@pytest.mark.parametrize(("arguments", "message"), BEFORE_THE_WORK)
def test_refused_before_the_work(capsys, folder, monkeypatch, arguments, message):
    for name in ("a.png", "a_overlay.png", "model.npz", "losses.png"):
        (folder / "taken" / name).mkdir(parents=True)
    write_image("a_overlay.png", IMAGE)
    os.mkfifo("pipe.png")
    for module, name in ((predict, "tiled"), (train, "build"), (demo, "_build")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("the work began"))
    before = names(folder)
    assert message in fails(capsys, *arguments)
    assert [name for name in names(folder) if name != "out"] == before


# --- many classes -----------------------------------------------------------------------------


def test_labels_of_16_bits(folder):
    labels = np.array([[0, 255, 256, 65535]])
    write_labels("l.png", labels, bits=16)
    np.testing.assert_array_equal(read_labels("l.png"), labels)
    for bits, top in ((8, 255), (16, 65535)):
        check(lambda bits=bits, top=top: write_labels("x.png", labels[:, 3:] + top, bits=bits),
              ValueError, f"labels: expected values in 0..{top}, got ")
    check(lambda: write_labels("x.png", labels, bits=12), ValueError, "bits: expected 8 or 16")
    assert names(folder) == ["a.png", "l.png", "m.npz"]


def test_predictions_of_more_than_256_classes(capsys):
    net = segmentation_network(300, (4,), (1,))
    bias = net.parameters()["classifier.bias"].data
    bias[...] = 0
    bias[297] = 100
    net.save("many.npz")
    run(capsys, "predict", "many.npz", "a.png", "-o", "out", "--strength", 1)
    assert (read_labels("out/a.png") == 297).all()
    # 297 is 100101001 in bits, which go to red, green, blue in turn, from the lowest: red has
    # 1, 1, 0 (the bits 0, 3, 6), green 0, 0, 0, blue 0, 1, 1, and each its first bit highest.
    assert voc_palette(300)[297].tolist() == [0b11000000, 0, 0b01100000]
    assert (read_image("out/a_overlay.png") == [192, 0, 96]).all()


def test_a_class_255_is_not_ignored_without_a_word():
    for make in (Confusion, Evaluation):
        with pytest.warns(UserWarning, match="255, the default, is one of the 300 classes"):
            make(300)
    score, labels = np.zeros((1, 300), "f4"), np.array([255])
    with pytest.warns(UserWarning, match="is one of the 300 classes"):
        softmax_cross_entropy_forward(score, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Confusion(255), Confusion(300, 300)
        counted = Confusion(300, None)
        counted.update(labels, labels)
        assert counted.matrix[255, 255] == 1
        loss, _ = softmax_cross_entropy_forward(score, labels, None)
    np.testing.assert_allclose(loss, np.log(300), rtol=1e-6)


def test_training_asks_what_255_means_among_its_classes(capsys, folder, monkeypatch):
    chosen = []

    def begin(trainer, resume):
        chosen.append(trainer.net.description)
        os.makedirs("segaware_run", exist_ok=True)

    monkeypatch.setattr(Trainer, "run", begin)
    for classes, label in ((300, 255), (300, 300), (6, None)):
        given = [] if label is None else ["--ignore-label", label]
        run(capsys, "train", "scenes", "--classes", classes, *given)
    assert [kept["arguments"]["ignore_label"] for kept in chosen] == [255, 300, 255]
