"""The Caffe protobuf messages that we use, built at import without ``protoc``.

Names and numbers are those of BVLC Caffe's ``caffe.proto``; 137 for ``bn_param`` is from the
fork that trained the DGD models. Fields that are not in the table are kept: from a binary file
as protobuf's unknown fields, from a text file in ``unknown_text`` of the enclosing message
(see ``reid.caffe.text``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_ENUMS = {
    "Phase": "TRAIN=0 TEST=1",
    "PoolMethod": "MAX=0 AVE=1 STOCHASTIC=2",
    "RoundMode": "CEIL=0 FLOOR=1",
    "VarianceNorm": "FAN_IN=0 FAN_OUT=1 AVERAGE=2",
    "EltwiseOp": "PROD=0 SUM=1 MAX=2",
    "DB": "LEVELDB=0 LMDB=1",
    "SolverMode": "CPU=0 GPU=1",
    "SolverType": "SGD=0 NESTEROV=1 ADAGRAD=2 RMSPROP=3 ADADELTA=4 ADAM=5",
}
"""Enumeration -> its values. Files never contain an enumeration's name, so we choose it."""

# name=number:type, then * for repeated or # for repeated and packed, or (default).
_MESSAGES = {
    "NetParameter": """name=1:string layers=2:V1LayerParameter* input=3:string*
        input_dim=4:int32* input_shape=8:BlobShape* layer=100:LayerParameter*""",
    "V1LayerParameter": "",
    "LayerParameter": """name=1:string type=2:string bottom=3:string* top=4:string*
        loss_weight=5:float* param=6:ParamSpec* blobs=7:BlobProto* include=8:NetStateRule*
        exclude=9:NetStateRule* phase=10:Phase
        transform_param=100:TransformationParameter loss_param=101:LossParameter
        accuracy_param=102:AccuracyParameter concat_param=104:ConcatParameter
        contrastive_loss_param=105:ContrastiveLossParameter
        convolution_param=106:ConvolutionParameter data_param=107:DataParameter
        dropout_param=108:DropoutParameter eltwise_param=110:EltwiseParameter
        image_data_param=115:ImageDataParameter
        inner_product_param=117:InnerProductParameter pooling_param=121:PoolingParameter
        relu_param=123:ReLUParameter softmax_param=125:SoftmaxParameter
        slice_param=126:SliceParameter python_param=130:PythonParameter
        bn_param=137:BNParameter batch_norm_param=139:BatchNormParameter
        scale_param=142:ScaleParameter input_param=143:InputParameter""",
    "BlobShape": "dim=1:int64#",
    "BlobProto": """num=1:int32(0) channels=2:int32(0) height=3:int32(0) width=4:int32(0)
        data=5:float# shape=7:BlobShape double_data=8:double#""",
    # The same wire format as BlobProto, but with packed numbers as raw bytes.
    "PackedBlob": "shape=7:BlobShape data=5:bytes double_data=8:bytes",
    "NetStateRule": "phase=1:Phase min_level=2:int32 max_level=3:int32 stage=4:string* "
    "not_stage=5:string*",
    "ParamSpec": "name=1:string lr_mult=3:float(1) decay_mult=4:float(1)",
    "FillerParameter": """type=1:string(constant) value=2:float(0) min=3:float(0) max=4:float(1)
        mean=5:float(0) std=6:float(1) variance_norm=8:VarianceNorm(FAN_IN)""",
    "TransformationParameter": """scale=1:float(1) mirror=2:bool(false) crop_size=3:uint32(0)
        mean_file=4:string mean_value=5:float* crop_height=8:uint32(0) crop_width=9:uint32(0)""",
    "LossParameter": "ignore_label=1:int32 normalize=2:bool",
    "AccuracyParameter": "top_k=1:uint32(1) axis=2:int32(1) ignore_label=3:int32",
    "ConcatParameter": "axis=2:int32(1)",
    "ContrastiveLossParameter": "margin=1:float(1) legacy_version=2:bool(false)",
    "ConvolutionParameter": """num_output=1:uint32 bias_term=2:bool(true) pad=3:uint32*
        kernel_size=4:uint32* group=5:uint32(1) stride=6:uint32* weight_filler=7:FillerParameter
        bias_filler=8:FillerParameter pad_h=9:uint32(0) pad_w=10:uint32(0) kernel_h=11:uint32
        kernel_w=12:uint32 stride_h=13:uint32 stride_w=14:uint32 axis=16:int32(1)
        dilation=18:uint32*""",
    "DataParameter": "source=1:string batch_size=4:uint32 backend=8:DB(LEVELDB)",
    "DropoutParameter": "dropout_ratio=1:float(0.5)",
    "ImageDataParameter": """source=1:string batch_size=4:uint32(1) new_height=9:uint32(0)
        new_width=10:uint32(0)""",
    "EltwiseParameter": "operation=1:EltwiseOp(SUM) coeff=2:float*",
    "InnerProductParameter": """num_output=1:uint32 bias_term=2:bool(true)
        weight_filler=3:FillerParameter bias_filler=4:FillerParameter axis=5:int32(1)
        transpose=6:bool(false)""",
    "PoolingParameter": """pool=1:PoolMethod(MAX) kernel_size=2:uint32 stride=3:uint32(1)
        pad=4:uint32(0) kernel_h=5:uint32 kernel_w=6:uint32 stride_h=7:uint32 stride_w=8:uint32
        pad_h=9:uint32(0) pad_w=10:uint32(0) global_pooling=12:bool(false)
        round_mode=13:RoundMode(CEIL)""",
    "ReLUParameter": "negative_slope=1:float(0)",
    "SoftmaxParameter": "axis=2:int32(1)",
    "SliceParameter": "slice_dim=1:uint32(1) slice_point=2:uint32* axis=3:int32(1)",
    "PythonParameter": "module=1:string layer=2:string param_str=3:string",
    "BNParameter": """slope_filler=1:FillerParameter bias_filler=2:FillerParameter
        momentum=3:float(0.9) eps=4:float(1e-5) frozen=5:bool(false)""",
    "BatchNormParameter": "use_global_stats=1:bool moving_average_fraction=2:float(0.999) "
    "eps=3:float(1e-5)",
    "ScaleParameter": """axis=1:int32(1) num_axes=2:int32(1) filler=3:FillerParameter
        bias_term=4:bool(false) bias_filler=5:FillerParameter""",
    "InputParameter": "shape=1:BlobShape*",
    # A solver is always a text file, so the number of min_lr (from the fork) does not matter.
    "SolverParameter": """base_lr=5:float display=6:int32 max_iter=7:int32 lr_policy=8:string
        gamma=9:float power=10:float momentum=11:float weight_decay=12:float stepsize=13:int32
        snapshot=14:int32 snapshot_prefix=15:string solver_mode=17:SolverMode(GPU) net=24:string
        regularization_type=29:string(L2) solver_type=30:SolverType(SGD) delta=31:float(1e-8)
        stepvalue=34:int32* clip_gradients=35:float(-1) iter_size=36:int32(1)
        momentum2=39:float(0.999) type=40:string(SGD) min_lr=1000:float(0)""",
}

UNKNOWN_TEXT = "unknown_text"
"""The field of every message that keeps the unknown fields of a text file verbatim."""

_UNKNOWN_TEXT_NUMBER = (1 << 29) - 1
"""Protobuf's last field number: no file uses it. Never written to a binary file."""

_FIELD = re.compile(r"(\w+)=(\d+):(\w+)([*#]?)(?:\(([^)]*)\))?$")
_SCALARS = ("int32", "uint32", "int64", "float", "double", "bool", "string", "bytes")


class Field(NamedTuple):
    """One field of a message. ``enum`` maps value names to numbers, ``message`` is a type name."""

    name: str
    number: int
    kind: str
    repeated: bool
    enum: Mapping[str, int] | None = None
    message: str | None = None


def _enum_values(text: str) -> dict[str, int]:
    pairs = (value.split("=") for value in text.split())
    return {name: int(number) for name, number in pairs}


def _add_field(row: str, into: descriptor_pb2.DescriptorProto) -> Field:
    """Add one row of the table to a message's descriptor."""
    matched = _FIELD.match(row)
    if matched is None:
        raise ValueError(f"invalid row in the schema: {row!r}")
    name, number, kind, mark, default = matched.groups()
    proto = into.field.add(name=name, number=int(number))
    proto.label = proto.LABEL_REPEATED if mark else proto.LABEL_OPTIONAL
    if kind in _SCALARS:
        proto.type = getattr(proto, f"TYPE_{kind.upper()}")
    else:
        proto.type = proto.TYPE_ENUM if kind in _ENUMS else proto.TYPE_MESSAGE
        proto.type_name = f".caffe.{kind}"
    if mark == "#":
        proto.options.packed = True
    if default is not None:
        proto.default_value = default
    enum = _enum_values(_ENUMS[kind]) if kind in _ENUMS else None
    message = kind if kind in _MESSAGES else None
    return Field(name, int(number), kind, bool(mark), enum, message)


def _build() -> tuple[dict[str, Any], dict[str, Mapping[str, Field]]]:
    """Message name -> class, and message name -> fields by name, from the tables above."""
    file = descriptor_pb2.FileDescriptorProto(
        name="reid/caffe/schema.proto", package="caffe", syntax="proto2"
    )
    for enum_name, values in _ENUMS.items():
        enum = file.enum_type.add(name=enum_name)
        for name, number in _enum_values(values).items():
            # All enum values of a file share one scope in protobuf, so MAX would clash.
            enum.value.add(name=f"{enum_name}_{name}", number=number)
    fields: dict[str, Mapping[str, Field]] = {}
    for message_name, rows in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        found = [_add_field(_scoped_default(row), message) for row in rows.split()]
        fields[message_name] = MappingProxyType({field.name: field for field in found})
        _add_field(f"{UNKNOWN_TEXT}={_UNKNOWN_TEXT_NUMBER}:string*", message)
    # A separate pool: another caffe_pb2 in the process has the same full names.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
        for name in _MESSAGES
    }, fields


def _scoped_default(row: str) -> str:
    """``pool=1:PoolMethod(MAX)`` -> ``pool=1:PoolMethod(PoolMethod_MAX)``."""
    for name in _ENUMS:
        row = row.replace(f":{name}(", f":{name}({name}_")
    return row


_CLASSES, FIELDS = _build()
"""FIELDS: message name -> {field name: Field}, without ``unknown_text``."""


def number_of(enum: str, value: str) -> int:
    """The number of an enumeration's value: ``number_of("PoolMethod", "AVE")`` is 1."""
    return _enum_values(_ENUMS[enum])[value]


def name_of(enum: str, number: int) -> str:
    """The name of an enumeration's number: ``name_of("PoolMethod", 1)`` is ``"AVE"``."""
    return {value: name for name, value in _enum_values(_ENUMS[enum]).items()}[number]


TRAIN, TEST = number_of("Phase", "TRAIN"), number_of("Phase", "TEST")
MAX, AVE = number_of("PoolMethod", "MAX"), number_of("PoolMethod", "AVE")

if TYPE_CHECKING:
    from typing_extensions import Self

    # The classes are built at import; a type checker sees their methods, and Any for fields.
    class Message:
        """A protobuf message of the table above."""

        def __init__(self, **fields: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...
        @classmethod
        def FromString(cls, data: bytes) -> Self: ...

    class NetParameter(Message): ...

    class LayerParameter(Message): ...

    class BlobProto(Message): ...

    class BlobShape(Message): ...

    class PackedBlob(Message): ...

    class ParamSpec(Message): ...

    class FillerParameter(Message): ...

    class SolverParameter(Message): ...

else:
    from google.protobuf.message import Message

    NetParameter = _CLASSES["NetParameter"]
    LayerParameter = _CLASSES["LayerParameter"]
    BlobProto = _CLASSES["BlobProto"]
    BlobShape = _CLASSES["BlobShape"]
    PackedBlob = _CLASSES["PackedBlob"]
    ParamSpec = _CLASSES["ParamSpec"]
    FillerParameter = _CLASSES["FillerParameter"]
    SolverParameter = _CLASSES["SolverParameter"]
