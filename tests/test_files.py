"""A reader never sees half a file, whatever happens to the writer."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from reid.errors import OutputError
from reid.files import atomic_path, check_writable, sha256_of_file, write_atomically, write_text


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")
    write_text(path, "néw")
    assert path.read_text(encoding="utf-8") == "néw"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    ("number", "words"),
    [("ENOSPC", "the disk is full"), ("EROFS", "read-only"), ("EACCES", "permission denied")],
)
def test_what_the_system_refuses_becomes_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, words: str
) -> None:
    import errno

    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, number), "refused")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match=rf"cannot write .*file\.txt: .*{words}"):
        write_text(tmp_path / "file.txt", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file stands where a folder is needed"):
        write_text(tmp_path / "file" / "below.txt", "text")


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "a.engine")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        check_writable(tmp_path / "file" / "a.engine")


def test_the_hash_is_sha_256_of_all_bytes(tmp_path: Path) -> None:
    content = os.urandom(3 * (1 << 20) + 17)
    path = tmp_path / "file.bin"
    write_atomically(path, lambda file: file.write(content))
    assert sha256_of_file(path) == hashlib.sha256(content).hexdigest()
