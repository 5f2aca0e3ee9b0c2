"""The kinds of files that are mistaken for one of Caffe's, and the reader of mean images."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reid.caffe.files import (
    MAX_MEAN_BYTES,
    blob_from_array,
    read_mean,
    read_net,
    read_solver,
    read_weights,
)
from reid.caffe.schema import BlobProto
from reid.errors import CaffeError

NET = b'layer { name: "a" type: "ReLU" }'
SOLVER = b'base_lr: 0.1  lr_policy: "fixed"'
HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(100)
STATE = b"\x08\xd0\x0f\x12\x1ba/msp_iter_2000.caffemodel\x00"
STATE_ALONE = b"\x08\xd0\x0f\x1a\x04\x2a\x02\x00\x00"
OLD = b'layers { name: "a" type: RELU }'


def image(height: int = 6, width: int = 4) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    rng = np.random.default_rng(0)
    return rng.uniform(0, 255, (3, height, width)).astype(np.float32)


def legacy() -> BlobProto:
    """As Caffe's compute_image_mean writes it."""
    values = image()
    return BlobProto(num=1, channels=3, height=6, width=4, data=values.ravel().tolist())


@pytest.mark.parametrize(
    ("read", "name", "data", "words"),
    [
        (read_weights, "a.caffemodel.h5", HDF5, "caffemodel in HDF5 .*BINARYPROTO"),
        (read_weights, "a.solverstate.h5", HDF5, "solver state in HDF5"),
        (read_weights, "a_iter_2000.solverstate", STATE, r"solver state .*\.caffemodel"),
        (read_weights, "a_iter_2000.solverstate", STATE_ALONE, "solver state"),
        (read_weights, "mean.binaryproto", legacy().SerializeToString(), "a mean image"),
        (read_weights, "run.pt", b"PK\x03\x04" + bytes(9), "zip archive"),
        (read_weights, "old.prototxt", OLD, "a prototxt"),
        (read_net, "a.caffemodel.h5", HDF5, "caffemodel in HDF5"),
        (read_net, "a.solverstate", STATE, "solver state"),
        (read_net, "mean.binaryproto", legacy().SerializeToString(), "a mean image"),
        (read_net, "solver.prototxt", SOLVER, "a solver's prototxt .*network's"),
        (read_net, "old.prototxt", OLD, "V1 .*upgrade_net_proto_text"),
        (read_net, "utf16.prototxt", NET.decode().encode("utf-16"), "UTF-16.*save it as UTF-8"),
        (read_solver, "net.prototxt", NET, "a prototxt .*solver's"),
        (read_solver, "solver.caffemodel", b"\xa2\x06" + bytes(9), "a caffemodel"),
        (read_mean, "net.prototxt", NET, "a prototxt"),
        (read_mean, "mean.h5", HDF5, "HDF5"),
        (read_mean, "net.caffemodel", b"\x0a\x01a\xa2\x06\x00", "a caffemodel"),
        (read_mean, "a.solverstate", STATE, "solver state"),
    ],
)
def test_a_file_of_another_kind_is_named(
    read: Callable[[Path], object], name: str, data: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CaffeError, match=f"{re.escape(str(path))}.*{words}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "blob",
    [
        blob_from_array(image()),
        blob_from_array(image()[None]),
        legacy(),
        BlobProto(num=1, channels=3, height=6, width=4, double_data=image().ravel().tolist()),
    ],
    ids=["three axes", "four axes", "legacy", "double"],
)
def test_a_mean_image_is_read_in_every_form(blob: BlobProto, tmp_path: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(blob.SerializeToString())
    np.testing.assert_array_equal(read_mean(path), image())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (blob_from_array(image()).SerializeToString()[:-3], "truncated or damaged|expected"),
        (blob_from_array(image()).SerializeToString()[:40], "truncated or damaged"),
        (b"\x2a\xff\xff\xff\xff\x07\x00", "truncated or damaged"),  # a length of 2 GB
        (b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(9), "truncated or damaged"),
        (blob_from_array(image()[:1]).SerializeToString(), r"3 channels.*\(1, 6, 4\)|3 channels"),
        (blob_from_array(image()[:, 0]).SerializeToString(), r"3 channels.*\(3, 4\)"),
        (blob_from_array(image()[:, :0]).SerializeToString(), r"3 channels.*\(3, 0, 4\)"),
        (BlobProto(num=2, channels=3, height=1, width=1, data=[0.0] * 6), "3 channels"),
        (BlobProto(num=1, channels=3, height=9, width=4, data=[0.0] * 6), "108 values.*found 6"),
        (
            BlobProto(num=1, channels=3, height=1 << 30, width=1 << 30, data=[0.0] * 6),
            "at most 2147483647 values",
        ),
        (BlobProto(num=1, channels=3, height=-1, width=4, data=[0.0] * 6), "sizes of 0 or more"),
        (blob_from_array(image() * np.float32("nan")), "finite"),
        (b"", "is empty; expected a mean image"),
    ],
)
def test_a_mean_image_that_is_none_is_one_line(
    data: bytes | BlobProto, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(data if isinstance(data, bytes) else data.SerializeToString())
    with pytest.raises(CaffeError, match=words) as caught:
        read_mean(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mean_image_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    with open(path, "wb") as file:
        file.write(legacy().SerializeToString())
        file.truncate(1 << 30)
    with pytest.raises(CaffeError, match=f"at most {MAX_MEAN_BYTES} bytes"):
        read_mean(path)


def test_damaged_mean_images_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path, rng = tmp_path / "mean.binaryproto", random.Random(0)
    data = blob_from_array(image()).SerializeToString() + b"\x08\x01\x10\x03"
    refused = []
    for _ in range(500):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            place = rng.choice([rng.randrange(4), rng.randrange(len(data))])
            changed[place] = rng.randrange(256)
        path.write_bytes(changed)
        try:
            assert read_mean(path).shape[0] == 3
        except CaffeError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert not any("\n" in line for line in refused)
