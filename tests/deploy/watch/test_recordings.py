"""Recordings: segments that play, found by their time, removed by age, marked where lost."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.deploy.cameras.camera import Frame, News
from reid.deploy.watch import recorder
from reid.deploy.watch.encoders import CODECS, usable_codec
from reid.deploy.watch.events import TrackedFrame
from reid.deploy.watch.recorder import Recorder, RecordSettings
from reid.deploy.watch.recordings import (
    Segment,
    camera_folder,
    find_recording,
    mend,
    read_segment,
    remove_older_than_days,
    segments,
)
from reid.errors import ConfigError, OutputError
from reid.types import Image

MAY = 1_777_638_600.0
"""2026-05-01 12:30:00 UTC."""


def ignore(line: str) -> None:
    """Say nothing."""


def frame(camera: str, time_s: float, grey: int = 90, width: int = 320) -> TrackedFrame:
    image = np.full((180, width, 3), grey, np.uint8)
    return TrackedFrame(Frame(camera, 0, time_s, image, 0.0), [])


def record(settings: RecordSettings, times: list[float], *, wait: bool = True) -> Recorder:
    with Recorder(settings, ignore, lambda one: one.time_s, wait=wait) as sink:
        for number, time_s in enumerate(times):
            sink.frames([frame("door", time_s, 40 + number % 100)])
    return sink


def frames_of(video: Path) -> list[Image]:
    capture = cv2.VideoCapture(str(video))
    found = []
    while (item := capture.read())[0]:
        found.append(item[1])
    return found


def test_a_recording_is_found_by_its_time_at_the_right_second(tmp_path: Path) -> None:
    settings = RecordSettings(tmp_path, segment_minutes=0.1)
    record(settings, [MAY + number / 5 for number in range(50)])
    videos = list(segments(tmp_path / "door"))
    assert [video.stem for video in videos] == ["2026-05-01T12-30-00Z", "2026-05-01T12-30-06Z"]
    assert find_recording(tmp_path, "door", MAY + 2.5) == (videos[0], pytest.approx(2.5))
    found = find_recording(tmp_path, "door", MAY + 8)
    assert found == (videos[1], pytest.approx(2))
    for nothing in (MAY - 1, MAY + 11):
        assert find_recording(tmp_path, "door", nothing) is None
    assert find_recording(tmp_path, "yard", MAY + 1) is None
    assert [len(frames_of(video)) for video in videos] == [30, 20]


def test_a_second_of_the_file_is_a_second_of_time_though_frames_are_missing(
    tmp_path: Path,
) -> None:
    record(RecordSettings(tmp_path), [MAY, MAY + 0.2, MAY + 3, MAY + 3.2])
    (video,) = segments(tmp_path / "door")
    pictures = [int(image[20:100].mean()) for image in frames_of(video)]
    assert len(pictures) == 17
    assert pictures[1:15] == pytest.approx([41] * 14, abs=3)
    assert pictures[15] == pytest.approx(42, abs=3)


def test_the_time_is_drawn_into_the_picture(tmp_path: Path) -> None:
    record(RecordSettings(tmp_path), [MAY + number / 5 for number in range(5)])
    (video,) = segments(tmp_path / "door")
    for image in frames_of(video):
        assert image[:120].std() < 5  # the picture is even, and the time stands below
        assert image[150:].std() > 5


def test_a_pause_ends_a_segment_and_so_does_another_size(tmp_path: Path) -> None:
    settings = RecordSettings(tmp_path)
    with Recorder(settings, ignore, lambda one: one.time_s, wait=True) as sink:
        for time_s, width in ((MAY, 320), (MAY + 60, 320), (MAY + 61, 200)):
            sink.frames([frame("door", time_s, width=width)])
    found = [read_segment(video) for video in segments(tmp_path / "door")]
    assert [one and (one.start, one.width) for one in found] == [
        (MAY, 320),
        (MAY + 60, 320),
        (MAY + 61, 200),
    ]
    assert find_recording(tmp_path, "door", MAY + 30) is None


def test_a_lost_camera_is_marked_in_the_picture_and_the_segment_ends(tmp_path: Path) -> None:
    settings = RecordSettings(tmp_path)
    with Recorder(settings, ignore, lambda one: one.time_s, wait=True) as sink:
        sink.frames([frame("door", MAY), frame("yard", MAY)])
        sink.news(News("door", "lost", "no more frames"))
        sink.frames([frame("door", MAY + 90)])
    first, second = (read_segment(video) for video in segments(tmp_path / "door"))
    assert first is not None
    assert second is not None
    assert first.lost_since == pytest.approx(MAY + 0.2)
    assert second.lost_since is None
    marked = frames_of(next(segments(tmp_path / "door")))[-1]
    assert marked[60:120].std() > 5  # words in the middle
    assert marked[:60].mean() == pytest.approx(45, abs=4)


def test_pictures_are_made_smaller_and_fewer(tmp_path: Path) -> None:
    settings = RecordSettings(tmp_path, fps=2, width=160)
    sink = record(settings, [MAY + number / 10 for number in range(20)])
    (video,) = segments(tmp_path / "door")
    assert [image.shape for image in frames_of(video)] == [(90, 160, 3)] * 4
    assert sink.lost == 0


@pytest.mark.parametrize("codec", ["vp8", "vp9"])
def test_both_codecs_of_webm_are_written(tmp_path: Path, codec: str) -> None:
    record(RecordSettings(tmp_path, codec=codec), [MAY, MAY + 0.2, MAY + 0.4])
    (video,) = segments(tmp_path / "door")
    assert video.suffix == ".webm"
    assert len(frames_of(video)) == 3


def test_recordings_are_for_their_owner_alone(tmp_path: Path) -> None:
    record(RecordSettings(tmp_path / "new"), [MAY])
    files = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_old_segments_are_removed_and_nothing_else(tmp_path: Path) -> None:
    day = 86_400
    for days in (9, 8, 1):
        record(RecordSettings(tmp_path), [MAY - days * day])
    (tmp_path / "door" / "notes.txt").write_text("mine")
    (tmp_path / "door" / "2026-01-01T00-00-00Z.webm").symlink_to(tmp_path / "door" / "notes.txt")
    assert remove_older_than_days(tmp_path, 7, MAY) == 2
    names = sorted(path.name for path in (tmp_path / "door").iterdir())
    assert names == [
        "2026-01-01T00-00-00Z.webm",
        "2026-04-30T12-30-00Z.json",
        "2026-04-30T12-30-00Z.webm",
        "notes.txt",
    ]
    record(RecordSettings(tmp_path, keep_days=0.5), [MAY])  # by itself, too
    assert not (tmp_path / "door" / "2026-04-30T12-30-00Z.webm").exists()


def test_a_slow_encoder_costs_recorded_frames_and_no_camera_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = recorder.open_encoder
    free: list[bool] = []

    class Slow:
        def __init__(self, *arguments: object) -> None:
            self.encoder = opened(*arguments)  # type: ignore[arg-type]

        def write(self, image: Image) -> None:
            while not free:
                time.sleep(0.01)
            self.encoder.write(image)

        def release(self) -> None:
            self.encoder.release()

    monkeypatch.setattr(recorder, "open_encoder", Slow)
    with Recorder(RecordSettings(tmp_path), ignore, lambda one: one.time_s) as sink:
        for number in range(100):  # returns although nothing is encoded
            sink.frames([frame("door", MAY + number / 5)])
        lost = sink.lost
        assert 100 - 2 - recorder.QUEUE_FRAMES <= lost < 100
        free.append(True)
    found = [read_segment(video) for video in segments(tmp_path / "door")]
    assert sum(one.dropped for one in found if one) == lost


def test_a_full_disk_is_said_once_counted_and_recording_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, said = [10 << 40], list[str]()

    class Status:
        f_frsize = 1

        @property
        def f_bavail(self) -> int:
            return room[0]

    monkeypatch.setattr(recorder.os, "statvfs", lambda path: Status())
    monkeypatch.setattr(recorder, "CHECK_S", 0.0)
    with Recorder(RecordSettings(tmp_path), said.append, lambda one: one.time_s, wait=True) as sink:
        for number, free in enumerate([10 << 40, 5 << 20, 5 << 20, 10 << 40]):
            room[0] = free
            sink.frames([frame("door", MAY + number / 5)])
            while sink.waiting["door"]:
                time.sleep(0.005)
            time.sleep(0.05)
    assert sink.lost == 2
    assert len(said) == 2
    assert "5 MB left" in said[0]
    assert "2 frames" in said[1]
    found = [read_segment(video) for video in segments(tmp_path / "door")]
    assert [one and one.frames for one in found] == [1, 1]


def test_a_folder_that_cannot_be_written_ends_no_camera(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "yard").write_text("a file where the folder belongs")
    with Recorder(RecordSettings(tmp_path), said.append, lambda one: one.time_s, wait=True) as sink:
        for number in range(3):
            sink.frames([frame("yard", MAY + number), frame("door", MAY + number)])
    assert len(said) == 1
    assert "yard" in said[0]
    assert sink.lost == 3
    assert find_recording(tmp_path, "door", MAY + 1) is not None


def test_two_processes_do_not_record_into_one_folder(tmp_path: Path) -> None:
    with (
        Recorder(RecordSettings(tmp_path), ignore, lambda one: one.time_s),
        pytest.raises(OutputError, match="being written by"),
    ):
        Recorder(RecordSettings(tmp_path), ignore, lambda one: one.time_s)


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from tests.deploy.watch.test_recordings import MAY, frame, ignore
from reid.deploy.watch.recorder import Recorder, RecordSettings
settings = RecordSettings(Path(sys.argv[1]), fps=10)
sink = Recorder(settings, ignore, lambda one: one.time_s, wait=True)
rng = np.random.default_rng(1)
for number in range(int(sys.argv[2])):
    seen = frame("door", MAY + number / 10)
    seen.frame.image[:] = rng.integers(0, 255, seen.frame.image.shape)
    sink.frames([seen])
while sink.waiting["door"]:
    time.sleep(0.01)
print("written", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("frames", "plays"), [(200, True), (1, False)])
def test_a_killed_process_leaves_a_segment_that_plays_or_is_removed_and_said(
    tmp_path: Path, frames: int, plays: bool
) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(frames)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "written\n"
        child.send_signal(signal.SIGKILL)
    said: list[str] = []
    mend(tmp_path, said.append)
    (line,) = said
    assert "2026-05-01T12-30-00Z.webm" in line
    left = list(segments(tmp_path / "door"))
    assert len(left) == plays
    assert [path.suffix for path in (tmp_path / "door").iterdir() if path.suffix == ".json"] == (
        [".json"] * plays
    )
    for video in left:
        segment = read_segment(video)
        assert segment is not None
        assert segment.cut
        assert segment.frames == len(frames_of(video)) > 50
        assert segment.end == pytest.approx(MAY + segment.frames / 10)
        assert find_recording(tmp_path, "door", MAY + 1) == (video, 1.0)


@pytest.mark.services
@pytest.mark.parametrize("codec", ["vp8", "vp9"])
def test_a_browser_plays_a_recording_and_finds_a_second_of_it(
    browser: str, tmp_path: Path, codec: str
) -> None:
    from tests.deploy.serve.browser import browser_page

    settings = RecordSettings(tmp_path, codec=codec, segment_minutes=1)
    record(settings, [MAY + number / 5 for number in range(50)])
    (video,) = segments(tmp_path / "door")
    shown = video.with_suffix(".html")
    content = base64.b64encode(video.read_bytes()).decode()
    shown.write_text(
        f"<video muted src='data:video/webm;base64,{content}'></video><canvas></canvas>"
    )
    with browser_page(browser, tmp_path / "browser") as page:
        page.do("Page.navigate", url=shown.as_uri())
        page.until("document.querySelector('video')?.readyState >= 2")
        assert page.run("document.querySelector('video').duration") == pytest.approx(10, abs=0.3)
        assert page.run("document.querySelector('video').videoWidth") == 320
        page.run(
            "new Promise(done => { const video = document.querySelector('video');"
            "video.onseeked = () => done(1); video.currentTime = 8.1; })"
        )
        grey = page.run(
            "(() => { const context = document.querySelector('canvas').getContext('2d');"
            "context.drawImage(document.querySelector('video'), 0, 0);"
            "return context.getImageData(50, 50, 1, 1).data[0] })()"
        )
        assert grey == pytest.approx(40 + 40, abs=4)


def test_no_camera_s_name_leaves_the_folder(tmp_path: Path) -> None:
    for name in ("..", ".", "../door", "/etc", "[::1]:554", "Tür"):
        found = camera_folder(tmp_path, name)
        assert found.parent == tmp_path
        assert found.resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"camera": 3}', b"\xff", b'{"camera":"door","start":"x"}', b"[" * 50_000],
)
def test_a_damaged_file_beside_a_recording_finds_nothing(tmp_path: Path, content: bytes) -> None:
    record(RecordSettings(tmp_path), [MAY, MAY + 1])
    (video,) = segments(tmp_path / "door")
    video.with_suffix(".json").write_bytes(content)
    assert find_recording(tmp_path, "door", MAY) is None
    mend(tmp_path, ignore)
    assert video.exists()


def test_a_recording_in_progress_is_found_if_it_can_be_played(tmp_path: Path) -> None:
    folder = tmp_path / "door"
    folder.mkdir()
    for suffix, codec in ((".mp4", "h264"), (".webm", "vp8")):
        video = folder / f"2026-05-01T12-30-00Z{suffix}"
        video.touch()
        os.utime(video, (MAY + 5, MAY + 5))
        Segment("door", MAY, None, 5.0, 0, 64, 64, codec).write(video)
        expected = None if codec == "h264" else (video, 4.0)
        assert find_recording(tmp_path, "door", MAY + 4) == expected
        assert find_recording(tmp_path, "door", MAY + 600) is None
        video.unlink()


def test_settings_out_of_range_name_the_value() -> None:
    for wrong in ({"fps": 0.0}, {"width": 8}, {"segment_minutes": 0.0}, {"keep_days": -1.0}):
        (name,) = wrong
        with pytest.raises(ConfigError, match=name):
            RecordSettings(Path("x"), **wrong).check()  # type: ignore[arg-type]


def test_a_codec_without_an_encoder_says_which_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from reid.deploy.watch import encoders

    monkeypatch.setattr(encoders, "_works", lambda codec: codec == "vp8")
    assert usable_codec() == "vp8"
    with pytest.raises(ConfigError, match="vp8"):
        usable_codec("vp9")
    monkeypatch.setattr(encoders, "_works", lambda codec: True)
    assert usable_codec() == "h264"
    assert set(CODECS) == {"h264", "vp8", "vp9"}


def test_opening_an_encoder_prints_nothing_and_swallows_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    record(RecordSettings(tmp_path), [MAY])
    assert capfd.readouterr().err == ""


def test_the_file_beside_a_recording_says_what_it_is(tmp_path: Path) -> None:
    record(RecordSettings(tmp_path), [MAY, MAY + 0.2])
    (video,) = segments(tmp_path / "door")
    found = json.loads(video.with_suffix(".json").read_text())
    assert found == {
        "camera": "door",
        "start": MAY,
        "end": pytest.approx(MAY + 0.4),
        "fps": 5.0,
        "frames": 2,
        "width": 320,
        "height": 180,
        "codec": usable_codec(),
        "dropped": 0,
        "lost_since": None,
        "cut": False,
    }
