"""Choosing the test images to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reid.errors import DataError
from reid.evaluation.evaluating import Evaluation
from reid.evaluation.ranking import MarketRules
from reid.matching.labels import labels_from_records
from reid.types import ImageRecord, Ranking


def queries_to_show(
    query: Sequence[ImageRecord],
    gallery: Sequence[ImageRecord],
    ranking: Ranking,
    num_queries: int,
    worst_first: bool,
) -> list[int]:
    """The queries of a picture's rows; see ``ranked_list_picture``."""
    if len(ranking.indices) != len(query):
        raise ValueError(
            f"expected a ranking of {len(query)} queries, found {len(ranking.indices)}"
        )
    rules = MarketRules(labels_from_records(gallery))
    answerable = [
        i
        for i, one in enumerate(query)
        if len(rules.good_and_skipped(one.person_id, one.camera_id)[0])
    ]
    if not answerable:
        raise DataError(
            "no query has a correct match in the gallery, so there is no ranked list to show"
        )
    if not worst_first:
        spread = np.linspace(0, len(answerable) - 1, min(num_queries, len(answerable)))
        return [answerable[int(i)] for i in spread.round()]

    def badness(q: int) -> tuple[int, float]:
        hits = np.flatnonzero(ranking.correct[q])
        first = int(hits[0]) if len(hits) else ranking.correct.shape[1]
        return -first, float(ranking.distances[q, 0])

    return sorted(answerable, key=badness)[:num_queries]


def ranking_of(evaluation: Evaluation, rows: Sequence[int], k: int) -> Ranking:
    """``Evaluation.ranking`` of only the queries ``rows``."""
    whole = evaluation.ranking(k)
    chosen = np.asarray(rows, np.int64)
    return Ranking(whole.indices[chosen], whole.distances[chosen], whole.correct[chosen])


class Trio(NamedTuple):
    """A query, its nearest correct match and its nearest wrong gallery image."""

    anchor: ImageRecord
    positive: ImageRecord
    negative: ImageRecord


def trio_of(evaluation: Evaluation, q: int) -> Trio | None:
    """Query ``q``'s trio, by the protocol's rules.

    None without a correct match, or without a false match among the nearest kept.
    """
    query, gallery = evaluation.split.query[q], evaluation.split.gallery
    rules = MarketRules(labels_from_records(gallery))
    good, _ = rules.good_and_skipped(query.person_id, query.camera_id)
    nearest = evaluation.kept.indices[q]
    wrong = nearest[(nearest >= 0) & ~evaluation.kept.correct[q]]
    if not (len(good) and len(wrong)):
        return None
    distances = evaluation.distances(slice(q, q + 1))[0]
    right = good[int(distances[good].argmin())]
    return Trio(query, gallery[int(right)], gallery[int(wrong[0])])
