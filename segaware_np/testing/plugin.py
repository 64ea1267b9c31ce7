"""Pytest plugin: ``--proofs quick`` (the default) or ``--proofs thorough``.

Switch it on in the ``conftest.py`` at the root of your tests::

    pytest_plugins = ["segaware_np.testing.plugin"]

Quick takes 25 examples a property, the same at every run. Thorough takes 1000 new ones, keeps
failures in hypothesis' database and runs the tests marked ``slow`` as well. Profiles
``proofs-quick`` and ``proofs-thorough`` are registered with hypothesis; an explicit
``--hypothesis-profile`` wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segaware_np.extras import require

if TYPE_CHECKING:
    import pytest

_EXAMPLES = {"quick": 25, "thorough": 1000}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--proofs``."""
    parser.getgroup("segaware_np").addoption(
        "--proofs",
        choices=list(_EXAMPLES),
        default="quick",
        help="how hard to try to break a property: 25 fixed examples, or 1000 new ones and the "
        "tests marked slow (default: quick)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the profiles and load the one that was asked for."""
    config.addinivalue_line(
        "markers", "slow: takes minutes; runs with -m slow or --proofs thorough"
    )
    settings = require("hypothesis", extra="test").settings
    for name, examples in _EXAMPLES.items():
        settings.register_profile(
            f"proofs-{name}",
            max_examples=examples,
            deadline=None,  # a loaded machine is not an error
            derandomize=name == "quick",
        )
    if not config.getoption("--hypothesis-profile", default=None):
        settings.load_profile(f"proofs-{config.getoption('--proofs')}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the slow tests, unless they were asked for."""
    if config.getoption("--proofs") == "thorough" or "slow" in config.getoption("markexpr", ""):
        return
    import pytest

    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: runs with -m slow or --proofs thorough"))
