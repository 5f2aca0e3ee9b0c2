"""A reader never sees half a file, whatever happens to the writer."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reid.errors import OutputError
from reid.files import (
    atomic_path,
    check_writable,
    is_regular,
    sha256_of_file,
    staging_folder,
    write_atomically,
    write_text,
)


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
    with pytest.raises(OutputError, match="a file has the name of the folder needed"):
        write_text(tmp_path / "file" / "below.txt", "text")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
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


KILLED = """
import os, sys, signal
from pathlib import Path
from reid.files import atomic_path, staging_folder
kind, path = sys.argv[1], Path(sys.argv[2])
with (atomic_path if kind == "file" else staging_folder)(path) as temporary:
    (temporary if kind == "file" else temporary / "one.png").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out" / "checkpoint.pt"
    for _ in range(3):
        died = subprocess.run([sys.executable, "-c", KILLED, kind, str(path)], check=False)
        assert died.returncode == -signal.SIGKILL
    names = [p.name for p in path.parent.iterdir()]
    assert len(names) == (1 if kind == "file" else 2)  # of the last one killed
    write_text(path, "whole")
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]
    assert path.read_text() == "whole"


def test_a_writer_at_work_keeps_its_temporary_file_when_another_begins(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with atomic_path(path) as first:
        first.write_text("first")
        with staging_folder(path) as folder:
            (folder / "part").write_text("kept")
            write_text(path, "second")
            assert (folder / "part").read_text() == "kept"
        assert first.read_text() == "first"
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_leftovers_of_earlier_versions_are_removed_and_other_files_stay(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    (tmp_path / ".checkpoint.pt.4711.part").write_text("half")
    for name in (
        ".checkpoint.pt.json.4711.part",
        ".checkpoint.pt.notes",
        "checkpoint.pt.4711.part",
    ):
        (tmp_path / name).write_text("not a leftover of this file")
    write_text(path, "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".checkpoint.pt.json.4711.part",
        ".checkpoint.pt.notes",
        "checkpoint.pt",
        "checkpoint.pt.4711.part",
    ]


def test_a_link_planted_under_a_temporary_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / "file.txt"
    tokens = iter(["00000000", "11111111"])
    monkeypatch.setattr("reid.files.secrets.token_hex", lambda size: next(tokens))
    (tmp_path / f".file.txt.{os.getpid()}-00000000.part").symlink_to(victim)
    (tmp_path / f".file.txt.{os.getpid()}.part").symlink_to(victim)
    with pytest.raises(OutputError):
        write_text(path, "text")
    write_text(path, "text")
    assert victim.read_text() == "precious"
    assert path.read_text() == "text"


def test_a_private_file_is_for_its_owner_alone_and_others_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write_text(tmp_path / "open.txt", "text")
        write_text(tmp_path / "private.txt", "text", private=True)
    finally:
        os.umask(old)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("open.txt", "private.txt")]
    assert modes == [0o644, 0o600]


def test_the_folder_is_synchronised_after_the_file_got_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    replace, fsync = os.replace, os.fsync

    def noted_replace(source: Path, target: Path) -> None:
        events.append("rename")
        replace(source, target)

    def noted_fsync(descriptor: int) -> None:
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", noted_replace)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    write_text(tmp_path / "file.txt", "text")
    assert events == ["file", "rename", "folder"]


def test_a_pipe_and_a_device_are_no_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    assert is_regular(tmp_path / "file")
    assert not is_regular(tmp_path / "pipe")
    assert not is_regular(Path("/dev/zero"))


def test_a_path_with_a_nul_character_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="NUL"):
        write_text(tmp_path / "a\0b", "text")


def test_a_name_that_is_not_utf8_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / "page.html", os.fsdecode(b"Zo\xc3\xab \xff"))
    assert (tmp_path / "page.html").read_bytes() == b"Zo\xc3\xab \\udcff"
