"""The options of ``segaware train``."""

from __future__ import annotations

import argparse

from segaware_np import policies
from segaware_np.commands import sources
from segaware_np.commands.options import (
    add_device,
    add_mpi,
    classes,
    crop,
    not_negative,
    number,
    positive,
    sizes,
    span,
    whole,
    words,
)

BUILT_IN = ("rgb", "learned")  # embeddings
POLICIES = [name for name in policies.NAMES if name != "multistep"]  # which is step here


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare them all."""
    parser.description = "Train a network and write it, a log and checkpoints into a folder."
    sources.add_arguments(parser, split="train")
    parser.add_argument(
        "-o", "--output", default="segaware_run", metavar="FOLDER",
        help="receives model.npz, log.jsonl and checkpoints",
    )
    parser.add_argument(
        "--resume", action="store_true",
        help="go on from the newest checkpoint in the folder; give the same options as before (a "
        "finished model is trained further by a new run with --start)",
    )
    _add_network(parser.add_argument_group("network"))
    _add_solver(parser.add_argument_group("solver"))
    _add_batches(parser.add_argument_group("batches"))
    add_device(parser)
    add_mpi(parser)
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--network", choices=("embedding", "plain", "segaware"), default="segaware",
        help="what to train",
    )
    group.add_argument(
        "--classes", type=classes, metavar="N|NAME,...",
        help="number of classes, of which labels are 0 to N - 1, or their names (default: those "
        "of the built-in scenes)",
    )
    group.add_argument(
        "--ignore-label", type=whole(0), metavar="LABEL",
        help="label of pixels that do not count (default: 255, where that is no class)",
    )
    group.add_argument(
        "--widths", type=sizes, default="24,48,96", metavar="N,N,...",
        help="channels of each stage (published: 64,128,256); resolution halves between stages",
    )
    group.add_argument(
        "--depths", type=sizes, default="2,2,2", metavar="N,N,...",
        help="number of 3x3 convolutions of each stage",
    )
    group.add_argument(
        "--context", type=sizes, default=(), metavar="N,N,...",
        help="dilations, in pixels, of 3x3 convolutions before the classifier (default: none)",
    )
    group.add_argument(
        "--refine", type=sizes, default="1,2,4", metavar="N,N,...",
        help="dilations, in pixels, of 3x3 convolutions that correct the full-size scores",
    )
    group.add_argument(
        "--refine-width", type=whole(1), default=16, help="channels of those convolutions"
    )
    group.add_argument(
        "--dropout", type=not_negative, default=0.0, help="ratio of dropout, from 0 to below 1"
    )
    group.add_argument(
        "--aware", type=words, default="all", metavar="STAGE,...",
        help="segmentation-aware stages of --network segaware: all, or names out of stage1, "
        "stage2, ..., context, refine",
    )
    group.add_argument(
        "--embedding", default="rgb", metavar="rgb|learned|MODEL",
        help="what the masks compare: the image's colours, an embedding of the same widths that is "
        "learned with the rest, or one that --network embedding trained before",
    )
    group.add_argument(
        "--embedding-channels", type=whole(1), default=16, help="channels of an embedding"
    )
    group.add_argument(
        "--embedding-lr", type=not_negative, metavar="FACTOR",
        help="factor on the embedding's learning rate (default: 0 for a MODEL, 1 for learned)",
    )
    group.add_argument("--norm", choices=("L1", "L2"), default="L1", help="embedding distance")
    group.add_argument(
        "--scale", type=number, default=0.05,
        help="where the masks' learned scales start, per unit of distance",
    )
    group.add_argument(
        "--scale-lr", type=not_negative, default=1.0, metavar="FACTOR",
        help="factor on the scales' learning rate",
    )
    group.add_argument(
        "--start", metavar="MODEL", help="begin with this model's weights where names and shapes "
        "agree, such as the plain network's"
    )
    group.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="precision"
    )
    group.add_argument("--seed", type=whole(0), default=0, help="of weights, order, augmentation")


def _add_solver(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--iterations", type=whole(1), default=1000, help="steps of the solver")
    group.add_argument("--solver", choices=("adam", "sgd"), default="adam", help="the rule")
    group.add_argument("--lr", type=positive, default=1e-3, help="learning rate at the start")
    group.add_argument("--policy", choices=POLICIES, default="poly", help="learning-rate policy")
    group.add_argument("--power", type=number, default=0.9, help="exponent of poly and inv")
    group.add_argument(
        "--gamma", type=number, default=0.1, help="factor of step, exp, inv and sigmoid"
    )
    group.add_argument(
        "--steps", type=sizes, default="500", metavar="N,N,...",
        help="iterations at which step multiplies by gamma; middle of sigmoid",
    )
    group.add_argument(
        "--momentum", type=not_negative, default=0.9, help="momentum, from 0 to below 1"
    )
    group.add_argument(
        "--weight-decay", type=not_negative, default=0.0, help="factor of the decay of weights"
    )
    group.add_argument(
        "--clip-norm", type=positive, help="largest norm of a gradient (default: no limit)"
    )
    group.add_argument(
        "--checkpoint-every", type=whole(1), default=100, metavar="N",
        help="iterations from one checkpoint to the next",
    )
    group.add_argument("--log", choices=("jsonl", "csv"), default="jsonl", help="format of the log")


def _add_batches(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--batch", type=whole(1), default=4, help="images a batch")
    group.add_argument(
        "--accumulate", type=whole(1), default=1, metavar="N", help="batches an iteration"
    )
    group.add_argument(
        "--exact", action="store_true",
        help="with --mpi: the same bits for any number of processes that leaves batches whole",
    )
    group.add_argument(
        "--crop", type=crop, metavar="N|H,W",
        help="size of the crops, pixels (default: the image's)",
    )
    group.add_argument(
        "--zoom", type=span, default="1,1", metavar="LOW,HIGH",
        help="range of the random scaling factor",
    )
    group.add_argument("--mirror", action="store_true", help="mirror every other image by chance")
