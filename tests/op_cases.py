"""The table of all operations: of each, what a problem asks, and what the answer must be.

Everything that is proved of operations reads it: values, adjoints, gradients, both engines, other
devices. An operation that is added here is proved in all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from types import FrameType
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import oracles
from problems import Problem

from segaware_np import dispatch, ops
from segaware_np.testing.strategies import Geometry
from segaware_np.window import Window
from segaware_np.xp import array_module


class Case(NamedTuple):
    """An operation bound to its options, with inputs and an oracle."""

    forward: Callable
    backward: Callable | None  # None: has no gradient
    inputs: Mapping[str, Any]
    oracle: Callable | None  # None: random
    linear: tuple[str, ...] = ()
    rounds: float = 0  # relative error of the adjoint; 0: its coefficients are whole numbers
    views: bool = False  # documented: its gradients are views of d_output
    host: bool = False  # documented: on NumPy alone

    def run(
        self, inputs: Sequence[Any], d_output: Any = None, *, gradients: bool = True, **need: Any
    ) -> list:
        """Return the output for these inputs and, at `d_output` (by default 1), the gradients."""
        if self.backward is None:
            return [self.forward(*inputs)]
        y, cache = self.forward(*inputs)
        if not gradients:
            return [y]
        dy = array_module(y).ones_like(y) if d_output is None else d_output
        found = self.backward(dy, cache, **need)
        return [y, *(found if isinstance(found, tuple) else (found,))]


OPS: dict[str, Callable[[Problem], Case]] = {}


def op(name: str, **options: tuple) -> Callable:
    """Enter the decorated maker of a case, once for each combination of options."""

    def enter(make: Callable) -> Callable:
        for values in product(*options.values()):
            words = (f"{key} {value}" for key, value in zip(options, values, strict=True))
            OPS[", ".join([name, *words])] = partial(
                make, **dict(zip(options, values, strict=True))
            )
        return make

    return enter


# Columns and convolutions.


@op("im2col")
def im2col(p: Problem) -> Case:
    return Case(
        partial(ops.im2col_forward, window=p.window),
        ops.im2col_backward,
        {"x": p.image()},
        lambda x: oracles.im2col(x, p.window),
        linear=("x",),
    )


@op("col2im")
def col2im(p: Problem) -> Case:
    return Case(
        partial(ops.col2im_forward, shape=p.size, window=p.window),
        ops.col2im_backward,
        {"cols": p.columns()},
        lambda cols: oracles.col2im(cols, p.size, p.window),
        linear=("cols",),
    )


@op("convolution")
def convolution(p: Problem) -> Case:
    return Case(
        partial(ops.convolution_forward, window=p.window, groups=p.groups),
        ops.convolution_backward,
        {"x": p.image(), "weight": p.weight(), "bias": p.bias()},
        lambda x, w, b: oracles.convolution(x, w, b, p.window, p.groups),
        linear=("x", "weight", "bias"),
    )


@op("column convolution")
def column_convolution(p: Problem) -> Case:
    return Case(
        partial(ops.column_convolution_forward, groups=p.groups),
        ops.column_convolution_backward,
        {"columns": p.columns(), "weight": p.weight(), "bias": p.bias()},
        lambda cols, w, b: oracles.column_convolution(cols, w, b, p.groups),
        linear=("columns", "weight", "bias"),
    )


@op("transposed convolution")
def transposed_convolution(p: Problem) -> Case:
    w, spans = p.window, [axis.reach - 1 for axis in p.window.axes(p.size)]
    pad = tuple(min(n, span // 2) for n, span in zip(w.pad, spans, strict=True))
    window = Window(w.kernel, w.stride, pad, w.dilation)
    n, c, *windows = p.geometry.result(p.groups * p.channels)
    axes = zip(windows, w.stride, pad, spans, strict=True)
    size = tuple((count - 1) * s + span + 1 - 2 * margin for count, s, margin, span in axes)
    return Case(
        partial(ops.transposed_convolution_forward, window=window, groups=p.groups),
        ops.transposed_convolution_backward,
        {
            "x": p.normal(n, c, *windows),
            "weight": p.normal(c, p.outputs, *w.kernel),
            "bias": p.bias(),
        },
        lambda x, w, b: oracles.transposed_convolution(x, w, b, size, window, p.groups),
        linear=("x", "weight", "bias"),
    )


@op("segaware convolution", form=("fused", "explicit"))
def segaware_convolution(p: Problem, form: str) -> Case:
    name = "segaware_convolution" + "_explicit" * (form == "explicit")
    return Case(
        partial(getattr(ops, f"{name}_forward"), window=p.window, groups=p.groups),
        getattr(ops, f"{name}_backward"),
        {"x": p.image(), "mask": p.mask(), "weight": p.weight(), "bias": p.bias()},
        lambda *a: oracles.segaware_convolution(*a, p.window, p.groups),
        linear=("x", "mask", "weight", "bias"),
    )


@op("masked sum")
def masked_sum(p: Problem) -> Case:
    return Case(
        partial(ops.masked_sum_forward, window=p.window),
        ops.masked_sum_backward,
        {"x": p.image(), "mask": p.mask()},
        lambda x, m: oracles.masked_sum(x, m, p.window),
        linear=("x", "mask"),
    )


# Distances and masks.


@op("distance", norm=("L1", "L2"), center=(False, True), bounds=(False, True))
def distance(p: Problem, **options: Any) -> Case:
    measure = (p.window, *options.values())
    return Case(
        lambda e: ops.distance_forward(e, *measure),
        ops.distance_backward,
        {"embedding": p.embedding()},
        lambda e: oracles.distance(e, *measure),
    )


@op("label parity", ignore=(None, 0, 255))
def label_parity(p: Problem, ignore: int | None) -> Case:
    return Case(
        lambda labels: ops.label_parity_forward(labels, p.window, ignore),
        None,
        {"labels": p.integers((p.geometry.batch, *p.size), 3, ignore)},
        lambda labels: oracles.label_parity(labels, p.window, ignore),
    )


@op("mask", kind=("exponential", "normalized"), scale=(0.7, 0.0, -0.3))
def mask(p: Problem, kind: str, scale: float) -> Case:
    return Case(
        getattr(ops, f"{kind}_mask_forward"),
        getattr(ops, f"{kind}_mask_backward"),
        {"distance": p.distances(), "scale": np.array(scale)},
        getattr(oracles, f"{kind}_mask"),
    )


@op("local mask", norm=("L1", "L2"), normalized=(False, True))
def local_mask(p: Problem, norm: str, normalized: bool) -> Case:
    flags = {"remove_center": p.pick(False, True), "remove_bounds": p.pick(False, True)}
    weights = oracles.normalized_mask if normalized else oracles.exponential_mask
    return Case(
        partial(
            ops.local_mask_forward, window=p.window, norm=norm, normalized=normalized, **flags
        ),
        ops.local_mask_backward,
        {"embedding": p.embedding(), "scale": np.array(p.pick(0.7, 0.2, 0.0, -0.3))},
        lambda e, s: weights(oracles.distance(e, p.window, norm, *flags.values()), s),
    )


@op("bilateral filter", norm=("L1", "L2"))
def bilateral_filter(p: Problem, norm: str) -> Case:
    flags = {"remove_center": p.pick(False, True), "remove_bounds": p.pick(False, True)}
    return Case(
        partial(ops.bilateral_filter_forward, window=p.window, norm=norm, **flags),
        ops.bilateral_filter_backward,
        {"x": p.image(), "embedding": p.embedding(), "scale": np.array(0.4)},
        lambda *a: oracles.bilateral_filter(*a, p.window, norm, *flags.values()),
        linear=("x",),
        rounds=1e-14,
    )


@op("normalized convolution", norm=("L1", "L2"))
def normalized_convolution(p: Problem, norm: str) -> Case:
    flags = {"remove_center": p.pick(False, True), "remove_bounds": p.pick(False, True)}
    return Case(
        partial(
            ops.normalized_convolution_forward,
            window=p.window, groups=p.groups, norm=norm, **flags,
        ),
        ops.normalized_convolution_backward,
        {
            "x": p.image(),
            "embedding": p.embedding(),
            "weight": p.weight(),
            "bias": p.bias(),
            "scale": np.array(0.4),
        },
        lambda *a: oracles.normalized_convolution(*a, p.window, p.groups, norm, *flags.values()),
        linear=("x", "weight", "bias"),
        rounds=1e-14,
    )  # fmt: skip


@op("dot product", bounds=(False, True))
def dot_product(p: Problem, bounds: bool) -> Case:
    shape = p.embedding().shape
    return Case(
        partial(ops.dot_product_forward, window=p.window, remove_bounds=bounds),
        ops.dot_product_backward,
        {"query": p.normal(*shape), "key": p.normal(*shape)},
        lambda q, k: oracles.dot_product(q, k, p.window, bounds),
        linear=() if bounds else ("query", "key"),
    )


@op("neighborhood attention", biased=(False, True))
def neighborhood_attention(p: Problem, biased: bool) -> Case:
    inputs = {"query": p.image(), "key": p.image()}
    inputs["value"] = p.normal(*p.geometry.image(p.groups * p.outputs))
    if biased:
        inputs["bias"] = p.normal(p.groups, *p.window.kernel)
    return Case(
        lambda q, k, v, b=None: ops.neighborhood_attention_forward(q, k, v, p.window, p.groups, b),
        ops.neighborhood_attention_backward,
        inputs,
        lambda q, k, v, b=None: oracles.neighborhood_attention(q, k, v, p.window, p.groups, b),
        linear=("value",),
        rounds=1e-14,
    )


@op("mean field")
def mean_field(p: Problem) -> Case:
    windows = Window.same((3, 5), dilation=(2, 1)), Window.same(3)
    n, c, *size = p.scores().shape
    size = [min(side, 3) for side in size]
    fields = {"unary": c, "first_q": c, "f1": 3, "f2": 2}
    return Case(
        partial(
            ops.mean_field_forward,
            window1=windows[0], window2=windows[1], iterations=p.groups,
        ),
        ops.mean_field_backward,
        {name: p.normal(n, maps, *size) for name, maps in fields.items()}
        | {name: p.normal(c, c) for name in ("ws", "wb", "wc")},
        lambda *a: oracles.mean_field(*a, *windows, p.groups),
    )  # fmt: skip


@op("gaussian filter", normalization=("symmetric", "output", None))
def gaussian_filter(p: Problem, normalization: str | None) -> Case:
    x = p.image()
    lattice = ops.permutohedral_lattice(p.normal(len(x), 3, *x.shape[2:]), normalization)
    matrix = oracles.lattice_matrix(lattice)
    return Case(
        partial(ops.gaussian_filter_forward, lattice=lattice),
        ops.gaussian_filter_backward,
        {"x": x},
        lambda x: oracles.of_pixels(matrix, x),
        linear=("x",),
        rounds=1e-14,
        host=True,
    )


@op("dense mean field")
def dense_mean_field(p: Problem) -> Case:
    n, c, *size = p.scores().shape
    lattices = [ops.permutohedral_lattice(p.normal(n, maps, *size)) for maps in (3, 2)]
    matrices = [oracles.lattice_matrix(lattice) for lattice in lattices]
    return Case(
        partial(ops.dense_mean_field_forward, lattices=lattices, iterations=p.groups),
        ops.dense_mean_field_backward,
        {
            "unary": p.normal(n, c, *size),
            "first_q": p.normal(n, c, *size),
            "weights": p.normal(2, c, c),
            "wc": p.normal(c, c),
        },
        lambda *a: oracles.dense_mean_field(*a, matrices, p.groups),
        host=True,
    )


# Pooling and resizing.


@op("pool", kind=("max", "average"))
def pool(p: Problem, kind: str) -> Case:
    window, x = p.pooling()
    return Case(
        partial(getattr(ops, f"{kind}_pool_forward"), window=window),
        getattr(ops, f"{kind}_pool_backward"),
        {"x": x},
        lambda x: oracles.pool(x, window, kind),
        linear=("x",) if kind == "average" else (),
        rounds=1e-15,
    )


@op("resize")
def resize(p: Problem) -> Case:
    size = int(p.rng.integers(1, 9)), int(p.rng.integers(1, 9))
    return Case(
        partial(ops.resize_forward, size=size),
        ops.resize_backward,
        {"x": p.image()},
        lambda x: oracles.resize(x, size),
        linear=("x",),
        rounds=1e-14,
    )


# Losses.


@op("softmax")
def softmax(p: Problem) -> Case:
    x = p.scores() + p.pick(0, 500)
    return Case(ops.softmax_forward, ops.softmax_backward, {"x": x}, oracles.softmax)


@op("softmax cross-entropy", ignore=(255, 0, None))
def softmax_cross_entropy(p: Problem, ignore: int | None) -> Case:
    score = p.scores()
    return Case(
        partial(ops.softmax_cross_entropy_forward, ignore_label=ignore),
        ops.softmax_cross_entropy_backward,
        {
            "score": score,
            "labels": p.integers((len(score), *p.size), score.shape[1], ignore),
        },
        lambda s, labels: oracles.cross_entropy(s, labels, ignore),
    )


@op("embedding loss", hinge=("linear", "squared"), normalize=("all", "valid"))
def embedding_loss(p: Problem, hinge: str, normalize: str) -> Case:
    d, ignore = p.distances(), p.pick(255, None)
    options = 0.5, 2.0, hinge, ignore, normalize
    return Case(
        lambda d, parity: ops.embedding_loss_forward(d, parity, *options),
        ops.embedding_loss_backward,
        {"distance": d, "parity": p.integers(d.shape, 2, ignore)},
        lambda d, parity: oracles.embedding_loss(d, parity, *options),
    )


# One number or one channel at a time.


@op("relu")
def relu(p: Problem) -> Case:
    x = p.apart(*p.geometry.image(2))
    return Case(ops.relu_forward, ops.relu_backward, {"x": x}, lambda x: np.where(x > 0, x, 0))


@op("absolute")
def absolute(p: Problem) -> Case:
    x = p.apart(*p.geometry.image(2))
    return Case(
        ops.absolute_forward, ops.absolute_backward, {"x": x}, lambda x: np.where(x < 0, -x, x)
    )


@op("power")
def power(p: Problem) -> Case:
    return Case(
        partial(ops.power_forward, power=3.0, scale=0.5, shift=1.0),
        ops.power_backward,
        {"x": p.image()},
        lambda x: (0.5 * x + 1) * (0.5 * x + 1) * (0.5 * x + 1),
    )


@op("exponential")
def exponential(p: Problem) -> Case:
    return Case(
        partial(ops.exponential_forward, base=2.0, scale=-1.5, shift=0.5),
        ops.exponential_backward,
        {"x": p.image()},
        lambda x: np.exp2(0.5 - 1.5 * x),
    )


@op("dropout")
def dropout(p: Problem) -> Case:
    return Case(
        partial(ops.dropout_forward, ratio=0.4, seed=p.seed),
        ops.dropout_backward,
        {"x": p.image()},
        None,
        linear=("x",),
        rounds=1e-15,
    )


@op("scale", factors=("one", "channels"))
def scale(p: Problem, factors: str) -> Case:
    x, shape = p.normal(2, 3, 4), () if factors == "one" else (3, 1)
    inputs = {"x": x, "scale": p.normal(*shape[:1])}
    if shape:
        inputs["bias"] = p.normal(*shape[:1])
    return Case(
        ops.scale_forward,
        ops.scale_backward,
        inputs,
        lambda x, s, b=0: s.reshape(shape) * x + np.reshape(b, shape),
        linear=tuple(inputs),
        views=True,
    )


@op("batch norm")
def batch_norm(p: Problem) -> Case:
    return Case(
        ops.batch_norm_forward,
        ops.batch_norm_backward,
        {"x": p.normal(3, p.channels, *p.size)},
        oracles.batch_norm,
    )


@op("tile")
def tile(p: Problem) -> Case:
    return Case(
        partial(ops.tile_forward, tiles=3, axis=1),
        ops.tile_backward,
        {"x": p.image()},
        lambda x: np.concatenate([x, x, x], axis=1),
        linear=("x",),
    )


# Several arrays.


@op("concat", arrays=(1, 3))
def concat(p: Problem, arrays: int) -> Case:
    names, channels = "abc"[:arrays], (2, 1, 3)[:arrays]
    xs = {a: p.normal(*p.geometry.image(c)) for a, c in zip(names, channels, strict=True)}
    return Case(
        ops.concat_forward,
        ops.concat_backward,
        xs,
        lambda *xs: np.concatenate(xs, axis=1),
        linear=tuple(xs),
        views=True,
    )


@op("add", arrays=(1, 3))
def add(p: Problem, arrays: int) -> Case:
    xs = {name: p.image() for name in "abc"[:arrays]}
    return Case(
        ops.add_forward, ops.add_backward, xs, lambda *xs: sum(xs), linear=tuple(xs), views=True
    )


@op("product")
def product_(p: Problem) -> Case:
    xs = {name: p.image() for name in "abc"}
    xs["b"][..., 0] = 0
    return Case(
        ops.product_forward,
        ops.product_backward,
        xs,
        lambda a, b, c: a * b * c,
        linear=tuple(xs),
        rounds=1e-15,
    )


@op("maximum")
def maximum(p: Problem) -> Case:
    xs = dict(zip("abc", p.apart(3, *p.geometry.image(2)), strict=True))
    return Case(
        ops.maximum_forward, ops.maximum_backward, xs, lambda *xs: np.max(np.stack(xs), axis=0)
    )


# Nothing is alike on both axes of this window.
ODD = Geometry(Window((3, 2), stride=(1, 2), pad=(2, 1), dilation=(2, 1)), batch=2, size=(5, 6))
CASES = {name: make(Problem(ODD, seed=11)) for name, make in OPS.items()}
DIFFERENTIABLE = [name for name, case in CASES.items() if case.backward]


def plain_formulas() -> Any:
    """Let no engine's form stand in for a formula, as a context."""
    return patch.object(dispatch, "form", lambda package, plain: plain)


def formulas(case: Case) -> set[str]:
    """Return the names of the formulas for which a case asks for a fast form."""
    asked = set()

    def listen(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is dispatch.fast.__code__:
            asked.add(frame.f_locals["plain"].__name__)

    before = sys.getprofile()
    sys.setprofile(listen)
    try:
        with plain_formulas():  # a form that fails shall fail its own tests
            case.run([*case.inputs.values()])
    finally:
        sys.setprofile(before)
    return asked


FORMULAS = {name: formulas(case) for name, case in CASES.items()}
