"""The schema: Caffe's numbers and defaults, and what it does with what it does not know."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from reid.caffe.schema import (
    FIELDS,
    LayerParameter,
    NetParameter,
    SolverParameter,
    name_of,
    number_of,
)


@pytest.mark.parametrize(
    ("message", "field", "number"),
    [
        ("NetParameter", "layer", 100),
        ("NetParameter", "layers", 2),
        ("LayerParameter", "batch_norm_param", 139),
        ("LayerParameter", "bn_param", 137),
        ("BlobProto", "double_data", 8),
        ("TransformationParameter", "crop_height", 8),
        ("PoolingParameter", "round_mode", 13),
        ("SolverParameter", "iter_size", 36),
    ],
)
def test_a_field_has_its_number_in_caffe(message: str, field: str, number: int) -> None:
    assert FIELDS[message][field].number == number


def test_what_a_file_leaves_out_has_caffes_default() -> None:
    layer = LayerParameter()
    assert layer.convolution_param.bias_term is True
    assert layer.batch_norm_param.moving_average_fraction == pytest.approx(0.999)
    assert layer.batch_norm_param.eps == pytest.approx(1e-5)
    assert layer.bn_param.momentum == pytest.approx(0.9)
    assert layer.scale_param.bias_term is False
    assert layer.pooling_param.pool == number_of("PoolMethod", "MAX")
    assert name_of("SolverMode", SolverParameter().solver_mode) == "GPU"


def test_the_bytes_are_protobufs() -> None:
    layer = LayerParameter(name="c")
    layer.param.add(lr_mult=2)
    net = NetParameter(name="n", layer=[layer])
    # By hand: 1 "n"; 100 { 1 "c"; 6 { 3: 2.0 } }.
    expected = b"\x0a\x01n" + b"\xa2\x06\x0a" + b"\x0a\x01c" + b"\x32\x05\x1d\x00\x00\x00\x40"
    assert net.SerializeToString() == expected


def test_unknown_fields_of_a_binary_file_survive() -> None:
    # 100 { 1 "c"; 106 { 15: 2 } }: the engine of a convolution is not in the schema.
    data = b"\xa2\x06\x08" + b"\x0a\x01c" + b"\xd2\x06\x02\x78\x02"
    net = NetParameter.FromString(data)
    net.name = "changed"
    assert net.SerializeToString() == b"\x0a\x07changed" + data


def test_an_unknown_value_of_an_enumeration_survives() -> None:
    data = b"\xa2\x06\x05" + b"\xca\x07\x02\x08\x09"  # 121 { 1: 9 }: no such pooling
    net = NetParameter.FromString(data)
    assert net.layer[0].pooling_param.pool == 0
    assert net.SerializeToString() == data


def test_another_schema_of_the_same_names_in_the_process_is_no_clash() -> None:
    other = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe")
    other.message_type.add(name="NetParameter")
    pool = descriptor_pool.Default()
    pool.Add(other)
    found = pool.FindMessageTypeByName("caffe.NetParameter")
    assert message_factory.GetMessageClass(found) is not NetParameter
    assert NetParameter(name="ours").name == "ours"
