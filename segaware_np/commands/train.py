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
from segaware_np.commands.options import array_library, ranks_of
from segaware_np.commands.train_options import BUILT_IN, declare
from segaware_np.data import Augmentation, Dataset, Loader, SyntheticScenes
from segaware_np.files import FormatError, check_folder, check_writable, load_arrays
from segaware_np.models import embedding_network, load, segmentation_network
from segaware_np.models.description import check_class_names
from segaware_np.models.weights import copy_common
from segaware_np.net import Net
from segaware_np.ranks import Ranks
from segaware_np.train import Trainer

_FREE = {  # options that may differ when a run is resumed
    "data", "root", "images", "labels", "output", "start", "resume", "checkpoint_every", "gpu",
    "mpi", "quiet", "run",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``segaware train``."""
    declare(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Train, and write the model beside the log."""
    ranks = ranks_of(options)
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
    _look_at(dataset, options, ranks.rank == 0)
    net = build(options, count)
    if names:
        net.description["class_names"] = list(names)
    if (palette := getattr(dataset, "palette", None)) is not None:
        net.description["palette"] = palette.tolist()
    trainer = _trainer(options, net, dataset, ranks)
    if options.start and not (options.resume and trainer.checkpoints()):
        _take_weights(load(options.start), net, "--start", options.start)
    _train(trainer, options.resume)
    if ranks.rank:
        return
    if _holds(model, net):
        done = trainer.optimizer.iteration
        print(f"{model} is finished after {done} iterations; a new run with --start goes further")
    else:
        net.save(model)
        print(f"wrote {model}")


def _trainer(
    options: argparse.Namespace, net: Net, dataset: Dataset, ranks: Ranks
) -> Trainer:
    return Trainer(
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
        ranks=ranks,
        exact=options.exact,
    )


def _train(trainer: Trainer, resume: bool) -> None:
    try:
        trainer.run(resume)
    except (KeyboardInterrupt, SystemExit):
        if not trainer.ranks.rank and trainer.checkpoints():
            with suppress(OSError):  # of a terminal that was closed
                print("the same command with --resume goes on from here", file=sys.stderr)
        raise


def _ignored_by_default(classes: int | None) -> int:
    if classes is not None and classes > 255:
        raise ValueError(
            f"--ignore-label: expected a choice, for 255, the default, is one of {classes} "
            f"classes: 255 not to count its pixels, {classes} or more to count all"
        )
    return 255


def _look_at(
    dataset: Dataset, options: argparse.Namespace, speaks: bool, images: int = 8
) -> None:
    """Refuse sizes that no batch can hold, tell of labels from which nothing can be learned."""
    sizes: set[tuple[int, ...]] = set()
    seen: set[int] = set()
    for index in range(min(images, len(dataset))):
        image, labels = dataset[index]
        sizes.add(image.shape[:2])
        seen.update([] if labels is None else np.unique(labels).tolist())
    if options.crop is None and options.batch > 1 and len(sizes) > 1:
        raise ValueError(f"--crop: expected a size, for the images differ: {sorted(sizes)}")
    if speaks and len(seen - {options.ignore_label}) < 2:  # as of masks of 0 and 255
        print(
            f"note: the first images hold the labels {sorted(seen)} alone, and "
            f"{options.ignore_label} does not count (--ignore-label)",
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
    if options.embedding not in BUILT_IN:
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
        if options.embedding not in BUILT_IN:
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
    policy = policies.named(
        "multistep" if options.policy == "step" else options.policy,
        lr=options.lr,
        gamma=options.gamma,
        power=options.power,
        steps=options.steps,
        size=options.steps[0],
        iterations=options.iterations,
    )
    rule = {"adam": optim.Adam, "sgd": optim.SGD}[options.solver]
    return rule(
        net.parameters(),
        policy,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        clip_norm=options.clip_norm,
    )
