"""Descriptions: what is read, what is refused, and what the errors say."""

from __future__ import annotations

from pathlib import Path

import pytest

from segaware_np.caffe.formats.schema import MESSAGES, Message, bind
from segaware_np.caffe.formats.text import MAX_DEPTH, fill_variables, parse, read_text
from segaware_np.files import FormatError


def read(text: str, type_: str = "NetParameter") -> Message:
    return bind(parse(text), type_)


def test_all_spellings() -> None:
    net = read("""
        name: 'a' "b"   # adjacent strings are one, comments end with the line
        layer: < name: "x\\n\\"#\\"" type: "Pooling"; bottom: ["p", "q"],
                 pooling_param { pool: AVE kernel_size: 0x3 } loss_weight: -1.5e-1f >
        layer { include: { phase: TRAIN } param { lr_mult: 2 } param { decay_mult: .5 } }
        force_backward: true
    """)
    first, second = net.layer
    assert (net.name, net.force_backward, first.name) == ("ab", True, 'x\n"#"')
    assert first.bottom == ["p", "q"]
    assert (first.pooling_param.pool, first.pooling_param.kernel_size) == ("AVE", 3)
    assert first.loss_weight == [pytest.approx(-0.15)]
    assert [p.lr_mult for p in second.param] == [2, 1]
    assert second.include[0].phase == "TRAIN"


def test_defaults_and_presence() -> None:
    layer = read('layer { name: "x" exp_param { } }').layer[0]
    assert layer.exp_param.base == -1
    assert layer.scale_param.num_axes == 1
    assert layer.top == []
    assert "exp_param" in layer
    assert "scale_param" not in layer
    assert "base" not in layer.exp_param


def test_floats_have_single_precision() -> None:
    assert read("base_lr: 0.1", "SolverParameter").base_lr == 0.10000000149011612
    assert read("gamma: 1e99", "SolverParameter").gamma == float("inf")


def test_every_type_is_described() -> None:
    scalars = {"int", "uint", "float", "bool", "str", "raw"}
    for name, fields in MESSAGES.items():
        for field, kind in fields.items():
            assert kind.type in scalars or kind.type in MESSAGES or "|" in kind.type or (
                kind.type.isupper()
            ), f"{name}.{field}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('layer {\n nam: "x"\n}\nlayr { }', "line 2: LayerParameter has no field 'nam'; did you "
                                            "mean name.*\n.*line 4: .*'layr'; did you mean layer"),
        ("layer { name: 3 }", "name: expected a string, got '3'"),
        ('layer { bottom: "a" top { } }', "top: expected a string, got a message"),
        ("layer: 3", "layer: expected a message in braces, got '3'"),
        ("layer { crop_param { axis: 1.5 } }", "axis: expected an integer, got '1.5'"),
        ("layer { convolution_param { pad: -1 } }", "pad: expected an integer of at least 0"),
        ("layer { pooling_param { pool: MEAN } }", "pool: expected one of MAX, AVE, STOCHASTIC"),
        ("force_backward: maybe", "force_backward: expected true or false, got 'maybe'"),
        ("input_dim: 99999999999999999999", "input_dim: expected an integer"),
        ('name: "a"\nname: "b"', "line 2: name is set twice"),
        ("layer {\n layer {", "line 2: .*no field|the text ends"),
        ("layer {\n\n name: \"x\"", "line 1: the text ends before the '}'"),
        ("layer }", "expected ':' or '{' after 'layer'"),
        ("name: :", "expected a value for 'name', got ':'"),
        ("name:", "expected a value for 'name', got the end"),
        ("3: 4", "line 1: expected the name of a field, got '3'"),
        ('name: "open', "line 1: cannot make sense of"),
        ("\n\n\x00", "line 3: cannot make sense of"),
        ("layer {" * (MAX_DEPTH + 2), "nested more than"),
    ],
)
def test_errors_say_where(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read(text)


def test_many_faults_are_counted() -> None:
    with pytest.raises(FormatError, match=r"\.\.\. and 30 more"):
        read("".join(f"wrong{i}: 1\n" for i in range(50)))


def test_variables() -> None:
    text = 'a: ${N} b: "x_${NAME}/${N}" # ${COMMENTED}\nc: "not # a comment ${NAME}"'
    filled = fill_variables(text, {"N": 3, "NAME": "voc"})
    assert filled == 'a: 3 b: "x_voc/3" # ${COMMENTED}\nc: "not # a comment voc"'
    with pytest.raises(ValueError, match="no value given for NAME, OTHER$"):
        fill_variables('a: ${N} "${NAME}" ${OTHER} ${NAME}', {"N": 3})


def test_text_or_file(tmp_path: Path) -> None:
    file = tmp_path / "net.prototxt"
    file.write_text('name: "x"')
    assert read_text(file) == read_text(str(file)) == ('name: "x"', str(file))
    assert read_text('name: "x"') == ('name: "x"', "text")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_text(tmp_path / "missing.prototxt")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_text("missing.prototxt")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="expected text in UTF-8"):
        read_text(file)
