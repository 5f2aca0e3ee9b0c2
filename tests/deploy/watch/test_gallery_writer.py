"""A thread puts looks into a gallery: nothing waits for it, and each look is accounted for."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid.deploy.gallery import GalleryEntry, Where
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.watch import gallery_writer
from reid.deploy.watch.appearance import AppearanceModel, PersonAppearance, features_of
from reid.deploy.watch.frames import FrameFolder
from reid.deploy.watch.gallery_writer import DAY_S, GalleryWriter
from reid.deploy.watch.looks import PersonLook
from reid.errors import OutputError, ReidError, UnavailableError
from reid.locks import locked
from reid.matching import PairMatcher
from tests.deploy.watch.conftest import ColourMatcher, appearance_of
from tests.matching.conftest import CompareRunner, DescribeRunner

NOW_S = 1_777_636_800.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_writer, "BATCH_S", 0.01)
    monkeypatch.setattr(gallery_writer, "RETRY_S", 0.01)


def fail(line: str) -> None:
    raise AssertionError(line)


def look(quality: float = 0.5, number: int = 1, unix_s: float = NOW_S, **more: Any) -> PersonLook:
    place = {"camera": "door", "unix_time": unix_s, "frame": number, "seconds": 1.5, "run": "r"}
    crop = np.full((40, 20, 3), number % 256, np.uint8)
    appearance = appearance_of(1, number, 0)
    return PersonLook(quality, 1.5, False, (2 + number, 4, 20, 40), appearance, crop, place, **more)


class SlowGallery:
    """A gallery that fails with ``error``, or waits for ``gate``; remembers what it took."""

    name = "people"

    def __init__(self, error: ReidError | None = None) -> None:
        self.error, self.gate = error, threading.Event()
        self.gate.set()
        self.entries: list[GalleryEntry] = []
        self.erased: list[Where] = []
        self.tried = threading.Semaphore(0)

    def add(self, described: Any, entries: Sequence[GalleryEntry]) -> int:
        self.tried.release()
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        assert len(described) == len(entries)
        self.entries += entries
        return len(entries)

    def delete(self, where: Where) -> int:
        self.erased.append(where)
        return 2


def describe(some: Sequence[PersonAppearance]) -> Any:
    return features_of(ColourMatcher(), some)


def writer(gallery: Any, say: Callable[[str], None] = fail, **options: Any) -> GalleryWriter:
    return GalleryWriter(gallery, describe, 7, say, now=lambda: NOW_S, **options)


def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to that")


def test_a_look_is_found_with_all_that_is_known_and_with_no_name(tmp_path: Path) -> None:
    gallery = open_gallery(str(tmp_path / "people"), ColourMatcher(), create=True)
    frames = FrameFolder(tmp_path / "frames")
    with writer(gallery, frames=frames) as made:
        crop = made.put(look(frame=lambda: b"whole frame"), 5)
        made.put(look(number=2), 6)
    (first, *_), (second, *_) = gallery.search(
        describe([look().appearance, look(number=2).appearance])
    )
    assert first.distance < 0.01
    kept = gallery.entry(first.id)
    assert kept is not None
    assert kept.picture.startswith(b"\xff\xd8")
    name = "door/2026-05-01/120000.000Z-f000001.jpg"
    assert kept == GalleryEntry(
        "door",
        camera="door",
        time_s=NOW_S,
        box=(3, 4, 20, 40),
        picture=kept.picture,
        frame=1,
        seconds=1.5,
        track=5,
        run="r",
        picture_ref=name,
    )
    assert (second.entry.track, second.entry.picture_ref) == (6, "")
    assert (frames.folder / name).read_bytes() == b"whole frame"
    assert crop is not None
    assert Path(crop).read_bytes() == kept.picture
    assert (made.enrolled, made.dropped) == (2, 0)


def test_a_network_that_compares_pairs_enrols_what_it_finds_again(tmp_path: Path) -> None:
    matcher = PairMatcher(DescribeRunner(), CompareRunner(), batch_size=4)
    gallery = open_gallery(str(tmp_path / "people"), matcher, create=True)
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 255, (128, 64, 3)).astype(np.uint8) for _ in range(3)]
    seen = [one for one in AppearanceModel(matcher).describe(crops, [0.9] * 3) if one]
    describe = partial(features_of, matcher)
    with GalleryWriter(gallery, describe, 7, fail, now=lambda: NOW_S) as made:
        for number, appearance in enumerate(seen):
            made.put(dataclasses.replace(look(number=number), appearance=appearance), number)
    assert (made.enrolled, len(gallery)) == (3, 3)
    stored = gallery.features([gallery.search(matcher.describe(crops[1:2]), 3)[0][0].id])
    assert matcher.finite(stored).all()
    own = describe(seen)
    for number in range(3):
        (match,) = gallery.search(describe(seen[number : number + 1]), 1)[0]
        table = matcher.tiles(describe(seen[number : number + 1]), own)(slice(0, 1))
        assert match.distance == pytest.approx(float(table.min()), abs=1e-4)
        assert match.entry.track == int(table.argmin())


def test_cameras_do_not_wait_and_the_worst_looks_are_dropped_counted_and_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gallery_writer, "MOST_WAITING", 5)
    gallery, said = SlowGallery(), []
    gallery.gate.clear()
    with writer(gallery, said.append) as made:
        made.put(look(1.0), 0)
        assert gallery.tried.acquire(timeout=20)  # it is in the middle of a transaction
        qualities = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6]
        for number, quality in enumerate(qualities):
            made.put(look(quality, number + 2), number + 1)
        gallery.gate.set()
    assert sorted(entry.track or 0 for entry in gallery.entries) == [0, 2, 4, 6, 7, 8]
    assert (made.enrolled, made.dropped) == (6, 3)
    assert len(said) == 1


def test_a_look_that_is_dropped_at_once_has_no_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gallery_writer, "MOST_WAITING", 1)
    gallery, said = SlowGallery(), []
    gallery.gate.clear()
    with writer(gallery, said.append, frames=FrameFolder(tmp_path)) as made:
        made.put(look(1.0, frame=lambda: b"x"), 0)
        assert gallery.tried.acquire(timeout=20)
        assert made.put(look(0.9, 2, frame=lambda: b"x"), 1) is not None
        assert made.put(look(0.1, 3, frame=lambda: b"x"), 2) is None
        gallery.gate.set()


@pytest.mark.parametrize(
    "error", [UnavailableError("people does not answer"), OutputError("people: the disk is full")]
)
def test_an_outage_is_said_once_and_afterwards_all_goes_on(error: ReidError) -> None:
    gallery, said = SlowGallery(error), []
    with writer(gallery, said.append) as made:
        for number in range(5):
            made.put(look(number=number), number)
        for _ in range(3):
            assert gallery.tried.acquire(timeout=20)
        gallery.error = None
        until(lambda: made.enrolled == 5)
    assert sorted(entry.track or 0 for entry in gallery.entries) == [0, 1, 2, 3, 4]
    assert [str(error) in said[0], "again" in said[1], len(said)] == [True, True, 2]
    assert made.dropped == 0


def test_what_still_waits_at_the_end_of_an_outage_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gallery_writer, "CLOSING_S", 0.05)
    said: list[str] = []
    with writer(SlowGallery(UnavailableError("people does not answer")), said.append) as made:
        for number in range(3):
            made.put(look(number=number), number)
    assert (made.enrolled, made.dropped) == (0, 3)


def test_another_writer_of_the_folder_delays_only_the_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid.locks.PATIENCE_S", 0.05)
    gallery = open_gallery(str(tmp_path / "people"), ColourMatcher(), create=True)
    (lock,) = (path for path in (tmp_path / "people").rglob("*lock*") if path.is_file())
    said: list[str] = []
    with writer(gallery, said.append) as made:
        until(lambda: made._running is not None)
        with locked(lock):
            made.put(look(), 1)
            until(lambda: said)
            assert made.enrolled == 0
        until(lambda: made.enrolled == 1)
    assert len(said) == 2


def test_what_is_too_old_is_erased_at_the_start_in_every_place_and_names_stay(
    tmp_path: Path,
) -> None:
    gallery = open_gallery(str(tmp_path / "people"), ColourMatcher(), create=True)
    ages = [("", 8), ("", 6), ("anna", 8)]
    entries = [
        GalleryEntry("door", person, "door", NOW_S - days * DAY_S, (number, 0, 9, 9), track=number)
        for number, (person, days) in enumerate(ages)
    ]
    gallery.add(np.eye(3, dtype=np.float32), entries)
    frames, elsewhere = FrameFolder(tmp_path / "frames"), []
    names = [frames.name_of("door", NOW_S - days * DAY_S, 1) for days in (8, 6)]
    for name in names:
        frames.write(name, b"x")
    with writer(gallery, frames=frames, erase=[elsewhere.append]) as made:
        until(lambda: made.erased)
    left = [match.entry.track for match in gallery.search(np.eye(3, dtype=np.float32)[:1])[0]]
    assert sorted(n for n in left if n is not None) == [1, 2]
    assert [(frames.folder / name).exists() for name in names] == [False, True]
    assert elsewhere == [NOW_S - 7 * DAY_S]
    assert made.erased == 1


def test_erasing_goes_on_every_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_writer, "EXPIRY_S", 0.02)
    gallery = SlowGallery()
    times: Iterator[float] = iter(NOW_S + 3600 * n for n in range(100_000))
    with GalleryWriter(gallery, describe, 7, fail, now=times.__next__):  # type: ignore[arg-type]
        until(lambda: len(gallery.erased) >= 3)
    spans = [where.until_s for where in gallery.erased[:3]]
    assert spans == [NOW_S + 3600 * n - 7 * DAY_S for n in range(3)]
    assert {where.named for where in gallery.erased} == {False}
