"""Whole frames in a folder: always inside it, for their owner alone, and gone when they are old."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reid.deploy.gallery.retention import crop_name
from reid.deploy.watch.frames import FrameFolder

NOON_S = 1_777_636_800.0
DAY_S = 86_400.0


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_frame_is_named_by_camera_day_and_time(tmp_path: Path) -> None:
    frames = FrameFolder(tmp_path / "frames")
    name = frames.name_of("door", NOON_S + 0.25, 12)
    assert name == "door/2026-05-01/120000.250Z-f000012.jpg"
    assert crop_name(name, 5) == "door/2026-05-01/120000.250Z-f000012-t5.jpg"
    frames.write(name, b"first")
    frames.write(name, b"again")
    assert (tmp_path / "frames" / name).read_bytes() == b"first"
    assert (tmp_path / "frames" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "frames" / "door").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("camera", ["..", ".", "../../etc", "a/b", "\0", "door%2F..", "Tür 1", ""])
def test_no_cameras_name_leads_out_of_the_folder(tmp_path: Path, camera: str) -> None:
    frames = FrameFolder(tmp_path / "frames")
    frames.write(frames.name_of(camera, NOON_S, 1), b"x")
    (found,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert found.resolve().is_relative_to(tmp_path / "frames")


def test_what_is_older_is_erased_by_its_name_and_all_else_stays(tmp_path: Path) -> None:
    frames = FrameFolder(tmp_path)
    names = [frames.name_of("door", NOON_S + hours * 3600, 1) for hours in (-30, -1, 0, 1, 20)]
    for name in names:
        frames.write(name, b"x")
        frames.write(crop_name(name, 3), b"x")
    others = ["door/2026-04-30/notes.txt", "door/old/120000.000Z-f000001.jpg", "readme.txt"]
    for name in others:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    assert frames.erase_before(NOON_S) == 4
    kept = [*names[2:], *(crop_name(name, 3) for name in names[2:])]
    assert files(tmp_path) == sorted([*kept, *others])
    assert frames.erase_before(NOON_S + 9 * DAY_S) == 6
    assert files(tmp_path) == sorted(others)
    assert not (tmp_path / "door" / "2026-05-01").exists()


def test_a_link_in_the_folder_erases_nothing_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "120000.000Z-f000001.jpg").write_bytes(b"x")
    frames = FrameFolder(tmp_path / "frames")
    (tmp_path / "frames" / "door").mkdir()
    os.symlink(elsewhere, tmp_path / "frames" / "door" / "2020-01-01")
    day = tmp_path / "other" / "2020-01-01"
    day.mkdir(parents=True)
    (day / "120000.000Z-f000001.jpg").write_bytes(b"x")
    os.symlink(tmp_path / "other", tmp_path / "frames" / "yard")
    assert frames.erase_before(NOON_S) == 0
    assert files(elsewhere) == files(day) == ["120000.000Z-f000001.jpg"]
