"""What the kernels are made of, and a model of the time that they take. No GPU is needed.

    python benchmarks/gpu_model.py [--architecture 90] [--bandwidth 3.0e12 ...]
    python benchmarks/gpu_model.py --write tests/kernel_budgets.json

Counts are exact: they are read off the machine code. Times are a model of an H100: issue slots of
the warps' instructions, bytes over the memory's bandwidth, products at an assumed rate. A card that
was measured replaces its constants by options.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from machine_code import Code, code

from segaware_np.gpu import kernels
from segaware_np.testing.cuda import nvrtc

# By source and kernel: what its inner loop is for, if not to load.
MARKS = {
    "convolution": "FFMA", "convolution_tensor_cores": "HMMA", "im2col": "STG", "col2im": "FADD",
    "masked_columns_backward": "FFMA", "masked_sum": "FFMA", "distance": "FADD",
}  # fmt: skip
_DOUBLE = {"FFMA": "DFMA", "FADD": "DADD"}
BLOCKS = {"convolution": 128, "convolution_tensor_cores": 128}
SIZES = ((64, 128), (64, 321), (128, 128), (256, 128), (512, 128))  # channels, side
EPILOGUE = {"FFMA": 1600, "HMMA": 700}  # instructions of a thread after its last step


class Card(NamedTuple):
    """An H100 SXM: rates a second."""

    clock: float = 1.755e9
    multiprocessors: int = 132
    issued: float = 0.8  # of the issue slots, four a cycle and multiprocessor
    bandwidth: float = 3.0e12
    product: float = 52e12  # of matrices in float32
    product_tf32: float = 300e12

    def issue(self, warps: float, instructions: float) -> float:
        return warps * instructions / (4 * self.clock * self.multiprocessors * self.issued)


class Budget(NamedTuple):
    """What one kernel costs."""

    registers: int
    warps: int  # of a multiprocessor, at once
    step: int  # instructions of its inner loop
    loads: int  # of them, from memory
    shared: int  # of them, to and from shared memory
    arithmetic: int  # of them, in floating point


def mark(kernel: str) -> str:
    """The instruction that a kernel's inner loop is for."""
    name, _, arguments = kernel.partition("<")
    found = MARKS.get(name, "LDG")
    return _DOUBLE.get(found, found) if arguments.startswith("double") else found


def marks(kernel: str) -> int | None:
    """How often a step of the convolution multiplies: 8 channels by a thread's share of a tile."""
    name, _, arguments = kernel.partition("<")
    return 8 * int(arguments.split(",")[1]) if name == "convolution" else None


def budget(kernel: str, architecture: str) -> Budget:
    """Read a kernel's costs off its machine code."""
    compiled: Code = code(kernel, architecture)
    # Tiles are multiplied where they are stored to shared memory, too.
    tiled = ("STS",) if kernel.startswith("convolution") else ()
    step = compiled.step(mark(kernel), "LDG", *tiled)
    kinds = step.kinds()
    arithmetic = sum(n for kind, n in kinds.items() if kind[:4] in ("FFMA", "FADD", "FMUL", "HMMA"))
    return Budget(
        compiled.usage.registers,
        compiled.warps(BLOCKS.get(kernel.partition("<")[0], 256)),
        compiled.issued(step, mark(kernel), marks(kernel)),
        kinds["LDG"],
        kinds["LDS"] + kinds["STS"],
        arithmetic,
    )


def budgeted() -> Iterator[str]:
    """Kernels with a budget: those with an inner loop, in float32; and float16 on tensor cores."""
    no_loop = ("arrange_weights", "hinge_loss", "attention_mask_backward", "cross_entropy_backward")
    for source in ("columns", "convolution", "distance", "losses", "pooling"):
        for kernel in kernels.instances(source, "float"):
            if not kernel.startswith(no_loop) and "_repair" not in kernel:
                yield kernel
    yield "convolution_tensor_cores<__half, true>"


def forward(card: Card, architecture: str, channels: int, side: int, tf32: bool) -> float:
    """Seconds of the implicit segmentation-aware convolution, batch 8, 3x3, as many outputs."""
    windows = 8 * side * side
    kernel = "convolution_tensor_cores<float, true>" if tf32 else "convolution<float, 64, true>"
    tiles = -(-channels // 64) * 8 * -(-side * side // 128)
    instructions = 9 * -(-channels // 8) * budget(kernel, architecture).step
    moved = 4 * windows * (2 * channels + 9)
    issue = card.issue(4 * tiles, instructions + EPILOGUE[mark(kernel)])
    return max(issue, moved / card.bandwidth)


def columns_forward(card: Card, channels: int, side: int, tf32: bool) -> float:
    """Seconds of the same by columns: made, multiplied, brought into order."""
    windows = 8 * side * side
    columns, image = 4 * windows * channels * 9, 4 * windows * channels
    return (columns + image) / card.bandwidth + _product(card, channels, windows, tf32)


def _product(card: Card, channels: int, windows: int, tf32: bool) -> float:
    operations = 2.0 * windows * channels * channels * 9
    moved = 4 * windows * channels * (9 + 1)
    rate = card.product_tf32 if tf32 else card.product
    ordered = 2 * 4 * windows * channels  # bytes, to bring the result into order
    return max(operations / rate, moved / card.bandwidth) + ordered / card.bandwidth


def backward(card: Card, architecture: str, channels: int, side: int, tf32: bool) -> float:
    """Seconds of its gradients: columns of the gradient and of the image, and two products."""
    windows = 8 * side * side
    columns, image, mask = (4 * windows * n for n in (9 * channels, channels, 9))
    step = budget("masked_columns_backward<float, false>", architecture).step
    gathered = max(
        (columns + 2 * image + mask) / card.bandwidth,
        card.issue(windows * (channels / 8) * 9 / 32, step),
    )
    made = (columns + image) / card.bandwidth
    return gathered + made + 2 * _product(card, channels, windows, tf32)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--architecture", default="90", help="compute capability (default: 90)")
    for name, value in Card()._asdict().items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=value)
    parser.add_argument("--write", type=Path, help="write what the tests hold kernels to")
    options = vars(parser.parse_args())
    if file := options.pop("write"):
        found: dict[str, object] = {"nvrtc": nvrtc.compiler().version}
        for architecture in ("80", "90"):
            found[architecture] = {k: budget(k, architecture)._asdict() for k in budgeted()}
        file.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        return 0
    architecture, card = options.pop("architecture"), Card(**options)
    print(f"sm_{architecture}, from the machine code; a step is one pass of the inner loop")
    print(f"{'kernel':48} {'  '.join(Budget._fields)}")
    for kernel in budgeted():
        cells = zip(Budget._fields, budget(kernel, architecture), strict=True)
        print(f"{kernel:48} {'  '.join(f'{n:{len(name)}}' for name, n in cells)}")
    print("\nA model, not a measurement: milliseconds, batch 8, 3x3, as many outputs as channels")
    print("precision  channels  side  forward  by columns  backward")
    for tf32 in (False, True):
        for channels, side in SIZES:
            times = (
                forward(card, architecture, channels, side, tf32),
                columns_forward(card, channels, side, tf32),
                backward(card, architecture, channels, side, tf32),
            )
            text = "  ".join(f"{1e3 * t:8.3f}" for t in times)
            print(f"{'TF32' if tf32 else 'float32':9}  {channels:8}  {side:4}  {text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
