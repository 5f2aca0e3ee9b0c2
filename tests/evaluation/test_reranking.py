"""Re-ranking in blocks against the paper's definitions, written with sets and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

import reid.evaluation.reranking
from reid.errors import ConfigError, ModelFileError
from reid.evaluation.reranking import Reranking, reranked_tiles
from reid.types import FloatArray


def people(seed: int, num: int, dim: int = 8, spread: float = 0.35) -> FloatArray:
    """Unit vectors of a few people, near enough to one another to be taken for others."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, num // 6), dim))
    vectors = centres[rng.integers(0, len(centres), num)] + spread * rng.standard_normal((num, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_definition(query: FloatArray, gallery: FloatArray, settings: Reranking) -> list[list[float]]:
    """Equations 2 to 12 of the paper, with what the module says is the authors' program's."""
    points = [[float(x) for x in vector] for vector in (*query, *gallery)]
    everyone = range(len(points))
    squared = [
        [sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) for q in points] for p in points
    ]
    d = [[one / max(row) for one in row] for row in squared]
    order = [sorted(everyone, key=lambda g: (g != p, d[p][g], g)) for p in everyone]

    def k_nearest(p: int, k: int) -> set[int]:  # equation 2, and p itself
        return set(order[p][: k + 1])

    def reciprocal(p: int, k: int) -> set[int]:  # equation 3
        return {g for g in k_nearest(p, k) if p in k_nearest(g, k)}

    def robust(p: int) -> set[int]:  # equation 4
        near = reciprocal(p, settings.k1)
        grown = set(near)
        for q in near:
            others = reciprocal(q, round(settings.k1 / 2))
            if 3 * len(near & others) > 2 * len(others):
                grown |= others
        return grown

    encoded = []
    for p in everyone:  # equation 7
        weights = {g: math.exp(-d[p][g]) for g in robust(p)}
        total = sum(weights.values())
        encoded.append([weights.get(g, 0.0) / total for g in everyone])
    expanded = []
    for p in everyone:  # equation 11
        near = order[p][: settings.k2]
        expanded.append([sum(encoded[n][g] for n in near) / len(near) for g in everyone])
    distances = []
    for p in range(len(query)):
        row = []
        for g in range(len(query), len(points)):
            least = sum(min(a, b) for a, b in zip(expanded[p], expanded[g], strict=True))
            most = sum(max(a, b) for a, b in zip(expanded[p], expanded[g], strict=True))
            jaccard = 1 - least / most  # equation 10
            row.append((1 - settings.weight) * jaccard + settings.weight * d[p][g])  # equation 12
        distances.append(row)
    return distances


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "settings",
    [Reranking(), Reranking(k1=6, k2=3, weight=0.5), Reranking(k1=5, k2=1, weight=0.0)],
    ids=Reranking.words,
)
def test_blocks_equal_the_definition(
    seed: int, settings: Reranking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reid.evaluation.reranking, "_BLOCK", 7)
    monkeypatch.setattr(reid.evaluation.reranking, "TILE", 10)
    query, gallery = people(seed, 9), people(seed, 36)
    found = reranked_tiles(query, gallery, settings)
    expected = by_definition(query, gallery, settings)
    np.testing.assert_allclose(found(slice(0, 9)), expected, atol=2e-6)
    np.testing.assert_allclose(found(slice(4, 7)), expected[4:7], atol=2e-6)


def test_fewer_images_than_neighbours_are_ranked_all_the_same() -> None:
    query, gallery = people(0, 2), people(1, 3)
    found = reranked_tiles(query, gallery, Reranking())(slice(0, 2))
    np.testing.assert_allclose(found, by_definition(query, gallery, Reranking()), atol=2e-6)


def test_images_that_cannot_be_distinguished_have_distances_of_0_to_1() -> None:
    vectors = np.tile(people(0, 1), (30, 1))
    found = reranked_tiles(vectors[:5], vectors, Reranking())(slice(0, 5))
    assert np.isfinite(found).all()
    assert 0 <= found.min() <= found.max() <= 1


def test_a_neighbourhood_in_common_brings_an_image_nearer() -> None:
    # Two gallery images at the same distance from the query; one has the query's neighbours.
    angles = np.deg2rad([0, 20, -20, 8, 10, 12, -60, -61, -62, 90, 91, 92, 93])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = reranked_tiles(vectors[:1], vectors[1:], Reranking(k1=4, k2=1))(slice(0, 1))[0]
    assert found[0] < found[1]


def test_every_image_is_counted_once() -> None:
    counted: list[int] = []
    reranked_tiles(people(0, 40), people(1, 260), Reranking(), counted.append)
    assert sum(counted) == 300


@pytest.mark.parametrize("wrong", [{"k1": 0}, {"k2": 0}, {"weight": 1.5}, {"weight": math.nan}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="k1 and k2 of at least 1"):
        Reranking(**wrong)  # type: ignore[arg-type]


def test_vectors_too_long_for_float32_are_refused() -> None:
    query, gallery = people(0, 3), people(1, 9)
    with pytest.raises(ModelFileError, match="not all finite"):
        reranked_tiles(query, gallery * np.float32(1e30), Reranking())
