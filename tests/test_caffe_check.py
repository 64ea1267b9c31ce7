"""`segaware caffe check`: what runs, what stops, with which data and which assumptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segaware_np.caffe.check import Report, Run, check, summary
from segaware_np.commands import main as cli

CONV = ('layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
        "convolution_param { num_output: 21 kernel_size: 3 pad: 1 } }\n")
LOSS = 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" top: "l" }\n'
LIST = ('layer { name: "images" type: "ImageSegData" top: "data" top: "label"\n'
        'image_data_param { source: "missing.txt" batch_size: 10 label_type: PIXEL }\n'
        "transform_param { crop_size: 321 } }\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checked(text: str) -> Report:
    Path("net.prototxt").write_text(text)
    return check("net.prototxt")


def test_a_network_for_use_runs_forward_at_a_small_size(folder: Path) -> None:
    report = checked('input: "data" input_dim: [10, 3, 321, 481]\n' + CONV)
    (run,) = report.runs
    assert (run.phase, run.failed, run.backward, run.drawn) == ("TEST", "", False, [])
    assert run.size == (65, 97)  # what is over 32 and the shape stay
    assert report.line() == "runs   net.prototxt  TEST 65x97 forward"


def test_data_that_is_not_there_is_drawn_and_training_runs_backward(folder: Path) -> None:
    (run,) = checked(LIST + CONV + LOSS).runs
    assert (run.phase, run.failed, run.backward, run.drawn) == ("TRAIN", "", True, ["images"])
    assert run.size == (65, 65)


def test_data_that_is_there_is_used(folder: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name, shape in (("a.png", (8, 8, 3)), ("b.png", (8, 8))):
        image.fromarray(np.zeros(shape, np.uint8)).save(name)
    Path("missing.txt").write_text("a.png b.png\n")
    (run,) = checked(LIST.replace("321", "9") + CONV + LOSS).runs
    assert run.failed == "forward"  # 255 beyond the picture, and no ignore_label
    (run,) = checked(LIST.replace("321", "8") + CONV + LOSS).runs
    assert (run.failed, run.drawn, run.size) == ("", [], None)


def test_phases_and_stages_are_those_of_the_rules(folder: Path) -> None:
    rules = "include { phase: TRAIN } }", 'include { phase: TEST stage: "often" } }'
    source = LIST.rstrip()[:-1]
    runs = checked(source + rules[0] + source + rules[1] + CONV + LOSS).runs
    assert [(r.phase, r.stage, r.failed, r.backward) for r in runs] == [
        ("TRAIN", "", "", True), ("TEST", "often", "", False)]


@pytest.mark.parametrize(("text", "stage", "error"), [
    ("layer { name: }", "parse", "line 1: expected a value"),
    ('layer { nme: "x" }', "parse", "line 1: LayerParameter has no field 'nme'"),
    ('input: "data" input_dim: [1, 3, 9, 9]\n\nlayer { name: "a" type: "Sorting" bottom: "data" }',
     "build", "line 3: layer 'a': type 'Sorting' is not supported"),
    ('input: "data" input_dim: [1, 3, 9, 9]\nlayer { name: "a" type: "Pooling" bottom: "data" '
     'top: "a" pooling_param { kernel_size: 10 } }', "build", "line 2: layer 'a'"),
    ('input: "data" input_dim: [1, 3, 9, 9]\nlayer { name: "a" type: "Log" bottom: "data" '
     'top: "a" log_param { scale: 0 } }', "forward", "a is not finite"),
])
def test_what_stops_a_file_is_named_with_its_line(
    folder: Path, text: str, stage: str, error: str
) -> None:
    report = checked(text)
    assert report.failed == stage
    assert error in report.runs[0].error
    assert report.line().startswith("stops  net.prototxt")


def test_assumptions_are_said(folder: Path) -> None:
    start = 'input: "data" input_dim: [1, 3, 9, 9]\n'
    assert checked(start + CONV.replace("21", "${NUM_LABELS}")).notes == ["NUM_LABELS=21"]
    crop = (start + CONV.replace("pad: 1", "")
            + 'layer { name: "z" type: "Crop" bottom: "data" bottom: "c" top: "z" }')
    assert checked(crop).notes == ["Crop aligned"]
    assert "assumed: Crop aligned" in checked(crop).line()
    batch = (start + 'layer { name: "n" type: "BN" bottom: "data" top: "n" '
             "bn_param { frozen: true } }")
    assert "PSPNet's" in checked(batch).notes[0]


def test_a_size_that_a_network_needs_is_found(folder: Path) -> None:
    fixed = ('layer {{ name: "p" type: "{}" bottom: "data" top: "p" pooling_param {{ pool: AVE '
             "kernel_size: 200 }} }}")
    (run,) = checked('input: "data" input_dim: [1, 3, 473, 473]\n' + fixed.format("Pooling")).runs
    assert (run.failed, run.size) == ("", (249, 249))
    grey = ('layer { name: "d" type: "Data" top: "data" data_param { source: "no" batch_size: 9 } }'
            'layer { name: "s" type: "Slice" bottom: "data" top: "a" top: "b" }')
    (run,) = checked(grey).runs
    assert (run.failed, run.drawn) == ("", ["d"])  # two channels


def test_python_layers_without_bottoms_are_drawn_and_others_named(folder: Path) -> None:
    text = ('layer { name: "data" type: "Python" top: "data" top: "label" python_param { '
            'module: "voc_layers" layer: "NAME" param_str: "{\'voc_dir\': \'none\', '
            '\'split\': \'train\', \'mean\': (1, 2, 3)}" } }\n') + CONV + LOSS
    (run,) = checked(text.replace("NAME", "VOCSegDataLayer")).runs
    assert (run.failed, run.drawn, run.backward) == ("", ["data"], True)
    (run,) = checked(text.replace("NAME", "OtherLayer")).runs
    assert (run.failed, run.drawn) == ("", ["data"])
    reader = text.replace("NAME", "OtherLayer").replace("python", 'bottom: "data" python')
    (run,) = checked(reader + 'input: "data" input_dim: [1, 3, 9, 9]').runs
    assert run.failed == "build"
    assert "register_layer('voc_layers', 'OtherLayer', cls)" in run.error


def test_the_table_counts_what_passes_each_step() -> None:
    reports = [Report("a", [Run("TEST")]), Report("b", [Run("TRAIN", drawn=["data"])]),
               Report("c", [Run("", failed="parse")]), Report("d", [Run("TEST", failed="forward")])]
    numbers = [int(line.split()[-1]) for line in summary(reports)]
    assert numbers == [4, 3, 3, 2, 2, 1, 1]


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = folder / "nets" / "good.prototxt", folder / "nets" / "bad.prototxt"
    good.parent.mkdir()
    good.write_text('input: "data" input_dim: [1, 3, 9, 9]\n' + CONV)
    (folder / "nets" / "solver.prototxt").write_text('net: "good.prototxt"')
    assert cli.main(["caffe", "check", "nets"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "runs   nets/good.prototxt  TEST 9x9 forward"
    assert out[1].split() == ["files", "1"]
    bad.write_text("layer { }\n")
    assert cli.main(["caffe", "check", "nets"]) == 2
    assert "1 of 2 files do not run" in capsys.readouterr().err
    assert cli.main(["caffe", "check", "missing.prototxt"]) == 2
    assert "no such file" in capsys.readouterr().err
