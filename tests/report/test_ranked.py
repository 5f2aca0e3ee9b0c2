"""Ranked lists: which queries are shown, in which frames, and what is written."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.errors import DataError
from reid.evaluation.ranking import rank_distances
from reid.matching.labels import labels_from_records
from reid.report.drawing import CELL_HEIGHT, CELL_WIDTH, FRAME_OF_QUERY, RIGHT, WRONG
from reid.report.ranked import closeness, ranked_list_picture, write_ranked_list
from reid.types import FloatArray, Image, ImageRecord, Protocol, Ranking, Split

GREY = 128


@pytest.fixture
def gallery(tmp_path: Path) -> list[ImageRecord]:
    """Three people of camera 2 in grey images of different shapes."""
    records = []
    for person, shape in ((1, (128, 64, 3)), (2, (60, 60, 3)), (3, (400, 90, 3))):
        path = tmp_path / f"{person}.png"
        assert cv2.imwrite(str(path), np.full(shape, GREY, np.uint8))
        records.append(ImageRecord(path, person, 2))
    return records


def queries_of(gallery: list[ImageRecord], *people: int) -> list[ImageRecord]:
    return [ImageRecord(gallery[0].path, person, 1) for person in people]


def ranking_of(
    query: list[ImageRecord], gallery: list[ImageRecord], matrix: FloatArray, k: int = 3
) -> Ranking:
    return rank_distances(
        lambda rows: matrix[rows], labels_from_records(query), labels_from_records(gallery), k
    )


def frames(picture: Image) -> list[str]:
    """The frames' colours from left to right, row by row, seen on their top left corners."""
    found = []
    for name, colour in (("query", FRAME_OF_QUERY), ("right", RIGHT), ("wrong", WRONG)):
        here = np.all(picture == colour, axis=2)
        corner = here[1:, 1:] & ~here[:-1, 1:] & ~here[1:, :-1]
        for y, x in np.argwhere(corner) + 1:
            if here[y, x : x + CELL_WIDTH].all() and here[y : y + CELL_HEIGHT, x].all():
                found.append((int(y), int(x), name))
    return [name for _, _, name in sorted(found)]


def test_right_and_wrong_images_are_framed_in_their_colours(gallery: list[ImageRecord]) -> None:
    query = queries_of(gallery, 2)
    ranking = ranking_of(query, gallery, np.array([[0.1, 0.2, 0.3]], np.float32))
    picture = ranked_list_picture(query, gallery, ranking)
    assert frames(picture) == ["query", "wrong", "right", "wrong"]
    assert picture[0, 0].tolist() == [255, 255, 255]


def test_the_list_is_cut_to_k_and_a_short_list_leaves_its_end_white(
    gallery: list[ImageRecord],
) -> None:
    query = queries_of(gallery, 1)
    matrix = np.array([[0.1, 0.2, 0.3]], np.float32)
    cut = ranked_list_picture(query, gallery, ranking_of(query, gallery, matrix), k=2)
    assert frames(cut) == ["query", "right", "wrong"]
    short = ranked_list_picture(query, gallery, ranking_of(query, gallery, matrix, k=5), k=5)
    assert frames(short) == ["query", "right", "wrong", "wrong"]
    assert short.shape[1] > cut.shape[1]


def test_worst_first_begins_with_the_most_confident_mistake(gallery: list[ImageRecord]) -> None:
    query = queries_of(gallery, 1, 2, 3)
    # Person 1 is right at once; 2 and 3 are right last, 3 with the smaller first distance.
    matrix = np.array([[0.1, 0.5, 0.6], [0.4, 0.9, 0.5], [0.2, 0.3, 0.9]], np.float32)
    ranking = ranking_of(query, gallery, matrix, k=1)
    first = ranked_list_picture(query, gallery, ranking, num_queries=1, worst_first=True)
    same = ranked_list_picture(
        query[2:],
        gallery,
        ranking_of(query[2:], gallery, matrix[2:], k=1),
        title="Most confident mistakes",
    )
    assert np.array_equal(first, same)
    every = ranked_list_picture(query, gallery, ranking, worst_first=True)
    assert frames(every) == ["query", "wrong", "query", "wrong", "query", "right"]


def test_a_query_without_an_answer_is_not_shown(gallery: list[ImageRecord]) -> None:
    query = queries_of(gallery, 9, 1)
    ranking = ranking_of(query, gallery, np.array([[0.1, 0.2, 0.3]] * 2, np.float32))
    assert frames(ranked_list_picture(query, gallery, ranking)).count("query") == 1
    with pytest.raises(DataError, match="correct match"):
        ranked_list_picture(
            query[:1], gallery, ranking_of(query[:1], gallery, np.zeros((1, 3), np.float32))
        )


def test_a_written_list_is_the_picture_of_the_split_and_its_ranking(
    gallery: list[ImageRecord], tmp_path: Path
) -> None:
    query = queries_of(gallery, 1, 2)
    ranking = ranking_of(query, gallery, np.array([[0.1, 0.2, 0.3], [0.1, 0.3, 0.2]], np.float32))
    split = Split("grey", (), tuple(query), tuple(gallery), Protocol("market"))
    png = tmp_path / "ranked.png"
    write_ranked_list(png, split, ranking, num_queries=1, k=2, worst_first=True)
    expected = ranked_list_picture(query, gallery, ranking, num_queries=1, k=2, worst_first=True)
    assert np.array_equal(cv2.imread(str(png)), expected)


def test_images_keep_their_aspect(gallery: list[ImageRecord]) -> None:
    query = queries_of(gallery, 1)
    ranking = ranking_of(query, gallery, np.array([[0.3, 0.1, 0.2]], np.float32))
    picture = ranked_list_picture(query, gallery, ranking, k=1)
    inside_of_square = np.argwhere(np.all(picture == GREY, axis=2))
    right_half = inside_of_square[inside_of_square[:, 1] > picture.shape[1] // 2]
    height, width = np.ptp(right_half, axis=0) + 1
    assert height == width


def test_a_ranking_of_other_queries_is_refused(gallery: list[ImageRecord]) -> None:
    query = queries_of(gallery, 1)
    ranking = ranking_of(query, gallery, np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="2 queries, found 1"):
        ranked_list_picture(query * 2, gallery, ranking)


def test_an_image_that_cannot_be_read_is_named(gallery: list[ImageRecord]) -> None:
    query = queries_of(gallery, 1)
    ranking = ranking_of(query, gallery, np.zeros((1, 3), np.float32))
    gallery[2].path.write_bytes(b"")
    with pytest.raises(DataError, match=r"3\.png"):
        ranked_list_picture(query, gallery, ranking)


def test_a_score_is_shown_as_a_score_and_a_distance_as_a_distance() -> None:
    assert [closeness(value) for value in (-1.6874, 0.0, 0.5)] == [
        "score 1.687",
        "d 0.000",
        "d 0.500",
    ]


def test_matches_beyond_the_limit_are_marked(gallery: list[ImageRecord]) -> None:
    query = queries_of(gallery, 1)
    ranking = ranking_of(query, gallery, np.array([[0.1, 0.2, 0.3]], np.float32))
    plain = ranked_list_picture(query, gallery, ranking)
    changed = []
    for limit in (0.05, 0.25, float(ranking.distances[0, 2])):
        marked = ranked_list_picture(query, gallery, ranking, limit=limit)
        columns = np.flatnonzero((marked != plain).any(axis=(0, 2)))
        changed.append([int(columns.min()), int(columns.max())] if len(columns) else [])
    first, second, none = changed
    assert none == []  # equal is within
    assert first[0] < second[0]  # all three, then the last one
    assert first[1] == second[1]
