"""Boxes against hand-made ones: what overlaps, what is kept, what can be cut out."""

from __future__ import annotations

import numpy as np
import pytest

from reid.deploy.people.boxes import MAX_PEOPLE, People, no_people, overlaps, suppress, tidy
from reid.types import FloatArray


def boxes(*corners: tuple[float, float, float, float]) -> FloatArray:
    return np.array(corners, np.float32).reshape(-1, 4)


def people(*corners: tuple[float, float, float, float]) -> People:
    """Scores fall from the first to the last."""
    return People(boxes(*corners), np.linspace(0.9, 0.5, len(corners), dtype=np.float32))


def kept(found: People) -> list[list[float]]:
    return found.boxes.tolist()


def test_overlap_is_the_share_of_what_both_cover() -> None:
    # 10 x 10 and its right half: 50 of 100; moved down by half: 50 of 150; elsewhere: none.
    found = overlaps(
        boxes((0, 0, 10, 10)), boxes((5, 0, 10, 10), (0, 5, 10, 15), (10, 0, 20, 10), (3, 3, 3, 3))
    )
    assert found[0].tolist() == pytest.approx([0.5, 1 / 3, 0, 0])


def test_of_boxes_that_overlap_the_best_stays() -> None:
    crowd = people((0, 0, 10, 20), (1, 0, 11, 20), (30, 0, 40, 20), (0, 1, 10, 21))
    assert kept(suppress(crowd, 0.5)) == kept(crowd.of(np.array([0, 2])))
    assert len(suppress(crowd, 0.95).scores) == 4


def test_what_a_suppressed_box_overlaps_is_not_suppressed_by_it() -> None:
    chain = people((0, 0, 10, 10), (4, 0, 14, 10), (8, 0, 18, 10))
    assert kept(suppress(chain, 0.3)) == kept(chain.of(np.array([0, 2])))


def test_the_best_come_first_and_no_more_than_a_frame_can_hold() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 1e4, (2 * MAX_PEOPLE, 2))
    many = People(
        np.concatenate([places, places + 1], axis=1).astype(np.float32),
        rng.random(2 * MAX_PEOPLE).astype(np.float32),
    )
    found = suppress(many, 0.5)
    assert len(found.scores) == MAX_PEOPLE
    assert found.scores.tolist() == sorted(many.scores.tolist(), reverse=True)[:MAX_PEOPLE]


def test_a_crowd_is_kept_whole_though_each_of_it_has_many_boxes() -> None:
    places = np.repeat(100.0 * np.arange(60), 15) + np.tile(np.arange(15) / 10, 60)
    corners = np.stack([places, 0 * places, places + 20, 0 * places + 50], axis=1)
    scores = np.repeat(np.linspace(0.9, 0.5, 60), 15)  # whoever is weakest has 885 boxes above
    found = suppress(People(corners.astype(np.float32), scores.astype(np.float32)), 0.5)
    assert [box[0] for box in kept(found)] == [100.0 * n for n in range(60)]


def test_a_person_at_the_border_is_clipped_to_the_frame() -> None:
    found = tidy(people((-5, -8, 20, 40), (90, 30, 130, 70)), 100, 50, 16)
    assert kept(found) == [[0, 0, 20, 40], [90, 30, 100, 50]]


@pytest.mark.parametrize(
    "box",
    [
        (10, 10, 10, 40),  # no width
        (10, 40, 40, 40),  # no height
        (40, 10, 10, 40),  # inside out
        (10, 10, 17, 40),  # too narrow
        (10, 10, 40, 25),  # too low
        (96, 10, 140, 40),  # too narrow once clipped
        (200, 10, 240, 40),  # outside
        (-60, -60, -20, -20),
        (np.nan, 10, 40, 40),
        (10, 10, np.inf, 40),
    ],
)
def test_what_cannot_be_cut_out_is_dropped(box: tuple[float, float, float, float]) -> None:
    good = (10.0, 10.0, 20.0, 40.0)
    assert kept(tidy(people(box, good), 100, 50, 16)) == [list(good)]


def test_a_score_that_is_no_number_drops_its_box() -> None:
    odd = People(boxes((0, 0, 20, 40)), np.array([np.nan], np.float32))
    assert not len(tidy(odd, 100, 50, 16).scores)


def test_no_people_stay_no_people_after_everything() -> None:
    assert tidy(suppress(no_people(), 0.5), 100, 50, 16).boxes.shape == (0, 4)
    assert overlaps(no_people().boxes, boxes((0, 0, 1, 1))).shape == (0, 1)
