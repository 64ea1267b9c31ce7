"""Text on a terminal."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""Return a text whose control characters but newlines are spelt out: a terminal obeys them.

    Parameters
    ----------
    text : str
        May hold what stands in a file that someone else made.

    Examples
    --------
    >>> print(visible("a layer \x1b[31min red\n"), end="")
    a layer \x1b[31min red
    """
    return "".join(
        c if c == "\n" or not (c < " " or "\x7f" <= c < "\xa0") else f"\\x{ord(c):02x}"
        for c in text
    )
