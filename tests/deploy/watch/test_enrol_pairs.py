"""Enrolment with a network that compares pairs: feature maps go into the gallery, and are found."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from reid.deploy.cameras.camera import Frame
from reid.deploy.watch.appearance import AppearanceModel, features_of
from reid.deploy.watch.clock import RunClock
from reid.deploy.watch.enrolment import Enrolment
from reid.deploy.watch.events import TrackedFrame
from reid.deploy.watch.gallery_writer import GalleryWriter
from reid.deploy.watch.looks import LookSettings
from reid.deploy.watch.motion import Motion
from reid.deploy.watch.track import Track
from reid.matching import PairMatcher
from tests.matching.conftest import CompareRunner, DescribeRunner


def fail(line: str) -> None:
    raise AssertionError(line)


def test_the_maps_of_a_pair_network_are_enrolled_and_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss", reason="needs faiss-cpu: install [cpu] or [edge]")
    from reid.deploy.gallery.opening import open_gallery

    matcher = PairMatcher(DescribeRunner(), CompareRunner(), batch_size=4)
    model = AppearanceModel(matcher)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 100, 3)).astype(np.uint8)
    boxes = [np.array(box, np.float32) for box in ([5, 5, 25, 55], [60, 5, 80, 55])]
    crops = [image[5:55, 5:25], image[5:55, 60:80]]
    tracks = []
    for number, (box, one) in enumerate(zip(boxes, model.describe(crops, [0.9, 0.9]), strict=True)):
        assert one is not None
        track = Track(number, Motion(box), one, box, 0.9, 0.0, 0.0)
        track.look = track.described = one
        tracks.append(track)
    gallery = open_gallery(str(tmp_path / "people"), matcher, create=True)
    clock = RunClock({"door": 1e9}, "run")
    describe = partial(features_of, matcher)
    with GalleryWriter(gallery, describe, 7.0, fail, now=lambda: 1e9) as writer:
        looks = Enrolment(clock, writer, settings=LookSettings(least_s=0.0))
        looks.frames([TrackedFrame(Frame("door", 4, 0.5, image, 0.0), tracks)])
        looks.finish()
    assert (writer.enrolled, writer.dropped) == (2, 0)
    for number, crop in enumerate(crops):
        ((best, _),) = gallery.search(matcher.describe([crop]), 2)
        entry = best.entry
        assert (entry.track, entry.camera, entry.person) == (number, "door", "")
        assert (entry.time_s, entry.frame, entry.run) == (1e9 + 0.5, 4, "run")
    gallery.close()
