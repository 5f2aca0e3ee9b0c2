"""Frames that are kept: where they lie, who can read them, and when they are erased."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reid.deploy.watch.frames import FrameFolder, crop_name, folder_name
from reid.errors import OutputError

NOON_S = 1777636800.25
"""2026-05-01T12:00:00.250Z."""


def test_a_frame_lies_under_its_camera_and_day_for_its_owner_alone(tmp_path: Path) -> None:
    folder = FrameFolder(tmp_path / "frames")
    name = folder.name_of("door", NOON_S, 123)
    assert name == "door/2026-05-01/120000.250Z-f000123.jpg"
    folder.write(name, b"frame")
    folder.write(crop_name(name, 5), b"crop")
    paths = [tmp_path / "frames" / one for one in (name, crop_name(name, 5))]
    assert [path.read_bytes() for path in paths] == [b"frame", b"crop"]
    assert paths[1].name == "120000.250Z-f000123-t5.jpg"
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o600] * 2
    assert [path.stat().st_mode & 0o777 for path in paths[0].parents[:3]] == [0o700] * 3
    folder.write(name, b"another")  # of a second person of the same frame
    assert paths[0].read_bytes() == b"frame"


@pytest.mark.parametrize("camera", ["..", ".", "a/b", "../../x", "/etc", "ä/\udcff", "a\0b"])
def test_a_cameras_name_never_leads_out_of_the_folder(camera: str, tmp_path: Path) -> None:
    folder = FrameFolder(tmp_path / "frames")
    name = folder.name_of(camera, NOON_S, 1)
    folder.write(name, b"frame")
    (found,) = (path for path in tmp_path.rglob("*.jpg"))
    assert found.parents[2] == tmp_path / "frames"
    assert folder_name("a/b") != folder_name("a%2Fb")


def test_what_is_too_old_is_erased_and_nothing_else(tmp_path: Path) -> None:
    folder = FrameFolder(tmp_path / "frames")
    times = [NOON_S - 86_400, NOON_S - 1, NOON_S, NOON_S + 86_400]
    names = [folder.name_of("door", time_s, n) for n, time_s in enumerate(times)]
    for n, name in enumerate(names):
        folder.write(name, b"frame")
        folder.write(crop_name(name, n), b"crop")
    foreign = [
        tmp_path / "frames" / "door" / "2026-04-30" / "notes.txt",
        tmp_path / "frames" / "door" / "2026-04-30" / "999999.000Z-f1.jpg",
        tmp_path / "frames" / "door" / "holiday" / "120000.250Z-f000001.jpg",
        tmp_path / "outside" / "2020-01-01" / "120000.250Z-f000001.jpg",
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")
    (tmp_path / "frames" / "door" / "2020-01-01").symlink_to(foreign[-1].parent)
    assert folder.erase_before(NOON_S) == 4
    left = [(tmp_path / "frames" / name).exists() for name in names]
    assert left == [False, False, True, True]
    assert all(path.read_text() == "kept" for path in foreign)
    assert folder.erase_before(NOON_S + 1) == 2
    assert not (tmp_path / "frames" / "door" / "2026-05-01").exists()  # no empty days stay
    assert folder.erase_before(NOON_S + 1) == 0


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        FrameFolder(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]
