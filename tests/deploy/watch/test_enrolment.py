"""The best looks of each track are handed over: when it ends, or earlier for someone who stays."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from reid.deploy.cameras.camera import Frame, News
from reid.deploy.cameras.cameras import Cameras
from reid.deploy.cameras.readers import Decoded, Frames
from reid.deploy.cameras.sources import CameraSource
from reid.deploy.watch.clock import RunClock
from reid.deploy.watch.enrolment import Enrolment
from reid.deploy.watch.events import TrackedFrame
from reid.deploy.watch.looks import LookSettings, PersonLook
from reid.deploy.watch.track import Track
from reid.deploy.watch.watching import Watcher, watch
from reid.types import Image
from tests.deploy.watch.conftest import (
    BLUE,
    GREEN,
    RED,
    ColourDetector,
    ColourMatcher,
    appearance_of,
    frame_of,
)
from tests.deploy.watch.test_identities import track_of

CLOCK = RunClock({"door": 1000.0, "yard": 2000.0}, "run7")
HEIGHT, WIDTH = 80, 160
ANY = LookSettings(least_s=0.0)
"""Of a track however short."""


class Taker:
    """Takes looks, and says where their pictures are."""

    def __init__(self, refuse: float = -1.0) -> None:
        self.taken: list[tuple[int, PersonLook]] = []
        self._refuse = refuse

    def put(self, look: PersonLook, track: int) -> str | None:
        if look.quality <= self._refuse:
            return None
        self.taken.append((track, look))
        return f"{track}-{look.place['frame']}.jpg"

    def frames(self, track: int = 1) -> list[int]:
        return [look.place["frame"] for number, look in self.taken if number == track]


def picture(contrast: int) -> Image:
    """A frame of stripes: the sharper, the higher the contrast."""
    image = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    image[::2] += np.uint8(contrast)
    return image


def person(
    number: int = 1, alone: bool = True, box: Sequence[float] = (40, 10, 70, 70), score: float = 0.9
) -> Track:
    one = track_of(1, 0, 0)
    one.number, one.box, one.score = number, np.array(box, np.float32), score
    one.described = appearance_of(1, 0, 0)
    one.look = one.described if alone else None
    return one


def show(
    made: Enrolment,
    number: int,
    *tracks: Track,
    image: Image | None = None,
    ended: Sequence[Track] = (),
    camera: str = "door",
) -> None:
    """One frame; ten make a second."""
    frame = Frame(camera, number, number / 10, picture(9) if image is None else image, 0.0)
    made.frames([TrackedFrame(frame, tracks, ended)])


def test_of_a_short_track_the_sharpest_surest_image_of_one_person_alone_is_kept() -> None:
    taker = Taker()
    made = Enrolment(CLOCK, taker, settings=ANY)
    show(made, 0, person(), image=picture(2))
    show(made, 1, person(), image=picture(5))
    show(made, 2, person(alone=False), image=picture(60))
    show(made, 3, person(box=(40, 10, 70, 80)), image=picture(60))  # cut by the edge
    show(made, 4, person(score=0.5), image=picture(5))
    show(made, 5, ended=[person()])
    assert taker.frames() == [1]
    ((_, look),) = taker.taken
    assert look.box == (40, 10, 30, 60)
    assert np.array_equal(look.crop, picture(5)[10:70, 40:70])
    assert look.place == {
        "camera": "door",
        "time": 0.1,
        "unix_time": 1000.1,
        "frame": 1,
        "seconds": 0.1,
        "run": "run7",
    }


def test_who_was_never_seen_alone_and_whole_is_kept_once() -> None:
    taker = Taker()
    made = Enrolment(CLOCK, taker)
    for number in range(100):
        show(made, number, person(alone=False), image=picture(number % 7))
    assert taker.taken == []
    show(made, 101, ended=[person()])
    assert taker.frames() in ([6 + 7 * n] for n in range(14))


def test_of_a_long_track_there_are_three_looks_apart_in_time_and_the_first_one_soon() -> None:
    taker = Taker()
    made = Enrolment(CLOCK, taker, settings=LookSettings(most=3, apart_s=3.0, due_s=(2.0, 20.0)))
    for number in range(600):
        show(made, number, person(), image=picture(number % 11))
        if number == 21:
            assert len(taker.taken) == 1
    assert len(taker.taken) == 2
    show(made, 601, ended=[person()])
    frames = sorted(taker.frames())
    assert len(frames) == 3
    assert np.diff(frames).min() >= 30


def test_a_track_without_features_is_no_look() -> None:
    taker, one = Taker(), person()
    one.described = one.look = None
    made = Enrolment(CLOCK, taker)
    show(made, 0, one)
    show(made, 1, ended=[one])
    assert taker.taken == []


@pytest.mark.parametrize("state", ["lost", "ended", "failed"])
def test_a_camera_that_is_gone_hands_over_all_it_had_and_no_other_does(state: str) -> None:
    taker = Taker()
    made = Enrolment(CLOCK, taker, settings=ANY)
    show(made, 0, person(1), person(2, box=(90, 10, 120, 70)))
    show(made, 0, person(3), camera="yard")
    made.news(News("door", state, ""))
    assert sorted(number for number, _ in taker.taken) == [1, 2]
    made.news(News("door", "back", ""))
    made.finish()
    made.finish()
    assert sorted(number for number, _ in taker.taken) == [1, 2, 3]


def test_the_whole_frame_is_kept_where_it_is_asked_for() -> None:
    taker = Taker()
    made = Enrolment(CLOCK, taker, settings=ANY, keep_frames=True)
    image = picture(30)
    show(made, 0, person(), image=image)
    image[:] = 0  # the camera's next frame
    made.finish()
    ((_, look),) = taker.taken
    assert look.frame is not None
    kept = cv2.imdecode(np.frombuffer(look.frame(), np.uint8), cv2.IMREAD_COLOR)
    assert kept.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(kept.astype(int) - picture(30)).mean() < 10
    plain = Enrolment(CLOCK, taker, settings=ANY)
    show(plain, 0, person())
    plain.finish()
    assert taker.taken[-1][1].frame is None


def test_the_best_picture_of_a_track_so_far_is_known_unless_it_was_dropped() -> None:
    taker = Taker()
    made = Enrolment(CLOCK, taker, settings=LookSettings(due_s=(1.0,)))
    assert made.crop("door", 1) is None
    for number in range(11):
        show(made, number, person(), image=picture(2))
    assert made.crop("door", 1) == "1-0.jpg"
    show(made, 60, person(), image=picture(9))
    show(made, 61, ended=[person()])
    assert made.crop("door", 1) == "1-60.jpg"
    assert made.crop("yard", 1) is None
    full = Enrolment(CLOCK, Taker(refuse=1.0), settings=ANY)
    show(full, 0, person())
    full.finish()
    assert full.crop("door", 1) is None


def test_everyone_who_walks_by_two_cameras_is_enrolled_from_each() -> None:
    walk = [
        frame_of({RED: 30 + 2 * n, BLUE: 110 - 2 * n} | ({GREEN: 5} if n > 20 else {}))
        for n in range(40)
    ]

    def read(source: CameraSource) -> Frames:
        for number, image in enumerate(walk):
            yield Decoded(image, number / 8)

    sources = [CameraSource(name, "video", name, name, live=False) for name in ("door", "yard")]
    taker = Taker()
    made = Enrolment(CLOCK, taker)
    report = watch(Cameras(sources, read), Watcher(ColourDetector(), ColourMatcher()), [made])
    made.finish()
    tracks = {(look.place["camera"], number) for number, look in taker.taken}
    assert len(tracks) == report.tracks
    assert len(taker.taken) <= 3 * report.tracks
    for camera in ("door", "yard"):
        colours = {
            tuple(int(x) for x in look.crop[25, 10])
            for _, look in taker.taken
            if look.place["camera"] == camera
        }
        assert {RED, BLUE, GREEN} <= colours
