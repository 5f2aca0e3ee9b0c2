"""Videos that are whole, killed, or written to a full disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.deploy.watch import mp4
from reid.deploy.watch.mp4 import Mp4Writer, _packets
from reid.errors import OutputError
from tests.deploy.watch import killed_video

FPS = 10


def picture(number: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.full((48, 64, 3), 2 * number, np.uint8)


def write(path: Path, count: int, said: list[str] | None = None) -> Mp4Writer:
    with Mp4Writer(path, 64, 48, FPS, [].append if said is None else said.append) as writer:
        for number in range(count):
            writer.write(picture(number))
    return writer


def greys_of(path: Path) -> list[float]:
    capture = cv2.VideoCapture(str(path))
    greys = []
    while (found := capture.read())[0]:
        greys.append(float(np.asarray(found[1]).mean()))
    return greys


@pytest.mark.parametrize("count", [1, 12, 13, 100])
def test_a_finished_video_is_an_ordinary_one_with_every_frame(tmp_path: Path, count: int) -> None:
    path = tmp_path / "out.mp4"
    assert write(path, count).lost == 0
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == count
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(FPS)
    assert greys_of(path) == pytest.approx([2 * number for number in range(count)], abs=4)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["out.mp4"]
    capture.set(cv2.CAP_PROP_POS_FRAMES, count - 1)
    assert capture.read()[0]
    # Boxes up to the last byte, and no fragment outside the media data: one table has all frames.
    data, at, kinds = path.read_bytes(), 0, []
    while at < len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        kinds.append(kind)
        at += length if length != 1 else int.from_bytes(data[at + 8 : at + 16], "big")
    assert kinds == [b"ftyp", b"mdat", b"moov"]


@pytest.mark.parametrize("frames", [14, 40, 90])
def test_a_killed_video_is_played_up_to_there(tmp_path: Path, frames: int) -> None:
    path = tmp_path / "out.mp4"
    command = [sys.executable, "-m", killed_video.__name__, str(path), str(frames)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        # All but what the encoder and the newest fragment hold; a busy machine takes its time.
        deadline = time.monotonic() + 60
        while len(greys_of(path)) < max(1, frames - 2 * mp4.FRAGMENT_FRAMES):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    greys = greys_of(path)
    assert max(1, frames - 2 * mp4.FRAGMENT_FRAMES) <= len(greys) <= frames
    assert greys == pytest.approx([2 * number for number in range(len(greys))], abs=4)
    assert [one.name for one in tmp_path.iterdir()] == ["out.mp4"]
    assert write(path, 5).lost == 0  # and the next run writes it anew
    assert len(greys_of(path)) == 5


def test_parts_that_earlier_versions_left_are_removed_unless_their_process_lives(
    tmp_path: Path,
) -> None:
    parts = [f".out.{number}.part.mp4" for number in (os.getpid(), 2**30)]
    for name in (*parts, ".out.mine.part.mp4", ".other.1073741824.part.mp4"):
        (tmp_path / name).touch()
    write(tmp_path / "out.mp4", 1)
    assert not (tmp_path / parts[1]).exists()
    assert len(list(tmp_path.iterdir())) == 4


def test_an_earlier_video_keeps_its_other_names_and_a_link_s_target_stays(tmp_path: Path) -> None:
    path, backup, target = (tmp_path / name for name in ("out.mp4", "backup.mp4", "target.mp4"))
    path.write_bytes(b"earlier")
    backup.hardlink_to(path)
    write(path, 3)
    assert backup.read_bytes() == b"earlier"
    target.write_bytes(b"elsewhere")
    path.unlink()
    path.symlink_to(target)
    write(path, 3)
    assert target.read_bytes() == b"elsewhere"
    assert len(greys_of(path)) == 3


def test_a_file_that_is_cut_anywhere_is_played_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    killed = tmp_path / "cut.mp4"
    write(path, 60)
    data = path.read_bytes()
    whole = data.index(b"free") if b"free" in data[:64] else data.index(b"mdat") - 4
    # As it was before it was finished: the large box of media data was a free one of 16 bytes.
    running = data[:whole] + b"\0\0\0\x10free" + bytes(8) + data[whole + 16 :]
    lengths = []
    for part in (0.4, 0.7, 0.95):
        killed.write_bytes(running[: int(len(running) * part)])
        lengths.append(len(greys_of(killed)))
    assert 0 < lengths[0] < lengths[1] < lengths[2] <= 60


class Disk:
    """``os.pwrite`` that has no room while ``full``."""

    def __init__(self) -> None:
        self.full, self.write = False, os.pwrite

    def __call__(self, file: int, data: bytes, place: int) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.write(file, data, place)


def test_a_full_disk_is_reported_once_and_the_video_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, said = Disk(), []
    monkeypatch.setattr(os, "pwrite", disk)
    fragments = mp4._Fragments(
        os.open(tmp_path / "out.mp4", os.O_RDWR | os.O_CREAT),
        tmp_path / "out.mp4",
        (64, 48),
        10,
        said.append,
    )
    head = b"\0\0\1\xb0config"
    key, other = head + b"\0\0\1\xb6\x10key", b"\0\0\1\xb6\x50other"
    group = [key, *[other] * (mp4.FRAGMENT_FRAMES - 1)]
    for full in (False, True, True, False):
        disk.full = full
        for packet in group:
            fragments.add(packet)
    fragments.finish(4 * len(group))
    assert fragments.lost == 2 * len(group)
    assert len(said) == 2
    assert "No space left on device; the cameras go on" in said[0]
    assert f"written again; {fragments.lost} frames lost" in said[1]
    assert len(fragments._sizes) == 2 * len(group)


def test_frames_that_refer_to_a_lost_one_are_left_out_up_to_the_next_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, said = Disk(), []
    monkeypatch.setattr(os, "pwrite", disk)
    monkeypatch.setattr(mp4, "FRAGMENT_FRAMES", 2)
    file = os.open(tmp_path / "out.mp4", os.O_RDWR | os.O_CREAT)
    fragments = mp4._Fragments(file, tmp_path / "out.mp4", (64, 48), 10, said.append)
    key, other = b"\0\0\1\xb0\0\0\1\xb6\x10", b"\0\0\1\xb6\x50"
    for number, packet in enumerate([key, other, other, other, other, other, key, other]):
        disk.full = number == 3
        fragments.add(packet)
    fragments.finish(8)
    assert (fragments.lost, len(fragments._sizes)) == (4, 4)


def test_packets_are_found_whatever_the_pieces_they_arrive_in() -> None:
    avi = b"RIFF\xff\xff\xff\xffAVI LIST\x04\0\0\0hdrlJUNK\x02\0\0\0xxLIST\0\0\0\0movi"
    for body in (b"one", b"four", b""):
        avi += b"00dc" + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)
    avi += b"idx1\x04\0\0\0last"
    for size in (1, 3, 7, 1000):
        pieces = iter([avi[at : at + size] for at in range(0, len(avi), size)])
        assert list(_packets(lambda _, pieces=pieces: next(pieces, b""))) == [b"one", b"four"]


def test_a_file_or_an_encoder_that_cannot_be_opened_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        Mp4Writer(tmp_path / "folder.mp4", 64, 48, 10, print)
    monkeypatch.setattr(cv2.VideoWriter, "fourcc", lambda *code: 0x12345678)
    (tmp_path / "out.mp4").write_bytes(b"earlier")
    with pytest.raises(OutputError, match="cannot write MP4 videos"):
        Mp4Writer(tmp_path / "out.mp4", 64, 48, 10, print)
    assert (tmp_path / "out.mp4").read_bytes() == b"earlier"
