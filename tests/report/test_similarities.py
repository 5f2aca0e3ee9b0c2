"""Pictures of attended parts and similarity maps: their size, frames, outlines and heat."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reid.evaluation.ranking import rank_distances
from reid.losses.settings import DEFAULTS
from reid.matching.labels import labels_from_records
from reid.model_file.preprocess import Preprocess
from reid.models.csn.network import Csn
from reid.models.csn.settings import CsnSettings
from reid.models.csn.similarity_maps import parts_seen
from reid.models.looks import PartsSeen
from reid.report.drawing import (
    CELL_HEIGHT,
    CELL_WIDTH,
    FRAME,
    FRAME_OF_QUERY,
    HEADER_HEIGHT,
    MARGIN,
    QUERY_GAP,
    RIGHT,
    TITLE_HEIGHT,
    WRONG,
)
from reid.report.similarities import MATCH_GAP, PANEL_GAP, colour_of, similarities_picture
from reid.types import FloatArray, Image, ImageRecord, Ranking

SIZE = Preprocess(160, 60, 160, 60)
TOP = MARGIN + TITLE_HEIGHT + HEADER_HEIGHT
FIRST_MATCH = MARGIN + CELL_WIDTH + QUERY_GAP
ROW = np.array([[-1.5, -2.5, -0.5]], np.float32)
"""Minus the scores of one query: its best match is the gallery's second image."""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    """Three people of camera 2, images of noise."""
    folder, rng = tmp_path_factory.mktemp("gallery"), np.random.default_rng(0)
    records = []
    for person in (1, 2, 3):
        path = folder / f"{person}.png"
        assert cv2.imwrite(str(path), rng.integers(60, 200, (128, 64, 3)).astype(np.uint8))
        records.append(ImageRecord(path, person, 2))
    return records


def query_of(gallery: list[ImageRecord], person: int) -> list[ImageRecord]:
    return [ImageRecord(gallery[0].path, person, 1)]


def ranking_of(
    query: list[ImageRecord], gallery: list[ImageRecord], matrix: FloatArray, k: int = 3
) -> Ranking:
    return rank_distances(
        lambda rows: matrix[rows], labels_from_records(query), labels_from_records(gallery), k
    )


def network_of(*levels: int) -> Csn:
    torch.manual_seed(0)
    return Csn(CsnSettings(levels=levels)).eval()


def seen_by(network: Csn) -> Callable[[list[Image]], PartsSeen]:
    return partial(parts_seen, network, SIZE, losses=DEFAULTS)


def match_width(num_levels: int) -> int:
    return CELL_WIDTH + num_levels * (PANEL_GAP + CELL_WIDTH) + MATCH_GAP


def cell(picture: Image, left: int) -> Image:
    return picture[TOP : TOP + CELL_HEIGHT, left : left + CELL_WIDTH]


def has(part: Image, colour: tuple[int, int, int]) -> bool:
    return bool((part == colour).all(2).any())


@pytest.mark.parametrize("levels", [(3,), (2, 3), (2, 3, 4)])
def test_each_match_has_its_frame_its_parts_and_a_panel_per_level(
    levels: tuple[int, ...], gallery: list[ImageRecord]
) -> None:
    query = query_of(gallery, 1)
    ranking = ranking_of(query, gallery, ROW)
    picture = similarities_picture(seen_by(network_of(*levels)), query, gallery, ranking)
    lefts = [FIRST_MATCH + rank * match_width(len(levels)) for rank in range(3)]
    frames = [tuple(cell(picture, left)[0, 0].tolist()) for left in (MARGIN, *lefts)]
    assert frames == [FRAME_OF_QUERY, WRONG, RIGHT, WRONG]
    for left in (MARGIN, *lefts):
        outlined = cell(picture, left)[FRAME:-FRAME, FRAME:-FRAME]
        assert [level for level in (2, 3, 4) if has(outlined, colour_of(level))] == list(levels)
    for left in lefts:
        for i in range(len(levels)):
            panel = cell(picture, left + (i + 1) * (CELL_WIDTH + PANEL_GAP))
            inside = panel[FRAME:-FRAME, FRAME:-FRAME].astype(int)
            assert np.abs(inside[..., 0] - inside[..., 2]).max() > 20  # no longer grey
            assert not has(panel, colour_of(levels[i]))


def test_each_image_has_its_own_parts(gallery: list[ImageRecord], tmp_path: Path) -> None:
    network = network_of(3)
    for module in network.attend.modules():
        if isinstance(module, torch.nn.Linear):  # from features to the transform
            torch.nn.init.normal_(module.weight, std=0.1)
    bright = ImageRecord(tmp_path / "bright.png", 2, 2)
    assert cv2.imwrite(str(bright.path), np.full((128, 64, 3), 255, np.uint8))
    query = query_of(gallery, 1)  # the gallery's first image, its second best match
    shown = [gallery[0], bright, gallery[2]]
    picture = similarities_picture(seen_by(network), query, shown, ranking_of(query, shown, ROW))
    first, second = (FIRST_MATCH + rank * match_width(1) for rank in (0, 1))
    outlines = [(cell(picture, x) == colour_of(3)).all(2) for x in (MARGIN, first, second)]
    assert np.array_equal(outlines[0], outlines[2])
    moved = (outlines[0] != outlines[1]).sum() / outlines[0].sum()
    assert moved > 0.2


def test_a_level_has_one_scale_of_colours_in_a_row(gallery: list[ImageRecord]) -> None:
    query, network = query_of(gallery, 1), network_of(3)

    def panels(scores: list[float], k: int) -> list[Image]:
        ranking = ranking_of(query, gallery, -np.array([scores], np.float32))
        picture = similarities_picture(seen_by(network), query, gallery, ranking, k=k)
        start = FIRST_MATCH + CELL_WIDTH + PANEL_GAP
        return [cell(picture, start + rank * match_width(1)) for rank in range(k)]

    together = panels([3, 2, 1], 2)
    alone = panels([3, 2, 1], 1) + panels([2, 3, 1], 1)
    same = [np.array_equal(one, other) for one, other in zip(together, alone, strict=True)]
    assert not all(same)


def test_a_row_is_added_for_each_query_and_k_cuts_the_matches(gallery: list[ImageRecord]) -> None:
    query = query_of(gallery, 1) + query_of(gallery, 3)
    network = network_of(3)

    def shape(rows: int, k: int) -> tuple[int, ...]:
        ranking = ranking_of(query[:rows], gallery, np.concatenate([ROW] * rows))
        return similarities_picture(seen_by(network), query[:rows], gallery, ranking, k).shape

    shapes = [shape(1, 2), shape(2, 2), shape(2, 9)]
    assert shapes[1][0] - shapes[0][0] > CELL_HEIGHT
    assert shapes[0][1] == shapes[1][1]
    assert shapes[2] == (shapes[1][0], shapes[1][1] + match_width(1), 3)


def test_a_query_with_few_matches_leaves_its_end_white(gallery: list[ImageRecord]) -> None:
    query = query_of(gallery, 1)
    ranking = ranking_of(query, gallery[:2], ROW[:, :2], k=3)
    picture = similarities_picture(seen_by(network_of(3)), query, gallery[:2], ranking)
    assert (cell(picture, FIRST_MATCH + 2 * match_width(1)) == 255).all()
    assert not (cell(picture, FIRST_MATCH + match_width(1)) == 255).all()
