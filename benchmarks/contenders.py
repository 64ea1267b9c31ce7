"""What `benchmarks/cpu.py` and `benchmarks/gpu.py` time: the same tasks here and in PyTorch.

On the CPU each library has a process of its own, so that no other's threads spin beside it; it
builds the inputs of a case from a seed, and runs one task each time it is asked to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from networks import Step, our_step, torch_step

EMBEDDING, SCALE = 64, 0.05
LOOK = 0.2  # seconds
Tasks = dict[str, Callable[[], Any]]
Inputs = Mapping[str, Any]  # a case's, as the arrays or tensors of a library


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

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the inputs."""
        n, channels, outputs, plane = self.batch, self.channels, self.outputs, (self.side,) * 2
        return {
            "x": (n, channels, *plane),
            "mask": (n, self.kernel**2, *plane),
            "weight": (outputs, channels, self.kernel, self.kernel),
            "bias": (outputs,),
            "dy": (n, outputs, *plane),
            "embedding": (n, EMBEDDING, *plane),
        }

    def inputs(self) -> dict[str, np.ndarray]:
        """The same numbers in every process."""
        rng = np.random.default_rng(0)
        arrays = {}
        for name, shape in self.shapes().items():
            draw = rng.random if name == "mask" else rng.standard_normal
            arrays[name] = draw(shape, dtype="float32")
        arrays["weight"] *= 0.05
        return arrays


def ours(case: Case, inputs: Inputs) -> Tasks:
    """The tasks in this library, on NumPy or CuPy arrays."""
    from segaware_np import Window, ops

    window = Window.same(case.kernel, case.dilation)
    x, mask, weight, bias, dy, embedding = inputs.values()

    def forward(m: Any = mask) -> Any:
        return ops.segaware_convolution_forward(x, m, weight, bias, window=window)

    def both() -> Any:
        return ops.segaware_convolution_backward(dy, forward()[1])

    def embedded() -> Any:
        m, to_embedding = ops.local_mask_forward(embedding, SCALE, window)
        return *forward(m), to_embedding

    def embedded_both() -> Any:
        _, cache, to_embedding = embedded()
        dx, dmask, dweight, dbias = ops.segaware_convolution_backward(dy, cache)
        dembedding, _ = ops.local_mask_backward(dmask, to_embedding, {"embedding"})
        return dx, dembedding, dweight, dbias

    return {
        "forward": forward,
        "forward + backward": both,
        "with mask, forward": embedded,
        "with mask, forward + backward": embedded_both,
    }


def pytorch(case: Case, tensors: Inputs) -> dict[str, Tasks]:
    """The same tasks in PyTorch, by several forms; and the plain convolution."""
    import torch
    from torch.nn import functional

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

    def shifted(x: Any, m: Any, w: Any, b: Any) -> Any:
        """The mask commutes with the product over channels: no columns."""
        padded, reach = functional.pad(x, [pad] * 4), range(case.kernel)
        y = b[:, None, None].expand(n, -1, *plane)
        for k, (i, j) in enumerate((i, j) for i in reach for j in reach):
            top, left = i * case.dilation, j * case.dilation
            part = padded[:, :, top : top + case.side, left : left + case.side]
            y = y + m[:, k, None] * torch.einsum("oc,nchw->nohw", w[:, :, i, j], part)
        return y

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

    torch.compiler.reset()  # else forms of other cases count towards a limit of this one's
    static = partial(torch.compile, dynamic=False)
    last = {"memory_format": torch.channels_last}
    lx, lweight = x.contiguous(**last), weight.contiguous(**last)
    return {
        "composition": tasks(composition),
        "unfold, 1x1 conv2d": tasks(pointwise),
        "compiled": tasks(static(composition), static(make_mask)),
        "shifted": tasks(shifted),
        "shifted, compiled": tasks(static(shifted), static(make_mask)),
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
    """The published CRF's filters: 13x13 with dilation 9 and 5x5; colours and position."""

    side: int = 321
    classes: int = 21
    kernel: int = 13
    dilation: int = 9
    iterations: int = 5

    def inputs(self) -> dict[str, np.ndarray]:
        rng, plane = np.random.default_rng(0), (self.side, self.side)
        scores = rng.standard_normal((1, self.classes, *plane), dtype="float32")
        position = np.indices(plane)[None, ::-1].astype("float32") / 50
        colours = rng.random((1, 3, *plane), dtype="float32")
        features = np.concatenate([colours, position], 1)
        eye = np.eye(self.classes, dtype="float32")
        return {"scores": scores, "features": features, "position": position, "eye": eye}


def our_filters(case: Filters, inputs: Inputs) -> Tasks:
    from segaware_np import Window, ops

    scores, features, position, eye = inputs.values()
    window, spatial = Window.same(case.kernel, case.dilation), Window.same(5)
    windows = {"window1": window, "window2": spatial, "iterations": case.iterations}

    def filtered() -> Any:
        options = {"window": window, "remove_bounds": False}
        return ops.bilateral_filter_forward(scores, features, **options)[0]

    def refined() -> Any:
        matrices = eye, eye, -eye
        return ops.mean_field_forward(scores, scores, features, position, *matrices, **windows)[0]

    return {"bilateral filter": filtered, "mean field": refined}


def torch_filters(case: Filters, tensors: Inputs) -> dict[str, Tasks]:
    import torch
    from torch.nn import functional

    scores, features, position, eye = tensors.values()
    wide, spatial = (case.kernel, case.dilation), (5, 1)

    def unfold(image: Any, kernel: int, dilation: int) -> Any:
        columns = functional.unfold(image, kernel, dilation, dilation * (kernel // 2))
        return columns.view(1, image.shape[1], kernel**2, case.side, case.side)

    def make_mask(e: Any, kernel: int, dilation: int, remove: bool) -> Any:
        distance = (unfold(e, kernel, dilation) - e[:, :, None]).square().sum(1) / 2
        inside = unfold(torch.ones_like(e[:, :1]), kernel, dilation)[:, 0] > 0
        distance = torch.where(inside, distance, torch.inf if remove else 0)
        if remove:
            distance[:, kernel**2 // 2] = torch.inf
        return torch.softmax(-distance, 1)

    def average(image: Any, mask: Any, kernel: int, dilation: int) -> Any:
        return (unfold(image, kernel, dilation) * mask[:, None]).sum(2)

    def filtered() -> Any:
        return average(scores, make_mask(features, *wide, False), *wide)

    def refined() -> Any:
        near, far = make_mask(position, *spatial, True), make_mask(features, *wide, True)
        q = scores
        for _ in range(case.iterations):
            p = torch.softmax(q, 1)
            a, b = average(p, near, *spatial), average(p, far, *wide)
            message = torch.tensordot(eye, a + b, ([1], [1])).transpose(0, 1)
            q = scores + torch.tensordot(eye, message, ([1], [1])).transpose(0, 1)
        return q

    torch.compiler.reset()
    tasks = {"bilateral filter": filtered, "mean field": refined}
    static = partial(torch.compile, dynamic=False)
    return {"unfold": tasks, "compiled": {name: static(run) for name, run in tasks.items()}}


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
        from segaware_np.cpu.threads import set_num_threads

        set_num_threads(threads)
    else:
        import torch

        torch.set_num_threads(threads)


def _prepare(library: str, case: Any) -> dict[str, Tasks]:
    here, there = {
        Case: (ours, pytorch),
        Filters: (our_filters, torch_filters),
        Step: (our_step, torch_step),
    }[type(case)]
    inputs = case.inputs()
    if library == "ours":
        return {"": here(case, inputs)}
    import torch

    return there(case, {name: torch.from_numpy(array) for name, array in inputs.items()})


def _time(task: Callable[[], Any]) -> float:
    """Seconds of a call; the shortest of some, once processors and threads are awake again."""
    _repeat(task)
    return min(_repeat(task))


def _repeat(task: Callable[[], Any]) -> list[float]:
    """Seconds of each of the calls that fit into the time of a look."""
    seconds: list[float] = []
    while sum(seconds) < LOOK:
        start = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - start)
    return seconds


def _peak(task: Callable[[], Any]) -> float:
    """Most resident memory during a call, beyond what was there before, in bytes (Linux)."""
    task()  # what a library keeps from its first call on is not the task's
    with open("/proc/self/clear_refs", "w", encoding="utf-8") as file:
        file.write("5")
    before = _resident("VmRSS")
    result = task()
    peak = _resident("VmHWM")
    del result
    return peak - before


def _resident(name: str) -> float:
    with open(f"/proc/{os.getpid()}/status", encoding="utf-8") as file:
        line = next(line for line in file if line.startswith(name))
    return 1024 * float(line.split()[1])
