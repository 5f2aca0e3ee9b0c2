"""MATLAB 5 files: numbers and strings come out, anything else is one line."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reid.data.readers.mat5 import MAX_BYTES, read_mat5
from reid.errors import DataError

Write = Callable[[Path, Any], Path]
ARRAYS = {"filelist": ["1_001_1_01.png", "ab", ""], "train_idx": [1, 2, 300], "one": [7]}


def test_numbers_and_strings_come_out_in_order(write_mat5: Write, tmp_path: Path) -> None:
    found = read_mat5(write_mat5(tmp_path / "a.mat", ARRAYS))
    assert found["filelist"] == ARRAYS["filelist"]
    assert [np.asarray(found[name]).tolist() for name in ("train_idx", "one")] == [[1, 2, 300], [7]]


def test_big_endian_files_and_uncompressed_arrays_are_read(tmp_path: Path) -> None:
    def element(kind: int, payload: bytes) -> bytes:
        return struct.pack(">II", kind, len(payload)) + payload + b"\0" * (-len(payload) % 8)

    parts = [
        element(6, struct.pack(">II", 6, 0)),
        element(5, struct.pack(">ii", 1, 2)),
        element(1, b"x"),
        element(9, struct.pack(">dd", 1.5, -2)),
    ]
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB".ljust(126) + b"MI" + element(14, b"".join(parts)))
    assert np.asarray(read_mat5(path)["x"]).tolist() == [1.5, -2]


@pytest.mark.parametrize(
    ("kind", "payload"), [(9, struct.pack("<d", 65.0)), (13, struct.pack("<Q", 2**63))]
)
def test_a_text_of_other_numbers_than_characters_is_one_line(
    tmp_path: Path, kind: int, payload: bytes
) -> None:
    def element(kind: int, payload: bytes) -> bytes:
        return struct.pack("<II", kind, len(payload)) + payload + b"\0" * (-len(payload) % 8)

    def array(what: int, name: bytes, values: bytes) -> bytes:
        head = element(6, struct.pack("<II", what, 0)) + element(5, struct.pack("<ii", 1, 1))
        return element(14, head + element(1, name) + values)

    cell = array(1, b"filelist", array(4, b"", element(kind, payload)))
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB".ljust(126) + b"IM" + cell)
    with pytest.raises(DataError, match=rf"a\.mat: .*string.* type {kind}\b"):
        read_mat5(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no MATLAB 5 header"),
        (b"\x89HDF\r\n\x1a\n".ljust(200), "no MATLAB 5 header"),
        (b"x".ljust(126) + b"IM" + struct.pack("<II", 14, 1000), "truncated"),
        (b"x".ljust(126) + b"IM" + struct.pack("<II", 15, 4) + b"junk", "not a MATLAB 5 file"),
        (b"x".ljust(126) + b"IM" + struct.pack("<II", 14, 0), "an array without a name"),
    ],
)
def test_another_kind_of_file_is_one_line(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.mat").write_bytes(data)
    with pytest.raises(DataError, match=reason):
        read_mat5(tmp_path / "a.mat")


def test_arrays_that_unpack_to_more_than_any_protocol_are_refused(tmp_path: Path) -> None:
    packed = zlib.compress(bytes(MAX_BYTES + 1))
    (tmp_path / "a.mat").write_bytes(
        b"x".ljust(126) + b"IM" + struct.pack("<II", 15, len(packed)) + packed
    )
    with pytest.raises(DataError, match="truncated or too large"):
        read_mat5(tmp_path / "a.mat")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.mat: no such file"):
        read_mat5(tmp_path / "a.mat")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    write_mat5: Write, tmp_path: Path, place: int, value: int, cut: int
) -> None:
    path = write_mat5(tmp_path / "a.mat", ARRAYS)
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(data[: max(1, cut % (2 * len(data)))])
    with contextlib.suppress(DataError):
        read_mat5(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mat")
    with pytest.raises(DataError, match=r"a\.mat: cannot be read: it is a pipe"):
        read_mat5(tmp_path / "a.mat")
