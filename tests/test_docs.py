"""The pages: links to code are alive, code blocks run, and the site builds."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if not page.is_relative_to(DOCS / "_build"))
NAMES = [str(page.relative_to(DOCS)) for page in PAGES]
CUPY = {"gpu.md"}  # its blocks need a GPU
NEEDS = {"pytorch.md": "torch", "jax.md": "jax", "large_images.md": "zarr"}


def find(name):
    """The object behind a dotted name."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            thing = getattr(thing, part)
        return thing
    raise AttributeError(name)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_to_code_are_alive(page):
    text = page.read_text("utf-8")
    for name in re.findall(r"\{py:\w+\}`([\w.]+)`", text):
        find(name)
    for file, options in re.findall(r"```\{literalinclude\} (\S+)\n((?::.*\n)*)```", text):
        source = (page.parent / file).read_text("utf-8")
        (symbol,) = re.findall(r":pyobject: (\w+)", options)
        functions = [n.name for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
        assert symbol in functions, f"{file} has no {symbol}"
    for target in re.findall(r"\]\(([\w./]+\.(?:md|rst))\)", text):
        made = target.endswith("gallery/index.rst")
        assert made or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in CUPY], ids=str)
def test_code_blocks_run(page, tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    if not blocks:
        pytest.skip("no code on this page")
    if module := NEEDS.get(page.name):
        pytest.importorskip(module, reason=f"{module} is not installed")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    profile = settings.get_current_profile_name()
    try:
        for block in blocks:
            exec(compile(block, str(page), "exec"), namespace)
    finally:
        settings.load_profile(profile)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    modules = (
        "sphinx",
        "myst_parser",
        "numpydoc",
        "sphinx_gallery",
        "furo",
        "latex2mathml",
        "skimage",
    )
    for module in modules:
        pytest.importorskip(module, reason=f"{module} is not installed")
    for folder in ("docs", "examples"):  # the build writes beside the pages
        ignore = shutil.ignore_patterns("_build", "generated", "gallery")
        shutil.copytree(DOCS.parent / folder, tmp_path / folder, ignore=ignore)
    (tmp_path / "segaware_np").symlink_to(DOCS.parent / "segaware_np")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", "site"]
    environment = {**os.environ, "SEGAWARE_EXAMPLES": "small", "MPLBACKEND": "Agg"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-5000:]
    pages = {page: page.read_text("utf-8") for page in (tmp_path / "site").rglob("*.html")}
    assert any(page.parent.name == "gallery" for page in pages)
    downloads = [p for p in (tmp_path / "site" / "_downloads").rglob("*.*") if p.suffix != ".zip"]
    assert len(downloads) == 20  # scripts and notebooks, which run alone
    assert not any("from course" in path.read_text("utf-8") for path in downloads)
    for page, text in pages.items():  # nothing is fetched, and no LaTeX is left for a script
        assert not re.search(r'(?:src|stylesheet" \w+)="https?:|<m\w+>[&\\]\w*</', text), page


def test_derivations_show_code_for_every_equation():
    for page in sorted((DOCS / "derivations").glob("*.md")):
        text = page.read_text("utf-8")
        if page.name != "index.md":
            assert text.count("{literalinclude}") >= 1, page.name
            assert "Code: {py:func}" in text, page.name
