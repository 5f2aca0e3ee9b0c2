"""Named arrays in a file: the same after reading, and a file that is none is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from reid.errors import ModelFileError
from reid.matching.columns import read_columns, write_columns


def columns() -> dict[str, list[np.ndarray]]:
    return {
        "bytes": [np.arange(5, dtype=np.uint8)],
        "half": [np.ones((2, 3), np.float16), np.zeros((1, 3), np.float16)],
        "ids": [np.array([1, -2], np.int64)],
        "keys": [np.array([2**64 - 1], np.uint64)],
        "none": [np.zeros((0, 4), np.float32)],
    }


def test_what_is_read_is_what_was_written_for_us_and_for_others(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_columns(path, "test 1", {"who": "ä\n"}, columns())
    texts, found = read_columns(path, "test 1", "file", "write it again")
    assert texts["who"] == "ä\n"
    for arrays in (found, load_file(path)):
        assert arrays.keys() == columns().keys()
        for name, parts in columns().items():
            whole = np.concatenate(parts)
            assert arrays[name].dtype == whole.dtype
            assert np.array_equal(arrays[name], whole)
    assert all(array.flags.aligned for array in found.values())


def test_another_format_and_a_missing_file_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_columns(path, "test 1", {}, columns())
    with pytest.raises(ModelFileError, match=r"is no file, or is cut short \(format: test 2\); do"):
        read_columns(path, "test 2", "file", "do")
    with pytest.raises(ModelFileError, match="no such file; do"):
        read_columns(tmp_path / "none", "test 1", "file", "do")
