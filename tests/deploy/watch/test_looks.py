"""The best looks of a track: few, apart in time, and poor ones only where there is no other."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from reid.deploy.watch.looks import (
    LookSettings,
    PersonLook,
    TrackLooks,
    is_cut,
    quality_of,
    sharpness,
)
from reid.types import Image
from tests.deploy.watch.conftest import appearance_of

SETTINGS = LookSettings(most=3, apart_s=2.0, due_s=(2.0, 20.0, 60.0))
CROP = np.zeros((50, 20, 3), np.uint8)
Offer = tuple[float, float]
"""Time and quality."""


def look(time_s: float, quality: float, poor: bool = False) -> PersonLook:
    return PersonLook(quality, time_s, poor, (0, 0, 20, 50), appearance_of(1), CROP, {})


def chosen(offers: Sequence[Offer], poor: Sequence[Offer] = (), end_s: float = 1.9) -> list[float]:
    """Times of the looks of a track that ends at ``end_s``, in the order of handing over."""
    looks = TrackLooks(0.0, SETTINGS)
    found = []
    for time_s, quality, is_poor in sorted(
        [(*one, False) for one in offers] + [(*one, True) for one in poor]
    ):
        if looks.wants(quality, is_poor, time_s):
            looks.add(look(time_s, quality, is_poor))
        found += looks.due(time_s)
    return [one.time_s for one in [*found, *looks.due(end_s), *looks.rest()]]


def test_of_a_short_track_the_best_look_is_kept() -> None:
    assert chosen([(0.5, 0.2), (1.0, 0.9), (1.5, 0.5)]) == [1.0]
    assert chosen([]) == []


@pytest.mark.parametrize(("seen_s", "kept"), [(0.25, 0), (0.5, 1)])
def test_a_flicker_of_the_detector_gives_no_look(seen_s: float, kept: int) -> None:
    looks = TrackLooks(0.0, LookSettings(least_s=0.5))
    looks.add(look(0.0, 0.9))
    looks.due(seen_s)
    assert len(looks.rest()) == kept


def test_two_looks_are_never_of_one_moment() -> None:
    times = chosen([(n / 4, 0.5 + n / 1000) for n in range(200)], end_s=50.0)
    assert 2 <= len(times) <= 3
    assert np.diff(sorted(times)).min() >= SETTINGS.apart_s


def test_a_long_track_has_three_looks_at_most_however_good_later_ones_are() -> None:
    times = chosen([(float(n), n / 1000) for n in range(600)], end_s=600.0)
    assert len(times) == 3


def test_who_stays_can_be_searched_before_they_leave() -> None:
    looks = TrackLooks(100.0, SETTINGS)
    looks.add(look(100.5, 0.9))
    looks.add(look(101.0, 0.5))
    assert looks.due(101.9) == []
    assert [one.time_s for one in looks.due(102.0)] == [100.5]
    assert looks.due(110.0) == []
    looks.add(look(111.0, 0.1))
    assert [one.time_s for one in looks.due(120.0)] == [111.0]
    assert looks.rest() == []


def test_a_poor_look_stands_only_where_there_is_no_other() -> None:
    assert chosen([], poor=[(0.5, 0.1), (1.0, 0.3)]) == [1.0]
    assert chosen([(0.5, 0.01)], poor=[(1.0, 0.9)]) == [0.5]
    # It is not handed over while a better one may come.
    looks = TrackLooks(0.0, SETTINGS)
    looks.add(look(0.5, 0.9, poor=True))
    assert looks.due(5.0) == []
    looks.add(look(6.0, 0.01))
    assert [one.time_s for one in looks.due(6.0)] == [6.0]
    assert looks.rest() == []


def test_what_a_look_says_that_it_wants_is_what_it_keeps() -> None:
    rng = np.random.default_rng(0)
    looks = TrackLooks(0.0, SETTINGS)
    for n in range(300):
        one = look(n / 4, float(rng.random()), bool(rng.random() < 0.3))
        wanted = looks.wants(one.quality, one.poor, one.time_s)
        looks.add(one)
        assert (one in looks.kept) == wanted
        assert len(looks.kept) + len(looks.given_s) <= SETTINGS.most
        looks.due(one.time_s)


def texture(blurred: bool) -> Image:
    rng = np.random.default_rng(1)
    image = cv2.resize(rng.integers(0, 256, (32, 16, 3)).astype(np.uint8), (64, 128))
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 6) if blurred else image, np.uint8)


def test_a_sharp_large_whole_and_sure_person_is_better() -> None:
    sharp = texture(blurred=False)
    assert sharpness(sharp) > sharpness(texture(blurred=True))
    best = quality_of(sharp, 0.9, False)
    small = np.asarray(cv2.resize(sharp, (12, 24)), np.uint8)
    flat = np.full_like(sharp, 100)
    others = [quality_of(sharp, 0.5, False), quality_of(sharp, 0.9, True)]
    others += [quality_of(small, 0.9, False), quality_of(flat, 0.9, False)]
    assert 0 < best <= 1
    assert all(0 <= other < best for other in others)


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ([10, 10, 30, 60], False),
        ([0, 10, 30, 60], True),
        ([10, 0.5, 30, 60], True),
        ([10, 10, 100, 60], True),
        ([10, 10, 30, 79], True),
    ],
)
def test_a_box_at_the_edge_of_its_frame_is_cut(box: list[float], cut: bool) -> None:
    assert is_cut(np.array(box, np.float32), 100, 80) is cut
