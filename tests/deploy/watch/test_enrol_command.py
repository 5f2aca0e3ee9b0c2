"""What `reid watch` puts into a gallery, and what it remembers for the next run, from outside."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from reid.cli import main
from reid.deploy.gallery import Where
from reid.deploy.gallery.local import LocalGallery
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.gallery.times import text_from_seconds
from reid.deploy.watch import gallery_writer
from reid.errors import OutputError
from reid.matching import open_matcher
from tests.deploy.people.conftest import write_person_detector
from tests.deploy.watch.conftest import RED, frame_of, write_model

HEIGHT, WIDTH = 80, 160
NUM_FRAMES = 32


class Site:
    """A model, a detector and two recordings."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.model = write_model(folder)
        self.detector = write_person_detector(folder / "people.onnx", HEIGHT, WIDTH)
        for name in ("door", "yard"):
            path = str(folder / f"{name}.avi")
            writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 8, (WIDTH, HEIGHT))
            for _ in range(NUM_FRAMES):
                writer.write(frame_of({RED: 60}))
            writer.release()

    def watch(
        self, *words: str, sources: tuple[str, ...] = ("door", "yard")
    ) -> tuple[int, str, str]:
        shared = ["--detector", str(self.detector), "--device", "cpu", "--json"]
        for name in sources:
            shared += ["--source", f"{name}={self.folder / name}.avi"]
        self._capsys.readouterr()
        code = main(["watch", str(self.model), *shared, *words])
        shown = self._capsys.readouterr()
        return code, shown.out, shown.err

    def enrol(self, *words: str, **options: Any) -> dict[str, Any]:
        code, out, err = self.watch(
            *("--enrol", "--gallery", str(self.folder / "people"), "--keep-days", "7"),
            *words,
            **options,
        )
        assert code == 0, err
        return dict(json.loads(out))


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


@pytest.fixture
def yesterday() -> float:
    return float(int(time.time()) - 86_400)


def test_what_the_cameras_see_is_searched_and_has_time_place_picture_and_frame(
    site: Site, yesterday: float
) -> None:
    start = text_from_seconds(yesterday)
    folder = site.folder / "frames"
    found = site.enrol("--start-time", start, "--keep-frames", str(folder))
    assert found["enrolled"] >= 2
    assert (found["enrol_dropped"], found["erased"]) == (0, 0)
    matcher = open_matcher(site.model, "cpu")
    gallery = open_gallery(str(site.folder / "people"), matcher)
    query = matcher.describe([frame_of({RED: 60})[20:70, 60:80]])
    (matches,) = gallery.search(query, 10)
    assert len(matches) == len(gallery) == found["enrolled"]
    cameras = Counter(match.entry.camera for match in matches)
    assert cameras.keys() == {"door", "yard"}
    assert max(cameras.values()) <= 3 * found["tracks"] // 2
    for match in matches:
        entry = gallery.entry(match.id)
        assert entry is not None
        assert (entry.person, entry.run, entry.box) == ("", found["run"], (60, 20, 20, 50))
        assert entry.track is not None
        assert entry.time_s == pytest.approx(yesterday + (entry.seconds or 0), abs=1e-3)
        assert entry.seconds == pytest.approx((entry.frame or 0) / 8, abs=0.01)
        assert cv2.imdecode(np.frombuffer(entry.picture, np.uint8), 1).shape == (50, 20, 3)
        frame = cv2.imread(str(folder / entry.picture_ref))
        assert frame is not None
        assert frame.shape == (HEIGHT, WIDTH, 3)
    gallery.close()
    matcher.close()


def test_the_same_gallery_names_people_and_takes_new_ones(site: Site, yesterday: float) -> None:
    start = text_from_seconds(yesterday)
    picture = site.folder / "anna.png"
    cv2.imwrite(str(picture), frame_of({RED: 60})[20:70, 60:80])
    gallery = str(site.folder / "people")
    (site.folder / "who.csv").write_text("path,person_id\nanna.png,anna\n")
    words = ["--gallery", gallery, "--device", "cpu"]
    assert main(["index", str(site.model), str(site.folder / "who.csv"), *words]) == 0
    tracks = site.folder / "tracks.jsonl"
    for _ in range(3):
        site.enrol("--start-time", start, "--track-events", str(tracks), "--max-distance", "0.5")
    events = [json.loads(line) for line in tracks.read_text().splitlines()]
    named = [event for event in events if event.get("state") == "named"]
    assert len(named) == 3 * 2
    assert {event["candidate"]["person"] for event in named} == {"anna"}
    assert not any("person" in event for event in events)


def test_events_by_track_go_to_a_file_or_to_stdout_and_count(site: Site) -> None:
    code, out, err = site.watch("--track-events", "-", "--start-time", "door=2026-05-01T12:00:00Z")
    assert code == 0, err
    *events, summary = [json.loads(line) for line in out.splitlines()]
    by_state = Counter(event["state"] for event in events if event["event"] == "track")
    assert by_state["entered"] == by_state["left"] == summary["entered"] == summary["left"] == 2
    assert {event["run"] for event in events} == {summary["run"]}
    times = {(e["camera"], e["unix_time"] is None) for e in events if e["event"] == "track"}
    assert times == {("door", False), ("yard", True)}
    code, out, err = site.watch("--track-events", "-", "--events", "-")
    assert code == 1
    assert "--track-events" in err


def test_a_restart_knows_the_people_of_before_unless_they_are_too_old(
    site: Site, yesterday: float
) -> None:
    file = str(site.folder / "identities")

    def run(start_s: float) -> dict[str, Any]:
        words = ["--identities", file, "--start-time", text_from_seconds(start_s)]
        code, out, err = site.watch(*words, sources=("door",))
        assert code == 0, err
        return dict(json.loads(out))

    first, again, later = run(yesterday), run(yesterday + 3600), run(yesterday + 30 * 3600)
    assert (first["identities"], first["identities_known"]) == (1, 0)
    assert (again["identities"], again["identities_known"]) == (0, 1)
    assert (later["identities"], later["identities_known"]) == (1, 1)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--enrol", "--gallery", "people"], "--keep-days 7"),
        (["--enrol", "--keep-days", "7"], "--gallery"),
        (["--enrol", "--gallery", "people", "--keep-days", "7"], "--start-time door="),
        (["--keep-frames", "frames"], "--enrol"),
        (
            ["--enrol", "--gallery", "people", "--keep-days", "7", "--start-time", "2020-01-01"],
            "--keep-days 7",
        ),
    ],
)
def test_enrolment_does_not_start_without_a_limit_a_place_and_a_time(
    site: Site, monkeypatch: pytest.MonkeyPatch, words: list[str], named: str
) -> None:
    monkeypatch.chdir(site.folder)
    code, _, err = site.watch(*words)
    assert code == 1
    assert named in err
    assert not (site.folder / "people").exists()
    assert not (site.folder / "frames").exists()


def test_what_was_enrolled_before_the_last_days_is_erased_when_the_next_run_starts(
    site: Site, yesterday: float
) -> None:
    start = text_from_seconds(yesterday)
    folder = str(site.folder / "frames")
    first = site.enrol("--start-time", start, "--keep-frames", folder, sources=("door",))
    code, out, err = site.watch(
        *("--enrol", "--gallery", str(site.folder / "people"), "--keep-days", "0.5"),
        *("--start-time", text_from_seconds(yesterday + 80_000), "--keep-frames", folder),
        sources=("yard",),
    )
    assert code == 0, err
    second = json.loads(out)
    assert second["erased"] == first["enrolled"]
    matcher = open_matcher(site.model, "cpu")
    gallery = open_gallery(str(site.folder / "people"), matcher)
    assert gallery.count(Where(cameras=("door",))) == 0
    assert len(gallery) == second["enrolled"]
    gallery.close()
    matcher.close()
    assert not list((site.folder / "frames" / "door").rglob("*.jpg"))
    assert list((site.folder / "frames" / "yard").rglob("*.jpg"))


def test_images_that_were_dropped_are_counted_and_the_exit_code_says_so(
    site: Site, yesterday: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(gallery: LocalGallery, descriptions: Any, entries: Any) -> int:
        raise OutputError("people: the disk is full")

    monkeypatch.setattr(LocalGallery, "add", full)
    monkeypatch.setattr(gallery_writer, "CLOSING_S", 0.05)
    code, out, err = site.watch(
        *("--enrol", "--gallery", str(site.folder / "people"), "--keep-days", "7"),
        *("--start-time", text_from_seconds(yesterday)),
    )
    found = json.loads(out)
    assert code == 1
    assert (found["frames"], found["enrolled"]) == (2 * NUM_FRAMES, 0)
    assert found["enrol_dropped"] >= 2
    assert err.count("the disk is full") == 1
    assert f"{found['enrol_dropped']} images of people were dropped" in err
