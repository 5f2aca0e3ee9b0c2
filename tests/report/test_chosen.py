"""Which images are shown: by the protocol's rules, whatever was kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reid.evaluation.evaluating import Evaluation
from reid.evaluation.scoring import measure
from reid.matching.labels import labels_from_records
from reid.report.chosen import Trio, ranking_of, trio_of
from reid.types import EvalReport, FloatArray, ImageRecord, Protocol, Split

GALLERY = tuple(
    ImageRecord(Path(f"{i}.png"), person, camera)
    for i, (person, camera) in enumerate([(1, 1), (-1, 2), (2, 2), (1, 2), (0, 3), (1, 3)])
)
"""Of person 1: its own camera's image, two others; junk, another person, a distractor."""


def evaluation_of(matrix: FloatArray, *people: int, keep: int = 3) -> Evaluation:
    """Queries of camera 1 with these distances to ``GALLERY``, ``keep`` nearest kept."""
    query = tuple(ImageRecord(Path(f"q{person}.png"), person, 1) for person in people)
    split = Split("drawn", (), query, GALLERY, Protocol("market"))
    labels = labels_from_records(query), labels_from_records(GALLERY)
    found = measure(lambda rows: matrix[rows], *labels, split.protocol, keep=keep)
    report = EvalReport("m", "drawn", split.protocol, 1, 6, 0, {1: 1.0}, 1.0, 1.0, 1.0)
    return Evaluation(
        report, split, lambda rows: matrix[rows], found.cmc_curve, found.ranking, found.verification
    )


def numbers(trio: Trio) -> list[str]:
    return [record.path.stem for record in trio]


def test_a_trio_is_the_nearest_right_and_the_nearest_wrong_image_that_the_protocol_ranks() -> None:
    matrix = np.array([[0.1, 0.2, 0.5, 0.4, 0.6, 0.3], [0.1, 0.2, 0.5, 0.7, 0.4, 0.9]], np.float32)
    evaluation = evaluation_of(matrix, 1, 1)
    trios = [trio_of(evaluation, q) for q in (0, 1)]
    assert [numbers(trio) for trio in trios if trio] == [["q1", "5", "2"], ["q1", "3", "4"]]


def test_a_right_image_far_behind_what_was_kept_is_found() -> None:
    matrix = np.array([[0.1, 0.2, 0.3, 0.9, 0.4, 0.8]], np.float32)
    trio = trio_of(evaluation_of(matrix, 1, keep=1), 0)
    assert trio is not None
    assert numbers(trio) == ["q1", "5", "2"]


def test_without_a_right_or_a_near_wrong_image_there_is_no_trio() -> None:
    matrix = np.array([[0.1, 0.2, 0.5, 0.3, 0.6, 0.4]], np.float32)
    assert trio_of(evaluation_of(matrix, 1, keep=2), 0) is None  # both kept are right
    assert trio_of(evaluation_of(matrix, 7), 0) is None


def test_the_ranking_of_some_queries_is_that_of_all_at_their_rows() -> None:
    matrix = np.random.default_rng(0).random((4, 6)).astype(np.float32)
    evaluation = evaluation_of(matrix, 1, 2, 3, 1)
    some, whole = ranking_of(evaluation, [3, 0], 2), evaluation.ranking(2)
    for name in ("indices", "distances", "correct"):
        assert np.array_equal(getattr(some, name), getattr(whole, name)[[3, 0]])
