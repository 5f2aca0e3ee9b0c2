"""Masks and zones: polygons in shares of a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.deploy.cameras.cameras import Cameras
from reid.deploy.cameras.polygons import MaskedReader, checked_polygon, contains, covered
from reid.deploy.cameras.sources import parse_sources
from reid.errors import ConfigError

LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
TRIANGLE = ((0.1, 0.1), (0.9, 0.2), (0.4, 0.8))


def inside(polygon: tuple[tuple[float, float], ...], x: float, y: float) -> bool:
    """The ray from a point crosses the edges an odd number of times."""
    crossings = 0
    for (x1, y1), (x2, y2) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            crossings += 1
    return crossings % 2 == 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=7),
    st.integers(3, 60),
    st.integers(3, 60),
)
def test_every_pixel_whose_centre_is_inside_is_covered(
    corners: list[tuple[float, float]], height: int, width: int
) -> None:
    found = covered([tuple(corners)], height, width)
    for row in range(height):
        for column in range(width):
            x, y = (column + 0.5) / width, (row + 0.5) / height
            if inside(tuple(corners), x, y):
                assert found[row, column]


def test_what_is_far_from_the_polygon_is_left_alone() -> None:
    found = covered([LEFT_HALF], 100, 200)
    assert found[:, :100].all()
    assert not found[:, 103:].any()
    several = covered([LEFT_HALF, ((0.9, 0.9), (1, 0.9), (1, 1))], 100, 200)
    assert several[99, 199]
    assert not several[:80, 103:].any()


@pytest.mark.parametrize("point", [(0.4, 0.3), (0.2, 0.2), (0.5, 0.6)])
def test_a_place_inside_is_in_the_zone(point: tuple[float, float]) -> None:
    assert contains(TRIANGLE, *point) == inside(TRIANGLE, *point) is True


@pytest.mark.parametrize("point", [(0.0, 0.0), (0.9, 0.9), (0.1, 0.7)])
def test_a_place_outside_is_not(point: tuple[float, float]) -> None:
    assert not contains(TRIANGLE, *point)


def test_masked_pixels_are_black_in_every_frame_and_the_rest_is_untouched(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folders = {}
    for name, size in (("door", (40, 60)), ("yard", (30, 50))):
        (tmp_path / name).mkdir()
        folders[name] = [rng.integers(1, 255, (*size, 3)).astype(np.uint8) for _ in range(3)]
        for number, image in enumerate(folders[name]):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), image)
    sources = parse_sources([f"{name}={tmp_path / name}" for name in folders])
    seen: dict[str, list[np.ndarray]] = {name: [] for name in folders}
    with Cameras(sources, MaskedReader({"door": [LEFT_HALF], "yard": []})) as cameras:
        for frames in cameras.rounds():
            for frame in frames:
                seen[frame.camera].append(frame.image)
    mask = covered([LEFT_HALF], 40, 60)
    for found, image in zip(seen["door"], folders["door"], strict=True):
        assert not found[mask].any()
        assert (found[~mask] == image[~mask]).all()
    assert all(map(np.array_equal, seen["yard"], folders["yard"]))


@pytest.mark.parametrize(
    ("corners", "named"),
    [
        ([[0, 0], [1, 1]], "3 to 1000"),
        ([[0, 0], [1, 0], [1, 1.5]], "1.5"),
        ([[0, 0], [1, 0], [1]], "x, y"),
        ([[0, 0], [0.5, 0.5], [1, 1]], "no area"),
        ([[0, 0], [1, 0], [1, float("nan")]], "nan"),
    ],
)
def test_what_is_no_polygon_is_named(corners: list[list[float]], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        checked_polygon(corners, "camera door, mask 1")
    assert "camera door, mask 1" in str(caught.value)
