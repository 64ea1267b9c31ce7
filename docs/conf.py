"""Sphinx: pages in MyST markdown, the reference from the docstrings, the course from examples/."""

import inspect
import os
import re
import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

from segaware_np import __version__  # noqa: E402  (from this checkout, not an installed one)

project = "segaware_np"
author = copyright = "the segaware_np developers"
release = version = __version__

extensions = [
    "downloads",
    "links",
    "mathml",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "py:obj"
html_theme = "furo"
html_title = "segaware_np"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["mathml.css"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True


def write_explorer():
    """Write the explorer of a drawn scene, which the home page shows; return its folder."""
    from segaware_np.data import SyntheticScenes
    from segaware_np.explore import build_page

    folder = HERE / "generated" / "explorer"
    folder.mkdir(parents=True, exist_ok=True)
    page = build_page(SyntheticScenes(1)[0][0], title="A drawn scene")
    (folder / "explorer.html").write_text(page, "utf-8")
    return str(folder)


html_extra_path = [write_explorer()]


def exported(module):
    """Names in a module's ``__all__`` with what they are, each backward under its forward."""
    names = getattr(import_module(module), "__all__", [])
    order = sorted(names, key=lambda name: re.sub("_backward$", "_forwards", name))
    return [(name, kind(getattr(import_module(module), name))) for name in order]


def kind(thing):
    """Name of the directive that documents a thing."""
    if inspect.isclass(thing):
        return "autoexception" if issubclass(thing, BaseException) else "autoclass"
    return "autofunction" if inspect.isfunction(thing) else ""


REFERENCE = (HERE / "reference.md").read_text(encoding="utf-8")
pages = re.findall(r"^   (segaware_np[\w.]*)$", REFERENCE, re.M)
LINKS = {  # file of an op: its derivation, and the exercises about it
    "columns": ("columns", "im2col"),
    "convolution": ("convolution", "product, stride"),
    "distance": ("distance", "distance"),
    "embedding_loss": ("loss", "contrastive"),
    "mask": ("masks", "exponential, normalized"),
    "masked_sum": ("convolution", "segaware"),
    "mean_field": ("crf", "meanfield"),
    "pooling": ("", "pooling"),
    "relu": ("", "relu"),
    "segaware_convolution": ("convolution", "segaware, lean"),
    "softmax": ("", "softmax"),
}


def op_pages():
    """For each op, by its function or its forward: title, backward, links. A page is made of it."""
    ops, found = import_module("segaware_np.ops"), {}
    for name in ops.__all__:
        if not name.endswith("_backward"):
            stem = name.removesuffix("_forward")
            backward = f"{stem}_backward" if hasattr(ops, f"{stem}_backward") else ""
            file = getattr(ops, name).__module__.split(".")[-1]
            derivation, exercises = LINKS.get(file, ("", ""))
            links = [f":doc:`/derivations/{derivation}`"] if derivation else []
            links += [f":doc:`Exercises </learn>`: {exercises}"] if exercises else []
            found[name] = {"title": stem.replace("_", " "), "backward": backward, "links": links}
    return found


autosummary_context = {
    "exported": {module: exported(module) for module in pages},
    "op_pages": op_pages(),
}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the docstrings say it in words, with shapes
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "within_subsection_order": "FileNameSortKey",
    "ignore_pattern": r"course\.py",
    "reset_modules": ("matplotlib", "links.forget_course"),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "remove_config_comments": True,
}
