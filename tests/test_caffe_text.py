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


def test_enumerations_by_number() -> None:
    """As protocol buffers' own reader takes them; the numbers are those of caffe.proto."""
    layer = read("""layer {
        pooling_param { pool: 1 } eltwise_param { operation: 2 } reduction_param { operation: 4 }
        hinge_loss_param { norm: 2 } lrn_param { norm_region: 1 } phase: 0
        image_data_param { label_type: 2 } loss_param { normalization: 3 }
        channel_reduce_param { operation: 0x0 } include { phase: 1 } param { share_mode: 1 }
        norm_conv_meanfield_param { norm: 2 norm: 1 compatibility_mode: 0 }
    }""").layer[0]
    assert layer.pooling_param.pool == "AVE" and layer.eltwise_param.operation == "MAX"
    assert layer.reduction_param.operation == "MEAN" and layer.hinge_loss_param.norm == "L2"
    assert layer.lrn_param.norm_region == "WITHIN_CHANNEL" and layer.phase == "TRAIN"
    assert layer.image_data_param.label_type == "PIXEL" and layer.include[0].phase == "TEST"
    assert layer.loss_param.normalization == "NONE" and layer.param[0].share_mode == "PERMISSIVE"
    assert layer.channel_reduce_param.operation == "SUM"
    assert layer.norm_conv_meanfield_param.norm == ["L2", "L1"]
    assert read("layer { norm_conv_meanfield_param { compatibility_mode: POTTS } }")
    solver = read("solver_mode: 0 snapshot_format: 1 solver_type: 5", "SolverParameter")
    assert (solver.solver_mode, solver.snapshot_format, solver.solver_type) == (
        "CPU", "BINARYPROTO", "ADAM")
    for wrong in ("pooling_param { pool: 3 }", "hinge_loss_param { norm: 0 }",
                  "reduction_param { operation: 0 }", "pooling_param { pool: -1 }",
                  "pooling_param { pool: 1.0 }", 'pooling_param { pool: "MAX" }'):
        with pytest.raises(FormatError, match="expected one of"):
            read(f"layer {{ {wrong} }}")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    text = 'name: "a"\nlayer { name: "\u00e9" }\n'
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "net.prototxt").write_text(text, encoding)
        assert read_text(tmp_path / "net.prototxt")[0] == text
    assert read_text("\ufeff" + text)[0] == text


@pytest.mark.parametrize(
    ("field", "hint"),
    [("crf_param", None), ("ctc_param", None), ("psroi_param", None), ("yolo_param", None),
     ("batchnorm_param", "batch_norm_param"),
     ("convolutoin_param", "convolution_param"), ("reshape_parm", "reshape_param"),
     ("botom", "bottom")],
)
def test_a_forks_field_is_not_taken_for_a_slip_of_the_pen(field: str, hint: str | None) -> None:
    message = f"did you mean {hint}" if hint else r"\(of another fork of Caffe\?\)"
    with pytest.raises(FormatError, match=f"no field '{field}'.*{message}") as found:
        read(f"layer {{ {field} {{ }} }}")
    assert hint or "did you mean" not in str(found.value)


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
