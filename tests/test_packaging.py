"""The package works as a checkout, wheel, sdist and editable install, kernels and all."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")

PROBE = """
import sys, site
from pathlib import Path
sys.path.insert(0, sys.argv[1])
site.addsitedir(sys.argv[1])
sys.path.append(sys.argv[3])
import numpy as np
import segaware_np
from segaware_np.gpu.kernels import source_code
from segaware_np.ops.distance import distance_forward
from segaware_np.window import Window
home = Path(segaware_np.__file__).resolve()
assert Path(sys.argv[2]).resolve() in home.parents, home
assert (home.parent / "py.typed").is_file()
assert "__global__" in source_code("distance", "float")
distance, _ = distance_forward(np.arange(9.0).reshape(1, 1, 3, 3), Window(3))
assert distance.ravel().tolist() == [4, 3, 2, 1, 0, 1, 2, 3, 4]
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def probe(site: Path, home: Path, cwd: Path) -> None:
    """Use the package in a fresh interpreter: `site` is searched, it must be found under `home`.

    Nothing that is installed beside NumPy is set up (-S): an editable install of this package
    would come first.
    """
    beside = Path(np.__file__).parents[1]
    run(sys.executable, "-I", "-S", "-c", PROBE, site, home, beside, cwd=cwd)


def pip(*arguments: str | Path, cwd: Path) -> None:
    run(sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--no-deps",
        "--no-build-isolation", "--no-index", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout without what building and testing leave there."""
    folder = tmp_path_factory.mktemp("source") / "segaware_np"
    leave = (".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*leave))
    return folder


@pytest.fixture(scope="module")
def archives(source, tmp_path_factory):
    """(sdist, wheel); the wheel is built from the unpacked sdist, so both hold everything."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=out)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def modules(folder: Path) -> set[str]:
    files = (folder / "segaware_np").rglob("*.py")
    return {str(path.relative_to(folder)) for path in files}


def test_every_package_is_listed():
    found = {".".join(Path(name).parent.parts) for name in modules(ROOT)}
    listed = set(SETUP["options"]["packages"].split())
    assert listed == found | {"segaware_np.raw_kernels"}


def test_checkout(tmp_path):
    probe(ROOT, ROOT, tmp_path)


def test_version_is_said_once():
    from segaware_np.version import __version__

    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_links_of_the_readme_are_alive():
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())
    local = [link for link in links if "://" not in link]
    assert local and all((ROOT / link).exists() for link in local), local


def test_python_of_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["dx"].shape == names["x"].shape and np.isfinite(names["ds"])


@pytest.mark.slow
def test_wheel(archives, tmp_path):
    pip("--target", tmp_path / "site", archives[1], cwd=tmp_path)
    probe(tmp_path / "site", tmp_path / "site", tmp_path)


@pytest.mark.slow
def test_wheel_holds_every_file(archives):
    held = set(zipfile.ZipFile(archives[1]).namelist())
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "segaware_np").rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".pyo")
    }
    kernels = {f"segaware_np/raw_kernels/{path.name}" for path in ROOT.glob("raw_kernels/*.cu*")}
    assert tracked | kernels <= held
    assert not {name for name in held if name.startswith(("tests/", "examples/"))}


@pytest.mark.slow
def test_sdist_holds_what_its_tests_need(archives):
    with tarfile.open(archives[0]) as file:
        held = {name.partition("/")[2] for name in file.getnames()}
    wanted = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/**/*.py")}
    wanted |= {path.relative_to(ROOT).as_posix() for path in ROOT.glob("raw_kernels/*.cu*")}
    assert wanted | {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= held


@pytest.mark.slow
def test_editable(source, tmp_path):
    pip("--target", tmp_path / "site", "--editable", source, cwd=tmp_path)
    probe(tmp_path / "site", source, tmp_path)
