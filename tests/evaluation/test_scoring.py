"""Every figure of one pass against loops written from the protocols."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from reid.errors import ConfigError, DataError, ModelFileError
from reid.evaluation.scoring import ANY_CAMERA, CURVE, PROTOCOLS, chance, measure
from reid.matching.distances import Distances, euclidean_tiles
from reid.matching.labels import Labels
from reid.types import FloatArray, IntArray, Protocol
from tests.evaluation.test_metrics import step_by_loop, trapezoid_by_loop

MARKET = Protocol("market")


def labels(people: list[int], cameras: list[int]) -> Labels:
    return Labels(np.array(people, np.int64), np.array(cameras, np.int64))


@dataclass(frozen=True)
class Described:
    """Images as vectors, and the people they show."""

    vectors: FloatArray
    person_ids: IntArray
    camera_ids: IntArray


def random_described(seed: int, num: int) -> Described:
    """Small whole numbers: matrix products are exact, whatever the tile, and ties abound."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (num, 6)).astype(np.float32)
    return Described(vectors, rng.integers(-1, 6, num), rng.integers(1, 4, num))


def euclidean(query: Described, gallery: Described) -> Distances:
    return euclidean_tiles(query.vectors, gallery.vectors)


def market_by_loop(query: Described, gallery: Described) -> dict[str, float]:
    firsts, steps, trapezoids, penalties = [], [], [], []
    for q in range(len(query.vectors)):
        person, camera = int(query.person_ids[q]), int(query.camera_ids[q])
        distances = [float(np.sum((query.vectors[q] - one) ** 2)) for one in gallery.vectors]
        is_good = []
        for g in sorted(range(len(gallery.vectors)), key=lambda i: (distances[i], i)):
            same = int(gallery.person_ids[g]) == person
            if gallery.person_ids[g] == -1 or (same and int(gallery.camera_ids[g]) == camera):
                continue
            is_good.append(same and person > 0)
        if any(is_good):
            firsts.append(is_good.index(True))
            steps.append(step_by_loop(is_good))
            trapezoids.append(trapezoid_by_loop(is_good))
            last = max(rank for rank, good in enumerate(is_good) if good)
            penalties.append(sum(is_good) / (last + 1))
    return {
        **{f"rank{k}": float(np.mean([first < k for first in firsts])) for k in range(1, 51)},
        "step": float(np.mean(steps)),
        "trapezoid": float(np.mean(trapezoids)),
        "minp": float(np.mean(penalties)),
        "unanswerable": len(query.vectors) - len(firsts),
    }


@pytest.mark.parametrize("seed", range(20))
def test_market_scores_equal_a_loop_written_from_the_protocol(seed: int) -> None:
    query, gallery = random_described(seed, 20), random_described(1000 + seed, 60)
    expected = market_by_loop(query, gallery)
    for tile in (1, 6, 64):
        found = measure(euclidean(query, gallery), query, gallery, MARKET, tile=tile)
        scores = found.scores
        assert scores.cmc[1] == pytest.approx(expected["rank1"])
        assert scores.cmc[5] == pytest.approx(expected["rank5"])
        curve = [expected[f"rank{k}"] for k in range(1, CURVE + 1)]
        np.testing.assert_allclose(found.cmc_curve, curve)
        assert scores.map_step == pytest.approx(expected["step"])
        assert scores.map_trapezoid == pytest.approx(expected["trapezoid"])
        assert scores.minp == pytest.approx(expected["minp"])
        assert scores.num_unanswerable == expected["unanswerable"]
        assert scores.std == {}


@pytest.mark.parametrize("protocol", [Protocol(name, trials=3) for name in PROTOCOLS], ids=str)
def test_each_distance_is_computed_once_for_all_figures(protocol: Protocol) -> None:
    query, gallery = random_described(0, 20), random_described(1, 50)
    if protocol.name == ANY_CAMERA:
        gallery = query
    computed: list[int] = []

    def distances(rows: slice) -> FloatArray:
        computed.extend(range(rows.start, rows.stop))
        return euclidean(query, gallery)(rows)

    found = measure(distances, query, gallery, protocol, keep=4, tile=6)
    assert computed == list(range(20))
    assert found.ranking.indices.shape == (20, 4)
    assert found.verification.positives.sum() > 0
    assert found.camera_pairs


def test_an_error_while_tiles_are_shown_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid.evaluation.verification.PairCounts.add", lambda self, tile: 1 / 0)
    query, gallery = random_described(0, 20), random_described(1, 50)
    for tile in (6, 64):
        with pytest.raises(ZeroDivisionError):
            measure(euclidean(query, gallery), query, gallery, MARKET, tile=tile)


def test_a_cmc_rank_beyond_the_gallery_is_all_queries_and_the_list_ends_with_none() -> None:
    matrix = np.array([[0.5, 0.1, 0.2]], np.float32)
    query, gallery = labels([1], [1]), labels([1, 2, 3], [2, 2, 2])
    found = measure(lambda rows: matrix[rows], query, gallery, MARKET, keep=5)
    assert found.scores.cmc == {1: 0.0, 5: 1.0, 10: 1.0, 20: 1.0}
    assert found.cmc_curve.tolist() == [0.0, 0.0, 1.0]
    assert found.ranking.indices.tolist() == [[1, 2, 0, -1, -1]]


@pytest.mark.parametrize("protocol", ["market", "single_shot"])
def test_no_query_with_an_answer_gives_zeros(protocol: str) -> None:
    found = measure(
        lambda rows: np.zeros((2, 2), np.float32),
        labels([1, 2], [1, 1]),
        labels([1, 3], [1, 2]),
        Protocol(protocol),
    )
    assert (found.scores.num_query, found.scores.num_unanswerable) == (2, 2)
    assert found.scores.cmc == {1: 0.0, 5: 0.0, 10: 0.0, 20: 0.0}
    assert (found.scores.map_step, found.scores.minp) == (0.0, 0.0)
    assert found.verification.tpr_at(0.5) is None
    assert found.camera_pairs == ()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_empty_gallery_and_distances_that_are_not_finite_are_refused(protocol: str) -> None:
    query, empty, one = labels([1], [1]), labels([], []), labels([1], [2])
    with pytest.raises(DataError, match="gallery is empty"):
        measure(lambda rows: np.zeros((1, 0), np.float32), query, empty, Protocol(protocol))
    with pytest.raises(ModelFileError, match="query 0 are not all finite"):
        measure(lambda rows: np.full((1, 1), np.nan), query, one, Protocol(protocol))


def test_a_misspelt_protocol_names_the_nearest() -> None:
    one = labels([1], [1])
    with pytest.raises(ConfigError, match="did you mean 'single_shot'"):
        measure(lambda rows: np.zeros((1, 1), np.float32), one, one, Protocol("singleshot"))


def test_chance_on_market_is_good_over_what_is_ranked() -> None:
    # Query (1, camera 1): good 1 image; ranked 5 of 7 (own camera and junk are skipped).
    # Query (2, camera 3): good 2; ranked 6 of 7. Query (9, camera 1) has no answer.
    gallery = labels([1, 1, 2, 2, 3, 0, -1], [1, 2, 1, 2, 1, 1, 1])
    query = labels([1, 2, 9], [1, 3, 1])
    assert chance(query, gallery, MARKET) == pytest.approx((1 / 5 + 2 / 6) / 2)


@pytest.mark.parametrize(
    "protocol", [MARKET, Protocol("single_shot", 5), Protocol("multi_shot", 5, shots=3)], ids=str
)
def test_chance_is_what_random_distances_score(protocol: Protocol) -> None:
    rng = np.random.default_rng(3)
    query = Labels(rng.integers(1, 9, 300), rng.integers(1, 4, 300))
    gallery = Labels(rng.integers(-1, 9, 60), rng.integers(1, 4, 60))
    found = [
        measure(
            lambda rows: rng.random((rows.stop - rows.start, 60), np.float32),
            query,
            gallery,
            protocol,
        ).scores.cmc[1]
        for _ in range(10)
    ]
    assert chance(query, gallery, protocol) == pytest.approx(np.mean(found), abs=0.025)
