"""The search for an example that breaks a proof, and the code to keep it by."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from segaware_np.testing.errors import ProofError
from segaware_np.testing.nest import is_array, to_host

_LONGEST = 4000  # characters that a message may spend on an example


def search(check: Callable[[Sequence[Any]], object], strategy: Any, key: str) -> None:
    """Run ``check`` on examples of a hypothesis strategy; raise what the smallest failure raises.

    Parameters
    ----------
    check : callable
        Takes an example, and raises a `ProofError` if it breaks the proof.
    strategy : hypothesis strategy
    key : str
        What failures are saved by in hypothesis' database.

    Raises
    ------
    ProofError
        With the code of the example at the end of its message.
    """
    from hypothesis import find, settings
    from hypothesis.errors import NoSuchExample

    def breaks(example: Sequence[Any]) -> bool:
        try:
            check(example)
        except ProofError:
            return True
        return False

    try:
        # No deadline: a proof is many calls, and a loaded machine is not an error.
        smallest = find(
            strategy, breaks, settings=settings(deadline=None), database_key=key.encode()
        )
    except NoSuchExample:
        return
    try:
        check(smallest)
    except ProofError as error:
        error.args = (f"{error}\n{_story(smallest)}",)
        raise
    raise ProofError(f"a proof failed, but not when it was repeated:\n{_story(smallest)}")


def _story(example: Sequence[Any]) -> str:
    code = source(example)
    if len(code) > _LONGEST:
        return "  the smallest example found is too large to print; the next run meets it again"
    return f"  the smallest example found, as a test of its own:\n    prove(..., inputs={code})"


def source(value: Any) -> str:
    """Return Python code that makes ``value``: nests of arrays to the last bit.

    Examples
    --------
    >>> import numpy as np
    >>> source((np.array([0.1, np.inf]), {"stride": 2}))
    "(np.array([0.1, np.inf], 'float64'), {'stride': 2})"
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {source(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(source, value)) + "]"
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return "(" + ", ".join(map(source, value)) + ("," if len(value) == 1 else "") + ")"
    if not is_array(value):
        return repr(value)
    array = to_host(value)
    numbers = re.sub(r"\b(nan|inf)\b", r"np.\1", repr(array.tolist()))
    shape = f".reshape({array.shape})" if array.size == 0 else ""
    return f"np.array({numbers}, {array.dtype.name!r}){shape}"
