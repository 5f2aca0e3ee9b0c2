"""One value is one colour, and what was not seen has none."""

from __future__ import annotations

import numpy as np

from reid.report.heat import coloured, heat


def test_heat_has_one_colour_for_one_value_and_leaves_grey_what_was_not_seen() -> None:
    image = np.full((2, 4, 3), (10, 120, 240), np.uint8)
    values = np.array([[0, 1, 2, 3], [np.nan, 1, 9, -9]], np.float32)
    drawn = heat(image, values, (0.0, 3.0))
    assert drawn.shape == image.shape
    assert drawn[0, 1].tolist() == drawn[1, 1].tolist()
    assert drawn[0, 3].tolist() == drawn[1, 2].tolist()
    assert drawn[0, 0].tolist() == drawn[1, 3].tolist()
    brightness = drawn[0].astype(int).sum(-1)
    assert (np.diff(brightness) > 0).all()
    assert len(set(drawn[1, 0].tolist())) == 1


def test_a_flat_map_is_drawn_too() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    drawn = heat(image, np.ones((2, 2), np.float32), (1.0, 1.0))
    assert (drawn == drawn[0, 0]).all()


def test_colours_grow_brighter_from_the_scale_s_low_end_to_its_high_one() -> None:
    drawn = coloured(np.array([[-1, 2, 3, 4, 5, 9]], np.float32), (2.0, 5.0))
    assert drawn.shape == (1, 6, 3)
    brightness = drawn[0].astype(int).sum(-1)
    assert brightness[0] == brightness[1]
    assert (np.diff(brightness[1:5]) > 0).all()
    assert brightness[4] == brightness[5]
