"""Published networks beside an independent composition in PyTorch, blob by blob in float64.

    python benchmarks/caffe_zoo.py FOLDER [--only SegNet]

FOLDER holds the repositories' files as ``OWNER+REPOSITORY/PATH``. Each network is built with drawn
parameters at the smallest size that `check` finds, run forward on noise, and every blob is held
against what PyTorch makes of the same description, read here on its own, with the same
parameters. Prints a Markdown table of the largest differences, each relative to its blob's largest
entry. Needs PyTorch.
"""

from __future__ import annotations

import argparse
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from segaware_np.caffe import Net
from segaware_np.caffe.check import known_variables
from segaware_np.caffe.formats.text import fill_variables, parse, read_text
from segaware_np.caffe.net import describe, state_of
from segaware_np.caffe.standins import frames, stand_in
from segaware_np.files import FormatError


class Network(NamedTuple):
    name: str
    repository: str
    file: str
    crops: tuple[int, ...] = ()  # where its Crops begin, as later versions of the files write it


NETWORKS = (
    Network("SegNet", "alexgkendall+SegNet-Tutorial",
            "Example_Models/segnet_pascal.prototxt"),
    Network("SegNet-Basic", "alexgkendall+SegNet-Tutorial",
            "Example_Models/segnet_basic_camvid.prototxt"),
    Network("ENet", "TimoSaemann+ENet",
            "prototxts/enet_deploy.prototxt"),
    Network("PSPNet-50", "hszhao+PSPNet",
            "evaluation/prototxt/pspnet50_ADE20K_473.prototxt"),
    Network("ICNet", "hszhao+ICNet",
            "evaluation/prototxt/icnet_cityscapes_bnnomerge.prototxt"),
    Network("DeconvNet", "HyeonwooNoh+DeconvNet",
            "model/DeconvNet/DeconvNet_inference_deploy.prototxt"),
    Network("DeepLab-LargeFOV", "martinkersner+train-DeepLab",
            "DeepLab-LargeFOV-Semi-Bbox-Fixed/test.prototxt"),
    Network("DeepLab-ResNet", "DrSleep+tensorflow-deeplab-resnet",
            "misc/deploy.prototxt"),
    Network("FCN-8s", "HyeonwooNoh+DeconvNet",
            "model/FCN/fcn-8s-pascal-deploy.prototxt", (5, 9, 31)),
    Network("HED", "s9xie+hed",
            "examples/hed/deploy.prototxt", (34, 35, 36, 38, 42)),
    Network("RCF", "yun-liu+RCF",
            "examples/rcf/test_vgg16.prototxt"),
    Network("Dilation8", "fyu+dilation",
            "models/dilation8_pascal_voc_deploy.prototxt"),
    Network("CRF-as-RNN", "torrvision+crfasrnn",
            "python-scripts/TVG_CRFRNN_COCO_VOC.prototxt", (5, 9, 31)),
)
Options = dict[str, Any]
Tensors = list[torch.Tensor]


# -- a reader of its own: a layer is a dict of lists -----------------------------------------------


def tree(fields: list) -> Options:
    out: Options = {}
    for name, value, _ in fields:
        out.setdefault(name, []).append(tree(value) if isinstance(value, list) else value.text)
    return out


def one(options: Options, name: str, default: Any) -> Any:
    return type(default)(options[name][-1]) if name in options else default


def pair(options: Options, both: str, side: str, default: int) -> tuple[int, int]:
    if f"{side}_h" in options:
        return int(options[f"{side}_h"][0]), int(options[f"{side}_w"][0])
    values = [int(v) for v in options.get(both, [default])]
    return values[0], values[-1]


def inner(layer: Options, name: str) -> Options:
    return layer.get(name, [{}])[0]


# -- the layers ------------------------------------------------------------------------------------


def convolution(layer: Options, x: Tensors, p: Tensors) -> Tensors:
    o = inner(layer, "convolution_param")
    hole = pair(o, "hole" if "hole" in o else "dilation", "dilation", 1)
    stride, pad = pair(o, "stride", "stride", 1), pair(o, "pad", "pad", 0)
    run = F.conv_transpose2d if kind(layer) == "deconvolution" else F.conv2d
    bias = p[1] if len(p) > 1 else None
    groups = one(o, "group", 1)
    return [run(x[0], p[0], bias, stride, pad, groups=groups, dilation=hole)]  # type: ignore[operator]


def pooling(layer: Options, x: Tensors, p: Tensors) -> Tensors:
    """Caffe counts a last window that is cut off, unless it begins in the padding."""
    o, (height, width) = inner(layer, "pooling_param"), x[0].shape[2:]
    if one(o, "global_pooling", "false") == "true":
        return [x[0].mean((2, 3), keepdim=True)]
    kernel, stride = pair(o, "kernel_size", "kernel", 1), pair(o, "stride", "stride", 1)
    pad = pair(o, "pad", "pad", 0)
    counts = []
    for side, k, s, q in zip((height, width), kernel, stride, pad, strict=True):
        n = ceil((side + 2 * q - k) / s) + 1
        counts.append(n - ((n - 1) * s >= side + q))
    more = [max(0, (n - 1) * s + k - side - q) for n, s, k, side, q in
            zip(counts, stride, kernel, (height, width), pad, strict=True)]
    around = (pad[1], more[1], pad[0], more[0])
    if one(o, "pool", "MAX") == "AVE":
        ones = F.pad(torch.ones_like(x[0][:1, :1]), (pad[1], pad[1], pad[0], pad[0]), value=1.0)
        room = [max(0, m - q) for m, q in zip(more, pad, strict=True)]
        area = F.avg_pool2d(F.pad(ones, (0, room[1], 0, room[0])), kernel, stride)
        total = F.avg_pool2d(F.pad(x[0], around), kernel, stride)
        rows, columns = counts
        return [total[..., :rows, :columns] / area[..., :rows, :columns]]
    y, places = F.max_pool2d(F.pad(x[0], around, value=-torch.inf), kernel, stride,
                             return_indices=True)
    y, places = (t[..., : counts[0], : counts[1]] for t in (y, places))
    padded = width + pad[1] + more[1]
    rows, columns = places // padded - pad[0], places % padded - pad[1]
    return [y, (rows * width + columns).to(y.dtype)]


def unpooling(layer: Options, x: Tensors, p: Tensors) -> Tensors:
    o = inner(layer, "upsample_param") or inner(layer, "unpooling_param")
    n, c, h, w = x[0].shape
    scale = one(o, "scale", 2)
    short = [one(o, name, "false") == "true" for name in ("pad_out_h", "pad_out_w")]
    size = (one(o, "upsample_h", h * scale - short[0]), one(o, "upsample_w", w * scale - short[1]))
    if "unpool_size" in o:
        size = (int(o["unpool_size"][0]),) * 2
    flat = torch.zeros(n, c, size[0] * size[1], dtype=x[0].dtype)
    flat.scatter_(2, x[1].long().reshape(n, c, -1), x[0].reshape(n, c, -1))
    return [flat.reshape(n, c, *size)]


def batch_normalisation(layer: Options, x: Tensors, p: Tensors) -> Tensors:
    o = inner(layer, "bn_param")
    if "scale_filler" in o:
        if one(o, "bn_mode", "LEARN") == "LEARN":
            return [F.batch_norm(x[0], None, None, p[0].ravel(), p[1].ravel(), True, eps=1e-9)]
        return [x[0] * p[0] + p[1]]
    slope, bias, mean, variance = (q.ravel() for q in p)
    eps = float(np.float32(one(o, "eps", 1e-5)))
    return [F.batch_norm(x[0], mean, variance, slope, bias, eps=eps)]


def stored_normalisation(layer: Options, x: Tensors, p: Tensors) -> Tensors:
    eps = float(np.float32(one(inner(layer, "batch_norm_param"), "eps", 1e-5)))
    return [F.batch_norm(x[0], p[0] / p[2], p[1] / p[2], eps=eps)]


def scale(layer: Options, x: Tensors, p: Tensors) -> Tensors:
    y = x[0] * p[0].reshape(1, -1, 1, 1)
    return [y + p[1].reshape(1, -1, 1, 1) if len(p) > 1 else y]


def elementwise(layer: Options, x: Tensors, p: Tensors) -> Tensors:
    o = inner(layer, "eltwise_param")
    operation = one(o, "operation", "SUM")
    if operation == "SUM":
        coefficients = [float(v) for v in o.get("coeff", ["1"] * len(x))]
        return [sum(a * b for a, b in zip(coefficients, x, strict=True))]  # type: ignore[list-item]
    y = x[0]
    for other in x[1:]:
        y = torch.maximum(y, other) if operation == "MAX" else y * other
    return [y]


def interpolation(layer: Options, x: Tensors, p: Tensors) -> Tensors:
    o, (h, w) = inner(layer, "interp_param"), x[0].shape[2:]
    crop = one(o, "pad_beg", 0), one(o, "pad_end", 0)
    y = x[0][:, :, -crop[0] : h + crop[1], -crop[0] : w + crop[1]]
    if "height" in o:
        size = [one(o, "height", 0), one(o, "width", 0)]
    else:
        shrink, zoom = one(o, "shrink_factor", 1), one(o, "zoom_factor", 1)
        size = [((side - 1) // shrink + 1 - 1) * zoom + 1 for side in y.shape[2:]]
    return [F.interpolate(y, size, mode="bilinear", align_corners=True)]


def cut(layer: Options, x: Tensors, p: Tensors, offset: int) -> Tensors:
    height, width = x[1].shape[2:]
    return [x[0][:, :, offset : offset + height, offset : offset + width]]


def dropout(layer: Options, x: Tensors, p: Tensors) -> Tensors:
    """Of whole channels, ENet's: in use it multiplies."""
    text = inner(layer, "python_param")["param_str"][0]
    share = float(text.split("'p':")[1].strip(" '}").split("'")[0])
    return [x[0] / (1 - share)]


def prelu(layer: Options, x: Tensors, p: Tensors) -> Tensors:
    return [F.prelu(x[0], p[0].ravel())]


def local_response(layer: Options, x: torch.Tensor) -> torch.Tensor:
    o = inner(layer, "lrn_param")
    size, alpha, beta = (float(np.float32(one(o, name, value))) for name, value in
                         (("local_size", 5.0), ("alpha", 1.0), ("beta", 0.75)))
    if one(o, "norm_region", "") == "WITHIN_CHANNEL":
        mean = F.avg_pool2d(x * x, int(size), 1, int(size) // 2)
        return x * (1 + alpha * mean) ** -beta
    return F.local_response_norm(x, int(size), alpha, beta)


LAYERS: dict[str, Any] = {
    "convolution": convolution, "deconvolution": convolution, "pooling": pooling,
    "upsample": unpooling, "unpooling": unpooling, "bn": batch_normalisation,
    "batchnorm": stored_normalisation, "scale": scale, "eltwise": elementwise,
    "interp": interpolation, "python": dropout, "prelu": prelu,
    "relu": lambda layer, x, p: [F.relu(x[0])],
    "sigmoid": lambda layer, x, p: [torch.sigmoid(x[0])],
    "softmax": lambda layer, x, p: [torch.softmax(x[0], 1)],
    "lrn": lambda layer, x, p: [local_response(layer, x[0])],
    "dropout": lambda layer, x, p: [x[0]],
    "split": lambda layer, x, p: [x[0]] * len(layer["top"]),
    "concat": lambda layer, x, p: [torch.cat(x, 1)],
}


def kind(layer: Options) -> str:
    return layer["type"][0].replace("_", "").lower()


def compose(path: Path, net: Net, variables: dict[str, object], crops: tuple[int, ...]
            ) -> tuple[dict[str, torch.Tensor], str]:
    """All blobs as PyTorch makes them, and the first type that it does not know here, if any."""
    text, _ = read_text(path)
    blobs = {name: torch.from_numpy(net.blobs[name].data.copy()) for name in net.inputs}
    parameters = {key: [torch.from_numpy(b.data.copy()) for b in blobs_]
                  for key, blobs_ in net.params.items()}
    network = tree(parse(fill_variables(text, variables)))
    offsets = iter(crops)
    for layer in network.get("layer", []) + network.get("layers", []):
        bottoms, tops = layer.get("bottom", []), layer.get("top", [])
        name = kind(layer)
        if not bottoms or name in ("silence", "matwrite", "segaccuracy", "accuracy"):
            continue
        x, p = [blobs[bottom] for bottom in bottoms], parameters.get(layer["name"][0], [])
        if name in ("crop", "autocrop"):
            made = cut(layer, x, p, next(offsets, (x[0].shape[2] - x[1].shape[2]) // 2))
        elif name in LAYERS:
            made = LAYERS[name](layer, x, p)
        else:
            return blobs, layer["type"][0]
        blobs.update(zip(tops, made, strict=False))
    return blobs, ""


def build(path: Path, variables: dict[str, object]) -> tuple[Net, tuple[int, int]]:
    """The network at the smallest size that it takes, with drawn parameters and inputs."""
    spec = describe(path, "NetParameter", variables)
    state = state_of(spec, None, "TEST")
    error: Exception = FormatError(f"{path}: nothing to run")
    for frame in frames(spec, state):
        ready = stand_in(spec, state, frame)
        try:
            net = Net(ready.spec, dtype="float64", state=state, crop="aligned")
        except FormatError as found:
            error = found
            continue
        rng = np.random.default_rng(1)
        for step in net._graph.steps:
            step.layer.draw(rng)
        for name in net.inputs:
            net.blobs[name].data[...] = rng.normal(size=net.blobs[name].shape)
        return net, frame.size
    raise error


def compare(folder: Path, network: Network) -> str:
    """A line of the table."""
    path = folder / network.repository / network.file
    variables = known_variables(read_text(path)[0])
    net, size = build(path, variables)
    net.forward()
    blobs, stopped = compose(path, net, variables, network.crops)
    worst, worst_name, count = 0.0, "", 0
    for name, tensor in blobs.items():
        if name in net.inputs or name not in net.blobs:
            continue
        want = tensor.numpy()
        got = net.blobs[name].data.reshape(want.shape)
        difference = float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-300))
        count += 1
        if difference >= worst:
            worst, worst_name = difference, name
    behind = f", up to {stopped}" if stopped else ""
    place = f"{network.repository.replace('+', '/')}: {network.file}"
    return (f"| {network.name} | `{place}` | {size[0]}x{size[1]} "
            f"| {count}{behind} | {worst:.1e} ({worst_name}) |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the repositories' files")
    parser.add_argument("--only", default="", help="networks with this in their name")
    options = parser.parse_args()
    print("| network | file | size | blobs | largest difference |\n|---|---|---|---|---|")
    for network in NETWORKS:
        if options.only in network.name:
            with torch.no_grad():
                print(compare(options.folder, network), flush=True)


if __name__ == "__main__":
    main()
