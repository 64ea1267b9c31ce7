"""What the program takes for a photo of 12 megapixels: seconds, and the most memory.

    python benchmarks/large_pictures.py [--megapixels 12] [--only predict]

Each command is a process of its own, with networks of the default sizes that have not learned
anything: their costs are those of trained ones. Prints the table of docs/howto/large_images.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from segaware_np import models
from segaware_np.images import write_image, write_labels

CLASSES = 11
COMMANDS = {
    "predict": ("predict", "score.npz", "photo.png", "-o", "labels"),
    "predict --crf rgb": ("predict", "score.npz", "photo.png", "-o", "labels_crf", "--crf", "rgb"),
    "evaluate": ("evaluate", "score.npz", "pairs.txt"),
    "masks": ("masks", "photo.png", "--embedding", "embedding.npz"),
    "explore": ("explore", "photo.png"),
    "explain": ("explain", "score.npz", "photo.png"),
}


def prepare(folder: Path, megapixels: float) -> tuple[int, int]:
    """Write a photo of noise, its labels, and two networks."""
    rng, height = np.random.default_rng(0), round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = height * 4 // 3
    write_image(folder / "photo.png", rng.integers(0, 256, (height, width, 3), np.uint8))
    write_labels(folder / "labels.png", rng.integers(0, CLASSES, (height, width)))
    (folder / "pairs.txt").write_text("photo.png labels.png\n", "utf-8")
    models.segmentation_network(CLASSES).save(folder / "score.npz")
    models.embedding_network().save(folder / "embedding.npz")
    return height, width


def measure(folder: Path, arguments: tuple[str, ...]) -> tuple[float, float]:
    """Seconds and MiB of one command."""
    began = time.perf_counter()
    program = [sys.executable, "-m", "segaware_np", *arguments]
    process = subprocess.Popen(program, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)}: ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024  # KiB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--only", default="", help="commands that hold this text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        height, width = prepare(folder, options.megapixels)
        print(f"{width} x {height} pixels, {platform.machine()}, {os.cpu_count()} processors\n")
        print("| `segaware` | seconds | most memory, MiB |\n| --- | --- | --- |")
        for title, arguments in COMMANDS.items():
            if options.only in title:
                seconds, memory = measure(folder, arguments)
                print(f"| `{title}` | {seconds:.0f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
