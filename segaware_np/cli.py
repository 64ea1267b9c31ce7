"""The ``segaware`` program: parses the command line, runs one command, reports errors."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from segaware_np.caffe import commands as caffe
from segaware_np.commands import (
    demo,
    evaluate,
    explain,
    explore,
    info,
    masks,
    predict,
    train,
)
from segaware_np.version import __version__

COMMANDS = (demo, train, predict, evaluate, masks, explore, explain, caffe, info)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows every default, unless there is none or the text itself tells it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = "(default" in (action.help or "")
        if told or action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def __init__(self, *args, **kwargs) -> None:
        kwargs.setdefault("formatter_class", HelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help lists the options)\n")


def build_parser() -> Parser:
    """Return the parser of the whole program."""
    parser = Parser(
        prog="segaware",
        description="Segmentation-aware convolutional networks in NumPy and CuPy.",
        epilog="segaware COMMAND --help describes a command's options.",
    )
    parser.add_argument("--version", action="version", version=f"segaware_np {__version__}")
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error (with any command)"
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_command(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        0, or 2 after an error, which is one line on standard error, or 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments  # before or after the command's name
    parser = build_parser()
    options = parser.parse_args([item for item in arguments if item != "--debug"])
    try:
        options.run(options)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        print("segaware: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        print(f"segaware: error: {describe(error)}", file=sys.stderr)
        return 2


def describe(error: BaseException) -> str:
    """Return an error as one line; those that nobody foresaw also name their kind."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.strerror}: {error.filename}"
    elif isinstance(error, MemoryError):
        text = f"not enough memory: {text}"
    if isinstance(error, (ValueError, TypeError, OSError, ImportError, MemoryError)) and text:
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"
