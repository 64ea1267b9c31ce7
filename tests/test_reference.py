"""The reference: every public name is there, with all that it takes to use it.

What `test_name_is_documented` demands, exceptions: none.

* Every argument of a function, and every argument or field of a class, under Parameters or
  Attributes; arrays with their shape.
* What it returns, under Returns or Yields, or in a summary that begins with "Return".
* What it raises, under Raises, where its body raises or calls a check; methods likewise. What every
  operation checks of its arrays is said once, by `segaware_np.ops`.
* An example, which `test_examples_run` runs.
* An operation and a layer: the formula, and where it comes from.

Four rules say it with less: "those of `other`" hands a section over to the docstring of `other`.
A backward tells its gradients; all else mirrors its forward, whose example runs the pair. An error
needs no example: it stands under the Raises of what raises it. The inner rooms, which are no part
of the public library, need no examples.
"""

import ast
import dataclasses
import doctest
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import textwrap
import types
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

import segaware_np

PAGE = (Path(__file__).parent.parent / "docs" / "reference.md").read_text("utf-8")
INNER = ("cpu", "gpu", "commands", "raw_kernels")  # forms of public functions, and the program
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)
FORMULA = re.compile(r"``[^`]*[=<≤][^`]*``|::$", re.MULTILINE)
NEEDS = {  # what examples cannot do without
    "segaware_np.data.datasets": "PIL",
    "segaware_np.demo": "matplotlib",
    "segaware_np.images": "PIL",
    "segaware_np.large": "zarr",
    "segaware_np.plot": "matplotlib",
    "segaware_np.testing.cuda.nvrtc": "nvidia",
}
CHECKS = re.compile(r"_?check\w*|needed|image_shape")
OF_ARRAYS = {"check_array", "check_filter", "_check", "needed"}  # of an op: shapes, dtypes, places


def listed(text=PAGE):
    """Modules that the page lists."""
    return re.findall(r"^   (segaware_np[\w.]*)$", text, re.MULTILINE)


def is_class(thing):
    """Before Python 3.11 `inspect` takes an alias such as ``Collection[str]`` for a class."""
    return inspect.isclass(thing) and not isinstance(thing, types.GenericAlias)


def public(module):
    """Public names of a module: its ``__all__``, or what it defines without an underscore."""
    if hasattr(module, "__all__"):
        return [n for n in module.__all__ if not inspect.ismodule(getattr(module, n))]
    return [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(thing) or is_class(thing))
        and thing.__module__ == module.__name__
    ]


def walk():
    """All modules of the library but the inner rooms."""
    for found in pkgutil.walk_packages(segaware_np.__path__, "segaware_np."):
        room = found.name.split(".")[1]
        if room not in INNER and not room.startswith("_"):
            yield importlib.import_module(found.name)


def names(text):
    """``(module, name)`` of every function and class in the modules that a page lists."""
    modules = [importlib.import_module(name) for name in listed(text)]
    return [
        (module, name)
        for module in modules
        for name in public(module)
        if inspect.isfunction(getattr(module, name)) or is_class(getattr(module, name))
    ]


OUTER = names(PAGE.partition("Inner rooms")[0])
ALL = names(PAGE)


# ---- what a docstring says ----------------------------------------------------------------------


def sections(thing):
    """The docstring cut at its headings: the summary under ""."""
    parts = SECTION.split(inspect.getdoc(thing) or "")
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def described(thing):
    """Names under Parameters and Attributes, and those of the docstring that they refer to."""
    doc, found = sections(thing), set()
    for section in ("Parameters", "Attributes"):
        for line in re.findall(r"^\S.*$", doc.get(section, ""), re.MULTILINE):
            found |= {name.strip(" *") for name in line.partition(" : ")[0].split(",")}
    for other in referred(thing, "arguments|parameters"):
        found |= described(other)
    return found


def referred(thing, what):
    """The things whose docstrings also hold: "those of `other`", "as for `other`"."""
    text = " ".join(sections(thing)[""].split())
    module = inspect.getmodule(thing)
    for sentence in re.split(r"(?<=[.:])\s", text):
        if re.search(what, sentence, re.IGNORECASE):
            for name in re.findall(r"(?:those of|as for) `(\w+)`", sentence):
                yield getattr(module, name)


def says(thing, *titles, what):
    """Whether a docstring has one of the sections, or refers to one that has."""
    return bool(sections(thing).keys() & set(titles)) or any(
        says(other, *titles, what=what) for other in referred(thing, what)
    )


# ---- what the code does -------------------------------------------------------------------------


def is_error(thing):
    return is_class(thing) and issubclass(thing, BaseException)


def bodies(thing):
    """Syntax trees of a function, or of what makes an instance of a class."""
    if is_class(thing):
        own = [vars(thing).get(name) for name in ("__init__", "__post_init__")]
        found = [f for f in own if inspect.isfunction(f) and f.__module__.startswith("segaware_np")]
    else:
        found = [inspect.unwrap(thing)]
    written = [f for f in found if f.__code__.co_filename.endswith(".py")]  # not made by Python
    return [ast.parse(textwrap.dedent(inspect.getsource(function))).body[0] for function in written]


def own_nodes(body):
    """The nodes of a function without those of functions inside it."""
    for node in ast.iter_child_nodes(body):
        if not isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            yield node
            yield from own_nodes(node)


def arguments(thing):
    """Names of the arguments that a caller may give."""
    if is_error(thing) or (is_class(thing) and getattr(thing, "_is_protocol", False)):
        return set()
    made = dataclasses.is_dataclass(thing) or hasattr(thing, "_fields")
    if is_class(thing) and not made and "__init__" not in vars(thing):
        return set()  # it is made as its base class is
    parameters = inspect.signature(thing).parameters
    return {name for name in parameters if not name.startswith("_")}


def raises(body, said_by_package=()):
    nodes = list(own_nodes(body))
    calls = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in nodes) or any(
        map(CHECKS.fullmatch, calls.difference(said_by_package))
    )


def returns(body):
    return any(
        isinstance(node, (ast.Yield, ast.YieldFrom))
        or (isinstance(node, ast.Return) and node.value is not None)
        for node in own_nodes(body)
    )


def lacks(thing, example):
    """What a docstring should say and does not."""
    doc, code, found = sections(thing), bodies(thing), []
    if missing := arguments(thing) - described(thing):
        found.append(f"Parameters: {', '.join(sorted(missing))}")
    if inspect.isfunction(thing) and any(map(returns, code)):
        told = re.match(r"(Return|Whether|Yield)\b", doc[""])
        if not told and not says(thing, "Returns", "Yields", what="result"):
            found.append("Returns")
    once = OF_ARRAYS if thing.__module__.startswith("segaware_np.ops.") else ()
    if any(raises(body, once) for body in code) and not says(thing, "Raises", what="error"):
        found.append("Raises")
    if example and ">>>" not in doc.get("Examples", ""):
        found.append("Examples")
    return found


@pytest.mark.parametrize(("module", "name"), ALL, ids=lambda part: getattr(part, "__name__", part))
def test_name_is_documented(module, name):
    thing = getattr(module, name)
    assert sections(thing)[""].strip(), "no docstring"
    if is_class(thing):
        bare = [
            key
            for key, member in vars(thing).items()
            if not key.startswith("_")
            and (inspect.isfunction(member) or isinstance(member, property))
            and not (inspect.getdoc(getattr(thing, key)) or key in described(thing))
        ]
        assert bare == []
        silent = [
            key
            for key, member in vars(thing).items()
            if not key.startswith("_")
            and inspect.isfunction(member)
            and any(map(raises, bodies(member)))
            and not says(getattr(thing, key), "Raises", what="error")
        ]
        assert silent == []
    if name.endswith("_backward"):
        forward = getattr(module, name.replace("_backward", "_forward"))
        summary = sections(thing)[""]
        assert FORMULA.search(summary) or "radient" in summary, "its gradients"
        assert f"{name}(" in sections(forward)["Examples"], "no example of the pair"
    else:
        assert lacks(thing, example=(module, name) in OUTER and not is_error(thing)) == []


@pytest.mark.parametrize("name", listed())
def test_module_is_documented_and_its_constants_with_it(name):
    module = importlib.import_module(name)
    told = {n for m, n in ALL if m is module}
    rest = [n for n in public(module) if n not in told]
    assert inspect.getdoc(module)
    assert [n for n in rest if f"``{n}``" not in inspect.getdoc(module)] == []


@pytest.mark.parametrize("name", [n for m, n in OUTER if m.__name__ == "segaware_np.ops"])
def test_operation_has_formula_and_source(name):
    if name.endswith("_backward"):
        return
    thing = getattr(segaware_np.ops, name)
    assert FORMULA.search(sections(thing)[""]), "no formula"
    assert says(thing, "Notes", what="source"), "no source"


@pytest.mark.parametrize("name", [n for m, n in OUTER if m.__name__ == "segaware_np.layers"])
def test_layer_has_formula_and_source(name):
    layer = getattr(segaware_np.layers, name)
    if not issubclass(layer, segaware_np.layers.Layer) or inspect.isabstract(layer):
        return
    assert layer.formula
    assert re.search(r"`\w+(_forward|_image)`|Notes\n---", inspect.getdoc(layer)), "no source"


def test_errors_stand_where_they_are_raised():
    text = "\n".join(
        inspect.getdoc(member) or ""
        for module in walk()
        for thing in vars(module).values()
        if is_class(thing) or inspect.isfunction(thing)
        for member in [thing, *(vars(thing).values() if is_class(thing) else ())]
        if is_class(member) or inspect.isfunction(member)
    )
    raised = "\n".join(re.findall(r"Raises\n-+\n((?:.+\n|\n(?=    ))*)", text + "\n"))
    lost = [n for m, n in ALL if is_error(getattr(m, n)) and n not in raised]
    assert lost == []


def test_every_public_name_is_in_the_reference():
    """What a listed package exports need not be listed again."""
    modules = set(listed())
    exported = {id(getattr(m, n)) for m in map(importlib.import_module, modules) for n in public(m)}
    lost = []
    for module in walk():
        *above, _ = accumulate(module.__name__.split("."), "{}.{}".format)
        inside = [
            p for p in modules.intersection(above) if hasattr(importlib.import_module(p), "__all__")
        ]
        if module.__name__ in modules or inside:
            continue  # a package with ``__all__`` says itself what of its modules is public
        lost += [
            f"{module.__name__}.{n}"
            for n in public(module)
            if id(getattr(module, n)) not in exported
        ]
    assert lost == []


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
@pytest.mark.parametrize("name", sorted(module.__name__ for module in walk()))
def test_examples_run(name, tmp_path, monkeypatch):
    """In an empty folder, with ``np``."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is not installed")
    if name.endswith(".emulate") and not shutil.which(os.environ.get("CXX", "g++")):
        pytest.skip("no C++ compiler")
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.testmod(module, optionflags=flags, extraglobs={"np": np})
    assert found.failed == 0
