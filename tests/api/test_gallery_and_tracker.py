"""``reid.Gallery`` and ``reid.Tracker`` on synthetic people."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

import reid
from reid.types import Image
from tests.heard import Heard


def picture(path: Path) -> Image:
    return np.asarray(cv2.imread(str(path)), np.uint8)


def test_a_gallery_finds_what_was_added_and_adds_nothing_twice(
    model: reid.Model, people: Path, gallery_images: list[Path], tmp_path: Path
) -> None:
    heard = Heard()
    with reid.Gallery.open(tmp_path / "g", model) as gallery:
        assert len(gallery) == 0
        assert gallery.add(people / "bounding_box_test", progress=heard) == len(gallery_images)
        assert gallery.add(gallery_images) == 0
        assert len(gallery) == len(gallery_images)
    assert sum(heard.done["describing"]) == len(gallery_images)
    with reid.Gallery.open(str(tmp_path / "g"), model) as gallery:
        found = gallery.search(gallery_images[5], k=3)
        assert len(found) == 3
        assert found[0].entry.source == str(gallery_images[5])
        assert found[0].distance == pytest.approx(0, abs=1e-2)
        assert [one.distance for one in found] == sorted(one.distance for one in found)
        assert found.limit is not None
        assert (found.limit.distance, found.limit.measured) == (0.65, False)
        assert [found.within(one) for one in found] == [one.distance <= 0.65 for one in found]
        html = found._repr_html_()
    assert html.count("data:image/jpeg;base64,") == 4
    assert "<script" not in html


def test_what_is_said_of_images_can_be_searched_for_and_erased(
    model: reid.Model, queries: list[Path], tmp_path: Path
) -> None:
    images = [picture(path) for path in queries[:3]]
    noon = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
    with reid.Gallery.open(tmp_path / "g", model) as gallery:
        gallery.add(
            images,
            people=["ann", "bob", 7],
            cameras="door",
            times=[noon, "2026-05-01T13:00", noon.timestamp() + 7200],
        )
        assert gallery.summary().people == ("7", "ann", "bob")
        (only,) = gallery.search(images[0], people="bob")
        assert (only.entry.person, only.entry.camera) == ("bob", "door")
        assert [one.entry.person for one in gallery.search(images[0], since=noon)][:1] == ["ann"]
        assert len(gallery.search(images[0], since="2026-05-01T12:30")) == 2
        assert gallery.delete(people=["ann", "bob"]) == 2
        assert len(gallery) == 1
        html = gallery.search(images[2])._repr_html_()
    assert html.count("data:image/jpeg") == 2  # the gallery keeps pictures of arrays


def test_several_queries_have_an_answer_each_described_or_not(
    model: reid.Model, gallery_images: list[Path], tmp_path: Path
) -> None:
    with reid.Gallery.open(tmp_path / "g", model) as gallery:
        gallery.add(gallery_images)
        by_path = gallery.search_each(gallery_images[:2], 1)
        by_features = gallery.search_each(model.embed(gallery_images[:2]), 1)
    for answers in (by_path, by_features):
        assert [one.query for one in answers] == list(map(str, gallery_images[:2]))
        assert [one[0].entry.source for one in answers] == list(map(str, gallery_images[:2]))


FRAME = (240, 320)


def walk(model: reid.Model, colours: list[tuple[int, int, int]], frames: int = 8) -> list[set[int]]:
    """Identities in each frame of people who stand side by side."""
    tracker = reid.Tracker(model)
    boxes = [[20 + 90 * i, 60, 60 + 90 * i, 180] for i in range(len(colours))]
    seen = []
    for number in range(frames):
        frame = np.full((*FRAME, 3), 90, np.uint8)
        for (left, top, right, bottom), colour in zip(boxes, colours, strict=True):
            frame[top:bottom, left + number : right + number] = colour
        moved = [[box[0] + number, box[1], box[2] + number, box[3]] for box in boxes]
        tracks = tracker.update(moved, frame, scores=[0.9] * len(moved))
        seen.append({one.identity for one in tracks if one.identity is not None})
    return seen


def test_people_in_one_frame_keep_their_own_identities(model: reid.Model) -> None:
    seen = walk(model, [(20, 20, 220), (20, 220, 20), (220, 20, 20)])
    assert seen[-1] == {1, 2, 3}
    assert seen[0] == set()


def test_a_tracker_tells_boxes_scores_and_distances(model: reid.Model) -> None:
    tracker, frame = reid.Tracker(model, fps=10), np.full((*FRAME, 3), 90, np.uint8)
    for _ in range(5):
        tracks = tracker.update(np.array([[50, 60, 90, 180]]), frame, scores=np.array([0.8]))
    (one,) = tracks
    assert one.box.tolist() == [50, 60, 90, 180]
    assert one.score == pytest.approx(0.8)
    assert (one.track, one.person) == (1, "")
    assert tracker.update([], frame) == []


def test_a_gallery_proposes_names_for_people_that_a_tracker_follows(
    model: reid.Model, tmp_path: Path
) -> None:
    frame = np.full((*FRAME, 3), 90, np.uint8)
    frame[60:180, 50:90] = (20, 20, 220)
    with reid.Gallery.open(tmp_path / "g", model) as gallery:
        gallery.add([frame[60:180, 50:90]], people="ann")
        tracker = reid.Tracker(model, gallery=gallery)
        names = []
        for number in range(8):
            found = tracker.update([[50, 60, 90, 180]], frame, time_s=0.3 * number)
            names += [one.person for one in found]
    assert names[0] == ""  # one look is not enough
    assert names[-1] == "ann"
    (one,) = found
    assert one.candidate is not None
    assert (one.candidate.person, one.candidate.margin) == ("ann", None)
    assert one.candidate.looks >= 3
