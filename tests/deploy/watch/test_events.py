"""Events as lines, and the file they are appended to."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from reid.deploy.cameras.camera import Frame, News
from reid.deploy.watch.events import EventWriter, TrackedFrame
from reid.deploy.watch.motion import Motion
from reid.deploy.watch.track import Identity, Track
from reid.errors import OutputError
from tests.deploy.watch.conftest import appearance_of

FRAME = Frame("door", 12, 1.23456, np.zeros((50, 50, 3), np.uint8), 0.0)
BOX = np.array([9.6, 20.2, 30.4, 44.9], np.float32)


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
    tracks = [track(3, Identity(2, "anna"), 0.123456), track(4, None)]
    EventWriter(file).frames([TrackedFrame(FRAME, tracks), TrackedFrame(FRAME, [])])
    assert [json.loads(line) for line in file.getvalue().splitlines()] == [
        {
            "event": "person",
            "camera": "door",
            "time": 1.235,
            "frame": 12,
            "track": 3,
            "identity": 2,
            "person": "anna",
            "box": [10, 20, 20, 25],
            "score": 0.912,
            "distance": 0.1235,
        },
        {
            "event": "person",
            "camera": "door",
            "time": 1.235,
            "frame": 12,
            "track": 4,
            "identity": None,
            "person": "",
            "box": [10, 20, 20, 25],
            "score": 0.912,
            "distance": None,
        },
    ]


def test_what_happens_to_a_source_is_a_line(tmp_path: Path) -> None:
    with EventWriter.appending(tmp_path / "new" / "events.jsonl") as writer:
        writer.news(News("yard", "lost", "no more frames"))
        (line,) = (tmp_path / "new" / "events.jsonl").read_text().splitlines()  # at once
    event = json.loads(line)
    assert event.pop("time") > 1e9
    assert event == {
        "event": "source",
        "camera": "yard",
        "state": "lost",
        "words": "no more frames",
    }


def test_events_are_appended_and_a_half_line_of_before_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "person"}\n{"event": "pers')
    for camera in ("a", "b"):
        with EventWriter.appending(path) as writer:
            writer.news(News(camera, "ended", ""))
    lines = path.read_text().splitlines()
    assert lines[:2] == ['{"event": "person"}', '{"event": "pers']
    assert [json.loads(line)["camera"] for line in lines[2:]] == ["a", "b"]


def test_a_full_disk_is_one_line() -> None:
    full = Path("/dev/full")
    with (
        pytest.raises(OutputError, match=r"cannot write /dev/full: the disk is full"),
        EventWriter(full.open("w"), full) as writer,
    ):
        writer.news(News("a", "ended", ""))


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
    with pytest.raises(OutputError, match=r"a part of the path is a file|a file stands where"):
        EventWriter.appending(tmp_path / "file" / "events.jsonl")
