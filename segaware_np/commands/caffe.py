"""``segaware caffe``: run, train, show and convert the files of Caffe users."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from segaware_np.caffe import Net, Solver
from segaware_np.caffe.alignment import READINGS
from segaware_np.caffe.check import check as check_network
from segaware_np.caffe.check import summary
from segaware_np.caffe.formats.text import fill_variables, parse, unknown_variables
from segaware_np.caffe.formats.text import read_text as description
from segaware_np.caffe.formats.upgrade import upgraded, write
from segaware_np.caffe.formats.wire import read_blob
from segaware_np.caffe.labelling import Labeller
from segaware_np.caffe.weights import read_layers, write_layers
from segaware_np.commands.options import add_device, array_library, number
from segaware_np.commands.sources import label_files
from segaware_np.commands.terminal import visible
from segaware_np.data import RGB_MEAN
from segaware_np.files import atomic_write, check_writable, read_text
from segaware_np.images import read_image, write_labels

_SUFFIXES = (".caffemodel", ".h5", ".npz", ".safetensors")
_WEIGHTS = "a .caffemodel, .h5, .npz or .safetensors file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the commands of ``segaware caffe``."""
    parser.description = "Networks, weights and solvers in Caffe's own files."
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = _command(
        commands, run, "label images with a trained network",
        "Label images: for each, NAME.png with the labels in PASCAL VOC's palette. An image goes "
        "in as blue, green, red (or grey, if the input has one channel) minus the mean, filled up "
        "at the bottom and on the right to the size that the model declares, or to one that it can "
        "take; if the model has no padding, mirrored at its border. Where the scores lie on the "
        "image the layers between tell; what lies beyond is cut.",
    )
    command.add_argument("model", metavar="MODEL", help="prototxt whose input is the image")
    command.add_argument("weights", metavar="WEIGHTS", help=f"trained weights: {_WEIGHTS}")
    command.add_argument("images", metavar="IMAGES", nargs="+", help="image files or folders")
    command.add_argument(
        "-o", "--output", default="predictions", metavar="OUT", help="folder for the labels"
    )
    command.add_argument("--blob", help="blob of the scores (default: the last output)")
    command.add_argument(
        "--mean", type=_mean, metavar="B,G,R|FILE",
        help="what is subtracted from blue, green and red, or a mean file (default: "
             f"{','.join(map(str, RGB_MEAN[::-1]))}; none for grey)",
    )
    command.add_argument(
        "--scale", type=number, default=1.0, help="what the difference is multiplied by"
    )
    command.add_argument(
        "--threshold", type=number,
        help="with one channel of scores: the score above which pixels are labelled 1 (default: "
             "0.5 behind a Sigmoid, none elsewhere)",
    )
    command.add_argument(
        "--stretch", action="store_true",
        help="stretch the scores over the image, instead of placing them as the layers tell",
    )
    command.add_argument(
        "--partial", action="store_true",
        help="run though layers are not in WEIGHTS and stay as they are at the start",
    )
    add_device(command)

    command = _command(
        commands, train, "train a network as a solver file says",
        "Train to max_iter; the network reads its images by data layers.",
    )
    command.add_argument("solver", metavar="SOLVER", help="prototxt of the solver")
    start = command.add_mutually_exclusive_group()
    start.add_argument("--weights", help=f"weights to start from: {_WEIGHTS}")
    start.add_argument("--snapshot", help="solverstate to go on from")
    add_device(command)

    command = _command(
        commands, show, "table of a network's layers, shapes, parameters and memory",
        "Table of a network: what each layer makes, what it learns, what was fused.",
    )
    command.add_argument("model", metavar="MODEL", help="prototxt")
    command.add_argument("--phase", choices=("TRAIN", "TEST"), default="TEST", help="of the layers")

    command = _command(
        commands, check, "say of network files whether they run, and what stops them",
        "Parse, build and run each network at a small size with drawn parameters, in the phases of "
        "its rules, backward in TRAIN; data layers whose data is not there get drawn data. One "
        "line a file, then a table; the exit code is 2 if one does not run.",
    )
    command.add_argument("files", metavar="FILE", nargs="+",
                         help="prototxt of a network, or a folder of them")

    command = _command(
        commands, upgrade, "write a description of an older Caffe in the present form",
        "The old layers { type: CONVOLUTION }, with blobs_lr, hole and the like, in the words of "
        "Caffe 1.0. Comments are lost.",
    )
    command.add_argument("source", metavar="FROM", help="prototxt of a network or solver")
    command.add_argument("target", metavar="TO", help="file to write")

    command = _command(
        commands, convert, "turn a caffemodel into .npz, .safetensors or .h5, or back",
        "Weights from one kind of file into another, by the files' suffixes: "
        ".caffemodel, .h5, .npz, .safetensors. Arrays are named LAYER/NUMBER.",
    )
    command.add_argument("source", metavar="FROM", help="file to read")
    command.add_argument("target", metavar="TO", help="file to write")


def _command(
    commands: argparse._SubParsersAction,
    action: Callable[[argparse.Namespace], None],
    purpose: str,
    description: str,
) -> argparse.ArgumentParser:
    """A command named like what it runs; those that read a description take its variables."""
    parser = commands.add_parser(action.__name__, help=purpose, description=description)
    parser.set_defaults(run=action)
    if action is not convert:
        parser.add_argument(
            "-D", dest="variables", metavar="NAME=VALUE", action="append", type=_assignment,
            help="value of a ${NAME} in the description (repeat it for more)",
        )
        parser.add_argument(
            "--crop", choices=READINGS,
            help="where a Crop without crop_param begins: aligned by the layers between, as in the "
                 "Caffe of FCN's and HED's time, or at zero, as in the later one",
        )
    return parser


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text}")
    return name, value


def _mean(text: str) -> np.ndarray:
    """Numbers between commas, or the means of the channels of a file that holds a mean image."""
    if Path(text).is_file():
        image = read_blob(text)
        return image.reshape(-1, *image.shape[-2:]).mean((1, 2))
    return np.array([number(part) for part in text.split(",")])


def run(options: argparse.Namespace) -> None:
    """Label images."""
    net = Net(options.model, xp=array_library(options),
              variables=dict(options.variables or ()), crop=options.crop)
    if not net.inputs:
        raise ValueError(f"{options.model}: reads its images from a list; declare an input "
                         '(input: "data" input_shape {...}) in its place')
    net.copy_from(options.weights, complete=not options.partial)
    files = label_files(options.images, options.output)
    label = Labeller(net, options.blob, mean=options.mean, scale=options.scale,
                     threshold=options.threshold, stretch=options.stretch)
    bits = 8 if label.classes <= 256 else 16
    for source, target in files:
        write_labels(target, label(read_image(source)), bits=bits)
    print(f"labelled {len(files)} image{'s' * (len(files) != 1)} into {options.output}")


def train(options: argparse.Namespace) -> None:
    """Train."""
    solver = Solver(options.solver, variables=dict(options.variables or ()),
                    xp=array_library(options), crop=options.crop,
                    log=lambda line: print(visible(line), flush=True))
    if solver.net.inputs:
        raise ValueError(f"{options.solver}: its network waits for {', '.join(solver.net.inputs)}: "
                         "give it data layers, or use Solver.step(n, feed) in Python")
    if options.snapshot:
        solver.restore(options.snapshot)
    elif options.weights:
        solver.net.copy_from(options.weights)
    try:
        loss = solver.solve()
    except (KeyboardInterrupt, SystemExit):
        if solver.iteration and solver.param.snapshot_prefix:
            name = f"{solver.param.snapshot_prefix}_iter_{solver.iteration}.solverstate"
            with suppress(OSError):  # of a terminal that was closed
                print(f"the same command with --snapshot {name} goes on", file=sys.stderr)
        raise
    print(f"trained to iteration {solver.iteration}, loss {loss:.6g}")


def show(options: argparse.Namespace) -> None:
    """Print the table."""
    net = Net(options.model, phase=options.phase, variables=dict(options.variables or ()),
              crop=options.crop)
    print(visible(net.summary()))


def check(options: argparse.Namespace) -> None:
    """Check files."""
    paths = [path for name in options.files for path in _networks(Path(name))]
    reports = []
    for path in paths:
        reports.append(check_network(path, dict(options.variables or ()), crop=options.crop))
        print(reports[-1].line(), flush=True)
    print("\n".join(summary(reports)))
    if stopped := sum(bool(report.failed) for report in reports):
        raise ValueError(f"{stopped} of {len(reports)} files do not run")


def _networks(path: Path) -> list[Path]:
    """The file, or those of a folder that describe networks (others are solvers)."""
    if not path.is_dir():
        return [path]
    found = [p for p in sorted(path.rglob("*.prototxt")) if p.is_file()]
    found = [p for p in found if re.search(r"^\s*layers?\s*:?\s*\{", read_text(p), re.MULTILINE)]
    if not found:
        raise ValueError(f"{path}: expected networks, *.prototxt, in it, got none")
    return found


def upgrade(options: argparse.Namespace) -> None:
    """Write the present form."""
    check_writable(Path(options.target))
    text, source = description(options.source)
    given = dict(options.variables or ())
    kept = {f"variable__{name}__": name for name in unknown_variables(text, given)}
    given |= {name: mark for mark, name in kept.items()}
    written = write(upgraded(parse(fill_variables(text, given), source), source))
    for mark, name in kept.items():
        written = written.replace(mark, f"${{{name}}}")
    with atomic_write(Path(options.target)) as file:
        file.write(written.encode())
    print(f"wrote {options.target}")


def convert(options: argparse.Namespace) -> None:
    """Convert weights."""
    source, target = Path(options.source), Path(options.target)
    for path in (source, target):
        if path.suffix not in _SUFFIXES:
            raise ValueError(f"{path}: expected {_WEIGHTS}")
    check_writable(target)
    layers = read_layers(source)
    write_layers(target, layers)
    print(f"wrote {len(layers)} layers to {target}")
