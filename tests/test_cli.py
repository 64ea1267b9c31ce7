"""The commands of the program `segaware`, from a user's files to results and errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import warnings

import numpy as np
import pytest
from command_line import fails, run, terminal

from segaware_np import demo
from segaware_np.commands.main import main
from segaware_np.cpu import threads
from segaware_np.data import SyntheticScenes
from segaware_np.files import load_arrays, save_arrays
from segaware_np.images import read_image, read_labels, read_palette, write_image, write_labels
from segaware_np.models import embedding_network, load, segmentation_network

SMALL = ["--widths", "4,4", "--depths", "1,1", "--refine", "1", "--refine-width", "4"]
SMALL += ["--classes", "6"]
SHORT = ["--iterations", "3", "--batch", "2", "--quiet"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with three small scenes and train.txt, val.txt and images.txt that list them."""
    folder = tmp_path_factory.mktemp("data")
    scenes = SyntheticScenes(3, size=(20, 24))
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for index in range(3):
        image, labels = scenes[index]
        write_image(folder / "images" / f"{index}.png", image)
        write_labels(folder / "labels" / f"{index}.png", labels)
    pairs = "".join(f"images/{index}.png labels/{index}.png\n" for index in range(3))
    (folder / "train.txt").write_text(pairs)
    (folder / "val.txt").write_text(pairs)
    (folder / "images.txt").write_text("images/0.png\n")
    return folder


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    """A segmentation-aware network that was trained on them for three iterations."""
    folder = tmp_path_factory.mktemp("run")
    assert main(["train", str(data), "-o", str(folder), *SMALL, *SHORT]) == 0
    return folder / "model.npz"


# --- commands -----------------------------------------------------------------------------------


def test_train_writes_a_model_a_log_and_checkpoints(model):
    names = {path.name for path in model.parent.iterdir()}
    assert names == {"model.npz", "log.jsonl", "checkpoint-00000003.npz"}
    assert load(model).description["arguments"]["aware"] is True


def test_trained_embedding_goes_into_a_segmentation_network(capsys, data, tmp_path):
    first, second = tmp_path / "embedding", tmp_path / "aware"
    shape = ["--widths", "4,4", "--depths", "1,1"]
    run(capsys, "train", data, "-o", first, "--network", "embedding", *shape, *SHORT,
        "--embedding-channels", 5)
    run(capsys, "train", data, "-o", second, "--embedding", first / "model.npz", "--aware",
        "refine", *SMALL, *SHORT)
    embedding, aware = load(first / "model.npz").weights(), load(second / "model.npz").weights()
    assert set(embedding) < set(aware)
    for name, array in embedding.items():  # frozen by default
        assert np.array_equal(aware[name], array), name


def test_plain_network_starts_an_aware_one(capsys, data, tmp_path):
    plain, aware = tmp_path / "plain", tmp_path / "aware"
    run(capsys, "train", data, "-o", plain, "--network", "plain", *SMALL, *SHORT)
    out = run(capsys, "train", data, "-o", aware, "--start", plain / "model.npz", *SMALL,
              *SHORT, "--lr", "1e-12", "--policy", "fixed")
    before, after = load(plain / "model.npz").weights(), load(aware / "model.npz").weights()
    assert f"{len(before)} of {len(after)} arrays" in out
    assert "loaded: " in out and "left as it was: conv1_1.scale, " in out
    for name, array in before.items():
        np.testing.assert_allclose(after[name], array, atol=1e-9)


def test_resumed_training_ends_as_if_never_interrupted(capsys, data, tmp_path):
    base = ["train", data, *SMALL, "--policy", "fixed", "--batch", 2, "--quiet"]
    run(capsys, *base, "-o", tmp_path / "whole", "--iterations", 4)
    run(capsys, *base, "-o", tmp_path / "parts", "--iterations", 2)
    run(capsys, *base, "-o", tmp_path / "parts", "--iterations", 4, "--resume")
    whole, parts = (load(tmp_path / name / "model.npz").weights() for name in ("whole", "parts"))
    for name, array in whole.items():
        assert np.array_equal(parts[name], array), name


@pytest.mark.parametrize(("change", "message"), [
    (["--lr", "0.01"], "--lr 0.001 (now 0.01)"),
    (["--widths", "4,8"], "--widths [4, 4] (now [4, 8])"),
    (["--iterations", "4"], "--iterations 3 (now 4)"),
    (["--batch", "1", "--mirror"], "--batch 2 (now 1), --mirror False (now True)"),
])
def test_resume_with_other_options(capsys, data, tmp_path, change, message):
    base = ["train", data, "-o", tmp_path, *SMALL, *SHORT]
    run(capsys, *base)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert f"the run began with {message}: resume it" in fails(capsys, *base, *change, "--resume")
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_resume_of_a_finished_run(capsys, data, model, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(model.parent, folder)
    shutil.move(shutil.copytree(data, tmp_path / "data"), tmp_path / "moved")
    for path in folder.iterdir():
        os.utime(path, ns=(0, 0))
    again = ["train", tmp_path / "moved", "-o", folder, *SMALL, *SHORT, "--resume"]
    out = run(capsys, *again)
    assert "model.npz is finished after 3 iterations; a new run with --start" in out
    assert {path.stat().st_mtime_ns for path in folder.iterdir()} == {0}
    (folder / "model.npz").unlink()  # as by a kill after the last checkpoint
    assert "wrote" in run(capsys, *again)
    assert (folder / "model.npz").read_bytes() == model.read_bytes()


@pytest.mark.parametrize("policy", ["fixed", "poly", "step", "exp", "inv", "sigmoid"])
def test_every_policy_trains(capsys, data, tmp_path, policy):
    run(capsys, "train", data, "-o", tmp_path, "--network", "plain", *SMALL, "--iterations", 1,
        "--batch", 1, "--quiet", "--policy", policy, "--solver", "sgd", "--crop", "16,16",
        "--zoom", "0.8,1.2", "--mirror", "--log", "csv")
    assert (tmp_path / "log.csv").is_file()


def test_a_checkpoint_is_a_model(capsys, data, model):
    checkpoint = model.with_name("checkpoint-00000003.npz")
    assert run(capsys, "evaluate", checkpoint, data) == run(capsys, "evaluate", model, data)


def test_masks_of_one_pixel(capsys, tmp_path):
    write_image(tmp_path / "one.png", np.zeros((1, 1, 3), np.uint8))
    run(capsys, "masks", tmp_path / "one.png", "-o", tmp_path / "masks.png")


def test_predict_a_folder(capsys, data, model, tmp_path):
    out = run(capsys, "predict", model, data / "images", "-o", tmp_path / "out")
    assert "3 images" in out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{i}{end}.png" for i in range(3) for end in ("", "_overlay")}
    assert read_labels(tmp_path / "out" / "1.png").shape == (20, 24)
    assert read_labels(tmp_path / "out" / "1.png").max() < 6


def test_predictions_never_replace_an_image(capsys, data, model, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(data / "images", folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for image in (folder, folder / "1.png"):
        text = fails(capsys, "predict", model, image, "-o", folder)
        assert "--output: labels would replace the image" in text
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    write_image(folder / "1.jpg", read_image(folder / "1.png"))
    text = fails(capsys, "predict", model, folder, "-o", tmp_path)
    assert "1.jpg and " in text and "1.png would both be labelled in " in text


def test_predict_several_images(capsys, data, model, tmp_path):
    images = [data / "images" / f"{i}.png" for i in (0, 2)]
    assert "2 images" in run(capsys, "predict", model, *images, "-o", tmp_path, "--no-overlay")
    assert {path.name for path in tmp_path.iterdir()} == {"0.png", "2.png"}


def test_predict_one_image_without_overlay(capsys, data, model, tmp_path):
    run(capsys, "predict", model, data / "images" / "2.png", "-o", tmp_path, "--no-overlay")
    assert [path.name for path in tmp_path.iterdir()] == ["2.png"]


def test_evaluate_agrees_with_the_predictions(capsys, data, model, tmp_path):
    out = run(capsys, "evaluate", model, data, "--json", tmp_path / "scores.json")
    report = json.loads((tmp_path / "scores.json").read_text())
    assert report["images"] == 3 and len(report["iou"]) == 6 and report["band"]["width"] == 3
    assert f"{100 * report['pixel_accuracy']:.2f} %" in out
    run(capsys, "predict", model, data / "images", "-o", tmp_path)
    right = [
        read_labels(tmp_path / f"{i}.png") == read_labels(data / "labels" / f"{i}.png")
        for i in range(3)
    ]
    assert np.mean(right) == pytest.approx(report["pixel_accuracy"])


@pytest.mark.parametrize("options", [[], ["--at", "3,4", "--at", "23,0", "--normalized"],
                                     ["--norm", "L2", "--dilation", "2", "--window", "5"]])
def test_masks_of_colours(capsys, data, tmp_path, options):
    run(capsys, "masks", data / "images" / "0.png", "-o", tmp_path / "masks.png", *options)
    assert read_image(tmp_path / "masks.png").std() > 10


def test_masks_of_a_learned_embedding(capsys, data, tmp_path):
    run(capsys, "train", data, "-o", tmp_path, "--network", "embedding", "--widths", "4",
        "--depths", "1", *SHORT)
    run(capsys, "masks", data / "images" / "0.png", "-o", tmp_path / "masks.png", "--embedding",
        tmp_path / "model.npz")
    assert (tmp_path / "masks.png").is_file()


def test_info(capsys, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    out = run(capsys, "info")
    for word in ("segaware_np", "numpy", "BLAS", "GPU", "OPENBLAS_CORETYPE=Haswell"):
        assert word in out


@pytest.mark.parametrize("libraries", [[], ["one"]])
def test_info_tells_how_many_threads_are_used(capsys, monkeypatch, libraries):
    monkeypatch.setattr(threads._state, "count", 3)
    monkeypatch.setattr(threads._state, "libraries", libraries)
    (line,) = (line for line in run(capsys, "info").splitlines() if line.startswith("threads"))
    count = line.split()[1].rstrip(",")
    assert count == ("3" if libraries else "1")
    assert ("segaware_np[fast]" in line) == (not libraries)


def test_info_says_why_there_is_no_gpu(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert re.search(r"^GPU backend +none: CuPy is not installed", run(capsys, "info"), re.M)


def test_demo(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_SIZE", (32, 32))
    monkeypatch.setattr(demo, "_TEST", 4)
    out = run(capsys, "demo", "-o", tmp_path / "new" / "demo", "--iterations", 2, "--quiet")
    assert "mean IoU at boundaries" in out
    folder = tmp_path / "new" / "demo"
    assert {path.name for path in folder.iterdir()} == {
        "masks.png", "embeddings.png", "predictions.png", "losses.png", "metrics.json",
        "embedding.npz", "plain.npz", "segaware.npz",
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 <= metrics["segaware"]["band"]["mean_iou"] <= 1
    assert len(metrics["plain"]["iou"]) == len(metrics["class_names"]) == 6


def test_demo_asks_for_its_tools_first(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = fails(capsys, "demo", "-o", tmp_path / "demo", "--iterations", 10**6)
    assert 'matplotlib is needed here and is not installed: pip install "segaware_np[demo]"' in text
    assert list(tmp_path.iterdir()) == []


# --- errors -----------------------------------------------------------------------------------


def test_labels_that_the_network_does_not_have(capsys, data, model, tmp_path):
    (tmp_path / "labels").mkdir()
    wrong = np.zeros((20, 24), np.uint8)
    wrong[3, 9] = 17
    write_labels(tmp_path / "labels" / "7.png", wrong)
    (tmp_path / "val.txt").write_text(f"{data}/images/0.png labels/7.png\n")
    shutil.copy(tmp_path / "val.txt", tmp_path / "train.txt")
    message = "labels/7.png: expected labels from 0 to 5 (--classes) or 255 (--ignore-label), " \
        "got 17 in row 3, column 9"
    run_folder = tmp_path / "run"
    assert message in fails(capsys, "train", tmp_path, "-o", run_folder, *SMALL, *SHORT)
    assert not (run_folder / "model.npz").exists()
    told = message.replace("--classes", "classes=...")  # by the model: no option here
    assert told in fails(capsys, "evaluate", model, tmp_path)
    run(capsys, "train", tmp_path, "-o", run_folder, *SMALL, *SHORT, "--ignore-label", 17)
    # The model knows that 17 does not count.
    out = run(capsys, "evaluate", run_folder / "model.npz", tmp_path)
    assert out == run(capsys, "evaluate", run_folder / "model.npz", tmp_path, "--ignore-label", 17)
    text = fails(capsys, "evaluate", run_folder / "model.npz", tmp_path, "--ignore-label", 255)
    assert told in text


def test_own_data_need_a_number_of_classes(capsys, data, tmp_path):
    text = fails(capsys, "train", data, "-o", tmp_path / "run", *SHORT)
    assert "--classes: expected their number N (labels are 0 to N - 1) or names" in text
    assert not (tmp_path / "run").exists()
    text = fails(capsys, "train", "scenes", "-o", tmp_path / "run", "--classes", 3)
    assert "DATA: scenes have 6 classes, the network has 3" in text


def test_names_and_colours_of_classes_come_with_the_model(capsys, data, tmp_path):
    palette = np.array([(9, 8, 7), (1, 2, 3), (0, 0, 200)], np.uint8)
    labels = read_labels(data / "labels" / "0.png") % 3
    write_labels(tmp_path / "labels.png", labels, palette)
    (tmp_path / "list.txt").write_text(f"{data}/images/0.png labels.png\n")
    names = ["--classes", "sky, road,a car"]
    run(capsys, "train", tmp_path / "list.txt", "-o", tmp_path, *SMALL, *names, *SHORT)
    model = tmp_path / "model.npz"
    out = run(capsys, "evaluate", model, tmp_path / "list.txt")
    assert all(f"IoU {name} " in out for name in ("sky", "road", "a car"))
    run(capsys, "predict", model, data / "images" / "1.png", "-o", tmp_path)
    np.testing.assert_array_equal(read_palette(tmp_path / "1.png")[:3], palette)
    assert fails(capsys, "train", "scenes", "--classes", "a,a")


def test_evaluate_without_labels(capsys, data, model):
    message = "images.txt: expected 'image label' in each line, got images alone"
    assert message in fails(capsys, "evaluate", model, data / "images.txt")
    assert message in fails(capsys, "train", data / "images.txt", *SMALL)


def test_embedding_network_does_not_label(capsys, data, tmp_path):
    run(capsys, "train", data, "-o", tmp_path, "--network", "embedding", "--widths", "4",
        "--depths", "1", *SHORT)
    text = fails(capsys, "evaluate", tmp_path / "model.npz", data)
    assert text == fails(capsys, "predict", tmp_path / "model.npz", data / "images")
    assert "model.npz: this embedding network labels no pixels: train one that does, with" in text
    assert f"--embedding {tmp_path / 'model.npz'}" in text


def test_segmentation_network_is_no_embedding(capsys, data, model, tmp_path):
    plain = tmp_path / "plain.npz"
    segmentation_network(6, (4,), (1,)).save(plain)
    text = fails(capsys, "train", "scenes", "-o", tmp_path / "run", "--embedding", model)
    assert "--embedding: expected a model of --network embedding, got" in text
    text = fails(capsys, "masks", data / "images" / "0.png", "--embedding", plain)
    assert "this segmentation network has no embedding: train one with" in text


def test_damaged_model(capsys, data, model, tmp_path):
    whole = model.read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    text = fails(capsys, "predict", tmp_path / "half.npz", data / "images", "-o", tmp_path / "out")
    assert "half.npz: damaged" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_terminal_sees_how_far_it_is(data, model, tmp_path, command):
    source = [data] if command == "evaluate" else [data / "images", "-o", tmp_path]
    with terminal() as shown:
        assert main(list(map(str, [command, model, *source]))) == 0
    assert "3/3" in shown.getvalue()


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_model_of_which_a_part_is_missing_is_used_only_when_told(
    capsys, data, model, tmp_path, command
):
    arrays, metadata = load_arrays(model)
    del arrays["classifier.weight"]
    save_arrays(tmp_path / "part.npz", arrays, metadata)
    what = [data] if command == "evaluate" else [data / "images", "-o", tmp_path / "out"]
    text = fails(capsys, command, tmp_path / "part.npz", *what)
    assert "part.npz: not a network of this library (" in text
    assert "classifier.weight is missing (--partial takes what fits)" in text
    assert not (tmp_path / "out").exists()
    assert main(list(map(str, [command, tmp_path / "part.npz", *what, "--partial"]))) == 0
    err = capsys.readouterr().err
    assert "note: " in err and "part.npz: loaded: " in err
    assert err.endswith("; left as it was: classifier.weight\n")


def test_names_of_classes_say_nothing_to_a_terminal(capsys, data, tmp_path):
    text = fails(capsys, "train", data, "-o", tmp_path / "run", "--classes", "a,\x1b[31mred")
    assert r"class_names: expected different names without control characters, got '\x1b" in text
    assert not (tmp_path / "run").exists()


def test_output_that_is_a_file(capsys, data, model):
    text = fails(capsys, "predict", model, data / "images", "-o", model)
    assert "expected a folder, got the file" in text


def test_labels_that_teach_nothing(capsys, data, tmp_path):
    write_labels(tmp_path / "mask.png", np.where(read_labels(data / "labels/0.png"), 255, 0))
    (tmp_path / "train.txt").write_text(f"{data}/images/0.png mask.png\n")
    command = ["train", tmp_path, *SMALL, *SHORT, "-o", tmp_path / "a"]
    assert main(list(map(str, command))) == 0
    assert "hold the labels [0, 255] alone, and 255 does not count" in capsys.readouterr().err
    assert main(["train", str(data), *SMALL, *SHORT, "-o", str(tmp_path / "b")]) == 0
    assert capsys.readouterr().err == ""


def test_options_without_a_use(capsys, data, model, tmp_path):
    plain = ["train", data, "-o", tmp_path / "run", "--network", "plain", *SMALL]
    assert "a plain network has neither" in fails(capsys, *plain, "--embedding", model)
    assert "a plain network has neither" in fails(capsys, *plain, "--aware", "refine")
    embedding_network((5,), (1,), 3).save(tmp_path / "other.npz")
    text = fails(capsys, *plain, "--start", tmp_path / "other.npz")
    assert "--start: no array of " in text
    assert not (tmp_path / "run").exists()


def test_images_of_unlike_sizes_are_refused_before_the_training(capsys, data, tmp_path):
    write_image(tmp_path / "a.png", np.zeros((8, 9, 3), np.uint8))
    write_labels(tmp_path / "b.png", np.zeros((8, 9), int))
    (tmp_path / "list.txt").write_text(f"{data}/images/0.png {data}/labels/0.png\na.png b.png\n")
    train = ["train", tmp_path / "list.txt", "-o", tmp_path / "run", *SMALL, *SHORT]
    text = fails(capsys, *train)
    assert "--crop: expected a size, for the images differ: [(8, 9), (20, 24)]" in text
    assert not (tmp_path / "run").exists()
    run(capsys, *train, "--crop", 8)


def test_a_diverging_run_gets_advice(capsys, data, tmp_path):
    with warnings.catch_warnings(record=True) as noise:
        text = fails(capsys, "train", data, "-o", tmp_path, *SMALL, *SHORT, "--lr", "1e30")
    assert "iteration 2: the loss is " in text
    assert "a lower learning rate (--lr) or a clip_norm (--clip-norm) may help" in text
    assert "NonFiniteError" not in text
    if int(np.__version__.partition(".")[0]) > 1:  # before, each thread had its own errstate
        assert not noise


def test_mask_outside_the_image(capsys, data, tmp_path):
    image, output = data / "images" / "0.png", tmp_path / "m.png"
    text = fails(capsys, "masks", image, "-o", output, "--at", "24,0")
    assert "--at: expected a pixel of the 24 x 20 image, got 24,0" in text


def test_training_does_not_overwrite_a_run(capsys, data, model):
    text = fails(capsys, "train", data, "-o", model.parent, *SMALL, *SHORT)
    assert "holds a run: go on with it (the same call with --resume)" in text


def test_gpu_without_cupy(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "cupy" in fails(capsys, "train", "scenes", "--gpu")
