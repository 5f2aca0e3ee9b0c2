"""Files of events are put aside when they are large or old, and removed after their days."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from reid.deploy.watch import event_log
from reid.deploy.watch.event_log import EventLog, Rotation, old_files


def fail(line: str) -> None:
    raise AssertionError(line)


def numbers(path: Path) -> list[int]:
    """The numbers in a file, each on a whole line."""
    return [json.loads(line)["n"] for line in path.read_text().splitlines()]


def test_a_large_file_is_put_aside_and_no_line_is_lost_or_cut(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path, fail, rotation=Rotation(max_bytes=100)) as log:
        for number in range(100):
            log.write(json.dumps({"n": number}) + "\n")
    files = [*old_files(path), path]
    assert len(files) > 5
    found = [number for file in files for number in numbers(file)]
    assert sorted(found) == list(range(100))
    for file in files[:-1]:
        assert 100 <= file.stat().st_size < 120
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    assert log.lost == 0


def test_a_file_grows_old_without_events_and_what_was_put_aside_is_removed(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.jsonl", [0.0]
    other = tmp_path / "events.jsonl.bak"
    other.write_text("mine")
    with EventLog(path, fail, lambda: clock[0], Rotation(keep_days=10)) as log:
        log.write('{"n": 1}\n')
        clock[0] = 86_000.0
        log.tend()
        assert not [*old_files(path)]
        clock[0] = 86_500.0
        log.tend()
        (aside,) = old_files(path)
        assert numbers(aside) == [1]
        log.write('{"n": 2}\n')
        long_ago = time.time() - 11 * 86_400
        os.utime(aside, (long_ago, long_ago))
        clock[0] += event_log._CHECK_S + 1
        log.tend()
    assert not [*old_files(path)]
    assert numbers(path) == [2]
    assert other.read_text() == "mine"


def test_an_earlier_run_s_file_is_as_old_as_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"n": 1}\n')
    days_ago = time.time() - 3 * 86_400
    os.utime(path, (days_ago, days_ago))
    with EventLog(path, fail, rotation=Rotation(keep_days=20)) as log:
        log.write('{"n": 2}\n')
    (aside,) = old_files(path)
    assert (numbers(aside), numbers(path)) == ([1], [2])


def test_without_room_for_another_file_the_same_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path, fail, rotation=Rotation(max_bytes=20)) as log:
        log.write('{"n": 1, "words": "long enough"}\n')

        def full(*arguments: object, **others: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(event_log, "open_private", full)
        log.write('{"n": 2}\n')
        log.write('{"n": 3}\n')
    assert numbers(path) == [1, 2, 3]
    assert not [*old_files(path)]


def test_without_rotation_a_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path, fail) as log:
        for number in range(1000):
            log.write(json.dumps({"n": number}) + "\n")
    assert len(numbers(path)) == 1000
    assert not [*old_files(path)]
