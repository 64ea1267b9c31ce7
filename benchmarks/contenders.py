"""What `benchmarks/cpu.py` times: this library and PyTorch, each in a process of its own.

A process holds one library, so that no other's threads spin beside it; it builds the inputs of a
case from a seed, and runs one task each time it is asked to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

EMBEDDING, SCALE = 64, 0.05
Tasks = dict[str, Callable[[], Any]]


class Case(NamedTuple):
    """A convolution: batch, channels in and out, side of the image, kernel, dilation."""

    batch: int
    channels: int
    outputs: int
    side: int
    kernel: int = 3
    dilation: int = 1

    def __str__(self) -> str:
        channels = f"{self.batch}x{self.channels}→{self.outputs}"
        dilation = f" d{self.dilation}" if self.dilation > 1 else ""
        return f"{channels}, {self.side}², {self.kernel}x{self.kernel}{dilation}"

    @property
    def flops(self) -> int:
        """Of the matrix product of a forward pass."""
        taps = self.channels * self.kernel**2
        return 2 * self.batch * self.outputs * taps * self.side**2

    def inputs(self) -> dict[str, np.ndarray]:
        """The same numbers in every process."""
        rng, plane = np.random.default_rng(0), (self.side, self.side)

        def normal(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape, dtype="float32")

        return {
            "x": normal(self.batch, self.channels, *plane),
            "mask": rng.random((self.batch, self.kernel**2, *plane), dtype="float32"),
            "weight": normal(self.outputs, self.channels, self.kernel, self.kernel) * 0.05,
            "bias": normal(self.outputs),
            "dy": normal(self.batch, self.outputs, *plane),
            "embedding": normal(self.batch, EMBEDDING, *plane),
        }


def ours(case: Case) -> Tasks:
    """The tasks in this library."""
    from segaware_np import Window, ops

    window = Window.same(case.kernel, case.dilation)
    x, mask, weight, bias, dy, embedding = case.inputs().values()

    def forward(m: np.ndarray = mask) -> Any:
        return ops.segaware_convolution_forward(x, m, weight, bias, window=window)

    def both() -> Any:
        return ops.segaware_convolution_backward(dy, forward()[1])

    def embedded() -> Any:
        distance, to_embedding = ops.distance_forward(embedding, window)
        m, to_distance = ops.exponential_mask_forward(distance, SCALE)
        return forward(m), to_embedding, to_distance

    def embedded_both() -> Any:
        (_, cache), to_embedding, to_distance = embedded()
        dx, dmask, dweight, dbias = ops.segaware_convolution_backward(dy, cache)
        ddistance, _ = ops.exponential_mask_backward(dmask, to_distance)
        return dx, dweight, dbias, ops.distance_backward(ddistance, to_embedding)

    return {
        "forward": forward,
        "forward + backward": both,
        "with mask, forward": embedded,
        "with mask, forward + backward": embedded_both,
    }


def pytorch(case: Case) -> dict[str, Tasks]:
    """The same tasks in PyTorch, by several forms; and the plain convolution."""
    import torch
    from torch.nn import functional

    tensors = {name: torch.from_numpy(array) for name, array in case.inputs().items()}
    x, mask, weight, bias, dy, embedding = tensors.values()
    n, taps, plane = case.batch, case.kernel**2, (case.side, case.side)
    pad = case.dilation * (case.kernel // 2)
    options = {"padding": pad, "dilation": case.dilation}

    def unfold(image: Any) -> Any:
        columns = functional.unfold(image, case.kernel, **options)
        return columns.view(n, image.shape[1], taps, *plane)

    def make_mask(e: Any) -> Any:
        return torch.exp(-SCALE * (unfold(e) - e[:, :, None]).abs().sum(1))

    def composition(x: Any, m: Any, w: Any, b: Any) -> Any:
        masked = (unfold(x) * m[:, None]).flatten(1, 2).flatten(2)
        return (w.flatten(1) @ masked + b[:, None]).view(n, -1, *plane)

    def pointwise(x: Any, m: Any, w: Any, b: Any) -> Any:
        masked = (unfold(x) * m[:, None]).flatten(1, 2)
        return functional.conv2d(masked, w.flatten(1)[:, :, None, None], b)

    def plain(x: Any, w: Any, b: Any) -> Any:
        return functional.conv2d(x, w, b, **options)

    def through(form: Callable, *inputs: Any) -> Callable[[], Any]:
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        return lambda: torch.autograd.grad(form(*leaves), leaves, dy)

    def tasks(form: Callable, make_mask: Callable = make_mask) -> Tasks:
        def embedded(x: Any, e: Any, w: Any, b: Any) -> Any:
            return form(x, make_mask(e), w, b)

        return {
            "forward": lambda: form(x, mask, weight, bias),
            "forward + backward": through(form, x, mask, weight, bias),
            "with mask, forward": lambda: embedded(x, embedding, weight, bias),
            "with mask, forward + backward": through(embedded, x, embedding, weight, bias),
        }

    last = {"memory_format": torch.channels_last}
    lx, lweight = x.contiguous(**last), weight.contiguous(**last)
    return {
        "composition": tasks(composition),
        "unfold, 1x1 conv2d": tasks(pointwise),
        "compiled": tasks(torch.compile(composition), torch.compile(make_mask)),
        "conv2d": {
            "forward": lambda: plain(x, weight, bias),
            "forward + backward": through(plain, x, weight, bias),
        },
        "conv2d, channels last": {
            "forward": lambda: plain(lx, lweight, bias),
            "forward + backward": through(plain, lx, lweight, bias),
        },
    }


class Filters(NamedTuple):
    """The published CRF's filter: 13x13 with dilation 9, 21 classes, colours and position."""

    side: int = 321
    classes: int = 21
    kernel: int = 13
    dilation: int = 9

    def inputs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng, plane = np.random.default_rng(0), (self.side, self.side)
        scores = rng.standard_normal((1, self.classes, *plane), dtype="float32")
        position = np.indices(plane)[None, ::-1].astype("float32") / 50
        colours = rng.random((1, 3, *plane), dtype="float32")
        return scores, np.concatenate([colours, position], 1), position


def our_filters(case: Filters) -> Tasks:
    from segaware_np import Window, ops

    scores, features, position = case.inputs()
    window, spatial = Window.same(case.kernel, case.dilation), Window.same(5)
    eye = np.eye(case.classes, dtype="float32")

    def filtered() -> Any:
        return ops.bilateral_filter_forward(scores, features, window=window, remove_bounds=False)

    def refined() -> Any:
        inputs = scores, scores, features, position, eye, eye, -eye
        return ops.mean_field_forward(*inputs, window1=window, window2=spatial, iterations=5)

    return {"bilateral filter": filtered, "mean field, 5 iterations": refined}


def torch_filters(case: Filters) -> Tasks:
    import torch
    from torch.nn import functional

    scores, features, _ = map(torch.from_numpy, case.inputs())
    options = {"padding": case.dilation * (case.kernel // 2), "dilation": case.dilation}

    def unfold(image: Any) -> Any:
        columns = functional.unfold(image, case.kernel, **options)
        return columns.view(1, image.shape[1], case.kernel**2, case.side, case.side)

    def filtered() -> Any:
        distance = (unfold(features) - features[:, :, None]).square().sum(1) / 2
        return (unfold(scores) * torch.softmax(-distance, 1)[:, None]).sum(2)

    return {"bilateral filter": filtered}


def serve(connection: Connection, library: str, threads: int) -> None:
    """Answer ``(case, form, task, what)`` until told None; `what` is "time" or "memory"."""
    prepared: dict[str, Tasks] = {}
    case = None
    _set_threads(library, threads)
    while (request := connection.recv()) is not None:
        wanted, form, task, what = request
        if wanted != case:
            prepared.clear()
            case, prepared = wanted, _prepare(library, wanted)
        measure = _peak if what == "memory" else _time
        connection.send(measure(prepared[form][task]))


def _set_threads(library: str, threads: int) -> None:
    if library == "ours":
        from segaware_np.threads import set_num_threads

        set_num_threads(threads)
    else:
        import torch

        torch.set_num_threads(threads)


def _prepare(library: str, case: Case | Filters) -> dict[str, Tasks]:
    if isinstance(case, Filters):
        return {"": our_filters(case) if library == "ours" else torch_filters(case)}
    return {"": ours(case)} if library == "ours" else pytorch(case)


def _time(task: Callable[[], Any]) -> float:
    task()  # wakes processors and threads that slept while the others had their turn
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def _peak(task: Callable[[], Any]) -> float:
    """Most resident memory during a call, beyond what was there before, in bytes (Linux)."""
    task()  # what a library keeps from its first call on is not the task's
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = _resident("VmRSS")
    result = task()
    peak = _resident("VmHWM")
    del result
    return peak - before


def _resident(name: str) -> float:
    with open(f"/proc/{os.getpid()}/status") as file:
        line = next(line for line in file if line.startswith(name))
    return 1024 * float(line.split()[1])
