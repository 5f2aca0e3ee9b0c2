"""The text format: values, syntax errors with line and column, and what is not known."""

from __future__ import annotations

import math

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.caffe.schema import NetParameter
from reid.caffe.text import format_message, parse_into
from reid.errors import CaffeError


def parsed(text: str) -> NetParameter:
    """The network that a text is."""
    net = NetParameter()
    parse_into(net, text, "net")
    return net


KNOWN = r"""
name: 'a' "b\x41\101\n"  # joined
input: "data" input_dim: [1, 3, 0x90, 070]
layer: < name: "l"; top: "t", phase: TEST
  include { phase: 0 } include { stage: "s" }
  loss_weight: 0.5 loss_weight: -1e-3 loss_weight: 2f loss_weight: .25 loss_weight: -inf
  batch_norm_param { use_global_stats: t eps: 1e-5 }
  pooling_param {} >
"""


def test_every_form_of_a_value_is_read() -> None:
    net = parsed(KNOWN)
    assert net.name == "abAA\n"
    assert list(net.input_dim) == [1, 3, 144, 56]
    (layer,) = net.layer
    assert [layer.name, *layer.top, layer.phase] == ["l", "t", 1]
    assert layer.include[0].phase == 0
    assert list(layer.loss_weight) == pytest.approx([0.5, -1e-3, 2, 0.25, -math.inf])
    assert layer.batch_norm_param.use_global_stats is True
    assert layer.HasField("pooling_param")
    assert not layer.HasField("scale_param")


def test_what_is_written_reads_back_equal() -> None:
    net = parsed(KNOWN)
    assert parsed(format_message(net)) == net


def test_what_is_written_is_what_protobuf_reads() -> None:
    net = parsed(KNOWN)
    net.layer[0].ClearField("phase")
    del net.layer[0].include[0]  # protobuf knows enumerations by names of ours
    assert text_format.Parse(format_message(net), NetParameter()) == net


UNKNOWN = """name: "n"
force_backward: true
layer {
  name: "c"
  type: "Convolution"
  convolution_param {
    num_output: 4
    engine: CUDNN
  }
  odd {  # why not
    deep < s: "}" list: [1, 2] >
      text: "a" 'b'
  }
  odd: 3
}
"""


def test_unknown_fields_survive_where_they_stood() -> None:
    text = format_message(parsed(UNKNOWN))
    assert "engine: CUDNN" in text.split("convolution_param")[1].split("}")[0]
    block = '  odd {  # why not\n    deep < s: "}" list: [1, 2] >\n      text: "a" \'b\'\n  }\n'
    assert f"{block}  odd: 3\n}}\n" in text
    assert text.endswith("force_backward: true\n")
    assert format_message(parsed(text)) == text


def test_unknown_fields_go_with_a_layer_that_is_copied() -> None:
    net = NetParameter()
    net.layer.add().CopyFrom(parsed(UNKNOWN).layer[0])
    assert "engine: CUDNN" in format_message(net)


def test_unknown_fields_between_known_ones_on_a_line_and_with_tabs_survive() -> None:
    net = parsed('layer {\n\tname: "a" odd {\n\t\tx: 1\n\t} type: "T"\n}')
    assert (net.layer[0].name, net.layer[0].type) == ("a", "T")
    assert parsed(format_message(net)) == parsed(format_message(parsed(format_message(net))))
    assert "x: 1" in format_message(net)


@given(st.text(max_size=30))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_any_name_comes_back(name: str) -> None:
    assert parsed(format_message(NetParameter(name=name))).name == name


@given(st.floats(width=32, allow_nan=False))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_any_number_comes_back(value: float) -> None:
    net = NetParameter()
    net.layer.add().loss_weight.append(value)
    assert parsed(format_message(net)).layer[0].loss_weight[0] == value


def test_numbers_are_written_short() -> None:
    net = NetParameter()
    net.layer.add().loss_weight.extend([1, 0.1, 1e-5])
    assert format_message(net).split() == [
        *("layer", "{", "loss_weight:", "1", "loss_weight:", "0.1", "loss_weight:", "1e-05", "}")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name: "a"\n  layer { name }', "net:2:16: expected ':' after name, found '}'"),
        ('name: "a', "net:1:7: expected a string that ends on the same line"),
        ("name: 3", "net:1:7: expected a quoted string as name, found '3'"),
        ("\nname:", "net:2:6: expected a quoted string as name, found the end of the file"),
        ('name: "a" name: "b"', "net:1:11: name is given twice"),
        ("layer {", "net:1:8: expected a field name or '}', found the end of the file"),
        ("layer { } }", "net:1:11: expected a field name, found '}'"),
        ("layer 3", "net:1:7: expected '{' after layer, found '3'"),
        ("layer { phase: TRIAN }", "net:1:16: expected one of TRAIN, TEST as phase, found"),
        ("input_dim: 1.5", "net:1:12: expected an integer as input_dim, found '1.5'"),
        ("input_dim: 3000000000", "net:1:12: expected an integer as input_dim"),
        ("input_dim: 08", "net:1:12: expected an integer as input_dim"),
        ("input_dim: [1 2]", "net:1:15: expected ',' or ']', found '2'"),
        ("layer { loss_weight: 1.2.3 }", "net:1:22: expected a number as loss_weight"),
        ("layer { loss_weight: true }", "net:1:22: expected a number as loss_weight"),
        ("odd { a: [ } ]", "net:1:12: expected ']', found '}'"),
        ("odd 3", "net:1:5: expected ':' or '{' after odd, found '3'"),
        ("odd: }", "net:1:6: expected a value for odd, found '}'"),
        ("odd { a: 1", "net:1:11: expected '}', found the end of the file"),
        (r'name: "\q"', "net:1:7: expected a string with valid escapes"),
        (r'name: "\377"', "net:1:7: expected UTF-8 text, found other bytes"),
        ("name = 3", "net:1:6: unexpected character '='"),
    ],
)
def test_a_mistake_has_its_line_and_column(text: str, message: str) -> None:
    with pytest.raises(CaffeError) as caught:
        parsed(text)
    assert str(caught.value).startswith(message)


def test_deep_nesting_is_no_deep_recursion() -> None:
    with pytest.raises(CaffeError, match="end of the file"):
        parsed("odd {" * 20_000)
    assert len(parsed("odd {" * 20_000 + "}" * 20_000).unknown_text) == 1
