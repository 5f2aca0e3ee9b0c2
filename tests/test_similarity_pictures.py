"""Pictures of attended parts and similarity maps: their size, frames, outlines and heat."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reid.checkpoint import Checkpoint, build_configured_network, save_checkpoint
from reid.drawing import (
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
from reid.errors import DataError, ModelFileError
from reid.manifest import Manifest
from reid.models.csn import Csn
from reid.preprocess import Preprocess
from reid.ranking import labels_from_records, rank_distances
from reid.settings import resolve_config
from reid.similarity_pictures import (
    COLOURS,
    MATCH_GAP,
    PANEL_GAP,
    heat,
    similarities_picture,
    write_similarities,
)
from reid.types import FloatArray, Image, ImageRecord, Protocol, Ranking, Split

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
    return Csn(levels=levels).eval()


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
    picture = similarities_picture(network_of(*levels), SIZE, query, gallery, ranking)
    lefts = [FIRST_MATCH + rank * match_width(len(levels)) for rank in range(3)]
    frames = [tuple(cell(picture, left)[0, 0].tolist()) for left in (MARGIN, *lefts)]
    assert frames == [FRAME_OF_QUERY, WRONG, RIGHT, WRONG]
    for left in (MARGIN, *lefts):
        outlined = cell(picture, left)[FRAME:-FRAME, FRAME:-FRAME]
        assert [level for level in COLOURS if has(outlined, COLOURS[level])] == list(levels)
    for left in lefts:
        for i in range(len(levels)):
            panel = cell(picture, left + (i + 1) * (CELL_WIDTH + PANEL_GAP))
            inside = panel[FRAME:-FRAME, FRAME:-FRAME].astype(int)
            assert np.abs(inside[..., 0] - inside[..., 2]).max() > 20  # no longer grey
            assert not has(panel, COLOURS[levels[i]])


def test_each_image_has_its_own_parts(gallery: list[ImageRecord], tmp_path: Path) -> None:
    network = network_of(3)
    for module in network.attend.modules():
        if isinstance(module, torch.nn.Linear):  # from features to the transform
            torch.nn.init.normal_(module.weight, std=0.1)
    bright = ImageRecord(tmp_path / "bright.png", 2, 2)
    assert cv2.imwrite(str(bright.path), np.full((128, 64, 3), 255, np.uint8))
    query = query_of(gallery, 1)  # the gallery's first image, its second best match
    shown = [gallery[0], bright, gallery[2]]
    picture = similarities_picture(network, SIZE, query, shown, ranking_of(query, shown, ROW))
    first, second = (FIRST_MATCH + rank * match_width(1) for rank in (0, 1))
    outlines = [(cell(picture, x) == COLOURS[3]).all(2) for x in (MARGIN, first, second)]
    assert np.array_equal(outlines[0], outlines[2])
    moved = (outlines[0] != outlines[1]).sum() / outlines[0].sum()
    assert moved > 0.2


def test_a_level_has_one_scale_of_colours_in_a_row(gallery: list[ImageRecord]) -> None:
    query, network = query_of(gallery, 1), network_of(3)

    def panels(scores: list[float], k: int) -> list[Image]:
        ranking = ranking_of(query, gallery, -np.array([scores], np.float32))
        picture = similarities_picture(network, SIZE, query, gallery, ranking, k=k)
        start = FIRST_MATCH + CELL_WIDTH + PANEL_GAP
        return [cell(picture, start + rank * match_width(1)) for rank in range(k)]

    together = panels([3, 2, 1], 2)
    alone = panels([3, 2, 1], 1) + panels([2, 3, 1], 1)
    same = [np.array_equal(one, other) for one, other in zip(together, alone, strict=True)]
    assert not all(same)


def test_a_row_is_added_for_each_query_and_k_cuts_the_matches(gallery: list[ImageRecord]) -> None:
    query = query_of(gallery, 1) + query_of(gallery, 3)
    ranking = ranking_of(query, gallery, np.concatenate([ROW, ROW]))
    network = network_of(3)
    shapes = [
        similarities_picture(
            network, SIZE, query, gallery, ranking, num_queries=num_queries, k=k
        ).shape
        for num_queries, k in ((1, 2), (2, 2), (2, 9))
    ]
    assert shapes[1][0] - shapes[0][0] > CELL_HEIGHT
    assert shapes[0][1] == shapes[1][1]
    assert shapes[2] == (shapes[1][0], shapes[1][1] + match_width(1), 3)


def test_a_query_with_few_matches_leaves_its_end_white(gallery: list[ImageRecord]) -> None:
    query = query_of(gallery, 1)
    ranking = ranking_of(query, gallery[:2], ROW[:, :2], k=3)
    picture = similarities_picture(network_of(3), SIZE, query, gallery[:2], ranking)
    assert (cell(picture, FIRST_MATCH + 2 * match_width(1)) == 255).all()
    assert not (cell(picture, FIRST_MATCH + match_width(1)) == 255).all()


def test_without_an_answerable_query_there_is_no_picture(gallery: list[ImageRecord]) -> None:
    query = query_of(gallery, 9)
    with pytest.raises(DataError, match="no query has a right image"):
        similarities_picture(network_of(3), SIZE, query, gallery, ranking_of(query, gallery, ROW))


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


def write_run(folder: Path, recipe: str) -> Path:
    """An untrained network of a recipe, as a run folder."""
    config = resolve_config(recipe, None, ())
    torch.manual_seed(0)
    network = build_configured_network(config, 3)
    manifest = Manifest(config.network.name, "train", config.preprocess)
    checkpoint = Checkpoint(config, manifest, 3, network.state_dict())
    save_checkpoint(folder / "checkpoint.pt", checkpoint)
    return folder


def test_a_run_s_picture_is_that_of_its_network(gallery: list[ImageRecord], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "csn_cuhk01")
    query = query_of(gallery, 2)
    split = Split("noise", (), tuple(query), tuple(gallery), Protocol("market"))
    ranking = ranking_of(query, gallery, ROW)
    write_similarities(tmp_path / "out" / "s.png", run, split, ranking, k=2)
    preprocess = resolve_config("csn_cuhk01", None, ()).preprocess
    expected = similarities_picture(network_of(2, 3), preprocess, query, gallery, ranking, k=2)
    assert np.array_equal(cv2.imread(str(tmp_path / "out" / "s.png")), expected)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["s.png"]
    other = similarities_picture(
        network_of(2, 3), dataclasses.replace(preprocess, crop_width=50), query, gallery, ranking
    )
    assert not np.array_equal(other[:, : expected.shape[1]], expected)


def test_a_run_of_a_network_without_parts_is_refused(
    gallery: list[ImageRecord], tmp_path: Path
) -> None:
    run = write_run(tmp_path, "msp_cnn_synthetic")
    query = query_of(gallery, 2)
    split = Split("noise", (), tuple(query), tuple(gallery), Protocol("market"))
    with pytest.raises(ModelFileError, match=r"a run of msp_cnn; attended parts .* are csn's"):
        write_similarities(tmp_path / "s.png", run, split, ranking_of(query, gallery, ROW))
    assert not (tmp_path / "s.png").exists()
