"""People of a video in a gallery, found by a detector that looks for bright boxes."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from reid.cli import main
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.gallery.video import index_video, is_video, videos_and_stills
from reid.deploy.people.boxes import People, no_people
from reid.errors import DataError
from reid.matching import VectorMatcher
from reid.types import Image
from tests.deploy.gallery.conftest import PixelRunner
from tests.heard import Heard

FPS, SECONDS = 5, 6


class Bright:
    """A person is a bright rectangle; its red says how sure that is."""

    name = "bright"
    note = ""

    def __init__(self) -> None:
        self.frames = 0
        self.closed = False

    def detect(self, frames: Sequence[Image]) -> list[People]:
        self.frames += len(frames)
        return [self._people(frame) for frame in frames]

    def _people(self, frame: Image) -> People:
        found = no_people()
        count, _, stats, _ = cv2.connectedComponentsWithStats(
            (frame[..., 1] > 128).astype(np.uint8)
        )
        boxes = [(x - 0.4, y - 0.4, x + w, y + h) for x, y, w, h, _ in stats[1:count]]
        if boxes:
            scores = [0.9 if frame[int(y) + 9, int(x) + 5, 2] > 128 else 0.3 for x, y, *_ in boxes]
            found = People(np.array(boxes, np.float32), np.array(scores, np.float32))
        return found

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person walks right, one stands in the corner, something unsure stands beside."""
    path = tmp_path_factory.mktemp("video") / "yard.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (160, 120))
    for number in range(FPS * SECONDS):
        frame = np.zeros((120, 160, 3), np.uint8)
        frame[20:80, 8 + 4 * number : 32 + 4 * number] = (0, 255, 255)
        frame[90:120, 0:16] = (255, 255, 255)
        frame[88:118, 140:156] = (0, 255, 0)
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def matcher() -> VectorMatcher:
    return VectorMatcher(PixelRunner())


def test_one_frame_a_second_gives_its_people_with_time_box_and_picture(
    video: Path, matcher: VectorMatcher, tmp_path: Path
) -> None:
    detector = Bright()
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    done = index_video(gallery, matcher, detector, video, start_s=1000.0)
    assert detector.frames == SECONDS
    assert done.found == done.added == len(gallery) == 2 * SECONDS
    summary = gallery.summary()
    assert summary.cameras == ("yard",)
    assert (summary.first_s, summary.last_s) == pytest.approx((1000.0, 1000.0 + SECONDS - 1))
    (matches,) = gallery.search(matcher.describe([np.full((60, 24, 3), (0, 255, 255), np.uint8)]))
    best = gallery.entry(matches[0].id)
    assert best is not None
    assert best.box is not None
    left, top, width, height = best.box
    assert (top, width, height) == pytest.approx((20, 24, 60), abs=2)
    assert 6 <= left <= 8 + 4 * FPS * SECONDS
    picture = cv2.imdecode(np.frombuffer(best.picture, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (height, width, 3)


def test_each_person_of_a_video_keeps_the_frame_and_its_seconds(
    video: Path, matcher: VectorMatcher, tmp_path: Path
) -> None:
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    index_video(gallery, matcher, Bright(), video)
    entries = [gallery.entry(number) for number in range(2 * SECONDS)]
    places = [(one.frame, one.seconds) for one in entries if one]
    assert places == [(FPS * second, float(second)) for second in range(SECONDS) for _ in "ab"]
    capture = cv2.VideoCapture(str(video))
    capture.set(cv2.CAP_PROP_POS_FRAMES, places[6][0])
    found, last = entries[6], capture.read()[1]
    assert found is not None
    assert found.box is not None
    left, top, width, height = found.box
    picture = cv2.imdecode(np.frombuffer(found.picture, np.uint8), cv2.IMREAD_COLOR)
    part = last[top : top + height, left : left + width]
    assert np.abs(part.astype(int) - picture).mean() < 8  # the frame that was looked at


def test_search_says_where_in_the_video_a_match_is(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reid.matching.open_matcher", lambda *_: VectorMatcher(PixelRunner()))
    monkeypatch.setattr("reid.deploy.api.indexing.open_detector", lambda *_: Bright())
    options = ["--gallery", str(tmp_path / "g")]
    assert main(["index", "m.onnx", str(video), *options]) == 0
    cv2.imwrite(str(tmp_path / "one.png"), np.full((16, 8, 3), (0, 255, 255), np.uint8))
    search = ["search", "m.onnx", str(tmp_path / "one.png"), *options, "-k", "20"]
    assert main(search) == 0
    assert "yard.avi" in (out := capsys.readouterr().out)
    assert " at 0:04 (frame 20)" in out
    assert main([*search, "--json"]) == 0
    matches = json.loads(capsys.readouterr().out)["queries"][0]["matches"]
    assert {(one["frame"], one["seconds"]) for one in matches} >= {(0, 0.0), (25, 5.0)}
    assert (
        main(
            ["search", "m.onnx", str(tmp_path / "one.png"), *options, "--html", str(tmp_path / "p")]
        )
        == 0
    )
    assert "yard.avi at 0:0" in (tmp_path / "p").read_text()
    assert (tmp_path / "p").stat().st_mode & 0o777 == 0o600


def test_again_nothing_is_added_and_a_longer_pause_looks_at_fewer_frames(
    video: Path, matcher: VectorMatcher, tmp_path: Path
) -> None:
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    index_video(gallery, matcher, Bright(), video)
    assert index_video(gallery, matcher, Bright(), video).added == 0
    assert gallery.summary().first_s is None
    detector = Bright()
    index_video(gallery, matcher, detector, video, every_s=2.0, camera="hall")
    assert detector.frames == SECONDS / 2


def test_people_of_a_video_in_a_renamed_folder_are_known_and_get_its_start(
    video: Path, matcher: VectorMatcher, tmp_path: Path
) -> None:
    (tmp_path / "before").mkdir()
    shutil.copy(video, tmp_path / "before")
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    found = index_video(gallery, matcher, Bright(), tmp_path / "before" / video.name).added
    (tmp_path / "before").rename(tmp_path / "after")
    done = index_video(gallery, matcher, Bright(), tmp_path / "after" / video.name, start_s=1000.0)
    assert (done.added, done.moved, done.labelled) == (0, found, found)
    assert gallery.summary().first_s == 1000.0


def test_a_file_that_is_no_video_is_one_line(matcher: VectorMatcher, tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_text("text")
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    with pytest.raises(DataError, match=r"no\.mp4\) cannot be opened"):
        index_video(gallery, matcher, Bright(), tmp_path / "no.mp4")


def test_the_command_takes_videos_beside_images(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = Bright()
    monkeypatch.setattr("reid.matching.open_matcher", lambda *_: VectorMatcher(PixelRunner()))
    monkeypatch.setattr("reid.deploy.api.indexing.open_detector", lambda *_: detector)
    cv2.imwrite(str(tmp_path / "one.png"), np.full((16, 8, 3), 60, np.uint8))
    order = ["index", "m.onnx", str(video), str(tmp_path / "one.png")]
    order += ["--gallery", str(tmp_path / "g")]
    assert main([*order, "--time", "2026-05-01T12:00", "--every", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["added"], found["total"]) == (5, 5, 5)
    assert detector.closed
    assert main([*order, "--time", "file"]) == 2
    assert "give --time its start" in capsys.readouterr().err


def test_a_video_that_cannot_be_read_stops_no_other(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reid.matching.open_matcher", lambda *_: VectorMatcher(PixelRunner()))
    monkeypatch.setattr("reid.deploy.api.indexing.open_detector", lambda *_: Bright())
    (tmp_path / "no.mp4").write_text("text")
    order = ["index", "m.onnx", str(tmp_path / "no.mp4"), str(video), "--every", "3", "--json"]
    assert main([*order, "--gallery", str(tmp_path / "g")]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["added"], len(found["unreadable"])) == (4, 1)
    assert "no.mp4" in found["unreadable"][0]


@pytest.mark.parametrize(
    "suffix", ["flv", "mpeg", "wmv", "m2ts", "3gp", "h264", "MP4", "mts", "hevc"]
)
def test_every_suffix_of_a_video_is_taken_for_one(tmp_path: Path, suffix: str) -> None:
    assert is_video(tmp_path / f"a.{suffix}")
    assert not is_video(tmp_path / f"._a.{suffix}")


def test_videos_in_folders_are_found_and_folders_of_images_stay(tmp_path: Path) -> None:
    for name in ("only/deep/b.mkv", "only/a.flv", "both/c.mp4", "both/d.jpg", "images/e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = videos_and_stills([tmp_path / name for name in ("only", "both", "images", "list.csv")])
    videos, stills = ([str(path.relative_to(tmp_path)) for path in some] for some in found)
    assert videos == ["only/a.flv", "only/deep/b.mkv", "both/c.mp4"]
    assert stills == ["both", "images", "list.csv"]


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "locked").mkdir(parents=True)
    (tmp_path / "in" / "a.mp4").touch()
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match="in/locked: cannot be listed: Permission denied"):
        videos_and_stills([tmp_path / "in"])


def test_people_behind_a_restart_of_the_clock_are_found_and_lost_frames_are_reported(
    matcher: VectorMatcher, tmp_path: Path
) -> None:
    part = tmp_path / "part.mpg"
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"MPG1"), 25, (160, 120))
    for _ in range(50):
        frame = np.zeros((120, 160, 3), np.uint8)
        frame[20:80, 32:64] = (0, 255, 255)
        writer.write(frame)
    writer.release()
    joined = tmp_path / "joined.mpg"
    joined.write_bytes(3 * part.read_bytes())
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    assert index_video(gallery, matcher, Bright(), joined).found == 6
    spoilt = tmp_path / "spoilt.avi"
    writer = cv2.VideoWriter(str(spoilt), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (160, 120))
    for _ in range(10):
        writer.write(frame)
    writer.release()
    data = bytearray(spoilt.read_bytes())
    at = data.index(b"\xff\xd8\xff", len(data) // 2)
    data[at : at + 400] = bytes(400)
    spoilt.write_bytes(data)
    heard = Heard()
    index_video(gallery, matcher, Bright(), spoilt, reporter=heard)
    assert heard.said == [f"reid: {spoilt}: 1 frames cannot be decoded and are left out"]
