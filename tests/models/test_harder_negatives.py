"""Harder negatives against a search by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reid.errors import ConfigError
from reid.losses.settings import LossConfig
from reid.models.harder_negatives import harder_negatives

LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
CAMERAS = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
FIRST = torch.tensor([0, 0, 0, 2, 2, 4, 7])
SECOND = torch.tensor([1, 2, 6, 3, 5, 0, 1])
SAME = LABELS[FIRST] == LABELS[SECOND]


@pytest.fixture
def vectors() -> Tensor:
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


def chosen(vectors: Tensor, candidates: int, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return harder_negatives(vectors, LABELS, CAMERAS, FIRST, SECOND, SAME, candidates)


def distance(vectors: Tensor, one: int, other: int) -> float:
    return float((vectors[one] - vectors[other]).square().sum().sqrt())


def test_all_images_as_candidates_give_the_nearest_of_other_people(vectors: Tensor) -> None:
    """Of the first image's camera if the pair has one camera, else of the other."""
    for row, found in enumerate(chosen(vectors, 100).tolist()):
        first, second = int(FIRST[row]), int(SECOND[row])
        if SAME[row]:
            assert found == second
        else:
            one_camera = CAMERAS[first] == CAMERAS[second]
            others = [
                i
                for i in range(8)
                if LABELS[i] != LABELS[first] and (CAMERAS[i] == CAMERAS[first]) == one_camera
            ]
            assert found == min(others, key=lambda other: distance(vectors, first, other))


def test_one_candidate_keeps_the_pairs_and_draws_no_numbers(vectors: Tensor) -> None:
    assert torch.equal(chosen(vectors, 1, seed=3), SECOND)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


def test_a_few_candidates_never_give_a_farther_image_and_never_the_same_person(
    vectors: Tensor,
) -> None:
    found = [chosen(vectors, 3, seed) for seed in range(40)]
    for second in found:
        assert torch.equal(LABELS[FIRST] == LABELS[second], SAME)
        for one, before, now in zip(FIRST.tolist(), SECOND.tolist(), second.tolist(), strict=True):
            assert distance(vectors, one, now) <= distance(vectors, one, before)
    assert len({tuple(second.tolist()) for second in found}) > 1


def test_a_batch_of_one_person_keeps_its_pairs(vectors: Tensor) -> None:
    one = torch.zeros(8, dtype=torch.int64)
    same = torch.ones(7, dtype=torch.bool)
    assert torch.equal(harder_negatives(vectors, one, CAMERAS, FIRST, SECOND, same, 5), SECOND)


def test_fewer_than_one_candidate_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"losses\.negative_candidates .*0"):
        LossConfig(negative_candidates=0)
