"""The demo: from drawn scenes to trained networks and pictures of what their masks do."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segaware_np import plot
from segaware_np.data import Augmentation, Loader, SyntheticScenes
from segaware_np.extras import require
from segaware_np.files import atomic_write, check_folder, check_writable, remove_leftovers
from segaware_np.images import overlay, voc_palette, write_image
from segaware_np.inference import embed, evaluate, predict
from segaware_np.log import read_log
from segaware_np.metrics import boundary_band
from segaware_np.models import embedding_network, segmentation_network
from segaware_np.models.weights import copy_common
from segaware_np.net import Net
from segaware_np.optim import Adam
from segaware_np.policies import Polynomial
from segaware_np.train import Trainer
from segaware_np.window import Window

_SIZE = (96, 128)
_TRAIN, _TEST = 400, 30  # scenes
_SHOWN = (0, 1, 3)  # of the test scenes
_EMBEDDING: dict[str, Any] = {"widths": (16, 32, 32), "depths": (2, 1, 1), "channels": 16}
_NETWORK: dict[str, Any] = {
    "widths": (16, 32, 64),
    "depths": (2, 2, 2),
    "refine": (1, 2, 4),
    "refine_width": 16,
}
_FILES = (
    "masks.png", "embeddings.png", "predictions.png", "losses.png", "metrics.json",
    "embedding.npz", "plain.npz", "segaware.npz",
)  # fmt: skip
_MASKS: dict[str, Any] = {"aware": ("refine",), "scale": 1.0, "scale_lr_mult": 5.0}


def run_demo(
    folder: str | os.PathLike[str],
    *,
    iterations: int = 170,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Train an embedding, a plain and a segmentation-aware network; write pictures and scores.

    The two segmentation networks have the same layers, start from the same weights and see the
    same batches; they differ in the masks alone.

    Parameters
    ----------
    folder : path-like
        Made if it is missing. Receives ``masks.png``, ``embeddings.png``, ``predictions.png``,
        ``losses.png``, ``metrics.json`` and the three networks, ``embedding.npz``, ``plain.npz``
        and ``segaware.npz``.
    iterations : int
        Steps of the solver for each network.
    seed : int
    progress : bool
        Show the training's progress on standard error.

    Returns
    -------
    dict
        What ``metrics.json`` holds.

    Raises
    ------
    ImportError
        If Pillow or matplotlib is not installed.
    OSError
        If the folder cannot be written.

    Examples
    --------
    >>> metrics = run_demo("demo", iterations=1, progress=False)
    >>> sorted(metrics)
    ['class_names', 'embedding', 'iterations', 'plain', 'seed', 'segaware']
    """
    require("PIL", extra="demo")  # now, not when the networks are trained
    require("matplotlib", extra="demo")
    folder = Path(folder)
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    for name in _FILES:
        check_writable(folder / name)
    train = SyntheticScenes(_TRAIN, _SIZE, seed=2 * seed)
    test = SyntheticScenes(_TEST, _SIZE, seed=2 * seed + 1)
    nets = _build(len(train.class_names), seed)
    embedding, plain, aware = nets.values()

    metrics: dict[str, Any] = {
        "iterations": iterations,
        "seed": seed,
        "class_names": train.class_names,
    }
    logs = {}
    for name, net in nets.items():
        if net is aware:
            copy_common(embedding.weights(), aware)
        if progress:
            print(f"training the {name} network", file=sys.stderr, flush=True)
        began = time.perf_counter()
        logs[name] = _train(net, train, iterations, seed, progress)
        metrics[name] = {"seconds": time.perf_counter() - began, "loss": _last(logs[name])}
        net.save(folder / f"{name}.npz")
    for name, net in {"plain": plain, "segaware": aware}.items():
        metrics[name] |= evaluate(net, test).report()
    metrics["segaware"]["scales"] = {
        name: float(p.data) for name, p in aware.parameters().items() if name.endswith(".scale")
    }
    _write_pictures(folder, test, embedding, plain, aware, logs)
    with atomic_write(folder / "metrics.json") as file:
        file.write((json.dumps(metrics, indent=2) + "\n").encode())
    return metrics


def summary(metrics: dict[str, Any]) -> str:
    """Return the scores of both networks as text.

    Parameters
    ----------
    metrics : dict
        From `run_demo`.

    Examples
    --------
    >>> scores = {"pixel_accuracy": 0.9, "mean_iou": 0.5, "band": {"mean_iou": 0.25}}
    >>> print(summary({"plain": scores, "segaware": scores}).splitlines()[2])
    mean IoU                 50.0 %               50.0 %
    """
    lines = [f"{'on scenes never seen':<22} {'plain':>8} {'segmentation-aware':>20}"]
    plain, aware = metrics["plain"], metrics["segaware"]
    for name, first, second in (
        ("pixel accuracy", plain["pixel_accuracy"], aware["pixel_accuracy"]),
        ("mean IoU", plain["mean_iou"], aware["mean_iou"]),
        ("mean IoU at boundaries", plain["band"]["mean_iou"], aware["band"]["mean_iou"]),
    ):
        lines.append(f"{name:<22} {100 * first:>6.1f} % {100 * second:>18.1f} %")
    return "\n".join(lines)


def _build(classes: int, seed: int) -> dict[str, Net]:
    """The three networks, the segmentation networks with the same initial weights."""
    shape = {f"embedding_{key}": value for key, value in _EMBEDDING.items()}
    plain = segmentation_network(classes, **_NETWORK, seed=seed)
    aware = segmentation_network(classes, **_NETWORK, **_MASKS, **shape, seed=seed)
    copy_common(plain.weights(), aware)
    embedding = embedding_network(**_EMBEDDING, hinge="squared", seed=seed)
    return {"embedding": embedding, "plain": plain, "segaware": aware}


def _train(
    net: Net, scenes: SyntheticScenes, iterations: int, seed: int, progress: bool
) -> list[dict[str, Any]]:
    """Train with Adam on batches of four; return the log."""
    with tempfile.TemporaryDirectory(prefix="segaware_demo") as folder:
        Trainer(
            net,
            Adam(net.parameters(), Polynomial(2e-3, iterations, 0.9)),
            Loader(scenes, 4, Augmentation(mirror=True), seed),
            folder=folder,
            iterations=iterations,
            checkpoint_every=iterations,
            progress=progress,
        ).run()
        return read_log(Path(folder) / "log.jsonl")


def _last(log: Sequence[dict[str, Any]]) -> float:
    """Mean loss of the last tenth of a run."""
    return float(np.mean([record["loss"] for record in log[-max(1, len(log) // 10) :]]))


def _write_pictures(
    folder: Path,
    scenes: SyntheticScenes,
    embedding: Net,
    plain: Net,
    aware: Net,
    logs: dict[str, list[dict[str, Any]]],
) -> None:
    image, labels = scenes[_SHOWN[0]]
    pixels = pixels_near_boundaries(labels)
    masks = plot.draw_masks(image, embed(embedding, image), pixels, Window(21), 1.0)
    write_image(folder / "masks.png", masks)

    shown = [scenes[index][0] for index in _SHOWN]
    rows = [
        [(("scenes" if not i else " "), plot.enlarge(scene, 2)) for i, scene in enumerate(shown)],
        [
            ("embeddings" if not i else " ", plot.enlarge(_colours(embedding, scene), 2))
            for i, scene in enumerate(shown)
        ],
    ]
    write_image(folder / "embeddings.png", plot.tile(rows))
    rows = [_compare(*scenes[index], plain, aware, titled=index == _SHOWN[0]) for index in _SHOWN]
    write_image(folder / "predictions.png", plot.tile(rows))
    plot.draw_curves(
        folder / "losses.png",
        {
            name: ([record["iteration"] for record in log], [record["loss"] for record in log])
            for name, log in logs.items()
        },
        x_label="iteration",
        y_label="loss",
    )


def _colours(embedding: Net, image: np.ndarray) -> np.ndarray:
    return plot.embedding_to_rgb(embed(embedding, image))


def _compare(
    image: np.ndarray, labels: np.ndarray, plain: Net, aware: Net, *, titled: bool
) -> list[tuple[str, np.ndarray]]:
    """One scene: image, true labels, both predictions, and where each is wrong."""
    palette = voc_palette()
    row = [("scene", image), ("truth", _tint(image, labels))]
    for name, net in (("plain", plain), ("segmentation-aware", aware)):
        predicted = predict(net, image)
        row.append((name, _tint(image, predicted)))
        wrong = np.where((predicted != labels)[..., None], palette[1], 255).astype(np.uint8)
        row.append((f"{name}: wrong", wrong))
    return [(name if titled else "", plot.enlarge(picture, 2)) for name, picture in row]


def _tint(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return overlay(image, labels, strength=0.75, ignore_label=0)


def pixels_near_boundaries(labels: np.ndarray, count: int = 5) -> list[tuple[int, int]]:
    """Choose pixels (y, x) a few steps from a boundary, one a class, the largest classes first.

    Parameters
    ----------
    labels : (H, W) integer array
    count : int
        At most so many.

    Returns
    -------
    list of (int, int)

    Examples
    --------
    >>> labels = np.zeros((32, 32), int)
    >>> labels[:, 16:] = 1
    >>> [labels[pixel].item() for pixel in pixels_near_boundaries(labels)]
    [1, 0]
    """
    near = boundary_band(labels, 6) & ~boundary_band(labels, 3)
    near[:8] = near[-8:] = near[:, :8] = near[:, -8:] = False  # their windows leave the scene
    chosen = []
    for label in np.bincount(labels[near], minlength=1).argsort()[::-1][:count]:
        ys, xs = np.nonzero(near & (labels == label))
        if len(ys):
            chosen.append((int(ys[len(ys) // 2]), int(xs[len(xs) // 2])))
    return chosen
