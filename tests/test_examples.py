"""Every script of the course runs alone, as downloaded, at small size, and draws something."""

import os
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
DOWNLOADS = EXAMPLES.parent / "docs" / "downloads.py"
SCRIPTS = sorted(EXAMPLES.glob("plot_*.py"))
NEEDS = {
    "course": ("matplotlib", "PIL"),
    "photograph": ("skimage",),
}
RUN = """
import pathlib, runpy, sys
import matplotlib.pyplot as plt
import numpy as np
script, *folder = sys.argv[1:]
sys.argv = [script]
runpy.run_path(script, run_name="__main__")
figures = [plt.figure(number) for number in plt.get_fignums()]
assert figures, "no figure was drawn"
for number, figure in enumerate(figures):
    figure.canvas.draw()
    assert np.asarray(figure.canvas.buffer_rgba()).std() > 1, "a figure is blank"
    for each in folder:
        figure.savefig(pathlib.Path(each) / f"{pathlib.Path(script).stem}_{number}.png")
"""


def test_the_course_has_nine_parts():
    assert [int(script.name.split("_")[1]) for script in SCRIPTS] == list(range(1, 10))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_example_runs(script, tmp_path, tmp_path_factory):
    pytest.importorskip("sphinx", reason="sphinx is not installed")
    spec = spec_from_file_location("downloads", DOWNLOADS)
    spec.loader.exec_module(downloads := module_from_spec(spec))
    text = script.read_text("utf-8")
    for word, modules in NEEDS.items():
        missing = [m for m in modules if word in text and find_spec(m) is None]
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)}")
    environment = {
        **os.environ,
        "SEGAWARE_EXAMPLES": "small",
        "MPLBACKEND": "Agg",
        "PYTHONPATH": str(EXAMPLES.parent),
    }
    alone = tmp_path_factory.mktemp("downloaded") / script.name
    alone.write_text(downloads.alone(text), "utf-8")
    kept = os.environ.get("SEGAWARE_SCREENSHOTS")
    folder = [kept] if kept else []
    result = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", RUN, str(alone), *folder],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert not list(tmp_path.iterdir()), "an example wrote files"
