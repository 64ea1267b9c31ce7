"""Descriptions of older Caffes in the present form, as Caffe's own upgrade made them.

It works on the tree of fields that `text.parse` gives, so that the lines of errors stay right.
Beside BVLC's rules it knows what forks wrote: ``hole`` for a dilation, ``softmaxloss_param``,
``has_label``, ``strict_dim``.
"""

from __future__ import annotations

from collections.abc import Iterator

from segaware_np.caffe.formats.text import Field, Token
from segaware_np.files import FormatError

Tree = list[Field]

# Where the type is not its enumeration's words joined, `INNER_PRODUCT` as `InnerProduct`.
_TYPES = {
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BN": "BN", "BNLL": "BNLL", "DENSE_CRF": "DenseCRF",
    "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output", "LRN": "LRN", "MVN": "MVN",
    "PRELU": "PReLU", "RELU": "ReLU", "SOFTMAX_LOSS": "SoftmaxWithLoss", "SPP": "SPP",
    "TANH": "TanH",
}
_OLDEST = {  # of the form before that, `layers { layer { type: "conv" } }`
    "bnll": "BNLL", "conv": "Convolution", "hdf5_data": "HDF5Data", "hdf5_output": "HDF5Output",
    "images": "ImageData", "innerproduct": "InnerProduct", "lrn": "LRN", "pool": "Pooling",
    "relu": "ReLU", "softmax_loss": "SoftmaxWithLoss", "tanh": "TanH",
}
_OLDEST_NAMES = {
    "biasterm": "bias_term", "kernelsize": "kernel_size", "batchsize": "batch_size",
    "shuffle_images": "shuffle", "det_fg_threshold": "fg_threshold",
    "det_bg_threshold": "bg_threshold", "det_fg_fraction": "fg_fraction",
    "det_context_pad": "context_pad", "det_crop_mode": "crop_mode",
}
_OLDEST_PARAMS = {
    "Convolution": "convolution_param", "Data": "data_param", "HDF5Data": "hdf5_data_param",
    "ImageData": "image_data_param", "InnerProduct": "inner_product_param", "LRN": "lrn_param",
    "Pooling": "pooling_param", "Dropout": "dropout_param", "Concat": "concat_param",
    "WindowData": "window_data_param", "InfogainLoss": "infogain_loss_param",
}
_OLDEST_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size",
                     "mirror": "mirror"}
_NETWORKS = {"net_param", "train_net_param", "test_net_param"}
_COMMON = {"name", "type", "blobs", "blobs_lr", "weight_decay", "bottom", "top"}
_PER_PARAMETER = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult",
                  "weight_decay": "decay_mult"}
_DATA = ("data_param", "image_data_param", "window_data_param")
_TRANSFORM = ("scale", "mean_file", "crop_size", "mirror")
_HOLES = ("hole_h", "hole_w")


def upgraded(fields: Tree, source: str = "text") -> Tree:
    """Return a description, of a network or of a solver with networks in it, in the present form.

    What is in it already stays as it is. Raises FormatError if a network mixes both forms, or a
    layer of the old form is malformed.
    """
    fields = [field._replace(value=_network(field.value, source))
              if field.name in _NETWORKS and isinstance(field.value, list) else field
              for field in fields]
    return _network(fields, source)


def _network(fields: Tree, source: str) -> Tree:
    old = [field for field in fields if field.name == "layers"]
    if old and any(field.name == "layer" for field in fields):
        raise FormatError(f"{source}, line {old[0].line}: 'layer' and 'layers', the present form "
                          "and the old one, in one description")
    layers = [_layer(field, source) for field in _unpadded(old, source)]
    rest = [field for field in fields if field.name != "layers"]
    return [_renamed(field) for field in (*rest, *layers)]


def write(fields: Tree, indent: str = "") -> str:
    """Return a tree of fields as protocol-buffer text."""
    lines = []
    for field in fields:
        value = field.value
        if isinstance(value, list):
            inside = write(value, indent + "  ")
            short = " ".join(inside.split())
            plain = not any(isinstance(inner.value, list) for inner in value)
            if plain and len(short) < 60 and '"' not in short and field.name != "layer":
                lines.append(f"{indent}{field.name} {{ {short} }}\n" if short
                             else f"{indent}{field.name} {{}}\n")
            else:
                lines.append(f"{indent}{field.name} {{\n{inside}{indent}}}\n")
        else:
            lines.append(f"{indent}{field.name}: {_quoted(value)}\n")
    return "".join(lines)


def _quoted(token: Token) -> str:
    if token.kind != "string":
        return token.text
    text = token.text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'


def present_type(name: str) -> str:
    """The type that an enumeration's name stands for: `POOLING` for `Pooling`."""
    return _TYPES.get(name) or "".join(word.capitalize() for word in name.split("_"))


# -- one layer -------------------------------------------------------------------------------------


def _layer(field: Field, source: str) -> Field:
    """A layer of the old form in the present one."""
    parts = _parts(field, source)
    if any(part.name == "layer" for part in parts):
        parts = _oldest(field, parts, source)
    transform = [part for part in parts if part.name == "transform_param"]
    out: Tree = []
    specs: dict[int, Tree] = {}
    seen: dict[str, int] = {}
    for part in parts:
        if part.name in _PER_PARAMETER and not isinstance(part.value, list):
            number = seen.get(part.name, 0)
            seen[part.name] = number + 1
            specs.setdefault(number, []).append(part._replace(name=_PER_PARAMETER[part.name]))
        elif part.name == "type" and isinstance(part.value, Token):
            token = part.value
            text = present_type(token.text) if token.kind == "name" else token.text
            out.append(part._replace(value=Token("string", text, token.line)))
        elif part.name in _DATA and isinstance(part.value, list):
            moved = [inner for inner in part.value if inner.name in _TRANSFORM]
            kept = [inner for inner in part.value if inner.name not in _TRANSFORM]
            transform += [Field("transform_param", moved, part.line)] if moved else []
            out.append(part._replace(value=kept))
        elif part.name not in ("strict_dim", "transform_param"):
            out.append(part)
    out += [Field("param", specs.get(number, []), field.line)
            for number in range(max(specs, default=-1) + 1)]
    return Field("layer", [*out, *_joined(transform)], field.line)


def _joined(messages: Tree) -> Tree:
    """One message of the fields of several; of fields set twice the last, as in Caffe, counts."""
    if len(messages) < 2:
        return messages
    inner = [f for message in messages if isinstance(message.value, list) for f in message.value]
    last = {f.name: f for f in inner if f.name != "mean_value"}
    repeated = [f for f in inner if f.name == "mean_value"]
    return [messages[0]._replace(value=[*last.values(), *repeated])]


def _renamed(field: Field) -> Field:
    """A layer with the forks' names for what later Caffe names otherwise."""
    if field.name != "layer" or not isinstance(field.value, list):
        return field
    return field._replace(value=[out for part in field.value for out in _present(part)])


def _present(part: Field) -> Iterator[Field]:
    value = part.value
    if not isinstance(value, list):
        yield part
    elif part.name == "convolution_param":
        yield part._replace(value=_dilated(value))
    elif part.name == "softmaxloss_param":
        yield part._replace(name="loss_param")
    elif part.name == "image_data_param":
        yield part._replace(value=[_label_type(f) for f in value])
    elif part.name == "dense_crf_param":
        yield part._replace(name="densecrf_param")
    else:
        yield part


def _dilated(fields: Tree) -> Tree:
    """DeepLab's ``hole``, and ``hole_h`` with ``hole_w``, as dilations."""
    sides = {field.name: field for field in fields if field.name in _HOLES}
    rest = [f._replace(name="dilation") if f.name == "hole" else f
            for f in fields if f.name not in sides]
    if not sides:
        return rest
    given = next(iter(sides.values()))
    both = [sides.get(name, given._replace(value=Token("number", "1", given.line)))
            for name in _HOLES]
    return rest + [field._replace(name="dilation") for field in both]


def _label_type(field: Field) -> Field:
    """``has_label`` of DeepLab's first Caffe as its later ``label_type``."""
    if field.name != "has_label" or not isinstance(field.value, Token):
        return field
    kind = "PIXEL" if field.value.text in ("true", "True", "t", "1") else "NONE"
    return Field("label_type", field.value._replace(kind="name", text=kind), field.line)


# -- the form before -------------------------------------------------------------------------------


def _parts(field: Field, source: str) -> Tree:
    if not isinstance(field.value, list):
        raise FormatError(f"{source}, line {field.line}: {field.name}: expected a message in "
                          f"braces, got {field.value.text!r}")
    return field.value


def _oldest(field: Field, parts: Tree, source: str) -> Tree:
    """A connection and its layer, of the oldest form, as one layer with the present types."""
    inner = [f for part in parts if part.name == "layer" for f in _parts(part, source)]
    old = _word(inner, "type")
    type_ = _OLDEST.get(old) or present_type(old.upper())
    out, options, transform = [p for p in parts if p.name != "layer"], [], []
    for part in inner:
        if part.name == "type":
            out.append(part._replace(value=Token("string", type_, part.line)))
        elif part.name in _COMMON or part.name.endswith("_param"):
            out.append(part)
        elif part.name in _OLDEST_TRANSFORM:
            transform.append(part._replace(name=_OLDEST_TRANSFORM[part.name]))
        else:
            options.append(part._replace(name=_OLDEST_NAMES.get(part.name, part.name)))
    if options and type_ not in _OLDEST_PARAMS:
        raise FormatError(f"{source}, line {options[0].line}: {options[0].name} has no meaning for "
                          f"the layer type {old!r}")
    out += [Field(_OLDEST_PARAMS[type_], options, field.line)] if options else []
    return out + ([Field("transform_param", transform, field.line)] if transform else [])


def _unpadded(layers: Tree, source: str) -> Tree:
    """The layers with the oldest form's padding layers put into the windows that follow them."""
    pads: dict[str, tuple[str, Tree]] = {}
    out = []
    for field in layers:
        parts = _parts(field, source)
        inner = [f for part in parts if part.name == "layer" for f in _parts(part, source)]
        if _word(inner, "type") == "padding":
            pad = [f for f in inner if f.name == "pad"]
            pads[_word(parts, "top")] = _word(parts, "bottom"), pad
            continue
        below = pads.get(_word(parts, "bottom"))
        out.append(field._replace(value=_padded(parts, *below)) if inner and below else field)
    return out


def _padded(parts: Tree, bottom: str, pad: Tree) -> Tree:
    """A connection of the oldest form that reads another blob, and pads it itself."""
    out = []
    for part in parts:
        if part.name == "layer" and isinstance(part.value, list):
            part = part._replace(value=[*part.value, *pad])
        elif part.name == "bottom" and isinstance(part.value, Token):
            part = part._replace(value=part.value._replace(text=bottom))
        out.append(part)
    return out


def _word(parts: Tree, name: str) -> str:
    """The text of a field of that name; empty without one."""
    return next((part.value.text for part in parts
                 if part.name == name and isinstance(part.value, Token)), "")
