"""The three published networks as descriptions, at full width or narrowed for small machines.

Layers have the authors' names, so that their caffemodels fit (at width 1). All take BGR images
minus `BGR_MEAN`, of sizes ``32 k - 31``, and labels in which 255 is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable

BGR_MEAN = (104.008, 116.669, 122.675)
PRESETS = {"full": 1.0, "half": 0.5, "quarter": 0.25, "tiny": 1 / 16}  # width factors

_LEARN = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }"
_START = 'weight_filler { type: "xavier" } bias_filler { type: "constant" }'


def embedding_network(
    width: float = 1.0, size: int = 161, batch: int = 1, embedding: int = 64, train: bool = True
) -> str:
    """Describe the network that learns embeddings from label maps.

    Five 3x3 convolutions; all their features, at full size, and the image are mixed to the
    embedding (blob ``weighted_avg``). Trained with contrastive losses over 3x3 windows of
    dilation 1, 2 and 5.

    Parameters
    ----------
    width : float
        Factor on the numbers of channels.
    size, batch : int
        Of the input.
    embedding : int
        Channels of the embedding.
    train : bool
        Whether to take labels and end in the losses.

    Returns
    -------
    str
        A prototxt.
    """
    c = [_channels(n, width) for n in (64, 128, 256)]
    layers = [_power("rgb_emb", "data", 0.0039215)]
    layers += _plain("conv1_1", "data", c[0]) + _plain("conv1_2", "conv1_1", c[0])
    layers += [_pool("pool1", "conv1_2", 2)]
    layers += _plain("conv2_1", "pool1", c[1]) + _plain("conv2_2", "conv2_1", c[1])
    layers += [_pool("pool2", "conv2_2", 2), *_plain("conv3_1", "pool2", c[2])]
    resized = {"conv2_1": "conv21_resized", "conv2_2": "conv22_resized",
               "conv3_1": "conv31_resized"}
    layers += [_resize(top, bottom, size) for bottom, top in resized.items()]
    layers.append(_layer("fused", "Concat",
                         ["rgb_emb", "conv1_1", "conv1_2", *resized.values()]))
    layers.append(_convolution("weighted_avg", "fused", embedding, "kernel_size: 1", _START))
    for suffix, dilation in (("", 1), ("2", 2), ("3", 5)) if train else ():
        window = _window(3, dilation)
        layers += [
            _layer(f"parity{suffix}", "Im2parity", ["label"], window),
            _layer(f"weighted_avg_dist{suffix}", "Im2dist", ["weighted_avg"],
                   f"{window} im2dist_param {{ norm: L1 }}"),
            _layer(f"loss_avg{suffix}", "DistLoss", [f"weighted_avg_dist{suffix}",
                                                     f"parity{suffix}"],
                   f"{window} dist_loss_param {{ alpha: 0.5 beta: 2 ignore_label: 255 }}"),
        ]
    return _net("embeddings", _inputs(batch, size, train), layers)


def segaware_vgg16(
    width: float = 1.0, size: int = 321, batch: int = 1, classes: int = 21, train: bool = True
) -> str:
    """Describe VGG-16 (DeepLab LargeFOV) with every 3x3 convolution segmentation-aware.

    Parameters are those of `embedding_network`, and the number of classes. Scores are the blob
    ``fc8_voc12``, at an eighth of the size.
    """
    c = [_channels(n, width) for n in (64, 128, 256, 512)]
    fc = _channels(1024, width)
    layers = [*_embedding_part(width), _resize("emb22_resized", "emb2_2", size),
              _resize("emb33_resized", "emb3_3", size), *_embedding_end("emb1_2", width)]
    stages: list[tuple[int, list[int], int, str, str]] = [
        (1, [c[0]] * 2, 1, "emb", _pool("pool1", "conv1_2", 2)),
        (2, [c[1]] * 2, 1, "emb_shrink2", _pool("pool2", "conv2_2", 2)),
        (3, [c[2]] * 3, 1, "emb_shrink4", _pool("pool3", "conv3_3", 2)),
        (4, [c[3]] * 3, 1, "emb_shrink8", _pool("pool4", "conv4_3", 1)),
        (5, [c[3]] * 3, 2, "emb_shrink8", _pool("pool5", "conv5_3", 1)),
    ]
    layers += [_shrink(f"emb_shrink{n}", "emb", n) for n in (2, 4, 8)]
    bottom, channels = "data", 3
    for stage, outputs, dilation, emb, pool in stages:
        layers.append(_distance(f"emb_dist{stage}", emb, dilation))
        for i, count in enumerate(outputs, start=1):
            layers += _segaware(f"conv{stage}_{i}", bottom, f"emb_dist{stage}",
                                f"emb_dist{stage}_{i}", channels, count, dilation)
            bottom, channels = f"conv{stage}_{i}", count
        layers.append(pool)
        bottom = f"pool{stage}"
    layers += [_pool("pool5a", "pool5", 1, "AVE"), _distance("emb_dist6", "emb_shrink8", 12)]
    layers += _segaware("fc6", "pool5a", "emb_dist6", "emb_dist6", channels, fc, 12)
    layers += [_dropout("drop6", "fc6"), _convolution("fc7", "fc6", fc, "kernel_size: 1"),
               _relu("relu7", "fc7"), _dropout("drop7", "fc7")]
    layers.append(_layer("fc8_voc12", "Convolution", ["fc7"],
                         "param { lr_mult: 10 decay_mult: 1 } param { lr_mult: 20 decay_mult: 0 } "
                         f"convolution_param {{ num_output: {classes} kernel_size: 1 "
                         'weight_filler { type: "gaussian" std: 0.01 } '
                         'bias_filler { type: "constant" } }'))
    if train:
        layers += [_shrink("label_shrink", "label", 8), _loss("loss", "fc8_voc12", "label_shrink")]
    return _net("segaware_vgg16", _inputs(batch, size, train), layers)


def segaware_resnet101(
    width: float = 1.0, size: int = 321, batch: int = 1, classes: int = 21, train: bool = True,
    blocks: tuple[int, int, int, int] = (3, 4, 23, 3),
) -> str:
    """Describe the multi-scale ResNet-101 with a segmentation-aware CRF.

    Parameters are those of `segaware_vgg16`, and the numbers of bottleneck blocks. The scores
    before the CRF are the blob ``fc_fusion`` (an eighth of the size), those after it ``crf``
    (half of the size). As published, the backbone is frozen.
    """
    layers = [_shrink("data_res05", "data", 2),
              _layer("data_res075", "Interp", ["data"],
                     "interp_param { shrink_factor: 4 zoom_factor: 3 }")]
    layers += _embedding_part(width)
    for source, zoom in (("emb1_2", 1), ("emb2_2", 2), ("emb3_3", 4)):
        layers.append(_zoom(source.replace("_", "") + "_resized", source, zoom))
    layers += _embedding_end("emb12_resized", width)
    for scale in ("", "_res05", "_res075"):
        layers += _resnet(scale, width, blocks)
    for scale in ("", "_res05", "_res075"):
        layers += _classifier(scale, classes)
    layers += [
        _zoom("fc1_voc12_res05_interp", "fc1_voc12_res05", 2),
        _layer("fc1_voc12_res075_interp", "Interp", ["fc1_voc12_res075"],
               "interp_param { zoom_factor: 4 shrink_factor: 3 }"),
        _layer("fc_fusion", "Eltwise",
               ["fc1_voc12", "fc1_voc12_res075_interp", "fc1_voc12_res05_interp"],
               "eltwise_param { operation: MAX }"),
        *_crf((size - 1) // 2 + 1, batch),
    ]
    if train:
        layers += [_shrink(f"label_shrink{n}", "label", n) for n in (2, 8, 16)]
        for name, score, n in (("crf", "crf", 2), ("fusion", "fc_fusion", 8),
                               ("res1", "fc1_voc12", 8),
                               ("res075", "fc1_voc12_res075_interp", 8),
                               ("res05", "fc1_voc12_res05", 16)):
            layers.append(_loss(f"loss_{name}", score, f"label_shrink{n}"))
            layers.append(_layer(f"accuracy_{name}", "SegAccuracy", [score, f"label_shrink{n}"],
                                 "seg_accuracy_param { ignore_label: 255 }"))
    return _net("segaware_resnet101", _inputs(batch, size, train), layers)


# -- parts of networks ----------------------------------------------------------------------------


def _embedding_part(width: float) -> list[str]:
    layers, bottom = [_power("rgb_emb", "data", 0.0039215)], "data"
    for stage, (count, channels) in enumerate(((2, 64), (2, 128), (3, 256)), start=1):
        for i in range(1, count + 1):
            layers += _plain(f"emb{stage}_{i}", bottom, _channels(channels, width))
            bottom = f"emb{stage}_{i}"
        if stage < 3:
            layers.append(_pool(f"emb_pool{stage}", bottom, 2))
            bottom = f"emb_pool{stage}"
    return layers


def _embedding_end(first: str, width: float) -> list[str]:
    return [
        _layer("fused", "Concat", ["rgb_emb", first, "emb22_resized", "emb33_resized"]),
        _convolution("emb", "fused", _channels(64, width), "kernel_size: 1", _START),
    ]


def _segaware(
    name: str, bottom: str, distance: str, mask: str, channels: int, outputs: int, dilation: int
) -> list[str]:
    """A segmentation-aware convolution with its rectifier, spelt out as the authors do."""
    window = f"kernel_size: 3 pad: {dilation} dilation: {dilation}"
    tiles = f"exp_{mask}_{channels}chan"
    return [
        _layer(f"weighted_{mask}", "Scale", [distance],
               "param { lr_mult: 1 decay_mult: 1 } scale_param { num_axes: 0 "
               'filler { type: "constant" value: 0.05 } bias_term: false }'),
        _layer(f"abs_{mask}", "AbsVal", [f"weighted_{mask}"]),
        _layer(f"exp_{mask}", "Exp", [f"abs_{mask}"], "exp_param { scale: -1 }"),
        _layer(tiles, "Tile", [f"exp_{mask}"], f"tile_param {{ axis: 1 tiles: {channels} }}"),
        _layer(f"im2col_{name}", "Im2col", [bottom], f"convolution_param {{ {window} }}"),
        _layer(f"im2col_{name}_hit", "Eltwise", [f"im2col_{name}", tiles],
               "eltwise_param { operation: PROD }"),
        _convolution(name, f"im2col_{name}_hit", outputs, f"{window} bottom_is_im2col: true",
                     _START),
        _relu(f"relu_{name}", name),
    ]


def _resnet(scale: str, width: float, blocks: tuple[int, int, int, int]) -> list[str]:
    layers = _frozen("conv1", "bn_conv1", "scale_conv1", f"data{scale}", scale,
                     _channels(64, width), "kernel_size: 7 pad: 3 stride: 2")
    layers += [_relu(f"conv1_relu{scale}", f"conv1{scale}"),
               _pool(f"pool1{scale}", f"conv1{scale}", 2)]
    bottom = f"pool1{scale}"
    for stage, count in enumerate(blocks, start=2):
        inner, outer = (_channels(n * 2 ** (stage - 1), width) for n in (32, 128))
        for i in range(count):
            name = f"{stage}{_letter(i, count)}"
            layers += _bottleneck(name, bottom, scale, inner, outer, stage, first=i == 0)
            bottom = f"res{name}{scale}"
    return layers


def _letter(i: int, count: int) -> str:
    if count <= 3:
        return "abc"[i]
    return f"b{i}" if i else "a"


def _bottleneck(
    name: str, bottom: str, scale: str, inner: int, outer: int, stage: int, first: bool
) -> list[str]:
    stride = 2 if first and stage == 3 else 1
    dilation = {4: 2, 5: 4}.get(stage, 1)
    one, three = "kernel_size: 1", f"kernel_size: 3 pad: {dilation} dilation: {dilation}"
    layers, short = [], bottom
    if first:
        short = f"res{name}_branch1{scale}"
        layers += _branch(name, "1", bottom, scale, outer, f"{one} stride: {stride}")
    for branch, channels, window in (("2a", inner, f"{one} stride: {stride}"), ("2b", inner, three),
                                     ("2c", outer, one)):
        layers += _branch(name, branch, bottom, scale, channels, window)
        bottom = f"res{name}_branch{branch}{scale}"
        if branch != "2c":
            layers.append(_relu(f"res{name}_branch{branch}_relu{scale}", bottom))
    layers.append(_layer(f"res{name}{scale}", "Eltwise", [short, bottom]))
    return [*layers, _relu(f"res{name}_relu{scale}", f"res{name}{scale}")]


def _branch(
    name: str, branch: str, bottom: str, scale: str, channels: int, window: str
) -> list[str]:
    own = f"{name}_branch{branch}"
    return _frozen(f"res{own}", f"bn{own}", f"scale{own}", bottom, scale, channels, window)


def _frozen(
    conv: str, norm: str, factor: str, bottom: str, scale: str, channels: int, window: str
) -> list[str]:
    """Convolution, stored statistics and scale, none of which learns; shared between scales."""
    top = conv + scale
    return [
        _layer(top, "Convolution", [bottom],
               f'param {{ name: "{conv}_0" lr_mult: 0 decay_mult: 1 }} convolution_param '
               f"{{ num_output: {channels} {window} bias_term: false "
               'weight_filler { type: "msra" } }'),
        _layer(norm + scale, "BatchNorm", [top],
               "batch_norm_param { use_global_stats: true } " + _shared(norm, 3), top),
        _layer(factor + scale, "Scale", [top],
               "scale_param { bias_term: true } " + _shared(factor, 2), top),
    ]


def _shared(name: str, count: int) -> str:
    return " ".join(f'param {{ name: "{name}_{k}" lr_mult: 0 }}' for k in range(count))


def _classifier(scale: str, classes: int) -> list[str]:
    layers, tops = [], []
    for i, dilation in enumerate((6, 12, 18, 24)):
        tops.append(f"fc1_voc12{scale}_c{i}")
        shared = f"fc1_voc12_c{i}"
        layers.append(_layer(
            tops[-1], "Convolution", [f"res5c{scale}"],
            f'param {{ name: "{shared}_w" lr_mult: 0 }} param {{ name: "{shared}_b" lr_mult: 0 }} '
            f"convolution_param {{ num_output: {classes} kernel_size: 3 pad: {dilation} "
            f'dilation: {dilation} weight_filler {{ type: "gaussian" std: 0.01 }} }}'))
    return [*layers, _layer(f"fc1_voc12{scale}", "Eltwise", tops)]


def _crf(side: int, batch: int) -> list[str]:
    def scaled(top: str, bottom: str, value: float) -> str:
        return _layer(top, "Scale", [bottom],
                      "param { lr_mult: 1 decay_mult: 1 } scale_param { num_axes: 0 "
                      f'filler {{ type: "constant" value: {value} }} bias_term: false }}')

    return [
        _layer("xy", "DummyData", [], f"dummy_data_param {{ shape {{ dim: {batch} dim: 2 "
               f'dim: {side} dim: {side} }} data_filler {{ type: "xy" }} }}'),
        _zoom("fc_fusion_big", "fc_fusion", 4),
        _shrink("emb2", "emb", 2),
        'layer { name: "splitting" type: "Split" bottom: "fc_fusion_big" '
        'top: "unary" top: "Q0" }',
        scaled("scaled_xy", "xy", 0.05),
        scaled("scaled_emb", "emb2", 200),
        scaled("scaled_xy2", "xy", 0.05),
        _layer("embxy", "Concat", ["scaled_emb", "scaled_xy"]),
        _layer("crf", "NormConvMeanfield", ["unary", "Q0", "embxy", "scaled_xy2"],
               "norm_conv_meanfield_param { num_iterations: 2 remove_center: true "
               "remove_center: true remove_bounds: true remove_bounds: true "
               "kernel_size: 13 pad: 54 dilation: 9 scale: 1 "
               "kernel_size: 5 pad: 2 dilation: 1 scale: 1 }"),
    ]


# -- single layers --------------------------------------------------------------------------------


def _net(name: str, inputs: str, layers: Iterable[str]) -> str:
    return f'name: "{name}"\n{inputs}' + "".join(f"{layer}\n" for layer in layers)


def _inputs(batch: int, size: int, train: bool) -> str:
    if size < 33 or (size + 31) % 32:
        raise ValueError(f"size: expected 32 k - 31 (33, 65, ... 321, 513), got {size}")
    return "".join(
        f'input: "{name}" input_shape {{ dim: {batch} dim: {channels} dim: {size} dim: {size} }}\n'
        for name, channels in (("data", 3), ("label", 1))[: 1 + train]
    )


def _channels(count: int, width: float) -> int:
    return max(1, round(count * width))


def _layer(name: str, type_: str, bottoms: list[str], options: str = "", top: str = "") -> str:
    read = "".join(f' bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{name}" type: "{type_}"{read} top: "{top or name}" {options} }}'


def _convolution(name: str, bottom: str, outputs: int, window: str, start: str = "") -> str:
    return _layer(name, "Convolution", [bottom],
                  f"{_LEARN} convolution_param {{ num_output: {outputs} {window} {start} }}")


def _plain(name: str, bottom: str, outputs: int) -> list[str]:
    return [_convolution(name, bottom, outputs, "kernel_size: 3 pad: 1", _START),
            _relu(f"relu_{name}", name)]


def _relu(name: str, blob: str) -> str:
    return _layer(name, "ReLU", [blob], top=blob)


def _dropout(name: str, blob: str) -> str:
    return _layer(name, "Dropout", [blob], "dropout_param { dropout_ratio: 0.5 }", top=blob)


def _power(name: str, bottom: str, scale: float) -> str:
    return _layer(name, "Power", [bottom], f"power_param {{ scale: {scale} }}")


def _pool(name: str, bottom: str, stride: int, kind: str = "MAX") -> str:
    return _layer(name, "Pooling", [bottom],
                  f"pooling_param {{ pool: {kind} kernel_size: 3 pad: 1 stride: {stride} }}")


def _window(kernel: int, dilation: int) -> str:
    return f"convolution_param {{ kernel_size: {kernel} pad: {dilation} dilation: {dilation} }}"


def _distance(name: str, bottom: str, dilation: int) -> str:
    return _layer(name, "Im2dist", [bottom], f"{_window(3, dilation)} im2dist_param {{ norm: L1 }}")


def _resize(name: str, bottom: str, size: int) -> str:
    return _layer(name, "Interp", [bottom], f"interp_param {{ height: {size} width: {size} }}")


def _zoom(name: str, bottom: str, factor: int) -> str:
    return _layer(name, "Interp", [bottom], f"interp_param {{ zoom_factor: {factor} }}")


def _shrink(name: str, bottom: str, factor: int) -> str:
    return _layer(name, "Interp", [bottom], f"interp_param {{ shrink_factor: {factor} }}")


def _loss(name: str, score: str, labels: str) -> str:
    return _layer(name, "SoftmaxWithLoss", [score, labels], "loss_param { ignore_label: 255 }")
