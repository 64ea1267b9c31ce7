"""``segaware learn``: exercises in hand-written gradients, checked on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from segaware_np.commands.options import positive, whole
from segaware_np.files import atomic_write, check_writable
from segaware_np.learn import (
    ORDER,
    Exercise,
    Progress,
    Verdict,
    check_all,
    find,
    submissions,
    table,
)
from segaware_np.learn.exercise import identify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the commands of ``segaware learn``."""
    parser.description = (
        "Exercises in hand-written gradients: formula and forward pass are given, you write the "
        "backward. The check proves it, or says which mistake it looks like. Without a command: "
        "the list of exercises."
    )
    parser.set_defaults(run=show, folder=".")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    command = _command(commands, "list", show, "show the exercises, and how far you are")
    _optional(command, "folder", "folder of your files", default=".")

    command = _command(commands, "start", start, "write the file of an exercise, to be filled in")
    _optional(command, "name", "name or number (default: the first that is not solved)")
    _optional(command, "folder", "where to write it; your progress is kept there", default=".")

    command = _command(commands, "check", check, "check your file, or all files of a folder")
    _optional(command, "file", "a file, or a folder of them (default: the exercise at hand)")
    command.add_argument("--json", action="store_true", help="print everything as JSON")
    command.add_argument("--seconds", type=positive, default=10.0, help="time that a file may take")
    command.add_argument(
        "--megabytes", type=whole(1), default=1024, help="memory that a file may take, on Linux"
    )

    command = _command(commands, "hint", hint, "show a hint")
    _optional(command, "file", "your file (default: the exercise at hand)")

    command = _command(commands, "solution", solution, "show the solution, once you have tried")
    _optional(command, "file", "your file (default: the exercise at hand)")


def _optional(
    parser: argparse.ArgumentParser, name: str, text: str, default: str | None = None
) -> None:
    parser.add_argument(name, nargs="?", metavar=name.upper(), help=text, default=default)


def _command(
    commands: argparse._SubParsersAction,
    name: str,
    action: Callable[[argparse.Namespace], None],
    purpose: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=f"{purpose.capitalize()}.")
    parser.set_defaults(run=action)
    return parser


def show(options: argparse.Namespace) -> None:
    """Print the exercises and what is solved."""
    progress = Progress.read(options.folder)
    for name in ORDER:
        exercise = find(name)
        print(
            f"{exercise.number:>3}  {name:<12} {exercise.title:<56} {progress.state(name)}".rstrip()
        )
    print(f"\n{len(progress.solved)} of {len(ORDER)} solved.", end=" ")
    _say_next(progress)


def _say_next(progress: Progress) -> None:
    if progress.next is None:
        print("That is all of them. The library's own: segaware_np/ops, backward under forward.")
    else:
        path = progress.folder / f"{progress.next}.py"
        folder = "" if progress.folder == Path() else f" {progress.folder}"
        start = f"start {progress.next}{folder}"
        print(f"Next: segaware learn {f'check {path}' if path.exists() else start}")


def start(options: argparse.Namespace) -> None:
    """Write the file of an exercise."""
    folder = Path(options.folder)
    progress = Progress.read(folder)
    exercise = find(options.name or progress.next or ORDER[0])
    path = folder / f"{exercise.name}.py"
    if path.exists():
        raise FileExistsError(f"{path} is there already: go on with it, or rename it to begin anew")
    folder.mkdir(parents=True, exist_ok=True)
    check_writable(path)
    with atomic_write(path) as file:
        file.write(exercise.file.encode())
    progress.current = exercise.name
    progress.write()
    print(f"wrote {path}: {exercise.title}")
    print(f'Write what is missing below "Your turn", then: segaware learn check {path}')


def check(options: argparse.Namespace) -> None:
    """Check a file or a folder; the exit status is 1 if something is not right yet."""
    path = _file(options.file)
    folder = path.is_dir()
    limits = {"seconds": options.seconds, "megabytes": options.megabytes}
    verdicts = check_all(submissions(path) if folder else [path], **limits)
    if options.json:
        print(json.dumps([verdict.as_dict() for verdict in verdicts], indent=2))
    elif folder:
        print(table(verdicts))
    else:
        print(verdicts[0])
        _note(verdicts[0], path)
    if any(verdict.state == "not yet" for verdict in verdicts):
        sys.stdout.flush()
        raise SystemExit(1)


def _note(verdict: Verdict, path: Path) -> None:
    """Keep a student's progress, and say what to do next."""
    if verdict.exercise is None or verdict.skipped:
        return
    name, progress = verdict.exercise, Progress.read(path.parent)
    progress.current = name
    if verdict.attempted:
        progress.attempts[name] = progress.attempts.get(name, 0) + 1
    if verdict.solved and name not in progress.solved:
        progress.solved.append(name)
    progress.write()
    print()
    if verdict.solved:
        _say_next(progress)
    else:
        print(f"segaware learn hint {path}")


def hint(options: argparse.Namespace) -> None:
    """Print a hint."""
    print(_exercise(_file(options.file)).hint)


def solution(options: argparse.Namespace) -> None:
    """Print the answer of an exercise that was tried."""
    path = _file(options.file)
    exercise, progress = _exercise(path), Progress.read(path.parent)
    if not progress.attempts.get(exercise.name):
        raise ValueError(f"try it first: segaware learn check {path}")
    print("\n".join(line for line in exercise.answer.splitlines() if "Your turn" not in line))


def _file(given: str | None) -> Path:
    """Return the path that was given, or the file of the exercise at hand."""
    if given is not None:
        return Path(f"{given}.py" if given in ORDER else given)
    current = Progress.read(".").current
    if current is None:
        raise ValueError("FILE: expected a file, there is no exercise at hand in this folder")
    return Path(f"{current}.py")


def _exercise(path: Path) -> Exercise:
    name = identify(path)
    if name is None:
        raise ValueError(f"{path}: expected the file of an exercise ({', '.join(ORDER)})")
    return find(name)
