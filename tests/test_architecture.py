"""The house keeps its order: `docs/architecture.md` says what may import what, the code obeys."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "segaware_np"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")

CORE = {"xp", "window", "dispatch", "ops", "cpu", "gpu", "layers", "net", "optim", "policies",
        "train", "data"}  # fmt: skip
BELOW_THE_CORE = {"decoding", "extras", "files", "images", "lazy", "log", "memory", "npz",
                  "parameter", "progress", "ranges", "ranks", "sharing", "signals",
                  "version"}  # fmt: skip
# Modules that are named while the program runs; each would be an import that no reader sees.
LOADED_BY_NAME = {
    "segaware_np.__init__": "what is asked for of the package",
    "segaware_np.commands.parser": "the command that is run",
    "segaware_np.dispatch": "the fast form of a formula",
    "segaware_np.extras": "optional dependencies",
    "segaware_np.learn.exercise": "the exercise that is asked for",
    "segaware_np.testing.cuda.fake_cupy": "CuPy, to compare names",
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


FILES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
MODULES = {name.removesuffix(".__init__") for name in FILES}


def imported(tree: ast.Module) -> Iterator[str]:
    """Modules of the library that a file imports, wherever in it: in functions, for types."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are written in full"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield from [m for m in (module, node.module) if m in MODULES][:1]


IMPORTS = {
    name.removesuffix(".__init__"): set(imported(tree)) - {name.removesuffix(".__init__")}
    for name, tree in FILES.items()
}


def room(module: str) -> str:
    """The package, or the file on the top level, that a module belongs to."""
    return module.split(".")[1] if "." in module else "segaware_np"


def rooms() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {room(module): set() for module in MODULES}
    for module, others in IMPORTS.items():
        found[room(module)] |= {room(other) for other in others} - {room(module)}
    return found


def floors() -> dict[str, int]:
    """Floor of each room, by the rows of the page's table from the bottom up."""
    rows = re.findall(r"^\| [^|]*\| ((?:`\w+` ?)+) *\|", PAGE, re.MULTILINE)
    listed = [re.findall(r"`(\w+)`", row) for row in reversed(rows)]
    names = [name for row in listed for name in row]
    assert len(names) == len(set(names)), "a room is listed twice"
    return {name: floor for floor, row in enumerate(listed) for name in row}


def circles(graph: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """Circles of imports, one for each arrow that closes one."""
    found, done = [], set()

    def visit(node: str, path: tuple[str, ...]) -> None:
        if node in path:
            found.append((*path[path.index(node) :], node))
        elif node not in done:
            for other in sorted(graph[node]):
                visit(other, (*path, node))
            done.add(node)

    for node in sorted(graph):
        visit(node, ())
    return found


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [("b", "c", "b")]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_modules_import_each_other(capsys):
    between = circles(IMPORTS) + circles(rooms())
    with capsys.disabled():
        print(f"\n{len(between)} circles of imports", end="")
    assert between == []


def test_every_room_imports_only_rooms_below_it(capsys):
    floor, found = floors(), rooms()
    assert set(floor) == set(found)
    against = [(a, b) for a, others in found.items() for b in others if floor[b] >= floor[a]]
    with capsys.disabled():
        print(f"\n{len(against)} imports against the order", end="")
    assert against == []


def test_what_is_loaded_by_name_is_known():
    def loads(node: ast.AST) -> bool:
        name = getattr(node, "id", getattr(node, "attr", ""))  # of a Name or an Attribute
        return name in ("import_module", "__import__")

    loading = {name for name, tree in FILES.items() if any(map(loads, ast.walk(tree)))}
    assert loading == set(LOADED_BY_NAME)


def test_the_core_is_minimal(capsys):
    below = rooms()

    @cache
    def reached(name: str) -> frozenset[str]:
        return frozenset({name}).union(*(reached(other) for other in below[name]))

    needed = frozenset().union(*map(reached, CORE))
    assert needed == CORE | BELOW_THE_CORE
    lines = sum(
        len(path.read_text("utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
        if room(name_of(path).removesuffix(".__init__")) in CORE
    )
    with capsys.disabled():
        print(f"\nthe core has {lines} lines", end="")


def test_links_of_the_page_lead_somewhere():
    paths = re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?)(?:: \w+)?`", PAGE)
    named = {path for path in paths if "/X." not in path}
    assert len(named) > 20
    missing = {path for path in named if not ((PACKAGE / path).exists() or (ROOT / path).exists())}
    assert missing == set()
