"""Sphinx extension: scripts and notebooks of the course, as they are downloaded, run alone."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from sphinx.application import Sphinx

COURSE = Path(__file__).parent.parent / "examples" / "course.py"
IMPORT = re.compile(r"^from course import .*\n?", re.MULTILINE)


def alone(script: str) -> str:
    """Put what a script shares with the others where it imports it."""
    _, _, shared = COURSE.read_text("utf-8").split('"""', 2)[2].partition("\n\n")
    return IMPORT.sub(lambda _: shared, script)


def alone_notebook(text: str) -> str:
    """The same for a notebook."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = [alone("".join(cell["source"]))]
    return json.dumps(notebook, indent=1)


def rewrite(app: Sphinx) -> None:
    """Write downloads anew, behind the gallery, which has just made them."""
    for script in Path(app.srcdir, "gallery").glob("*.py"):
        notebook = script.with_suffix(".ipynb")
        script.write_text(alone(script.read_text("utf-8")), "utf-8")
        notebook.write_text(alone_notebook(notebook.read_text("utf-8")), "utf-8")
        if (archive := script.with_suffix(".zip")).exists():
            with zipfile.ZipFile(archive, "w") as both:
                for part in (script, notebook):
                    both.write(part, part.name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Run when the gallery is made: its own handler has the usual priority, 500."""
    app.connect("builder-inited", rewrite, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
