"""Plain against segmentation-aware networks, like for like, through the command line.

    python benchmarks/segmentation.py FOLDER -o RUNS --classes 11 --ignore-label 11

FOLDER holds train.txt, val.txt and test.txt, such as CamVid's. For each seed a plain network is
trained; then it is fine-tuned on the same batches, as it is and with masks in its refining
convolutions: the paper's recipe, in which masks enter a trained network. All have the same number
of iterations, but "plain, longer" as much time as the slowest. All settings were chosen on the
validation list. Then the longest trained plain network goes on, as it is and with masks, in equal
time. A run that is there already is not repeated. The last lines printed are the tables
of docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segaware_np import inference, models, plot
from segaware_np.data import PairList
from segaware_np.images import overlay, write_image

NETWORK = "--widths 24,48,96 --depths 2,2,2 --context 2,4 --refine 1,2,4 --refine-width 24"
BATCHES = "--batch 4 --crop 120,160 --zoom 0.7,1.4 --mirror"
EMBEDDING = "--network embedding --widths 16,24,32 --depths 2,2,1 --lr 4e-3"
VARIANTS = {
    "plain": "--network plain",
    "plain, longer": "--network plain --iterations 400",  # as much time as the slowest below
    "aware, RGB": "--network segaware --aware refine --scale-lr 50 --embedding rgb --scale 4",
    "aware, learned": "--network segaware --aware refine --scale-lr 50 --scale 3 "
    "--embedding EMBEDDING --embedding-lr 1",
}
AGAIN = {  # from the longest trained plain network, in equal time
    "plain": "--network plain --iterations 290",
    "aware, RGB": VARIANTS["aware, RGB"],
}
Run = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder with train.txt, val.txt and test.txt")
    parser.add_argument("-o", "--output", default="segmentation_runs", help="folder for the runs")
    parser.add_argument("--classes", required=True, help="number of classes")
    parser.add_argument("--ignore-label", default="255", help="label that does not count")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run each")
    parser.add_argument("--base", default="500", help="iterations of the plain network")
    parser.add_argument("--fine", default="250", help="iterations of fine-tuning")
    parser.add_argument("--embedding", default="400", help="iterations of the embedding")
    parser.add_argument("--split", default="test", help="list that the scores are taken on")
    parser.add_argument("--picture", metavar="FILE", help="draw predictions of the first seed")
    options = parser.parse_args()
    first, second = zip(*(run_seed(options, seed) for seed in options.seeds), strict=True)
    print(table(first), table(second), sep="\n\n")
    if options.picture:
        draw(options, first[0])


def run_seed(options: argparse.Namespace, seed: int) -> tuple[dict[str, Run], dict[str, Run]]:
    """Train and score all variants of one seed, then those that go on from the longest trained."""
    folder = Path(options.output) / f"seed{seed}"
    common = [options.data, "--classes", options.classes, "--ignore-label", options.ignore_label]
    common += ["--seed", str(seed), *BATCHES.split()]
    network = [*common, *NETWORK.split()]
    embedding = train(
        folder / "embedding", [*common, *EMBEDDING.split(), "--iterations", options.embedding]
    )
    plain = [*VARIANTS["plain"].split(), "--iterations", options.base, "--lr", "2e-3"]
    base = train(folder / "base", [*network, *plain])
    variants = {k: v.replace("EMBEDDING", embedding["model"]) for k, v in VARIANTS.items()}
    first = fine_tune(folder, variants, base["model"], network, options)
    longest = first["plain, longer"]["model"]
    return first, fine_tune(folder / "again", AGAIN, longest, network, options)


def fine_tune(
    folder: Path,
    variants: dict[str, str],
    start: str,
    network: list[str],
    options: argparse.Namespace,
) -> dict[str, Run]:
    """Train and score variants that start from one network."""
    results = {}
    for name, arguments in variants.items():
        settings = ["--start", start, "--iterations", options.fine, "--lr", "1e-3"]
        run = train(
            folder / name.replace(", ", "-"), [*network, *settings, *arguments.split()]
        )
        results[name] = run | evaluate(run["model"], options)
    return results


def train(folder: Path, arguments: list[str]) -> Run:
    """Run ``segaware train`` unless it has been run; return its cost and where the model is."""
    record = folder / "cost.json"
    if not record.exists():
        cost = segaware("train", *arguments, "-o", str(folder), "--resume", "--quiet")
        record.write_text(json.dumps(cost), encoding="utf-8")
    return {"model": str(folder / "model.npz"), **json.loads(record.read_text(encoding="utf-8"))}


def evaluate(model: str, options: argparse.Namespace) -> Run:
    """Run ``segaware evaluate`` unless it has been run; return scores and learned scales."""
    report = Path(model).with_name(f"{options.split}.json")
    if not report.exists():
        where = [options.data, "--split", options.split, "--ignore-label", options.ignore_label]
        segaware("evaluate", model, *where, "--json", str(report))
    with np.load(model) as weights:
        scales = [abs(float(weights[name])) for name in weights if name.endswith(".scale")]
        size = sum(weights[name].size for name in weights)
    scores = json.loads(report.read_text(encoding="utf-8"))
    return {"scores": scores, "scales": scales, "parameters": size}


def segaware(*arguments: str) -> dict[str, float]:
    """Run the command line; return what it cost: seconds, and the peak memory in MiB."""
    print("segaware", *arguments, file=sys.stderr, flush=True)
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "segaware_np", *arguments])
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"segaware {arguments[0]} failed")
    return {
        "seconds": time.perf_counter() - start,
        "processor": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss / 1024,
    }


SCORES: dict[str, Callable[[Any], float]] = {
    "pixel accuracy": lambda s: s["pixel_accuracy"],
    "mean IoU": lambda s: s["mean_iou"],
    "band accuracy": lambda s: s["band"]["pixel_accuracy"],
    "band IoU": lambda s: s["band"]["mean_iou"],
}


def table(runs: Sequence[dict[str, Run]]) -> str:
    """Scores in percent, mean ± deviation over seeds and gains over plain; then the costs."""
    rows = [("network", *SCORES)]
    for name in runs[0]:
        columns = []
        for pick in SCORES.values():
            own = 100 * np.array([pick(run[name]["scores"]) for run in runs])
            gain = own - 100 * np.array([pick(run["plain"]["scores"]) for run in runs])
            each = "" if name == "plain" else f" ({', '.join(f'{g:+.2f}' for g in gain)})"
            columns.append(f"{own.mean():.2f} ± {own.std():.2f}{each}")
        rows.append((name, *columns))
    costs = [("network", "parameters", "fine-tuning, s of processor", "peak MiB", "scales")]
    for name in runs[0]:
        own_runs = [run[name] for run in runs]
        costs.append((
            name,
            f"{own_runs[0]['parameters']:,}",
            f"{np.mean([r['processor'] for r in own_runs]):.0f}",
            f"{np.mean([r['memory'] for r in own_runs]):.0f}",
            "; ".join(", ".join(f"{s:.1f}" for s in r["scales"]) or "-" for r in own_runs),
        ))
    return markdown(rows) + "\n\n" + markdown(costs)


def markdown(rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def draw(options: argparse.Namespace, run: dict[str, Run]) -> None:
    """Draw images, truth and predictions of some pictures of the list."""
    dataset = PairList(Path(options.data) / f"{options.split}.txt")
    names = [name for name in VARIANTS if name != "plain, longer"]
    nets = {name: models.load(run[name]["model"]) for name in names}
    rows = []
    for index in range(0, len(dataset), max(1, len(dataset) // 2)):
        image, labels = dataset[index]
        maps = {"truth": np.where(labels == int(options.ignore_label), 255, labels)}
        maps |= {name: inference.predict(net, image) for name, net in nets.items()}
        tinted = [(name, overlay(image, found, strength=0.7)) for name, found in maps.items()]
        rows.append([("image", image), *tinted])
    write_image(options.picture, plot.tile(rows[:2]))


if __name__ == "__main__":
    main()
