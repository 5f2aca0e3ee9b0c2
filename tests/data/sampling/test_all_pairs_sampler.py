"""Every pair of a person's images, augmented copies included."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.config.settings import SamplerConfig
from reid.data.sampling.all_pairs_sampler import AllPairsSampler
from reid.data.sampling.samplers import sampler_from_config
from reid.errors import ConfigError, DataError
from reid.types import ImageRecord

ALL = SamplerConfig(kind="all_pairs", anchors_per_batch=5, copies=2)

views = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=2, max_size=14).filter(
    lambda rows: len({person for person, _ in rows}) > 1
)


def records_of(rows: list[tuple[int, int]]) -> list[ImageRecord]:
    return [ImageRecord(Path(f"{i}.jpg"), person, cam) for i, (person, cam) in enumerate(rows)]


def cuhk01(people: int) -> list[ImageRecord]:
    """Two cameras, two images in each, as CUHK01 has them."""
    return records_of([(one, camera) for one in range(people) for camera in (1, 1, 2, 2)])


def literal_pairs(
    rows: list[tuple[int, int]], copies: int, across: bool
) -> Counter[frozenset[tuple[int, int]]]:
    """Two loops over the copies (image, copy) of each person's images."""
    items = [(image, copy) for image in range(len(rows)) for copy in range(copies)]
    return Counter(
        frozenset((one, other))
        for one, other in combinations(items, 2)
        if rows[one[0]][0] == rows[other[0]][0]
        and (not across or rows[one[0]][1] != rows[other[0]][1])
    )


def seen_pairs(sampler: AllPairsSampler, epoch: int = 0) -> Counter[frozenset[int]]:
    """The positives of an epoch, each as the two seeds of its copies."""
    return Counter(
        frozenset((int(plan.image_seeds[one]), int(plan.image_seeds[other])))
        for plan in sampler.epoch(epoch)
        for one, other, same in zip(plan.pair_first, plan.pair_second, plan.pair_same, strict=True)
        if same
    )


@settings(max_examples=60, deadline=None)
@given(views, st.integers(1, 3), st.booleans())
def test_an_epoch_has_the_pairs_of_two_plain_loops_each_once(
    rows: list[tuple[int, int]], copies: int, across: bool
) -> None:
    wanted = literal_pairs(rows, copies, across)
    config = replace(ALL, anchors_per_batch=1, copies=copies, across_cameras=across)
    if not wanted:
        with pytest.raises(DataError, match="pairs"):
            AllPairsSampler(records_of(rows), config, seed=3)
        return
    sampler = AllPairsSampler(records_of(rows), config, seed=3)
    assert sampler.num_pairs == sampler.num_batches == len(wanted)
    found = Counter(
        frozenset(
            int(plan.image_indices[slot]) for slot in (plan.pair_first[0], plan.pair_second[0])
        )
        for plan in sampler.epoch(1)
    )
    assert found == Counter(frozenset(image for image, _ in pair) for pair in wanted)
    assert set(seen_pairs(sampler, 1).values()) == {1}


@settings(max_examples=40, deadline=None)
@given(views, st.integers(1, 3), st.integers(1, 7))
def test_a_pair_is_of_one_person_exactly_where_it_says_so(
    rows: list[tuple[int, int]], copies: int, per_batch: int
) -> None:
    config = replace(ALL, copies=copies, anchors_per_batch=per_batch)
    if not literal_pairs(rows, copies, across=False):
        return
    for plan in AllPairsSampler(records_of(rows), config, seed=0).epoch(0):
        people = np.array([rows[i][0] for i in plan.image_indices])
        same = people[plan.pair_first] == people[plan.pair_second]
        assert (same == plan.pair_same).all()
        assert (plan.pair_first != plan.pair_second).all()
        assert plan.pair_same.sum() * 3 == len(plan.pair_same)
        assert set(plan.anchors) == set(plan.pair_first)
        assert len(set(plan.image_seeds)) == len(plan.image_seeds)


def test_an_epoch_of_cuhk01_has_the_number_of_steps_that_the_code_has() -> None:
    """871 people x 378 pairs with two negatives each; 43 positives make batches of 129."""
    config = replace(ALL, copies=7, anchors_per_batch=43)
    sampler = AllPairsSampler(cuhk01(871), config, seed=0)
    assert 3 * sampler.num_pairs == 987_714
    assert sampler.num_batches == -(-329_238 // 43) == 7_657
    across = AllPairsSampler(cuhk01(871), replace(config, across_cameras=True), seed=0)
    assert 3 * across.num_pairs == 512_148


def test_batches_are_made_when_they_are_taken_and_are_alike_each_time() -> None:
    sampler = AllPairsSampler(cuhk01(871), replace(ALL, copies=7), seed=0)
    epoch = sampler.epoch(2)
    assert len(epoch) == sampler.num_batches > 60_000
    assert pickle.dumps(epoch[50_000]) == pickle.dumps(sampler.epoch(2)[50_000])
    assert pickle.dumps(epoch[-1]) == pickle.dumps(epoch[len(epoch) - 1])
    assert pickle.dumps(epoch[7:9]) == pickle.dumps([epoch[7], epoch[8]])
    assert pickle.dumps(epoch[0]) != pickle.dumps(sampler.epoch(3)[0])


def test_fixed_copies_are_augmented_alike_in_every_epoch() -> None:
    records = cuhk01(3)
    fixed = AllPairsSampler(records, replace(ALL, fixed_copies=True), seed=0)
    assert set(seen_pairs(fixed, 0)) == set(seen_pairs(fixed, 1))
    anew = AllPairsSampler(records, ALL, seed=0)
    assert not seen_pairs(anew, 0) & seen_pairs(anew, 1)
    other = AllPairsSampler(records, replace(ALL, fixed_copies=True), seed=1)
    assert not seen_pairs(fixed) & seen_pairs(other)


def test_written_copies_are_the_image_its_shifts_and_its_mirror() -> None:
    config = replace(ALL, copies=7, fixed_copies=True, copy_kinds="written")
    sampler = AllPairsSampler(cuhk01(3), config, seed=0)
    kinds: dict[int, str] = {}
    copies: Counter[int] = Counter()
    for plan in sampler.epoch(0):
        slots = (plan.image_indices.tolist(), plan.image_seeds.tolist(), plan.image_kinds)
        for image, seed, kind in zip(*slots, strict=True):
            copies[image] += seed not in kinds
            assert kinds.setdefault(seed, kind) == kind
    assert set(copies.values()) == {7}
    assert Counter(kinds.values()) == {"image": 12, "shifted": 60, "mirrored": 12}
    assert AllPairsSampler(cuhk01(3), ALL, seed=0).epoch(0)[0].image_kinds == ()


def test_two_ranks_share_out_the_pairs() -> None:
    config = replace(ALL, copies=1, anchors_per_batch=3)  # 6 people x 6 pairs = 2 ranks x 6 x 3
    ranks = [AllPairsSampler(cuhk01(6), config, 0, rank, world_size=2) for rank in range(2)]
    assert [one.num_batches for one in ranks] == [6, 6]
    together = seen_pairs(ranks[0]) + seen_pairs(ranks[1])
    assert len(together) == 36
    assert set(together.values()) == {1}


def test_the_kind_is_chosen_by_its_name() -> None:
    assert isinstance(sampler_from_config(cuhk01(3), ALL, 0), AllPairsSampler)
    with pytest.raises(ConfigError, match=r"sampler\.kind.*all_pair\b"):
        SamplerConfig(kind="all_pair")
