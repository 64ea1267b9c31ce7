"""Sphinx extension: a bare name in a docstring links to the one thing of that name."""

from __future__ import annotations

import sys
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element
) -> nodes.reference | None:
    """Find `relu_forward` from wherever it is named, if there is only one."""
    domain, target = env.get_domain("py"), node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    ends = f".{target}"
    found = [(name, entry) for name, entry in domain.objects.items() if name.endswith(ends)]
    found = [(name, entry) for name, entry in found if not entry.aliased]
    if len(found) != 1:
        return None
    ((name, entry),) = found
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, text, name)


def forget_course(_conf: dict[str, Any], _file: str) -> None:
    """Let the next script import its style anew, which the gallery resets between scripts."""
    sys.modules.pop("course", None)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the resolver."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
