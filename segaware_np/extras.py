"""Optional dependencies: asked for where they are used, with a clear word when they are missing."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module.

    Parameters
    ----------
    module : str
        The module's import name.
    extra : str
        The extra of this package that brings it.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If the module is not installed; the message says what to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f'{module} is needed here and is not installed: pip install "segaware_np[{extra}]"'
        ) from error
