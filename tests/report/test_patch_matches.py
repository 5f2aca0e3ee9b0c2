"""The matches that are drawn are the loss's, and lie where they were found."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from reid.losses.patch_matching import Search
from reid.losses.settings import DEFAULTS
from reid.model_file.preprocess import Preprocess
from reid.models.looks import PatchMatch, PatchMatches
from reid.models.msp_cnn.looks import patch_matches, strongest_matches
from reid.models.msp_cnn.network import MspCnn
from reid.report.chosen import Trio
from reid.report.drawing import MARGIN, TITLE_HEIGHT
from reid.report.patch_matches import (
    COLOURS,
    IMAGE_HEIGHT,
    NAME_HEIGHT,
    PAIR_GAP,
    patch_matches_picture,
)
from reid.types import Image, ImageRecord
from tests.losses.test_cross_correlation import relu_maps, standardised, window

SEARCH = Search(3, 5, 0.01, True)


def naive_matches(first: Tensor, second: Tensor, search: Search) -> list[PatchMatch]:
    """Every living patch's best match, written from the loss's docstring, strongest first."""
    found = []
    for channel, (one, other) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        height, width = len(one), len(one[0])
        for y in range(height):
            for x in range(width):
                a = window(one, y, x, search.patch)
                if min(a) == max(a):
                    continue
                scored = []
                for row in range(y - search.rows // 2, y + search.rows // 2 + 1):
                    for column in range(width):
                        b = standardised(window(other, row, column, search.patch), 0.01)
                        pairs = zip(standardised(a, 0.01), b, strict=True)
                        score = sum(p * q for p, q in pairs) / (search.patch**2 - 1)
                        scored.append((score, row, column))
                score, row, column = max(scored, key=lambda one: one[0])
                found.append(PatchMatch(channel, score, y, x, row, column))
    return sorted(found, key=lambda match: -match.score)


def shown_of(matches: list[PatchMatch], size: tuple[int, int], reach: int) -> list[PatchMatch]:
    """Those within both maps that overlap no stronger one."""
    chosen: list[PatchMatch] = []
    for match in matches:
        places = ((match.y, match.x), (match.other_y, match.other_x))
        inside = all(
            reach <= place < side - reach
            for pair in places
            for place, side in zip(pair, size, strict=True)
        )
        apart = all(
            abs(match.y - one.y) > 2 * reach or abs(match.x - one.x) > 2 * reach for one in chosen
        )
        if inside and apart:
            chosen.append(match)
    return chosen


def test_matches_are_those_of_a_literal_search() -> None:
    first, second = relu_maps(2, 2, 11, 9).double()
    expected = shown_of(naive_matches(first, second, SEARCH), (11, 9), 1)
    found = strongest_matches(first, second, SEARCH, 100)
    assert len(found) >= 4
    assert [one[:1] + one[2:] for one in found] == [one[:1] + one[2:] for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-5)
    assert strongest_matches(first, second, SEARCH, 3) == found[:3]


def test_a_moved_pattern_is_found_where_it_went() -> None:
    first = relu_maps(1, 1, 12, 16, seed=3)[0]
    second = first.roll((1, 4), (1, 2))
    for match in strongest_matches(first, second, SEARCH, 4):
        assert ((match.other_y - match.y) % 12, (match.other_x - match.x) % 16) == (1, 4)
        assert match.score > 0.9


def test_dead_maps_have_no_matches() -> None:
    assert strongest_matches(torch.zeros(2, 8, 8), relu_maps(2, 8, 8), SEARCH, 5) == []


SIZE = Preprocess(40, 24, 36, 20)
TOP = MARGIN + TITLE_HEIGHT + NAME_HEIGHT


@pytest.fixture
def trio(tmp_path: Path) -> Trio:
    """Noise; the positive is the anchor's own image."""
    noise = np.random.default_rng(0)
    for name in ("a", "b"):
        image = noise.integers(0, 256, (40, 24, 3), np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    return Trio(ImageRecord(a, 1, 1), ImageRecord(a, 1, 2), ImageRecord(b, 2, 2))


def network() -> MspCnn:
    torch.manual_seed(0)
    return MspCnn(3).eval()


def seen(images: list[Image]) -> PatchMatches:
    return patch_matches(network(), SIZE, images, DEFAULTS)


def box_of(picture: Image, colour: tuple[int, int, int], left: int, right: int) -> list[int]:
    """The columns and rows between which a colour's long edges lie, from ``left`` to ``right``."""
    part = (picture[TOP : TOP + IMAGE_HEIGHT, left:right] == colour).all(2)
    edge = 5 * IMAGE_HEIGHT // 18 // 2  # half a patch of 5 on a map of 18 rows
    rows, columns = (np.flatnonzero(part.sum(axis) > edge) for axis in (1, 0))
    return [int(value) for value in (columns[0], columns[-1], rows[0], rows[-1])]


def test_a_match_is_boxed_where_it_lies_in_both_images(trio: Trio) -> None:
    search = Search(5, 5, 0.01, True)  # the losses' own settings
    picture = patch_matches_picture(seen, SIZE, trio)
    image = SIZE(cv2.imread(str(trio.anchor.path)))
    with torch.no_grad():
        pool1 = network().low_level(torch.from_numpy(image)[None])[0]
    best = strongest_matches(pool1, pool1, search, 1)[0]
    assert (best.y, best.x) == (best.other_y, best.other_x)  # an image is most like itself
    width = IMAGE_HEIGHT * 20 // 36
    step = IMAGE_HEIGHT / 18
    expected = [(best.x - 2) * step, (best.x + 3) * step, (best.y - 2) * step, (best.y + 3) * step]
    for left in (MARGIN, MARGIN + width + PAIR_GAP):
        found = box_of(picture, COLOURS[0], left, left + width)
        assert found == pytest.approx(expected, abs=3)


def test_the_negative_has_matches_of_its_own(trio: Trio) -> None:
    picture = patch_matches_picture(seen, SIZE, trio)
    middle = MARGIN + (picture.shape[1] - 2 * MARGIN) // 2
    twice = Trio(trio.anchor, trio.positive, trio.positive)
    swapped = patch_matches_picture(seen, SIZE, twice)
    assert np.array_equal(picture[:, : middle - 8], swapped[:, : middle - 8])
    assert not np.array_equal(picture[:, middle:], swapped[:, middle:])
