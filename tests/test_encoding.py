"""Text is UTF-8 whatever the machine's locale says."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segaware_np.images import write_image, write_labels

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for folder in ("segaware_np", "benchmarks", "docs", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def leaves_open(call: ast.Call) -> bool:
    """Whether a call reads or writes text and does not say in which encoding."""
    named = {word.arg for word in call.keywords}
    match call.func, call.args:
        case ast.Name("open"), [_, ast.Constant(str(mode)), *_] if "b" in mode:
            return False
        case ast.Name("open"), _:
            return "encoding" not in named
        case ast.Attribute(attr="read_text"), []:
            return "encoding" not in named
        case ast.Attribute(attr="write_text"), [_]:
            return "encoding" not in named
    return False


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="an installed package, not a checkout")
def test_every_text_file_is_opened_with_an_encoding():
    faults = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and leaves_open(node)
    ]
    assert len(SOURCES) > 100 and faults == []


@pytest.mark.parametrize(("code", "fault"), [
    ("open(x)", True), ("open(x, 'w')", True), ("open(x, mode)", True), ("p.read_text()", True),
    ("p.write_text(t)", True), ("open(x, 'rb')", False), ("open(x, encoding='utf-8')", False),
    ("p.read_text('utf-8')", False), ("p.write_text(t, encoding='utf-8')", False),
    ("read_text(path)", False),
])
def test_the_search_finds_what_it_is_for(code, fault):
    assert leaves_open(ast.parse(code, mode="eval").body) == fault


NET = """# a comment in Greek: \N{GREEK SMALL LETTER ALPHA}
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "c" type: "Convolution" bottom: "data" top: "\N{GREEK SMALL LETTER ALPHA}"
  convolution_param { num_output: 2 kernel_size: 1 } }
"""
PLAIN = ["--network", "plain", "--widths", "2", "--depths", "1", "--refine", "1"]


def test_the_program_in_an_ascii_locale(tmp_path):
    """Lists, networks, pages, logs; an encoding that is left to the locale is an error."""
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    write_labels(tmp_path / "l.png", np.zeros((8, 8), int))
    (tmp_path / "val.txt").write_text("\ufeffa.png l.png\r\n", encoding="utf-8")
    (tmp_path / "train.txt").write_text("a.png l.png\n", encoding="utf-16")
    (tmp_path / "net.prototxt").write_text("\ufeff" + NET, encoding="utf-8")
    environment = {
        **os.environ, "LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
        "PYTHONWARNDEFAULTENCODING": "1", "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    only_ours = ["-W", "error::EncodingWarning:segaware_np"]
    probe = "import locale; print(locale.getpreferredencoding(False))"
    probe = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True)
    assert probe.stdout.decode().strip() in ("ANSI_X3.4-1968", "US-ASCII", "646", "ascii")
    for arguments in (
        ["train", ".", "--classes", "sky,tree", "-o", "run", *PLAIN,
         "--batch", "1", "--iterations", "2"],
        ["evaluate", "run/model.npz", ".", "--json", "scores.json"],
        ["predict", "run/model.npz", "a.png", "-o", "out"],
        ["masks", "a.png"], ["explore", "a.png"], ["explain", "run/model.npz", "a.png"],
        ["caffe", "show", "net.prototxt"], ["info"],
    ):
        done = subprocess.run(
            [sys.executable, *only_ours, "-m", "segaware_np", *arguments],
            env=environment, cwd=tmp_path, capture_output=True,
        )
        assert done.returncode == 0, done.stderr
    page = (tmp_path / "explore.html").read_bytes()
    assert b'<meta charset="utf-8"' in page.lower() and page.decode("utf-8")
