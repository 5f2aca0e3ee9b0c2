"""Hand-made scenes: people of one colour each, whose tracks everybody can tell."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import pytest

from reid.deploy.people.boxes import People
from reid.deploy.watch.appearance import AppearanceModel
from reid.deploy.watch.tracker import CameraTracker, Track, TrackSettings
from tests.deploy.watch.conftest import ColourMatcher, appearance_of

FPS = 8
"""Times are whole eighths of a second, which are exact."""

WIDTH, HEIGHT = 640, 200
RED, BLUE = (1.0, 0.1, 0.1), (0.1, 0.1, 1.0)
SETTINGS = TrackSettings()

Person = tuple[tuple[float, float, float], float, float]
"""Colours, x of the left edge, the detector's score."""


def person(colour: tuple[float, float, float], x: float, score: float = 0.9) -> Person:
    return colour, x, score


def advance(
    tracker: CameraTracker, people: Iterable[Person], frame: int
) -> tuple[list[Track], int]:
    """One frame of people 40 wide and 100 high; the tracks found, and how many were described."""
    crowd = list(people)
    boxes = np.array([[x, 50, x + 40, 150] for _, x, _ in crowd], np.float32).reshape(-1, 4)
    found = People(boxes, np.array([score for _, _, score in crowd], np.float32))
    plan = tracker.plan(found, frame / FPS)
    appearance = {box: appearance_of(*crowd[box][0]) for box in plan.wanted}
    return tracker.update(plan, appearance, WIDTH, HEIGHT), len(plan.wanted)


def follow(
    scene: Mapping[int, list[Person]] | list[list[Person]], model: AppearanceModel
) -> tuple[list[dict[float, int]], CameraTracker]:
    """Left edge -> track number, for each frame."""
    frames = list(scene.values()) if isinstance(scene, Mapping) else scene
    tracker = CameraTracker(model)
    shown = []
    for number, people in enumerate(frames):
        tracks, _ = advance(tracker, people, number)
        shown.append({float(track.box[0]): track.number for track in tracks})
    return shown, tracker


def test_a_walking_person_is_one_track_from_its_third_box_on(model: AppearanceModel) -> None:
    shown, tracker = follow([[person(RED, 10 * n)] for n in range(30)], model)
    assert shown[:2] == [{}, {}]
    assert shown[2:] == [{10.0 * n: 1} for n in range(2, 30)]
    assert tracker.num_tracks == 1


def meeting(second: tuple[float, float, float]) -> list[list[Person]]:
    """Two people walk towards one another, hide one another, and turn round.

    Motion alone expects them to walk on.
    """
    scene = []
    for n in range(50):
        red = 100 + 8 * min(n, 49 - n)
        blue = 500 - 8 * min(n, 49 - n)
        hidden = blue - red < 30
        scene.append([person(RED, red)] if hidden else [person(RED, red), person(second, blue)])
    assert 2 <= sum(len(people) == 1 for people in scene) <= 20
    return scene


@pytest.mark.parametrize("turning", [True, False])
def test_people_who_meet_keep_their_tracks_by_their_appearance(
    model: AppearanceModel, turning: bool
) -> None:
    scene = meeting(BLUE) if turning else passing(BLUE)
    shown, tracker = follow(scene, model)
    first, last = scene[4], scene[-1]
    for number in (0, 1):
        assert shown[4][first[number][1]] == shown[-1][last[number][1]]
    assert tracker.num_tracks == 2


def passing(second: tuple[float, float, float]) -> list[list[Person]]:
    """Two people walk past one another; he who is behind is not seen for some frames."""
    scene = []
    for n in range(50):
        red, blue = 100 + 8 * n, 500 - 8 * n
        scene.append([person(RED, red), *([person(second, blue)] if abs(blue - red) > 30 else [])])
    return scene


def test_without_looks_people_who_turn_round_are_mistaken(model: AppearanceModel) -> None:
    """The scene is hard: only appearance solves it."""
    scene = meeting(RED)
    shown, _ = follow(scene, model)
    assert shown[4][scene[4][0][1]] != shown[-1][scene[-1][0][1]]


@pytest.mark.parametrize("frames", [1, 5, 15, 22])
def test_an_occlusion_keeps_the_track(model: AppearanceModel, frames: int) -> None:
    scene = [
        [] if 10 <= n < 10 + frames else [person(RED, 100 + 6 * n)] for n in range(15 + frames)
    ]
    shown, tracker = follow(scene, model)
    assert [*shown[9].values()] == [*shown[10 + frames].values()] == [1]
    assert tracker.num_tracks == 1


def test_an_occlusion_that_is_too_long_ends_the_track(model: AppearanceModel) -> None:
    frames = int(SETTINGS.keep_s * FPS) + 2
    scene = [[] if 10 <= n < 10 + frames else [person(RED, 100)] for n in range(15 + frames)]
    shown, tracker = follow(scene, model)
    assert [*shown[-1].values()] != [*shown[9].values()]
    assert tracker.num_tracks == 2


def test_somebody_else_in_the_same_place_is_another_track(model: AppearanceModel) -> None:
    scene = [[person(RED, 300)]] * 10 + [[]] * 10 + [[person(BLUE, 300)]] * 10
    shown, _ = follow(scene, model)
    assert shown[9] != shown[-1]


def test_who_leaves_the_picture_is_forgotten_at_once(model: AppearanceModel) -> None:
    scene: list[list[Person]] = [[person(RED, x)] for x in range(400, WIDTH, 20)]
    _, tracker = follow([*scene, *[[]] * 5], model)
    assert tracker.num_tracks == 1
    assert tracker.tracks == []


def test_a_box_of_one_frame_is_not_a_person(model: AppearanceModel) -> None:
    shown, tracker = follow([[person(RED, 100)], [], [person(RED, 400)], [], []], model)
    assert shown == [{}] * 5
    assert tracker.tracks == []


def test_weak_boxes_carry_a_track_on_and_begin_none(model: AppearanceModel) -> None:
    weak = [[person(RED, 100 + 5 * n, 0.2), person(BLUE, 500, 0.2)] for n in range(5, 20)]
    shown, _ = follow([*[[person(RED, 100 + 5 * n)] for n in range(5)], *weak], model)
    assert shown[4:] == [{100.0 + 5 * n: 1} for n in range(4, 20)]


def test_who_walks_alone_is_described_now_and_then_and_who_is_in_a_crowd_always(
    model: AppearanceModel,
) -> None:
    tracker = CameraTracker(model)
    alone = [advance(tracker, [person(RED, 100 + 3 * n)], n)[1] for n in range(40)]
    every = int(SETTINGS.refresh_s * FPS)
    assert alone[: SETTINGS.min_hits] == [1] * SETTINGS.min_hits
    assert [n for n, count in enumerate(alone) if count][SETTINGS.min_hits :] == list(
        range(SETTINGS.min_hits - 1 + every, 40, every)
    )
    crowd = [advance(tracker, [person(RED, 217), person(BLUE, 240)], n)[1] for n in range(40, 50)]
    assert crowd == [2] * 10


def test_in_a_crowd_only_looks_that_agree_are_learned(model: AppearanceModel) -> None:
    tracker = CameraTracker(model)
    for n in range(5):
        advance(tracker, [person(RED, 100), person(RED, 300)], n)
    before = [track.appearance.count for track in tracker.tracks]
    # The left one is half hidden by somebody blue, and its box shows both.
    mixed = [person(BLUE, 100), person(BLUE, 125, 0.3), person(RED, 300)]
    for n in range(5, 8):
        advance(tracker, mixed, n)
    left, right = sorted(tracker.tracks, key=lambda track: float(track.box[0]))[:2]
    assert left.appearance.count == before[0]
    assert left.box[0] == 100
    np.testing.assert_allclose(
        left.appearance.rows[0]["vector"], appearance_of(*RED).rows[0]["vector"]
    )
    assert right.appearance.count == before[1] + 1  # alone: described again after half a second


def test_the_same_frames_give_the_same_tracks() -> None:
    rng = np.random.default_rng(0)
    scene = [
        [
            person(tuple(rng.random(3)), float(x), float(rng.random()))
            for x in rng.uniform(0, 600, 6)
        ]
        for _ in range(40)
    ]
    first, second = (follow(scene, AppearanceModel(ColourMatcher()))[0] for _ in range(2))
    assert first == second
    assert any(first)


def test_a_clock_that_goes_back_ends_no_track_that_is_seen(model: AppearanceModel) -> None:
    tracker = CameraTracker(model)
    times = itertools.chain(range(20), range(-100, -80))
    shown = [[t.number for t in advance(tracker, [person(RED, 100)], n)[0]] for n in times]
    assert shown[2:] == [[1]] * 38
