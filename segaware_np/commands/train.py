"""``segaware train``: an embedding network, a plain network, or a segmentation-aware one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from segaware_np import optim, policies
from segaware_np.commands import sources
from segaware_np.commands.options import (
    add_device,
    array_library,
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
from segaware_np.data import Augmentation, Dataset, Loader, SyntheticScenes
from segaware_np.files import FormatError, check_folder, check_writable, load_arrays
from segaware_np.models import embedding_network, load, segmentation_network
from segaware_np.models.description import check_class_names
from segaware_np.models.weights import copy_common
from segaware_np.net import Net
from segaware_np.train import Trainer

_POLICIES = ("fixed", "poly", "step", "exp", "inv", "sigmoid")
_BUILT_IN = ("rgb", "learned")  # embeddings
_FREE = {  # options that may differ when a run is resumed
    "data", "root", "labels", "output", "start", "resume", "checkpoint_every", "gpu", "quiet", "run"
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``segaware train``."""
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
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(run=run)


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
    group.add_argument("--policy", choices=_POLICIES, default="poly", help="learning-rate policy")
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
        "--crop", type=crop, metavar="N|H,W",
        help="size of the crops, pixels (default: the image's)",
    )
    group.add_argument(
        "--zoom", type=span, default="1,1", metavar="LOW,HIGH",
        help="range of the random scaling factor",
    )
    group.add_argument("--mirror", action="store_true", help="mirror every other image by chance")


def run(options: argparse.Namespace) -> None:
    """Train, and write the model beside the log."""
    model = Path(options.output) / "model.npz"
    check_folder(options.output)
    if model.parent.exists():
        check_writable(model)
    count, names = label_classes(options)
    if options.ignore_label is None:
        options.ignore_label = _ignored_by_default(count)
    dataset = sources.open_dataset(options, count, options.ignore_label)
    if count is None and options.network != "embedding":
        raise ValueError("--classes: expected their number N (labels are 0 to N - 1) or names")
    _look_at_labels(dataset, options.ignore_label)
    net = build(options, count)
    if names:
        net.description["class_names"] = list(names)
    if (palette := getattr(dataset, "palette", None)) is not None:
        net.description["palette"] = palette.tolist()
    trainer = Trainer(
        net,
        solver(options, net),
        loader(options, dataset),
        folder=options.output,
        iterations=options.iterations,
        batches=options.accumulate,
        checkpoint_every=options.checkpoint_every,
        log=options.log,
        progress=not options.quiet,
        settings=settings(options, dataset),
    )
    if options.start and not (options.resume and trainer.checkpoints()):
        _take_weights(load(options.start), net, "--start", options.start)
    try:
        trainer.run(options.resume)
    except (KeyboardInterrupt, SystemExit):
        if trainer.checkpoints():
            with suppress(OSError):  # of a terminal that was closed
                print("the same command with --resume goes on from here", file=sys.stderr)
        raise
    if _holds(model, net):
        done = trainer.optimizer.iteration
        print(f"{model} is finished after {done} iterations; a new run with --start goes further")
    else:
        net.save(model)
        print(f"wrote {model}")


def _ignored_by_default(classes: int | None) -> int:
    if classes is not None and classes > 255:
        raise ValueError(
            f"--ignore-label: expected a choice, for 255, the default, is one of {classes} "
            f"classes: 255 not to count its pixels, {classes} or more to count all"
        )
    return 255


def _look_at_labels(dataset: Dataset, ignore_label: int, images: int = 8) -> None:
    """Tell of labels from which nothing can be learned, as masks of 0 and 255."""
    seen: set[int] = set()
    for index in range(min(images, len(dataset))):
        _, labels = dataset[index]
        seen.update([] if labels is None else np.unique(labels).tolist())
    if len(seen - {ignore_label}) < 2:
        print(
            f"note: the first images hold the labels {sorted(seen)} alone, and {ignore_label} does "
            "not count (--ignore-label)",
            file=sys.stderr,
        )


def label_classes(options: argparse.Namespace) -> tuple[int | None, Sequence[str]]:
    """Number and names of the classes, None and () where they do not matter or are not known."""
    if options.network == "embedding":
        return None, ()
    if isinstance(options.classes, int):
        return options.classes, ()
    check_class_names(options.classes or ())
    names = options.classes or (SyntheticScenes.class_names if options.data == "scenes" else ())
    return len(names) or None, names


def loader(options: argparse.Namespace, dataset: Dataset) -> Loader:
    """Return the batches that the options describe."""
    augmentation = Augmentation(
        options.crop, options.zoom, options.mirror, ignore_label=options.ignore_label
    )
    return Loader(dataset, options.batch, augmentation, options.seed)


def settings(options: argparse.Namespace, dataset: Dataset) -> dict[str, Any]:
    """Return what must stay as it is when a run is resumed: files may move, results may not."""
    chosen = {key: value for key, value in vars(options).items() if key not in _FREE}
    if options.policy != "poly":  # the others do not look at the end
        del chosen["iterations"]
    if options.embedding not in _BUILT_IN:
        chosen["embedding"] = "MODEL"
    named = {f"--{key.replace('_', '-')}": value for key, value in chosen.items()}
    return {**named, "number of images": len(dataset)}


def _holds(path: Path, net: Net) -> bool:
    """Whether a file holds the weights of a network."""
    try:
        arrays, _ = load_arrays(path)
    except (FileNotFoundError, FormatError):
        return False
    own = net.weights()
    return own.keys() == arrays.keys() and all(
        np.array_equal(array, arrays[name]) for name, array in own.items()
    )


def build(options: argparse.Namespace, count: int | None) -> Net:
    """Build the network that the options describe, with the given embedding's weights in it."""
    common: dict[str, Any] = {
        "widths": options.widths,
        "depths": options.depths,
        "ignore_label": options.ignore_label,
        "dtype": options.dtype,
        "xp": array_library(options),
        "seed": options.seed,
    }
    if count is None:
        return embedding_network(channels=options.embedding_channels, **common)
    if options.network == "plain" and (options.aware, options.embedding) != (("all",), "rgb"):
        raise ValueError("--aware, --embedding: a plain network has neither; --network segaware?")
    aware: bool | set[str] = False
    trained, lr = None, options.embedding_lr
    if options.network == "segaware":
        aware = True if "all" in options.aware else set(options.aware)
        if options.embedding not in _BUILT_IN:
            trained = load(options.embedding)
    net = segmentation_network(
        count,
        aware=aware,
        embedding="rgb" if options.embedding == "rgb" else "learned",
        **_embedding_shape(trained, options),
        embedding_lr_mult=lr if lr is not None else 0.0 if trained else 1.0,
        norm=options.norm,
        scale=options.scale,
        scale_lr_mult=options.scale_lr,
        context=options.context,
        refine=options.refine,
        refine_width=options.refine_width,
        dropout=options.dropout,
        **common,
    )
    if trained:
        _take_weights(trained, net, "--embedding", options.embedding)
    return net


def _take_weights(source: Net, net: Net, option: str, path: str) -> None:
    """Copy what fits, and tell what did and what did not."""
    try:
        fit = copy_common(source.weights(), net)
    except ValueError as error:
        raise ValueError(f"{option}: no array of {path} fits this network") from error
    print(f"{len(fit.loaded)} of {len(net.parameters())} arrays of weights from {path}: {fit}")


def _embedding_shape(trained: Net | None, options: argparse.Namespace) -> dict[str, Any]:
    if trained is None:
        shape = {"widths": options.widths, "depths": options.depths}
        return _prefixed({**shape, "channels": options.embedding_channels})
    if trained.description["model"] != "embedding_network":
        raise ValueError(
            f"--embedding: expected a model of --network embedding, got {options.embedding}"
        )
    arguments = trained.description["arguments"]
    return _prefixed({key: arguments[key] for key in ("widths", "depths", "channels")})


def _prefixed(arguments: dict[str, Any]) -> dict[str, Any]:
    return {f"embedding_{key}": value for key, value in arguments.items()}


def solver(options: argparse.Namespace, net: Net) -> optim.Optimizer:
    """Return the solver that the options describe."""
    lr, gamma = options.lr, options.gamma
    policy = {
        "fixed": lambda: policies.Fixed(lr),
        "poly": lambda: policies.Polynomial(lr, options.iterations, options.power),
        "step": lambda: policies.MultiStep(lr, gamma, options.steps),
        "exp": lambda: policies.Exponential(lr, gamma),
        "inv": lambda: policies.Inverse(lr, gamma, options.power),
        "sigmoid": lambda: policies.Sigmoid(lr, gamma, options.steps[0]),
    }[options.policy]()
    rule = {"adam": optim.Adam, "sgd": optim.SGD}[options.solver]
    return rule(
        net.parameters(),
        policy,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        clip_norm=options.clip_norm,
    )
