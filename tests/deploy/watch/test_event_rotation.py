"""Files of events that are rotated by size and age, with every line whole in one of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from reid.deploy.watch.event_log import EventLog, Rotation, rotated_files

MAY = 1_777_638_600.0
"""2026-05-01 12:30:00 UTC."""
DAY = 86_400


def fail(line: str) -> None:
    raise AssertionError(line)


def test_no_event_is_cut_over_two_files_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path, fail, rotation=Rotation(max_mb=0.001)) as log:
        for number in range(100):
            log.write(json.dumps({"number": number, "more": "x" * (number % 40)}) + "\n")
    files = [*rotated_files(path), path]
    assert len(files) > 4
    assert all(0 < file.stat().st_size <= 1049 for file in files)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    found = [json.loads(line)["number"] for file in files for line in file.read_text().splitlines()]
    assert sorted(found) == list(range(100))


def test_each_day_has_its_file_and_old_ones_go(tmp_path: Path) -> None:
    path, now = tmp_path / "events.jsonl", [MAY]
    for name in ("other.2026-04-01T00-00-00Z.jsonl", "events.2026.jsonl"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (MAY - 90 * DAY,) * 2)
    rotation = Rotation(keep_days=2)
    with EventLog(path, fail, rotation=rotation, now=lambda: now[0]) as log:
        for day in range(5):
            now[0] = MAY + day * DAY
            log.write(f'{{"day": {day}}}\n')
            log.write(f'{{"day": {day}}}\n')
            os.utime(path, (now[0], now[0]))
    files = [*rotated_files(path), path]
    days = [
        sorted({json.loads(line)["day"] for line in one.read_text().splitlines()}) for one in files
    ]
    assert days == [[2], [3], [4]]
    assert files[0].name == "events.2026-05-03T12-30-00Z.jsonl"
    assert (tmp_path / "events.2026.jsonl").exists()
    assert (tmp_path / "other.2026-04-01T00-00-00Z.jsonl").exists()


def test_a_restart_on_another_day_begins_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"old": 1}\n')
    os.utime(path, (MAY - DAY, MAY - DAY))
    with EventLog(path, fail, rotation=Rotation(keep_days=7), now=lambda: MAY) as log:
        log.write('{"new": 1}\n')
    (old,) = rotated_files(path)
    assert old.read_text() == '{"old": 1}\n'
    assert path.read_text() == '{"new": 1}\n'


@pytest.mark.parametrize("rotation", [Rotation(), Rotation(max_mb=0.0001, keep_days=1)])
def test_a_pipe_is_never_rotated(tmp_path: Path, rotation: Rotation) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with EventLog(pipe, fail, rotation=rotation) as log:
        for _ in range(10):
            log.write("{}" + " " * 50 + "\n")
    assert len(os.read(reader, 10_000)) == 530
    os.close(reader)
    assert [one.name for one in tmp_path.iterdir()] == ["pipe"]
