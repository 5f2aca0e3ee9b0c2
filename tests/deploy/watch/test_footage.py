"""Pairs of people from footage: two in one frame differ, two images of one track do not."""

from __future__ import annotations

import numpy as np
import pytest

from reid.deploy.cameras.camera import Frame
from reid.deploy.watch.appearance import AppearanceModel
from reid.deploy.watch.events import TrackedFrame
from reid.deploy.watch.footage import MOST_IN_A_FRAME, FootagePairs
from reid.deploy.watch.motion import Motion
from reid.deploy.watch.track import Track
from tests.deploy.watch.conftest import BLUE, GREEN, RED, Colour, appearance_of, frame_of


def seen(people: dict[Colour, int], time_s: float, camera: str = "door") -> TrackedFrame:
    """A frame with a track for each person; its number is its place in the dictionary."""
    tracks = []
    for number, left in enumerate(people.values()):
        box = np.array([left, 20, left + 20, 70], np.float32)
        tracks.append(Track(number, Motion(box), appearance_of(1, 0, 0), box, 0.9, 0.0, 0.0))
    return TrackedFrame(Frame(camera, 0, time_s, frame_of(people), 0.0), tracks)


def unit(colour: Colour) -> np.ndarray:
    return np.array(colour) / np.linalg.norm(colour)


def test_people_of_one_frame_are_compared_with_one_another(model: AppearanceModel) -> None:
    pairs = FootagePairs(model, every_s=0.5)
    pairs.frames([seen({RED: 0, GREEN: 60, BLUE: 120}, 0.0)])
    different, tracks, same = pairs.pairs()
    assert tracks.tolist() == [[0, 1], [0, 2], [1, 2]]
    expected = [
        np.linalg.norm(unit(a) - unit(b)) for a, b in ((RED, GREEN), (RED, BLUE), (GREEN, BLUE))
    ]
    np.testing.assert_allclose(different, expected, atol=1e-5)
    assert same.tolist() == []


def test_an_image_is_compared_with_its_track_s_first_and_last_one(model: AppearanceModel) -> None:
    pairs = FootagePairs(model, every_s=0.5)
    for number, colour in enumerate((RED, GREEN, BLUE)):
        pairs.frames([seen({colour: 0}, 0.5 * number)])
    different, _, same = pairs.pairs()
    assert different.tolist() == []
    first, second, third = map(unit, (RED, GREEN, BLUE))
    expected = [first - second, first - second, first - third, second - third]
    np.testing.assert_allclose(same, [np.linalg.norm(one) for one in expected], atol=1e-5)


def test_frames_between_are_left_out_for_each_camera(model: AppearanceModel) -> None:
    pairs = FootagePairs(model, every_s=0.5)
    for time_s in (0.0, 0.2, 0.4, 0.6):
        pairs.frames([seen({RED: 0, GREEN: 60}, time_s, camera) for camera in ("door", "yard")])
    different, tracks, _ = pairs.pairs()
    assert len(different) == 4
    assert len(np.unique(tracks)) == 4  # a track's number counts in its camera alone


def test_people_who_are_near_each_other_are_left_out(model: AppearanceModel) -> None:
    pairs = FootagePairs(model, every_s=0.5)
    pairs.frames([seen({RED: 0, GREEN: 10, BLUE: 120}, 0.0)])
    assert [len(part) for part in pairs.pairs()] == [0, 0, 0]


@pytest.mark.parametrize("people", [0, 1])
def test_a_frame_without_two_people_gives_no_pair(model: AppearanceModel, people: int) -> None:
    pairs = FootagePairs(model, every_s=0.5)
    pairs.frames([seen({RED: 0} if people else {}, 0.0)])
    assert len(pairs.pairs()[0]) == 0


def test_a_crowd_is_compared_in_part(model: AppearanceModel) -> None:
    found = seen({RED: 0}, 0.0)
    places = [np.array([0, 100 * n, 20, 100 * n + 50], np.float32) for n in range(30)]
    image = np.full((3000, 20, 3), RED, np.uint8)
    crowd = [Track(n, Motion(b), appearance_of(1), b, 0.9, 0.0, 0.0) for n, b in enumerate(places)]
    pairs = FootagePairs(model, every_s=0.5)
    pairs.frames([TrackedFrame(found.frame._replace(image=image), crowd)])
    assert len(pairs.pairs()[0]) == MOST_IN_A_FRAME * (MOST_IN_A_FRAME - 1) / 2
