"""The command line: which commands there are, and what is said of a wrong one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Container, Sequence
from importlib import import_module
from typing import Any, NoReturn

from segaware_np.version import __version__

COMMANDS = {
    "demo": "train on built-in scenes and show what the masks do, in three minutes",
    "train": "train an embedding network or a segmentation network",
    "predict": "label images, or all images of a folder",
    "evaluate": "score a network on labelled images",
    "masks": "show an image's local attention masks at a few pixels",
    "explore": "write a page on which an image's local masks can be explored, offline",
    "explain": "tell what each layer of a network computes, and check its gradient",
    "learn": "exercises in hand-written gradients, checked on this machine",
    "caffe": "run, train, show or convert Caffe's files",
    "info": "show versions, BLAS, backends and whether a GPU is usable",
}


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

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print, and do not pass over what cannot be printed as argparse does."""
        if message:
            (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help lists the options)\n")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line, of which only the command's own module is imported."""
    # The options before a command take no value: the first other word is the command.
    command = next((item for item in arguments if not item.startswith("-")), "")
    options, unknown = build_parser([command]).parse_known_args(arguments)
    error = vars(options).pop("error")
    if unknown:
        error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


def build_parser(used: Container[str] = COMMANDS) -> Parser:
    """Return the program's parser; it knows the options of the commands that are ``used``.

    Only their modules are imported, which takes its time.
    """
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
    for name, purpose in COMMANDS.items():
        command = subparsers.add_parser(name, help=purpose)
        command.set_defaults(error=command.error)
        if name in used:
            import_module(f"{__package__}.{name}").add_arguments(command)
    return parser
