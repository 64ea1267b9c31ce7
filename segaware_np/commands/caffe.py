"""``segaware caffe``: run, train, show and convert the files of Caffe users."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from segaware_np.caffe import Net, Solver
from segaware_np.caffe.alignment import READINGS
from segaware_np.caffe.weights import read_layers, write_layers
from segaware_np.commands.options import add_device, array_library
from segaware_np.commands.sources import label_files
from segaware_np.data import RGB_MEAN
from segaware_np.files import check_writable
from segaware_np.images import read_image, write_labels
from segaware_np.ops.resize import resize_forward
from segaware_np.xp import host

_SUFFIXES = (".caffemodel", ".npz", ".safetensors")
_WEIGHTS = "a .caffemodel, .npz or .safetensors file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the commands of ``segaware caffe``."""
    parser.description = "Networks, weights and solvers in Caffe's own files."
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = _command(
        commands, run, "label images with a trained network",
        "Label images: for each, NAME.png with the labels in PASCAL VOC's palette.",
    )
    command.add_argument("model", metavar="MODEL", help="prototxt whose input is the image")
    command.add_argument("weights", metavar="WEIGHTS", help=f"trained weights: {_WEIGHTS}")
    command.add_argument("images", metavar="IMAGES", nargs="+", help="image files or folders")
    command.add_argument(
        "-o", "--output", default="predictions", metavar="OUT", help="folder for the labels"
    )
    command.add_argument("--blob", help="blob of the scores (default: the last output)")
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
        commands, convert, "turn a caffemodel into .npz or .safetensors, or back",
        "Weights from one kind of file into another, by the files' suffixes: "
        ".caffemodel, .npz, .safetensors. Arrays are named LAYER/NUMBER.",
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


def run(options: argparse.Namespace) -> None:
    """Label images."""
    files = label_files(options.images, options.output)
    net = Net(options.model, options.weights, xp=array_library(options),
              variables=dict(options.variables or ()), crop=options.crop)
    if not net.inputs:
        raise ValueError(f"{options.model}: reads its images from a list; declare an input "
                         '(input: "data" input_shape {...}) in its place')
    blob = options.blob or net.outputs[-1]
    if blob not in net.blobs:
        raise ValueError(f"--blob: {options.model} has no blob {blob!r}")
    for source, target in files:
        labels = label_image(net, blob, read_image(source))
        write_labels(target, labels)
    print(f"labelled {len(files)} image{'s' * (len(files) != 1)} into {options.output}")


def label_image(net: Net, blob: str, image: np.ndarray) -> np.ndarray:
    """Label one image (H, W, 3) uint8 RGB by the scores in a blob.

    The image goes in as BGR minus the mean, filled up at the bottom and on the right to the
    size that the network declares, or to the next ``32 k - 31`` where it is larger; the scores
    are resized to that size and cut.
    """
    height, width = image.shape[:2]
    declared = net.blobs[net.inputs[0]].shape
    if len(declared) != 4 or declared[1] != 3:
        raise ValueError(f"input {net.inputs[0]!r}: expected images (N, 3, H, W), got {declared}")
    size = tuple(d if d >= side else -(-(side + 31) // 32) * 32 - 31
                 for d, side in zip(declared[2:], (height, width), strict=True))
    batch = np.zeros((1, 3, *size), np.float32)
    rgb = image.astype(np.float32) - np.array(RGB_MEAN, np.float32)
    batch[0, :, :height, :width] = rgb[..., ::-1].transpose(2, 0, 1)
    net.forward({net.inputs[0]: net.xp.asarray(batch)})
    scores = net.blobs[blob].data
    if scores.ndim != 4:
        raise ValueError(f"blob {blob!r}: expected scores (N, C, H, W), got {scores.shape}")
    resized, _ = resize_forward(scores, size)  # type: ignore[arg-type]
    return host(resized[0, :, :height, :width].argmax(0)).astype(np.int32)


def train(options: argparse.Namespace) -> None:
    """Train."""
    solver = Solver(options.solver, variables=dict(options.variables or ()),
                    xp=array_library(options), crop=options.crop,
                    log=lambda line: print(line, flush=True))
    if solver.net.inputs:
        raise ValueError(f"{options.solver}: its network waits for {', '.join(solver.net.inputs)}: "
                         "give it data layers, or use Solver.step(n, feed) in Python")
    if options.snapshot:
        solver.restore(options.snapshot)
    elif options.weights:
        solver.net.copy_from(options.weights)
    loss = solver.solve()
    print(f"trained to iteration {solver.iteration}, loss {loss:.6g}")


def show(options: argparse.Namespace) -> None:
    """Print the table."""
    net = Net(options.model, phase=options.phase, variables=dict(options.variables or ()),
              crop=options.crop)
    print(net.summary())


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
