"""The dense CRF beside pydensecrf: time, memory and agreement, in one interleaved run.

    pip install pydensecrf2 threadpoolctl
    python benchmarks/dense_crf.py PICTURE... [--side 500] [--classes 21] [--rounds 3]

Scores are drawn blobs and noise, of a fixed seed. Seconds are of the wall, the least of the rounds;
the peak is what a fresh process needs beyond its libraries, the scores and the image. "Changed" are
the labels that refinement changed, "same" those on which both agree. Linux.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from segaware_np.crf import refine
from segaware_np.images import read_image

ITERATIONS = 5
POSITION, COLOUR, WEIGHT, SMOOTH, SMOOTH_WEIGHT = 80.0, 13.0, 10.0, 3.0, 3.0


def ours(score: np.ndarray, image: np.ndarray) -> np.ndarray:
    return refine(
        score, image, dense=True, iterations=ITERATIONS, weight=WEIGHT, position=POSITION,
        colour=COLOUR, smooth=SMOOTH, smooth_weight=SMOOTH_WEIGHT,
    ).argmax(0)  # fmt: skip


def theirs(score: np.ndarray, image: np.ndarray) -> np.ndarray:
    from pydensecrf.densecrf import DenseCRF2D

    classes, h, w = score.shape
    crf = DenseCRF2D(w, h, classes)
    crf.setUnaryEnergy(np.ascontiguousarray(-score.reshape(classes, -1)))
    crf.addPairwiseGaussian(sxy=SMOOTH, compat=SMOOTH_WEIGHT)
    crf.addPairwiseBilateral(sxy=POSITION, srgb=COLOUR, rgbim=image, compat=WEIGHT)
    return np.array(crf.inference(ITERATIONS)).reshape(score.shape).argmax(0)


METHODS = {"segaware_np": ours, "pydensecrf": theirs}


def problem(path: Path, side: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture's colours, repeated to the size, and scores of blobs."""
    image = read_image(path)
    repeats = [-(-side // length) for length in image.shape[:2]]
    image = np.ascontiguousarray(np.tile(image, (*repeats, 1))[:side, :side])
    noise = np.random.default_rng(0).normal(size=(classes, side, side))
    blobs = np.stack([gaussian_filter(plane, 8) for plane in noise])
    return (2 * blobs / blobs.std() + noise).astype(np.float32), image


def peak(name: str, path: Path, side: int, classes: int) -> float:
    """MiB beyond what stood before the call, of a fresh process."""
    METHODS[name](*problem(path, 32, 2))  # loads the libraries
    arrays = problem(path, side, classes)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts from here
    before = memory("VmRSS")
    METHODS[name](*arrays)
    return memory("VmHWM") - before


def memory(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--side", type=int, default=500)
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| picture | ours | pydensecrf | ratio | peak MiB | theirs | changed | same labels |",
          "|---|---|---|---|---|---|---|---|", sep="\n", flush=True)
    for path in options.pictures:
        case = path, options.side, options.classes
        arrays, seconds, labels = problem(*case), dict.fromkeys(METHODS, np.inf), {}
        for _ in range(options.rounds):
            for name, method in METHODS.items():
                start = time.perf_counter()
                labels[name] = method(*arrays)
                seconds[name] = min(seconds[name], time.perf_counter() - start)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            peaks = pool.starmap(peak, [(name, *case) for name in METHODS], chunksize=1)
        mine, other = seconds.values()
        same = (labels["segaware_np"] == labels["pydensecrf"]).mean()
        changed = (labels["segaware_np"] != arrays[0].argmax(0)).mean()
        print(f"| {path.name} | {mine:.2f} s | {other:.2f} s | {mine / other:.2f} | {peaks[0]:.0f} "
              f"| {peaks[1]:.0f} | {100 * changed:.1f} % | {100 * same:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
