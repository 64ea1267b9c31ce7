"""What data-parallel training costs beyond one process: a model, not a measurement.

    python benchmarks/scale_model.py

A step takes ``6 * multiplications * batch / rate`` seconds (forward once, backward twice), the sum
of the gradients the shorter of a ring and of recursive halving and doubling. Efficiency is the
share of the step in both, one after the other, as the library does it. Parameters and
multiplications are those of the library's own networks; rates and links are assumed, see below.
"""

from __future__ import annotations

from math import log2

from segaware_np import Net, models
from segaware_np.layers import Convolution

SIDE = 513  # pixels of an image
RATES = {  # operations a second that convolutions of these sizes reach
    "16 CPU cores": 0.4e12,
    "H100, float32": 15e12,
    "H100, TF32": 100e12,
}
LINKS = {  # bytes a second each way, seconds a message
    "25 GbE": (0.9 * 25e9 / 8, 15e-6),
    "100 Gb": (0.9 * 100e9 / 8, 3e-6),
    "NVLink": (0.8 * 450e9, 3e-6),
}
RANKS = (8, 64, 512)
NETWORKS = {
    "embedding": (models.embedding_network, "embedding"),
    "segaware VGG-16": (models.segaware_vgg16, "score"),
    "segaware ResNet-101": (models.segaware_resnet101, "score"),
}


def multiplications(net: Net, output: str) -> int:
    """Of all convolutions of a forward pass on one image."""
    lengths, total = dict.fromkeys(net.inputs, SIDE), 0
    for node in net.plan([output]):
        layer = node.layer
        lengths[node.name] = layer.length([lengths[name] for name in node.inputs], 0)
        if isinstance(layer, Convolution):
            total += lengths[node.name] ** 2 * layer.params["weight"].data.size
    return total


def summing(size: float, ranks: int, speed: float, latency: float) -> float:
    """Seconds for the sum of that many bytes over the ranks."""
    volume = 2 * (ranks - 1) / ranks * size / speed
    return volume + 2 * latency * min(ranks - 1, log2(ranks))


def main() -> None:
    for name, (build, output) in NETWORKS.items():
        net = build()
        learned = sum(p.data.size for p in net.parameters().values() if p.lr_mult)
        work = 6 * multiplications(net, output)
        print(f"\n{name}: {learned / 1e6:.1f} M learn, {work / 1e12:.2f} TFLOP an image\n")
        print("| device, images a rank | step, ms |", " | ".join(LINKS), "|")
        print("| --- | --- |" + " --- |" * len(LINKS))
        for device, rate in RATES.items():
            for batch in (1, 8):
                step = work * batch / rate
                sums = [[summing(4 * learned, n, *link) for n in RANKS] for link in LINKS.values()]
                cells = [" ".join(f"{100 * step / (step + s):.0f}" for s in row) for row in sums]
                print(f"| {device}, {batch} | {1e3 * step:.0f} |", " | ".join(cells), "|")
    print(f"\nEfficiency in %, at {', '.join(map(str, RANKS))} ranks.")


if __name__ == "__main__":
    main()
