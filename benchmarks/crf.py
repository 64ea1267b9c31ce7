"""Refinement of a trained network's predictions: the library's CRF beside other tools.

    python benchmarks/crf.py FOLDER --model model.npz --embedding embedding.npz \
        --ignore-label 11 --picture crf.png

FOLDER holds val.txt and test.txt. Every method's parameters are chosen on the validation list
(every fourth image) by the same search: twice through its parameters, each in turn set to the
candidate with the best mean of four scores (pixel accuracy and mean IoU, on whole images and in
the band along true boundaries). The test list is read once, with the parameters found. What is
printed last is the table of docs/results.md.

OpenCV (opencv-contrib-python-headless) and pydensecrf are compared with where they are installed.
(pydensecrf 1.0rc3 builds on today's Python once its .cpp files are deleted and Cython < 3 writes
them anew.) Seconds are of the processor, on one thread; the peak of memory is what a fresh
process needs beyond its libraries, the scores and the image. Linux.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segaware_np import models
from segaware_np.cpu.threads import set_num_threads
from segaware_np.crf import refine
from segaware_np.data import PairList
from segaware_np.images import overlay, write_image
from segaware_np.inference import embed, score
from segaware_np.metrics import Evaluation
from segaware_np.ops.softmax import softmax_forward
from segaware_np.window import Window


class Sample(NamedTuple):
    """One image, its labels, and what the networks say about it."""

    image: np.ndarray
    labels: np.ndarray
    score: np.ndarray
    embedding: np.ndarray
    seconds: np.ndarray  # that score and embedding took

    @classmethod
    def read(cls, path: Path) -> Sample:
        with np.load(path) as arrays:
            wide = {"score": np.float32, "embedding": np.float32, "labels": np.int32}
            return cls(*(arrays[name].astype(wide.get(name, arrays[name].dtype))
                         for name in cls._fields))


# --- the methods: functions of a sample and of parameters, giving scores --------------------------


def segaware_crf(
    sample: Sample, use: str, window: tuple[int, int], temperature: float, **options: Any
) -> np.ndarray:
    return refine(
        sample.score * np.float32(temperature),
        sample.image if "rgb" in use else None,
        sample.embedding if "embedding" in use else None,
        window=Window.same(*window), **options,
    )


def dense_crf(
    sample: Sample, temperature: float, colour: float, position: float, weight: float,
    smooth: float, smooth_weight: float, iterations: int,
) -> np.ndarray:
    from pydensecrf.densecrf import DenseCRF2D

    classes, h, w = sample.score.shape
    crf = DenseCRF2D(w, h, classes)
    p = probability(sample, temperature)
    crf.setUnaryEnergy(-np.log(np.maximum(p, 1e-8)).reshape(classes, -1))
    crf.addPairwiseGaussian(sxy=smooth, compat=smooth_weight)
    crf.addPairwiseBilateral(
        sxy=position, srgb=colour, rgbim=np.ascontiguousarray(sample.image), compat=weight
    )
    return np.array(crf.inference(iterations)).reshape(classes, h, w)


def guided_filter(
    sample: Sample, temperature: float, radius: int, contrast: float, rounds: int
) -> np.ndarray:
    import cv2

    cv2.setNumThreads(1)
    guide = cv2.ximgproc.createGuidedFilter(sample.image, radius, contrast**2)
    planes = list(probability(sample, temperature))
    for _ in range(rounds):
        planes = [guide.filter(plane) for plane in planes]
    return np.stack(planes)


def joint_bilateral(
    sample: Sample, temperature: float, colour: float, position: float, rounds: int
) -> np.ndarray:
    import cv2

    cv2.setNumThreads(1)
    guide = sample.image.astype(np.float32)
    planes = list(probability(sample, temperature))
    for _ in range(rounds):
        planes = [
            cv2.ximgproc.jointBilateralFilter(guide, plane, -1, colour, position)
            for plane in planes
        ]
    return np.stack(planes)


def probability(sample: Sample, temperature: float) -> np.ndarray:
    return softmax_forward(sample.score[None] * np.float32(temperature))[0][0]


class Method(NamedTuple):
    """A function, what it is told, and the candidates of each parameter (the first: the start)."""

    function: Callable[..., np.ndarray]
    fixed: dict[str, Any]
    grid: dict[str, list]
    package: str = "numpy"


CRF_GRID: dict[str, list] = {
    "window": [(13, 6), (9, 2), (13, 3), (13, 9), (17, 5)],
    "weight": [5.0, 3.0, 8.0, 12.0],
    "temperature": [1.0, 0.5, 1.5],
    "position": [20.0, 10.0, 40.0],
    "iterations": [5, 2, 10],
}
COLOUR, CONTRAST = [25.0, 10.0, 15.0, 40.0], [0.3, 0.15, 0.2, 0.45, 0.6]
METHODS = {
    "segmentation-aware CRF, RGB": Method(
        segaware_crf, {"use": "rgb"}, {**CRF_GRID, "colour": COLOUR}),
    "segmentation-aware CRF, embedding": Method(
        segaware_crf, {"use": "embedding"}, {**CRF_GRID, "contrast": CONTRAST}),
    "segmentation-aware CRF, both": Method(
        segaware_crf, {"use": "rgb, embedding"},
        {**CRF_GRID, "colour": [50.0, 25.0, 100.0], "contrast": CONTRAST}),
    "dense CRF (pydensecrf)": Method(dense_crf, {}, {
        "weight": [5.0, 2.0, 10.0, 20.0], "colour": [13.0, 5.0, 25.0, 40.0],
        "position": [40.0, 20.0, 80.0], "temperature": [1.0, 0.5, 1.5],
        "smooth_weight": [3.0, 0.0, 6.0], "smooth": [3.0, 1.0, 6.0], "iterations": [5, 2, 10],
    }, "pydensecrf"),
    "guided filter (OpenCV)": Method(guided_filter, {}, {
        "radius": [8, 2, 4, 12, 16, 24], "contrast": [10.0, 2.0, 5.0, 20.0, 40.0, 80.0],
        "temperature": [1.0, 0.25, 0.5, 1.5], "rounds": [1, 2, 4],
    }, "cv2"),
    "joint bilateral filter (OpenCV)": Method(joint_bilateral, {}, {
        "position": [6.0, 3.0, 10.0], "colour": [25.0, 10.0, 15.0, 40.0, 80.0],
        "temperature": [1.0, 0.25, 0.5, 1.5], "rounds": [1, 2, 4],
    }, "cv2"),
}


# --- from networks to the table -------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with val.txt and test.txt")
    parser.add_argument("--model", required=True, type=Path, help="trained plain network")
    parser.add_argument("--embedding", required=True, type=Path, help="trained embedding network")
    parser.add_argument("--ignore-label", type=int, default=255, help="label that does not count")
    parser.add_argument("--picture", type=Path, help="PNG of one image before and after")
    parser.add_argument("--cache", type=Path, default="crf_cache", help="keeps networks' outputs")
    parser.add_argument("--every", type=int, default=4, help="of the validation images, use each")
    parser.add_argument("--test-every", type=int, default=1, help="of the test images, use each")
    parser.add_argument("--only", default="", help="methods with this in their name")
    options = parser.parse_args()
    set_num_threads(1)
    val = outputs(options, "val", options.every)
    test = outputs(options, "test", options.test_every)

    samples, ignore = [Sample.read(path) for path in val], options.ignore_label
    rows, notes = [row("network alone", measured(None, {}, test, ignore))], []
    best: tuple[float, str, dict[str, Any]] = (-math.inf, "", {})
    for name in filter(lambda name: options.only in name, METHODS):
        method = METHODS[name]
        if find_spec(method.package) is None:
            notes.append(f"{name}: not compared, {method.package} is not installed.")
            continue
        parameters, gain, tried = search(method, samples, ignore)
        told = ", ".join(f"{key} {value}" for key, value in parameters.items())
        notes.append(f"{name}: {told} ({tried} settings tried; {gain:+.2f} on validation images).")
        print(notes[-1], flush=True)
        rows.append(row(name, in_fresh_process(name, parameters, test, ignore)))
        print(rows[-1], flush=True)
        if method.function is segaware_crf and gain > best[0]:
            best = gain, name, parameters
    if options.picture:
        notes.append(picture(options.picture, METHODS[best[1]], best[2], test, ignore))
    seconds = np.mean([sample.seconds for sample in samples], 0)
    notes.append(f"{len(val)} validation and {len(test)} test images. Not in the table: the "
                 f"network takes {seconds[0]:.2f} s an image, the embedding {seconds[1]:.2f} s.")
    print("\n" + "\n".join([*HEAD, *rows, "", *(f"* {note}" for note in notes)]))


def outputs(options: argparse.Namespace, split: str, every: int) -> list[Path]:
    """Run the networks on a list, unless that was done before; return the files of samples."""
    digest = hashlib.sha256()
    for part in (options.model.read_bytes(), options.embedding.read_bytes(),
                 (options.data / f"{split}.txt").read_bytes()):
        digest.update(hashlib.sha256(part).digest())
    folder = options.cache / f"{split}-{digest.hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    net, embedding = models.load(options.model), models.load(options.embedding)
    dataset, files = PairList(options.data / f"{split}.txt"), []
    for index in range(0, len(dataset), every):
        files.append(folder / f"{index:05}.npz")
        if not files[-1].exists():
            image, labels = dataset[index]
            start = time.process_time()
            scores = score(net, image)
            middle = time.process_time()
            features = embed(embedding, image)
            seconds = np.array([middle - start, time.process_time() - middle])
            partial = files[-1].with_suffix(".part.npz")
            np.savez(partial, image=image, labels=labels, score=scores.astype(np.float16),
                     embedding=features.astype(np.float16), seconds=seconds)
            partial.rename(files[-1])
    print(f"{split}: {len(files)} images", flush=True)
    return files


def search(
    method: Method, samples: list[Sample], ignore: int
) -> tuple[dict[str, Any], float, int]:
    """Choose parameters one at a time; return them, the gain in points and the settings tried."""
    known: dict[tuple, float] = {}

    def mean(method: Method | None, parameters: dict[str, Any]) -> float:
        pairs = ((labelled(method, parameters, sample), sample.labels) for sample in samples)
        return 100 * float(scores(pairs, len(samples[0].score), ignore).mean())

    def value(parameters: dict[str, Any]) -> float:
        key = tuple(parameters.values())
        if key not in known:
            known[key] = mean(method, parameters)
        return known[key]

    chosen = {name: candidates[0] for name, candidates in method.grid.items()}
    for _ in range(2):
        for name, candidates in method.grid.items():
            chosen = max(({**chosen, name: c} for c in candidates), key=value)
    return chosen, value(chosen) - mean(None, {}), len(known)


def scores(pairs: Iterable[tuple[np.ndarray, np.ndarray]], classes: int, ignore: int) -> np.ndarray:
    """Pixel accuracy, mean IoU, band accuracy and band IoU of (found, true) labels."""
    evaluation = Evaluation(classes, ignore)
    for found, labels in pairs:
        evaluation.update(found, labels)
    report = evaluation.report()
    return np.array([part[key] for part in (report, report["band"])
                     for key in ("pixel_accuracy", "mean_iou")])


def labelled(method: Method | None, parameters: dict[str, Any], sample: Sample) -> np.ndarray:
    """Labels by a method; without one, the network's own."""
    refined = method.function(sample, **method.fixed, **parameters) if method else sample.score
    return refined.argmax(0)


def measured(
    name: str | None, parameters: dict[str, Any], files: list[Path], ignore: int
) -> tuple[np.ndarray, float, float]:
    """Score the test list; return also processor seconds an image and the peak in MiB."""
    set_num_threads(1)
    method = METHODS[name] if name else None
    sample = Sample.read(files[0])
    tiny = Sample(*(a[:32, :32] if a.dtype.kind in "iu" else a[..., :32, :32]
                    for a in sample[:4]), sample.seconds)
    labelled(method, parameters, tiny)  # loads the libraries
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts from here
    idle = memory("VmRSS")
    labelled(method, parameters, sample)
    peak = memory("VmHWM") - idle
    seconds = 0.0

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal seconds
        for path in files:
            sample = Sample.read(path)
            start = time.process_time()
            found = labelled(method, parameters, sample)
            seconds += time.process_time() - start
            yield found, sample.labels

    return scores(pairs(), len(sample.score), ignore), seconds / len(files), peak


def in_fresh_process(*arguments: Any) -> tuple[np.ndarray, float, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, arguments)


def memory(field: str) -> float:
    """A figure of this process, MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


HEAD = ["| method | pixel accuracy | mean IoU | band accuracy | band IoU | s an image | peak MiB |",
        "|---|---|---|---|---|---|---|"]


def row(name: str, result: tuple[np.ndarray, float, float]) -> str:
    numbers, seconds, peak = result
    cost = ["-", "-"] if name == "network alone" else [f"{seconds:.2f}", f"{peak:.0f}"]
    cells = [name, *(f"{100 * number:.2f}" for number in numbers), *cost]
    return "| " + " | ".join(cells) + " |"


def picture(
    path: Path, method: Method, parameters: dict[str, Any], files: list[Path], ignore: int
) -> str:
    """Draw the image of the median gain: image, truth, before, after."""
    gains = []
    for file in files[:: max(1, len(files) // 25)]:
        sample = Sample.read(file)
        valid = sample.labels != ignore
        after, before = (labelled(m, parameters, sample) for m in (method, None))
        right = [(found == sample.labels)[valid].mean() for found in (after, before)]
        gains.append((right[0] - right[1], file))
    gain, file = sorted(gains)[len(gains) // 2]
    sample = Sample.read(file)
    maps = [sample.labels, labelled(None, {}, sample), labelled(method, parameters, sample)]
    maps[1:] = [np.where(sample.labels == ignore, ignore, found) for found in maps[1:]]
    panels = [sample.image]
    panels += [overlay(sample.image, m, strength=0.7, ignore_label=ignore) for m in maps]
    gap = np.full((len(sample.image), 4, 3), 255, np.uint8)
    write_image(path, np.hstack([p for panel in panels for p in (panel, gap)][:-1]))
    return (f"{path.name}: image, truth, before, after, by {file.stem} of the test list, whose "
            f"gain ({100 * gain:+.2f} points of pixel accuracy) is the median of {len(gains)}.")


if __name__ == "__main__":
    main()
