"""Events as lines, and the file they are appended to."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from reid.deploy.cameras.camera import Frame, News
from reid.deploy.watch import event_log
from reid.deploy.watch.clock import RunClock
from reid.deploy.watch.event_log import RETRY_S, EventLog
from reid.deploy.watch.events import EventWriter, TrackedFrame
from reid.deploy.watch.motion import Motion
from reid.deploy.watch.track import Candidate, Identity, Track
from reid.errors import OutputError
from tests.deploy.watch.conftest import appearance_of

FRAME = Frame("door", 12, 1.23456, np.zeros((50, 50, 3), np.uint8), 0.0)
BOX = np.array([9.6, 20.2, 30.4, 44.9], np.float32)


def fail(line: str) -> None:
    raise AssertionError(line)


def track(number: int, identity: Identity | None, distance: float | None = None) -> Track:
    return Track(
        number,
        Motion(BOX),
        appearance_of(1, 0, 0),
        BOX,
        0.91234,
        0,
        0,
        5,
        True,
        False,
        identity,
        distance,
    )


def test_a_line_tells_who_is_where() -> None:
    file = io.StringIO()
    named = track(3, Identity(2), 0.123456)
    named.candidate = Candidate("anna", 0.456789, 0.234567, 4)
    tracks = [named, track(4, None)]
    clock = RunClock({"door": 1000.0}, "run7")
    EventWriter(file, clock).frames([TrackedFrame(FRAME, tracks), TrackedFrame(FRAME, [])])
    assert [json.loads(line) for line in file.getvalue().splitlines()] == [
        {
            "event": "person",
            "camera": "door",
            "time": 1.235,
            "unix_time": 1001.235,
            "frame": 12,
            "seconds": 1.235,
            "run": "run7",
            "track": 3,
            "identity": 2,
            "box": [10, 20, 20, 25],
            "score": 0.912,
            "distance": 0.1235,
            "candidate": {"person": "anna", "distance": 0.4568, "margin": 0.2346, "looks": 4},
        },
        {
            "event": "person",
            "camera": "door",
            "time": 1.235,
            "unix_time": 1001.235,
            "frame": 12,
            "seconds": 1.235,
            "run": "run7",
            "track": 4,
            "identity": None,
            "box": [10, 20, 20, 25],
            "score": 0.912,
            "distance": None,
            "candidate": None,
        },
    ]


def test_what_happens_to_a_source_is_a_line(tmp_path: Path) -> None:
    with EventLog(tmp_path / "new" / "events.jsonl", fail) as log:
        EventWriter(log, RunClock(run="run7")).news(News("yard", "lost", "no more frames"))
        (line,) = (tmp_path / "new" / "events.jsonl").read_text().splitlines()  # at once
    event = json.loads(line)
    assert event.pop("time") > 1e9
    assert event == {
        "event": "source",
        "camera": "yard",
        "state": "lost",
        "words": "no more frames",
        "run": "run7",
    }


def test_events_are_appended_and_a_half_line_of_before_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "person"}\n{"event": "pers')
    for camera in ("a", "b"):
        with EventLog(path, fail) as log:
            EventWriter(log).news(News(camera, "ended", ""))
    lines = path.read_text().splitlines()
    assert lines[:2] == ['{"event": "person"}', '{"event": "pers']
    assert [json.loads(line)["camera"] for line in lines[2:]] == ["a", "b"]


def test_events_are_for_their_owner_alone(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl", fail):
        pass
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o777 == 0o600


class Disk:
    """``os.write`` with room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room, self.calls = room, 0

    def write(self, file: int, data: bytes) -> int:
        self.calls += 1
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = REAL_WRITE(file, data[: self.room])
        self.room -= written
        return written


REAL_WRITE = os.write


def test_a_full_disk_is_reported_once_retried_and_nothing_is_lost_or_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, said, clock = Disk(30), [], [0.0]
    monkeypatch.setattr(os, "write", disk.write)
    path = tmp_path / "events.jsonl"
    lines = [f"line {number} of the day\n" for number in range(20)]
    with EventLog(path, said.append, lambda: clock[0]) as log:
        for line in lines[:10]:
            log.write(line)
        calls = disk.calls
        log.write(lines[10])
        assert disk.calls == calls  # not before its time
        assert len(said) == 1
        assert "the disk is full" in said[0]
        clock[0] += RETRY_S
        log.write(lines[11])
        assert (disk.calls, len(said)) == (calls + 1, 1)
        disk.room = 1000
        clock[0] += RETRY_S
        for line in lines[12:]:
            log.write(line)
    assert path.read_text() == "".join(lines)
    assert said[1:] == [f"reid: {path}: events are written again"]
    assert log.lost == 0


def test_lines_that_find_no_room_at_all_are_counted_and_the_newest_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, said = Disk(5), []
    monkeypatch.setattr(os, "write", disk.write)
    monkeypatch.setattr(event_log, "MOST_WAITING", 100)
    path = tmp_path / "events.jsonl"
    with EventLog(path, said.append, lambda: 0.0) as log:
        for number in range(50):
            log.write(f"line {number:04}\n")
        disk.room = 1000
    lines = path.read_text().splitlines()
    assert lines[0] == "line 0000"  # half of it was on the disk already
    assert lines[-1] == "line 0049"
    assert log.lost == 50 - len(lines) > 30
    assert len(said) == 2
    with EventLog(Path("/dev/full"), said.append) as log:
        log.write("a\nb\n")
    assert log.lost == 2


def test_a_reader_of_stdout_that_has_gone_is_left_to_the_command() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    file = os.fdopen(writer, "w")
    with pytest.raises(BrokenPipeError):
        EventWriter(file).news(News("a", "ended", ""))
    with pytest.raises(BrokenPipeError):
        file.close()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file.events\.jsonl: a (part|file) "):
        EventLog(tmp_path / "file" / "events.jsonl", fail)
