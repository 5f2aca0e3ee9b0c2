"""What a file given as one of Caffe's is, from its first bytes, so that a message can name it."""

from __future__ import annotations

import re
from typing import NamedTuple

HDF5 = b"\x89HDF\r\n\x1a\n"
_LAYER_TAG = b"\xa2\x06"
"""The first bytes of each layer in a caffemodel (field 100); they never occur in text."""

_TEXT_BYTES = 1 << 20
_CONTROLS = (*range(7), 0x0E, 0x0F, 0x7F)

# Protobuf writes fields by number: an iteration first, then the name of the weights or a history.
_SOLVERSTATE = re.compile(rb"\x08[\x80-\xff]{0,9}[\x00-\x7f](?:\x12[^\n]{1,512}\.caffemodel|\x1a)")
_BLOB = re.compile(rb"\x08[\x80-\xff]{0,9}[\x00-\x7f]\x10|\x2a|\x3a")
_SOLVER = re.compile(rb"\b(?:base_lr|lr_policy|max_iter)\s*:")
_NET = re.compile(rb"\blayers?\s*:?\s*\{")


def is_text(data: bytes) -> bool:
    """Whether the beginning has none of the control characters of binary files."""
    start = data[:_TEXT_BYTES]
    return not any(byte in start for byte in _CONTROLS)


class Kind(NamedTuple):
    """What a file is, in words, and what to do about it where that depends on the kind."""

    words: str
    advice: str = ""


NET_TEXT = Kind("a prototxt (text)")
SOLVER_TEXT = Kind("a solver's prototxt (text)")
OTHER_TEXT = Kind("text")
WEIGHTS = Kind("a caffemodel (binary)")
MEAN = Kind("a mean image (.binaryproto)")
UNKNOWN = Kind("binary or damaged")
UTF_16 = Kind("text in UTF-16", "save it as UTF-8")
ZIP = Kind("a zip archive, such as a checkpoint of PyTorch")
SOLVER_STATE = Kind("a solver state (.solverstate)", "give the .caffemodel that lies beside it")
_IN_HDF5 = (
    "write it with snapshot_format: BINARYPROTO in the solver, or load it in Caffe and save it "
    "as .caffemodel"
)
WEIGHTS_HDF5 = Kind("a caffemodel in HDF5 (.caffemodel.h5)", _IN_HDF5)
SOLVER_STATE_HDF5 = Kind("a solver state in HDF5 (.solverstate.h5)", _IN_HDF5)


def kind_of(data: bytes, name: str) -> Kind:
    """The kind of a file from its first bytes; ``name`` is the file's name.

    >>> kind_of(b"name: 'a' layer { }", "a.prototxt").words
    'a prototxt (text)'
    """
    start = data[:_TEXT_BYTES]
    if data.startswith(HDF5):
        return SOLVER_STATE_HDF5 if ".solverstate" in name else WEIGHTS_HDF5
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return UTF_16
    if is_text(data):
        if _NET.search(start):
            return NET_TEXT
        return SOLVER_TEXT if _SOLVER.search(start) else OTHER_TEXT
    if data.startswith(b"PK\x03\x04"):
        return ZIP
    if _SOLVERSTATE.match(data):
        return SOLVER_STATE
    if _LAYER_TAG in start:
        return WEIGHTS
    return MEAN if _BLOB.match(data) else UNKNOWN
