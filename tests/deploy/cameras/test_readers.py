"""Frames out of files that are whole, cut short or spoilt."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.deploy.cameras import readers
from reid.deploy.cameras.readers import Decoded, Lost, frame_rate, read_source
from reid.deploy.cameras.sources import CameraSource, parse_sources
from reid.errors import DataError

NUM_FRAMES = 20


def write_video(path: Path, code: str = "MJPG", size: tuple[int, int] = (64, 48)) -> Path:
    """Noise, so that every frame has bytes to be spoilt, and a brightness that tells its number."""
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 10, size)
    assert writer.isOpened()
    for number in range(NUM_FRAMES):
        noise = rng.integers(0, 40, (size[1], size[0], 3))
        writer.write((noise + 10 * number).astype(np.uint8))
    writer.release()
    return path


def source_of(path: Path) -> CameraSource:
    (source,) = parse_sources([str(path)])
    return source


def read(path: Path) -> tuple[list[Decoded], int]:
    """What was decoded, and how many frames were lost."""
    items = list(read_source(source_of(path)))
    lost = sum(item.frames for item in items if isinstance(item, Lost))
    return [item for item in items if isinstance(item, Decoded)], lost


def test_every_frame_of_a_video_comes_in_order_with_its_time(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv")
    frames, lost = read(video)
    means = [frame.image.mean() for frame in frames]
    assert lost == 0
    assert len(frames) == NUM_FRAMES
    assert means == sorted(means)
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(NUM_FRAMES) / 10)
    assert frame_rate(source_of(video)) == pytest.approx(10)


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_video_that_ends_mid_frame_ends_and_what_is_missing_is_counted(
    tmp_path: Path, suffix: str
) -> None:
    video = write_video(tmp_path / f"a{suffix}")
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 6 // 10])
    frames, lost = read(video)
    assert 8 <= len(frames) <= 13
    assert len(frames) + lost == NUM_FRAMES


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_spoilt_frame_is_left_out_and_counted_where_it_was(tmp_path: Path, suffix: str) -> None:
    video = write_video(tmp_path / f"a{suffix}")
    data = bytearray(video.read_bytes())
    at = data.index(b"\xff\xd8", len(data) // 2)  # a frame's first bytes
    data[at : at + 400] = bytes(400)
    video.write_bytes(data)
    items = list(read_source(source_of(video)))
    where = [index for index, item in enumerate(items) if isinstance(item, Lost)]
    assert len(where) == 1
    assert 5 < where[0] < 15
    assert len(items) == NUM_FRAMES


@pytest.mark.parametrize(
    "content", [b"", b"no video at all" * 50, b"\0\0\0\x18ftypmp42" + bytes(99)]
)
def test_a_file_that_is_no_video_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a \(.*a\.mp4\) cannot be opened"):
        read(path)


def test_frames_beyond_all_cameras_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "a.avi")
    monkeypatch.setattr(readers, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(DataError, match="frames of 64x48; at most 3071 pixels"):
        read(video)


def test_an_image_beyond_all_cameras_is_lost_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, width in (("a", 11), ("b", 10)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((20, width, 3), np.uint8))
    decoded: list[str] = []
    decode = cv2.imdecode
    monkeypatch.setattr(readers, "MAX_PIXELS", 200)
    monkeypatch.setattr(
        cv2, "imdecode", lambda *given: (decoded.append("an image"), decode(*given))[1]
    )
    frames, lost = read(tmp_path)
    assert (len(frames), lost, decoded) == (1, 1, ["an image"])


def test_a_path_that_is_no_utf_8_is_one_line_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"door\xff.mp4")
    path.touch()
    with pytest.raises(DataError, match="UTF-8"):
        list(read_source(parse_sources([f"door={path}"])[0]))


def test_a_file_that_cannot_be_opened_has_no_frame_rate(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert frame_rate(source_of(tmp_path / "a.mp4")) == 0


def test_a_folder_is_read_in_the_order_of_names_and_damaged_images_are_counted(
    tmp_path: Path,
) -> None:
    for number in (2, 0, 1, 3):
        picture = np.full((20, 10, 3), 50 * number, np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[:-20])
    (tmp_path / "notes.txt").write_text("no image")
    frames, lost = read(tmp_path)
    assert [frame.image.mean() for frame in frames] == [0, 100, 150]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.2, 0.3])
    assert lost == 1


@pytest.mark.parametrize(
    "name", ["{}.png", "frame_{}.png", "cam1-{}.png", "{:04}.png", "c{}s2.png"]
)
def test_frames_with_unpadded_numbers_are_played_as_they_count(tmp_path: Path, name: str) -> None:
    numbers = [1, 2, 3, 9, 10, 11, 20, 100]
    for number in reversed(numbers):
        picture = np.full((8, 8, 3), number, np.uint8)
        cv2.imwrite(str(tmp_path / name.format(number)), picture)
    frames, _ = read(tmp_path)
    assert [frame.image.mean() for frame in frames] == numbers


def test_names_of_endless_digits_are_sorted_too(tmp_path: Path) -> None:
    for value, name in enumerate(("1" * 200 + ".png", "1" * 201 + ".png")):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), value, np.uint8))
    assert [frame.image.mean() for frame in read(tmp_path)[0]] == [0, 1]


def test_a_folder_that_has_gone_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    source = source_of(tmp_path / "pictures")
    (tmp_path / "pictures").rmdir()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        next(read_source(source))


def test_a_folder_without_images_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image in it"):
        read(tmp_path)


def test_a_device_that_is_not_there_is_one_line() -> None:
    (source,) = parse_sources(["/dev/video9999"])
    with pytest.raises(
        DataError, match=r"video9999 \(/dev/video9999\) cannot be opened; is a camera"
    ):
        next(read_source(source))


def test_a_pipe_in_a_video_s_place_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    source = CameraSource("a", "video", str(tmp_path / "a.mp4"), "a.mp4", live=False)
    with pytest.raises(DataError, match=r"a \(a\.mp4\) is not there, or is not a regular file"):
        next(read_source(source))
    assert frame_rate(source) == 0
