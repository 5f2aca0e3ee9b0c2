"""Tracks with given appearances, in cameras with known people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from reid.deploy.watch.appearance import AppearanceModel
from reid.deploy.watch.identities import CAPACITY, MIN_DESCRIBED, PAIR_CAPACITY, Identities
from reid.deploy.watch.motion import Motion
from reid.deploy.watch.track import Track
from reid.matching import PairMatcher
from reid.types import FloatArray
from tests.deploy.watch.conftest import appearance_of
from tests.matching.conftest import CompareRunner, DescribeRunner

RED, ORANGE, BLUE, GREEN = (1, 0, 0), (0.9, 0.4, 0), (0, 0, 1), (0, 1, 0)
BOX = np.array([0, 0, 20, 50], np.float32)


def track_of(*colours: float, described: int = MIN_DESCRIBED) -> Track:
    appearance = appearance_of(*colours)
    appearance.count = described
    return Track(1, Motion(BOX), appearance, BOX, 0.9, 0.0, 0.0)


def numbers(tracks: Sequence[Track]) -> list[int | None]:
    return [None if track.identity is None else track.identity.number for track in tracks]


def named(identities: Identities, *cameras: Sequence[Track]) -> list[list[int | None]]:
    """One round: the identities of each camera's tracks."""
    identities.begin_round()
    for tracks in cameras:
        identities.name(tracks)
    return [numbers(tracks) for tracks in cameras]


def test_a_person_is_the_same_in_another_camera(model: AppearanceModel) -> None:
    identities = Identities(model)
    assert named(identities, [track_of(*RED), track_of(*BLUE)]) == [[1, 2]]
    assert named(identities, [], [track_of(*BLUE), track_of(*GREEN)]) == [[], [2, 3]]
    assert identities.num_given == 3


def test_a_person_who_appears_in_two_cameras_at_once_is_one(model: AppearanceModel) -> None:
    assert named(Identities(model), [track_of(*RED)], [track_of(*RED)]) == [[1], [1]]


def test_two_people_in_one_frame_are_two_however_alike(model: AppearanceModel) -> None:
    identities = Identities(model)
    assert named(identities, [track_of(*RED), track_of(*RED)]) == [[1, 2]]
    assert named(identities, [], [track_of(*RED), track_of(*RED), track_of(*RED)]) == [
        [],
        [1, 2, 3],
    ]


def test_a_person_in_the_picture_is_not_one_who_comes_in(model: AppearanceModel) -> None:
    identities = Identities(model)
    red = track_of(*RED)
    named(identities, [red])
    assert named(identities, [red, track_of(*RED)]) == [[1, 2]]


def test_who_was_taken_for_somebody_out_of_sight_is_another_when_that_one_is_back(
    model: AppearanceModel,
) -> None:
    identities = Identities(model)
    elder, younger = track_of(*RED), track_of(*ORANGE)
    elder.number, younger.number = 1, 2
    named(identities, [elder])
    assert named(identities, [younger]) == [[1]]  # the elder is hidden
    assert named(identities, [younger, elder]) == [[2, 1]]
    assert younger.distance is None
    # What the younger learns is not known of the elder any more.
    for _ in range(60):
        younger.appearance.add(appearance_of(*BLUE))
    assert named(identities, [], [track_of(*BLUE)]) == [[], [2]]


def test_an_older_track_is_known_again_after_others_replaced_its_appearance(
    model: AppearanceModel,
) -> None:
    identities = Identities(model)
    elders = [[track_of(*RED)] for _ in range(4)]
    youngers = [[track_of(*ORANGE)] for _ in range(4)]
    for (younger,) in youngers:
        younger.number = 2
    assert named(identities, *elders) == [[1]] * 4
    assert named(identities, *youngers) == [[1]] * 4  # four cameras' elders are hidden
    both = [[*elder, *younger] for elder, younger in zip(elders, youngers, strict=True)]
    assert named(identities, *both) == [[1, 2]] * 4
    for (younger,) in youngers:
        for _ in range(60):
            younger.appearance.add(appearance_of(*BLUE))
    assert named(identities, [], [track_of(*BLUE)], [track_of(*RED)]) == [[], [2], [1]]


def test_an_identity_stays_whatever_comes_later(model: AppearanceModel) -> None:
    identities = Identities(model)
    red = track_of(*RED)
    named(identities, [red])
    for _ in range(60):
        red.appearance.add(appearance_of(*BLUE))
    assert named(identities, [red]) == [[1]]
    # The identity has learned what its track did.
    assert named(identities, [], [track_of(*BLUE)]) == [[], [1]]


def test_all_newcomers_are_named_together_at_the_least_distance(model: AppearanceModel) -> None:
    identities = Identities(model)
    named(identities, [track_of(*RED), track_of(*ORANGE)])
    # Each newcomer is nearest to RED; the second has no other.
    first, second = (0.95, 0.2, 0.1), (1, 0, -0.5)
    assert named(identities, [], [track_of(*first), track_of(*second)]) == [[], [2, 1]]


def test_a_track_gets_its_identity_when_it_was_described_often_enough(
    model: AppearanceModel,
) -> None:
    identities = Identities(model)
    red = track_of(*RED, described=MIN_DESCRIBED - 1)
    assert named(identities, [red]) == [[None]]
    red.appearance.add(appearance_of(*RED))
    assert named(identities, [red]) == [[1]]
    assert red.distance is None  # no one was recognised
    again = track_of(*ORANGE)
    named(identities, [], [again])
    assert again.distance == pytest.approx(float(np.linalg.norm(vector(*ORANGE) - vector(*RED))))


def vector(*colours: float) -> FloatArray:
    return np.asarray(appearance_of(*colours).rows[0]["vector"][0], np.float32)


def test_whoever_was_unseen_for_longest_is_forgotten_and_gets_no_old_number(
    model: AppearanceModel,
) -> None:
    identities = Identities(model, capacity=2)
    named(identities, [track_of(*RED)])
    named(identities, [track_of(*BLUE)])
    named(identities, [track_of(*RED)])
    named(identities, [track_of(*GREEN)])  # BLUE goes
    assert named(identities, [track_of(*RED)]) == [[1]]
    assert named(identities, [track_of(*BLUE)]) == [[4]]
    assert identities.num_given == 4


def test_a_pair_network_remembers_fewer() -> None:
    pairs = AppearanceModel(
        PairMatcher(DescribeRunner(), CompareRunner(), batch_size=4), limit=-1e-9
    )
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20, 10, 3)).astype(np.uint8) for _ in range(2)]
    appearance = [one for one in pairs.describe(images, [0.9, 0.9]) if one]
    identities = Identities(pairs)
    tracks = [Track(n, Motion(BOX), one, BOX, 0.9, 0.0, 0.0) for n, one in enumerate(appearance)]
    for track in tracks:
        track.appearance.count = MIN_DESCRIBED
    assert named(identities, tracks[:1], tracks[1:]) == [[1], [1]]  # everybody is alike here
    assert PAIR_CAPACITY < CAPACITY


def test_of_an_identity_the_newest_tracks_are_compared(model: AppearanceModel) -> None:
    identities = Identities(model)
    turned = [(np.cos(angle), np.sin(angle), 0) for angle in np.arange(0, 3, 0.5)]
    # Who turns round a little in each camera is known from every side that was seen lately.
    assert [named(identities, [track_of(*colours)])[0] for colours in turned] == [[1]] * 6
    assert named(identities, [track_of(*turned[0])]) == [[2]]  # six sides, of which four are kept
