"""A training step of a whole network: this library's, and the same in PyTorch operations.

    python benchmarks/networks.py NETWORK STEPS

repeats the step of one network, for `profile` to watch.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from segaware_np import layers, models, optim
from segaware_np.net import Net

TASK = "training step"
RATE, MOMENTUM, DECAY = 1e-6, 0.9, 5e-4


class Step(NamedTuple):
    """A step of training on one image: a name in `NETWORKS`, and the side of the image."""

    network: str
    side: int

    def __str__(self) -> str:
        return f"{self.network}, {self.side}²"

    def net(self) -> Net:
        """The network, the same in every process; without dropout, so that losses compare."""
        net = NETWORKS[self.network]()
        net.eval()
        return net

    def inputs(self) -> dict[str, np.ndarray]:
        rng, plane = np.random.default_rng(0), (1, self.side, self.side)
        image = rng.standard_normal((1, 3, *plane[1:]), dtype="float32") * 50
        return {"image": image, "label": rng.integers(0, 21, plane, dtype="int32")}


NETWORKS: dict[str, Callable[[], Net]] = {
    "embedding network": models.embedding_network,
    "segmentation-aware VGG-16, half width": lambda: models.segaware_vgg16(width=0.5),
}
STEPS = (
    Step("embedding network", 161),
    Step("segmentation-aware VGG-16, half width", 321),
)


def our_step(step: Step, inputs: dict[str, np.ndarray]) -> dict[str, Callable[[], float]]:
    """One step in this library; it returns the loss."""
    net = step.net()
    solver = optim.SGD(net.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY)

    def train() -> float:
        net.zero_grad()
        net.forward(inputs)
        net.backward()
        solver.step()
        return net.loss

    return {TASK: train}


def torch_step(step: Step, inputs: dict[str, Any]) -> dict[str, dict[str, Callable[[], float]]]:
    """One step of the same network in PyTorch's operations, with its autograd and its solver."""
    import torch

    net = step.net()
    learned = {
        name: torch.from_numpy(p.data.copy()).requires_grad_()
        for name, p in net.parameters().items()
    }
    groups = [
        {
            "params": [learned[name]],
            "lr": RATE * p.lr_mult,
            "weight_decay": DECAY * p.decay_mult,
        }
        for name, p in net.parameters().items()
    ]
    solver = torch.optim.SGD(groups, momentum=MOMENTUM)

    def train() -> float:
        solver.zero_grad()
        tops, loss = dict(inputs), torch.zeros(())
        for name, node in net.nodes.items():
            mine = {key: learned[f"{name}.{key}"] for key in node.layer.params}
            bottoms = [tops[i] for i in node.inputs]
            tops[name] = TRANSLATION[type(node.layer)](node.layer, mine, *bottoms)
            if node.weight is not None:
                loss = loss + node.weight * tops[name]
        loss.backward()
        solver.step()
        return loss.item()

    return {"composition": {TASK: train}}


def _functional() -> Any:
    from torch.nn import functional

    return functional


def unfold(x: Any, window: Any) -> Any:
    """Columns (N, C, K, Ho, Wo)."""
    columns = _functional().unfold(
        x, window.kernel, padding=window.pad, dilation=window.dilation, stride=window.stride
    )
    return columns.view(*x.shape[:2], window.size, *window.output_shape(x.shape[2:]))


def _convolution(layer: Any, own: dict[str, Any], x: Any) -> Any:
    w = layer.window
    return _functional().conv2d(
        x, own["weight"], own["bias"], stride=w.stride, padding=w.pad, dilation=w.dilation
    )


def _segaware_convolution(layer: Any, own: dict[str, Any], x: Any, distance: Any) -> Any:
    mask = (-own["scale"].abs() * distance).exp()
    columns = (unfold(x, layer.window) * mask[:, None]).flatten(1, 2).flatten(2)
    y = own["weight"].flatten(1) @ columns + own["bias"][:, None]
    return y.view(len(x), -1, *distance.shape[2:])


def _distance(layer: Any, own: dict[str, Any], embedding: Any) -> Any:
    return _pairs(embedding, layer.options[0])[0]


def _embedding_loss(layer: Any, own: dict[str, Any], embedding: Any, label: Any) -> Any:
    alpha, beta, _, ignored, _ = layer.options
    distance, _ = _pairs(embedding, layer.window)
    neighbours = unfold(label[:, None].float(), layer.window)[:, 0]
    near = distance.sub(alpha).clamp_min(0)
    far = distance.neg().add(beta).clamp_min(0)
    h = near.where(neighbours == label[:, None], far)
    counts = (neighbours != ignored) & (label != ignored)[:, None]
    return (h * counts).sum() / h.numel()


def _pairs(embedding: Any, window: Any) -> tuple[Any, Any]:
    """L1 distances to all neighbours, 0 outside the image, and which are inside."""
    inside = unfold(embedding.new_ones(1, 1, *embedding.shape[2:]), window)[:, 0]
    columns = unfold(embedding, window)
    return (columns - embedding[:, :, None]).abs().sum(1) * inside, inside


def _max_pool(layer: Any, own: dict[str, Any], x: Any) -> Any:
    w = layer.window
    return _functional().max_pool2d(x, w.kernel, w.stride, w.pad, w.dilation, ceil_mode=True)


def _average_pool(layer: Any, own: dict[str, Any], x: Any) -> Any:
    w = layer.window
    return _functional().avg_pool2d(x, w.kernel, w.stride, w.pad, ceil_mode=True)


def _resize_like(layer: Any, own: dict[str, Any], x: Any, other: Any) -> Any:
    size = tuple(other.shape[2:])
    return _functional().interpolate(x, size, mode="bilinear", align_corners=True)


def _labels_like(layer: Any, own: dict[str, Any], label: Any, score: Any) -> Any:
    import torch

    return torch.from_numpy(layer.forward(label.numpy(), np.empty(score.shape, "f4")))


def _cross_entropy(layer: Any, own: dict[str, Any], score: Any, label: Any) -> Any:
    return _functional().cross_entropy(score, label.long(), ignore_index=layer.options[0])


def _concat(layer: Any, own: dict[str, Any], *xs: Any) -> Any:
    import torch

    return torch.cat(xs, 1)


TRANSLATION: dict[type, Callable[..., Any]] = {
    layers.Convolution: _convolution,
    layers.SegawareConvolution: _segaware_convolution,
    layers.Distance: _distance,
    layers.EmbeddingLoss: _embedding_loss,
    layers.MaxPool: _max_pool,
    layers.AveragePool: _average_pool,
    layers.ResizeLike: _resize_like,
    layers.LabelsLike: _labels_like,
    layers.SoftmaxCrossEntropy: _cross_entropy,
    layers.Concat: _concat,
    layers.ReLU: lambda layer, own, x: x.relu(),
    layers.Dropout: lambda layer, own, x: x,
    layers.Multiply: lambda layer, own, x: x * layer.factor,
}


def profile(step: Step, threads: int, steps: int = 10) -> dict[str, float] | None:
    """Share of the busy time of some steps that is spent in BLAS, NumPy and the interpreter.

    Whoever waits for the interpreter's lock counts as the interpreter. None without py-spy.
    """
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    if spy is None:
        return None
    with TemporaryDirectory() as folder:
        samples = Path(folder) / "samples"
        watch = [spy, "record", "--native", "--rate", "200", "--format", "raw", "-o", str(samples)]
        repeat = [sys.executable, __file__, step.network, str(steps)]
        environment = {**os.environ, "SEGAWARE_NUM_THREADS": str(threads)}
        subprocess.run([*watch, "--", *repeat], env=environment, check=True, capture_output=True)
        counts: Counter[str] = Counter()
        for line in samples.read_text(encoding="utf-8").splitlines():
            stack, count = line.rsplit(" ", 1)
            if place := _place(stack.split(";")):
                counts[place] += int(count)
    return {place: counts[place] / counts.total() for place in ("BLAS", "NumPy", "interpreter")}


def _place(frames: list[str]) -> str | None:
    """Where a thread was; None if it had nothing to do, or no step had begun."""
    if not any("train (" in frame or "drain (" in frame for frame in frames):
        return None
    for frame in reversed(frames):
        if "openblas" in frame:
            return "BLAS"
        if "numpy" in frame and ".so" in frame:
            return "NumPy"
        if "lock_PyThread_acquire_lock" in frame:  # for another thread to end its job
            return None
        if ".py:" in frame or "python" in frame:
            return "interpreter"
    return None


def main() -> None:
    name, count = sys.argv[1:]
    (step,) = (s for s in STEPS if s.network == name)
    train = our_step(step, step.inputs())[TASK]
    for _ in range(int(count)):
        print(f"loss {train():.6f}", flush=True)


if __name__ == "__main__":
    main()
