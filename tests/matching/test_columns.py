"""Named arrays in a file: the same after reading, and a file that is none is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from reid.errors import ModelFileError
from reid.matching.columns import Column, Part, open_columns, read_columns, write_columns


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
    # A map that may be written to is counted as memory: a larger file could not be read.
    assert not any(column.flags.writeable for column in found.values())
    assert texts["who"] == "ä\n"
    for arrays in (found, load_file(path)):
        assert arrays.keys() == columns().keys()
        for name, parts in columns().items():
            whole = np.concatenate(parts)
            assert arrays[name].dtype == whole.dtype
            assert np.array_equal(arrays[name], whole)
    assert all(array.flags.aligned for array in found.values())


def test_a_part_is_read_when_it_is_its_turn_and_not_before(tmp_path: Path) -> None:
    checked: list[str] = []

    def part(name: str, value: int) -> Part:
        def read() -> np.ndarray:
            checked.append(name)
            return np.full((2, 3), value, np.int32)

        return Part(np.dtype(np.int32), (2, 3), read)

    parts: dict[str, list[Column | Part]] = {
        "a": [part("a0", 1), part("a1", 2)],
        "b": [np.zeros((0, 3), np.int32), part("b1", 3)],
    }
    path = tmp_path / "a.safetensors"
    write_columns(path, "test 1", {}, parts)
    assert checked == ["a0", "a1", "b1"]
    found = load_file(path)
    assert found["a"].tolist() == [[1] * 3] * 2 + [[2] * 3] * 2
    assert found["b"].tolist() == [[3] * 3] * 2


def refusal(path: Path, format_name: str = "test 1") -> str:
    """The one line with which a file is refused."""
    with pytest.raises(ModelFileError) as caught:
        read_columns(path, format_name, "file", "do")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_format_and_a_missing_file_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_columns(path, "test 1", {}, columns())
    expected = f"{path} is not a file: expected the format 'test 2', found"
    assert refusal(path, "test 2") == f"{expected} 'test 1'; do"
    save_file({"a": np.ones(3)}, path)
    assert refusal(path, "test 2") == f"{expected} none; do"
    assert refusal(tmp_path / "none") == f"{tmp_path / 'none'}: no such file; do"
    assert refusal(tmp_path) == f"{tmp_path} cannot be read (Is a directory); do"


def test_arrays_of_a_kind_that_is_never_written_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": np.ones(3, np.float64)}, path, {"format": "test 1"})
    assert refusal(path).endswith("expected arrays of U8, I32, I64, U64, F16, F32, found F64; do")


def lying(path: Path, head: str, length: int | None = None) -> Path:
    """A file of 4 bytes of arrays behind a head that may say anything."""
    own = len(head.encode()) if length is None else length
    path.write_bytes(own.to_bytes(8, "little") + head.encode() + bytes(4))
    return path


def head(offsets: str, shape: str = "[4]") -> str:
    one = f'{{"dtype": "U8", "shape": {shape}, "data_offsets": {offsets}}}'
    return f'{{"__metadata__": {{"format": "test 1"}}, "a": {one}}}'


def test_a_head_that_does_not_lie_is_read(tmp_path: Path) -> None:
    _, found = read_columns(lying(tmp_path / "a", head("[0, 4]")), "test 1", "file", "do")
    assert found["a"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (head("[0, 1000000]"), "is truncated: expected 1,000,112 bytes, found 116"),
        (head("[0, 5]", "[5]"), "is truncated: expected 111 bytes, found 110"),
        (head("[0, 3]", "[3]"), "is damaged (Error while"),
        (head("[0, 4]", "[5]"), "is damaged (Error while"),
        (head("[2, 4]", "[2]"), "is damaged (Error while"),
        *(
            (head(offsets), "is damaged (no arrays in its header)")
            for offsets in (
                f"[0, {2**63}]",
                f"[0, {10**400}]",
                "[0, -4]",
                "[0, 1e999]",
                '[0, "4"]',
                "[0, null]",
                "[0]",
                "[]",
                "{}",
                "4",
            )
        ),
        (f"[0, {'9' * 5000}]", "expected the format 'test 1', found another file type"),
        (head(f"[0, {'9' * 5000}]"), "not JSON"),
        ('{"a": ' * 100_000, "not JSON"),
        ("{\udcff".encode("utf-8", "replace").decode(), "not JSON"),
        ('{"__metadata__": []}', "expected the format 'test 1', found none"),
        ('{"__metadata__": {"format": ["test 1"]}}', "found none"),
        ('{"__metadata__": {"format": "' + "x\\n" * 999 + '"}}', "found 'x\\nx"),
        ('{"__metadata__": {"format": "test 1"}, "a": 7}', "is damaged (no arrays"),
    ],
)
def test_a_head_that_lies_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    message = refusal(lying(tmp_path / "a", text))
    assert problem in message
    assert message.endswith("; do")
    assert len(message) < len(str(tmp_path)) + 250


@pytest.mark.parametrize(
    ("length", "problem"),
    [
        (2**64 - 1, "found another file type"),
        (100_000_001, "found another file type"),
        (0, "found another file type"),
        (100_000_000, "is truncated: expected more than 100,000,008 bytes, found 110"),
    ],
)
def test_a_head_of_an_impossible_length_is_not_read(
    tmp_path: Path, length: int, problem: str
) -> None:
    assert problem in refusal(lying(tmp_path / "a", head("[0, 4]"), length))


def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "sealed.safetensors"
    write_columns(path, "test 2", {"who": 'ä "seal": "12345678"'}, columns())
    return path


def test_every_changed_byte_is_found(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    content = path.read_bytes()
    open_columns(path, "test 2", "file", "do").require_undamaged()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ModelFileError) as caught:
            open_columns(path, "test 2", "file", "do").require_undamaged()
        assert "\n" not in str(caught.value)


def test_damaged_columns_are_named_and_the_others_stay_readable(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    content = path.read_bytes()
    half = np.concatenate(columns()["half"]).tobytes()
    assert content.count(half) == 1
    path.write_bytes(content.replace(half, half[:-1] + b"\x01"))
    file = open_columns(path, "test 2", "file", "do")
    assert file.damaged() == ["half"]
    assert file.damaged(["ids", "keys"]) == []
    assert file.columns["ids"].tolist() == [1, -2]
    with pytest.raises(ModelFileError, match=r"\(its half differs from its checksum\); do"):
        file.require_undamaged()


def test_a_file_of_an_earlier_format_has_no_checksums_and_opens(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_file({"ids": np.arange(3)}, path, {"format": "test 1"})
    file = open_columns(path, "test 2", "file", "do", earlier=("test 1",))
    assert (file.format_name, file.seal, file.damaged()) == ("test 1", "", [])
    assert refusal(path, "test 2").startswith(f"{path} is not a file: expected the format 'test 2'")


def test_a_file_cut_short_after_it_was_opened_is_noticed(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    file = open_columns(path, "test 2", "file", "do")
    file.require_size()
    size = path.stat().st_size
    with path.open("r+b") as opened:
        opened.truncate(size - 1)
    expected = f"truncated while it was in use: expected {size:,} bytes, found {size - 1:,}; do"
    for check in (file.require_size, file.require_undamaged):
        with pytest.raises(ModelFileError, match=expected):
            check()
