"""Erasing by age, and a person, a track or a span everywhere, with a receipt."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid.cli import main
from reid.deploy.api.erasing import Places, erase
from reid.deploy.gallery import Confirmation, GalleryEntry, GalleryStore, Where
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.gallery.retention import prune
from reid.deploy.gallery.store import Store
from reid.errors import ConfigError, DataError, OutputError
from reid.locks import locked
from reid.matching import VectorMatcher
from reid.spans import seconds_from_span
from tests.deploy.gallery.conftest import entries_of, people_vectors

VECTORS = people_vectors(4, 10)
ENTRIES = [
    dataclasses.replace(
        one,
        source=one.camera,
        run="run-1",
        track=i // 5,
        picture=b"\xff\xd8 the picture of image %d \xff\xd9" % i,
        picture_ref=f"{one.camera}/frame-{i // 2:04}.jpg",
    )
    for i, one in enumerate(entries_of(40))
]
QUERY, OTHER = "5ec4e7" + "0" * 26, "ab" * 16


@pytest.fixture
def site(gallery: GalleryStore, tmp_path: Path) -> Path:
    """A gallery with what `reid watch` and `reid serve` leave beside it."""
    gallery.add(VECTORS, ENTRIES)
    for query, number, same in ((QUERY, 3, True), (QUERY, 33, False), (OTHER, 33, True)):
        gallery.confirm(Confirmation(query, number, same, 1.0, "anna"))
    for one in ENTRIES:
        frame = tmp_path / "frames" / one.picture_ref
        frame.parent.mkdir(parents=True, exist_ok=True)
        frame.write_bytes(b"frame " + one.picture_ref.encode())
    (tmp_path / "frames/c0/unrelated.jpg").write_bytes(b"unrelated")
    lines: list[dict[str, Any]] = [
        {"event": "person", "camera": one.camera, "unix_time": one.time_s, "run": one.run,
         "track": one.track, "candidate": {"person": one.person}}
        for one in ENTRIES
    ]  # fmt: skip
    lines.append({"event": "source", "camera": "c0", "state": "lost", "time": 60.0})
    write_lines(tmp_path / "events.jsonl", lines[20:])
    write_lines(tmp_path / "events.jsonl.1", lines[:20])
    write_lines(
        tmp_path / "access.jsonl",
        [
            {"user": "anna", "what": "search", "query": QUERY},
            {"user": "anna", "what": "picture", "id": "7"},
            {"user": "anna", "what": "search", "query": OTHER},
        ],
    )
    for camera, start in (("c0", 0), ("c0", 600), ("c0", 1800), ("c1", 0)):
        segment = tmp_path / "recordings" / camera / f"{start}.webm"
        segment.parent.mkdir(parents=True, exist_ok=True)
        segment.write_bytes(b"video")
        said = {"camera": camera, "start": start, "end": start + 600}
        segment.with_suffix(".json").write_text(json.dumps(said))
    encoded = base64.b64encode(ENTRIES[2].picture).decode()
    (tmp_path / "page.html").write_text(f"<img src='data:image/jpeg;base64,{encoded}'>")
    (tmp_path / "other.html").write_text("<p>nothing</p>")
    (tmp_path / "identities").write_bytes(b"looks without names")
    return tmp_path


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def places_of(site: Path) -> Places:
    return Places(
        (site / "events.jsonl",),
        (site / "recordings",),
        (site / "frames",),
        (site / "page.html", site / "other.html"),
        (),
        (site / "access.jsonl",),
        (site / "identities",),
    )


def content_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def counts(done: Any) -> dict[str, int]:
    return {f"{one.kind} {Path(one.place).name}".strip(): one.erased for one in done.artefacts}


EXPECTED = {
    "gallery gallery": 10,
    "index gallery": 10,
    "verdicts gallery": 2,
    "query hashes gallery": 1,
    "events events.jsonl": 10,
    "recordings recordings": 2,
    "frames frames": 10,
    "page page.html": 1,
    "page other.html": 0,
    "access log access.jsonl": 2,
    "features": 0,
    "identities identities": 1,
    "sources": 0,
}


def test_a_person_s_bytes_are_gone_from_every_file_and_the_receipt_says_which(
    site: Path, matcher: VectorMatcher
) -> None:
    gone = [
        *(one.picture for one in ENTRIES[:10]),
        *(vector.tobytes() for vector in VECTORS[:10]),
        QUERY.encode(),
        b'"p0"',
    ]
    before = content_of(site)
    assert all(one in before for one in gone)
    done = erase(
        str(site / "gallery"), Where(people=("p0",)), site / "receipt.json", places_of(site)
    )
    assert counts(done) == EXPECTED
    receipt = (site / "receipt.json").read_bytes()
    (site / "receipt.json").unlink()
    left = content_of(site)
    assert not any(one in left for one in gone)
    assert all(one.picture in left for one in ENTRIES[10:])
    assert (site / "frames/c0/unrelated.jpg").exists()
    assert not (site / "page.html").exists()
    assert not (site / "identities").exists()
    assert sorted(path.name for path in (site / "recordings").rglob("*.webm")) == [
        "1800.webm",
        "600.webm",
    ]
    opened = open_gallery(str(site / "gallery"), matcher)
    assert opened.confirmed() == [Confirmation(OTHER, 33, True, 1.0, "anna")]
    said = json.loads(receipt)
    assert said["conditions"]["people"] == ["p0"]
    assert not said["complete"]  # features were not searched, one page cannot be judged
    assert [one["kind"] for one in said["artefacts"] if not one["searched"]] == ["features"]


def test_a_dry_run_says_the_same_and_erases_nothing(site: Path) -> None:
    before = content_of(site)
    done = erase(
        str(site / "gallery"),
        Where(people=("p0",)),
        site.parent / f"{site.name}-receipt.json",
        places_of(site),
        dry_run=True,
    )
    assert counts(done) == EXPECTED
    assert done.dry_run
    assert content_of(site) == before


def test_a_track_and_single_images_are_erased_alone(site: Path) -> None:
    name = str(site / "gallery")
    done = erase(name, Where(tracks=(("run-1", 1),)), site / "r.json", places_of(site))
    assert counts(done)["gallery gallery"] == counts(done)["events events.jsonl"] == 5
    done = erase(name, Where(ids=(33,)), site / "r.json", places_of(site))
    assert counts(done)["gallery gallery"] == 1
    assert counts(done)["verdicts gallery"] == 2
    assert counts(done)["query hashes gallery"] == 2


def test_a_span_of_a_camera_loses_all_that_was_seen_there(site: Path) -> None:
    where = Where(cameras=("c0",), since_s=0.0, until_s=600.0)
    done = erase(str(site / "gallery"), where, site / "r.json", places_of(site))
    inside = [one for one in ENTRIES if one.camera == "c0" and (one.time_s or 0) < 600]
    assert counts(done)["gallery gallery"] == len(inside)
    events = [*lines_of(site / "events.jsonl.1"), *lines_of(site / "events.jsonl")]
    assert not [one for one in events if one["camera"] == "c0" and one.get("unix_time", 1e9) < 600]
    assert {"event": "source", "camera": "c0", "state": "lost", "time": 60.0} in events
    # The segment that begins at its end may show its last moment.
    assert sorted(path.name for path in (site / "recordings/c0").glob("*.webm")) == ["1800.webm"]


@pytest.mark.parametrize("stopped_at", ["events", "recordings", "frames", "gallery"])
def test_a_stopped_erasure_is_repeated_to_its_end(
    site: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: str
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    arguments = (str(site / "gallery"), Where(people=("p0",)), site / "r.json", places_of(site))
    with monkeypatch.context() as broken:
        if stopped_at == "gallery":
            broken.setattr(Store, "replace", stop)
        else:
            broken.setattr(f"reid.deploy.api.erasing.erase_{stopped_at}", stop)
        with pytest.raises(KeyboardInterrupt):
            erase(*arguments)
    erase(*arguments)
    left = content_of(site)
    assert not any(one.picture in left for one in ENTRIES[:10])
    assert b"frame " + ENTRIES[0].picture_ref.encode() not in left
    assert b'"candidate": {"person": "p0"}' not in left


def test_identities_that_a_watch_is_writing_are_not_taken_from_it(site: Path) -> None:
    with locked(site / "identities.lock"), pytest.raises(OutputError):
        erase(str(site / "gallery"), Where(people=("p0",)), site / "r.json", places_of(site))
    assert (site / "identities").exists()


def test_what_was_not_named_is_in_the_receipt_as_not_searched(site: Path) -> None:
    done = erase(str(site / "gallery"), Where(people=("p0",)), site / "r.json")
    missing = {one.kind: one.left for one in done.artefacts if not one.searched}
    others = {"features", "access log", "identities"}
    assert missing.keys() == {"events", "recordings", "frames", "page", *others}
    assert "--events" in missing["events"]
    assert not done.is_complete


def test_frames_outside_the_folder_are_never_erased(site: Path, gallery: GalleryStore) -> None:
    outside = site / "outside.jpg"
    outside.write_bytes(b"outside")
    entries = [
        dataclasses.replace(ENTRIES[0], content=f"x{i}", person="x", picture_ref=ref)
        for i, ref in enumerate(("../outside.jpg", str(outside)))
    ]
    gallery.add(VECTORS[:2] + np.float32(0.01), entries)
    done = erase(str(site / "gallery"), Where(people=("x",)), site / "r.json", places_of(site))
    assert counts(done)["frames frames"] == 0
    assert outside.exists()


def test_a_segment_that_cannot_be_judged_is_named(site: Path) -> None:
    (site / "recordings/c0/0.json").write_text("{")
    body = {"camera": "c0", "start": 0, "end": None}
    (site / "recordings/c1/0.json").write_text(json.dumps({**body, "camera": "c1"}))
    done = erase(str(site / "gallery"), Where(people=("p0",)), site / "r.json", places_of(site))
    (found,) = [one for one in done.artefacts if one.kind == "recordings"]
    assert "c0/0.webm" in found.left
    assert "c1/0.webm" in found.left
    assert (site / "recordings/c1/0.webm").exists()


def test_a_missing_place_or_condition_is_an_error_before_anything_is_erased(site: Path) -> None:
    before = content_of(site)
    with pytest.raises(ConfigError, match="--person"):
        erase(str(site / "gallery"), Where(), site / "r.json")
    with pytest.raises(DataError, match=r"absent\.jsonl"):
        erase(
            str(site / "gallery"),
            Where(people=("p0",)),
            site / "r.json",
            dataclasses.replace(places_of(site), access_logs=(site / "absent.jsonl",)),
        )
    assert content_of(site) == before


def test_the_picture_of_a_person_beside_their_frame_goes_with_them(
    site: Path, gallery: GalleryStore
) -> None:
    entry = GalleryEntry("c9", time_s=5.0, track=4, picture_ref="c9/a.jpg", box=(1, 2, 3, 4))
    gallery.add(VECTORS[:1], [entry])
    (site / "frames/c9").mkdir()
    for name in ("a.jpg", "a-t4.jpg", "a-t5.jpg"):
        (site / "frames/c9" / name).write_bytes(b"x")
    assert prune(gallery, 600.0, 700.0, site / "frames", named=False) == 1
    assert [path.name for path in (site / "frames/c9").iterdir()] == ["a-t5.jpg"]


def test_pruning_erases_what_is_older_with_its_frames_and_keeps_what_has_no_time(
    site: Path, gallery: GalleryStore
) -> None:
    timeless = dataclasses.replace(ENTRIES[0], time_s=None, content="timeless")
    gallery.add(VECTORS[:1] + np.float32(0.01), [timeless])
    assert prune(gallery, 600.0, 1800.0, site / "frames") == 20
    assert len(gallery) == 21
    assert not (site / "frames" / ENTRIES[0].picture_ref).exists()
    assert (site / "frames" / ENTRIES[39].picture_ref).exists()
    left = content_of(site / "gallery")
    assert not any(one.picture in left for one in ENTRIES[1:20])


@pytest.mark.parametrize("text", ["30", "d", "-1d", "1 d", "1w", ""])
def test_an_age_has_a_number_and_a_unit(text: str) -> None:
    with pytest.raises(ConfigError, match="30d"):
        seconds_from_span(text)
    assert seconds_from_span("1.5h") == 5400


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def test_the_commands_need_no_model(run: Run, site: Path) -> None:
    name = site / "gallery"
    words = ["gallery", "erase", name, "--person", "p0", "--receipt", site / "r.json"]
    code, out, _ = run(*words, "--events", site / "events.jsonl", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((site / "r.json").read_text())
    code, out, _ = run(*words, "--events", site / "events.jsonl")
    assert code == 0
    assert "10 images erased" in out
    code, out, _ = run("gallery", "prune", name, "--older-than", "1d", "--json")
    assert (code, json.loads(out)["deleted"], json.loads(out)["total"]) == (0, 30, 0)
