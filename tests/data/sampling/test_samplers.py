"""What a batch is made of. The little datasets are lists of (person, camera)."""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.config.settings import SamplerConfig
from reid.data.sampling.batch_plan import BatchPlan, class_of_person
from reid.data.sampling.identity_sampler import IdentitySampler
from reid.data.sampling.pair_sampler import PairSampler
from reid.data.sampling.samplers import sampler_from_config
from reid.errors import ConfigError, DataError
from reid.types import ImageRecord

PAIRS = SamplerConfig(kind="pairs", anchors_per_batch=8)
COPIES = replace(PAIRS, copies=3)
IDENTITIES = SamplerConfig(kind="identities", identities_per_batch=4, images_per_identity=3)


def records_of(views: list[tuple[int, int]]) -> list[ImageRecord]:
    return [ImageRecord(Path(f"{i}.jpg"), person, cam) for i, (person, cam) in enumerate(views)]


def crowd(num_people: int = 9, num_cameras: int = 3, each: int = 2) -> list[ImageRecord]:
    """Every person seen ``each`` times by every camera; ids are 10, 20, 30 ..."""
    return records_of(
        [
            (10 * (person + 1), camera)
            for person in range(num_people)
            for camera in range(num_cameras)
            for _ in range(each)
        ]
    )


def same_plan(one: BatchPlan, other: BatchPlan) -> bool:
    return pickle.dumps(one) == pickle.dumps(other)


def pairs_of(plan: BatchPlan) -> list[tuple[int, int, bool]]:
    """(first image slot, second image slot, same)."""
    columns = (plan.pair_first, plan.pair_second, plan.pair_same)
    return list(zip(*(column.tolist() for column in columns), strict=True))


views = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=2, max_size=40).filter(
    lambda rows: len({person for person, _ in rows}) > 1
)


def test_classes_are_counted_in_the_order_of_the_person_ids() -> None:
    assert class_of_person(records_of([(30, 0), (2, 0), (30, 1), (7, 0)])) == {2: 0, 7: 1, 30: 2}


def test_an_epoch_of_pairs_makes_every_image_an_anchor() -> None:
    records = crowd()  # 54 images: 6 full batches of 8 and one that needs filling
    plans = PairSampler(records, PAIRS, seed=1).epoch(0)
    anchors = [plan.image_indices[plan.anchors] for plan in plans]
    assert [len(batch) for batch in anchors] == [8] * 7
    counts = Counter(np.concatenate(anchors).tolist())
    assert set(counts) == set(range(54))
    assert sorted(counts.values()) == [1] * 52 + [2] * 2
    assert np.concatenate(anchors)[-2:].tolist() == anchors[0][:2].tolist()


def test_with_copies_an_epoch_takes_every_image_as_often_in_one_random_order() -> None:
    records = crowd()  # 162 anchors: 20 full batches of 8 and one that needs filling
    sampler = PairSampler(records, COPIES, seed=1)
    plans = sampler.epoch(0)
    assert len(plans) == sampler.num_batches == 21
    order = np.concatenate([plan.image_indices[plan.anchors] for plan in plans]).tolist()
    assert set(Counter(order[:162]).values()) == {3}
    assert order[162:] == order[:6]
    # Not one permutation after the other: some image comes twice before all came once.
    assert len(set(order[:54])) < 54


def test_copies_of_an_anchor_have_slots_and_augmentations_of_their_own() -> None:
    records = records_of([(1, 0), (1, 1), (2, 0), (2, 1)])
    (plan,) = PairSampler(records, replace(COPIES, anchors_per_batch=12), seed=0).epoch(0)
    assert plan.anchors.tolist() == list(range(12))
    assert Counter(plan.image_indices.tolist()) == {0: 3, 1: 3, 2: 3, 3: 3}
    assert len(set(plan.image_seeds.tolist())) == 12


@settings(max_examples=60, deadline=None)
@given(views, st.integers(1, 4))
def test_an_image_meets_itself_only_where_its_person_has_no_other(
    rows: list[tuple[int, int]], copies: int
) -> None:
    records = records_of(rows)
    people = Counter(person for person, _ in rows)
    config = SamplerConfig(anchors_per_batch=5, copies=copies)
    for plan in PairSampler(records, config, seed=0).epoch(0):
        for first, second, same in pairs_of(plan):
            one, other = (records[plan.image_indices[slot]] for slot in (first, second))
            assert (one.person_id == other.person_id) is same
            assert first != second
            if one is other:
                assert people[one.person_id] == 1
                assert plan.image_seeds[first] != plan.image_seeds[second]
        anchors = Counter(plan.image_indices[plan.anchors].tolist())
        for image, slots in Counter(plan.image_indices.tolist()).items():
            alone = people[records[image].person_id] == 1
            assert slots <= max(1, anchors[image]) + alone


def test_one_copy_is_the_plan_without_copies() -> None:
    one = PairSampler(crowd(), replace(PAIRS, copies=1), seed=2).epoch(1)
    assert all(map(same_plan, one, PairSampler(crowd(), PAIRS, seed=2).epoch(1)))


def test_two_ranks_share_out_the_copies() -> None:
    records = crowd()
    config = replace(COPIES, anchors_per_batch=27)  # 162 = 2 ranks x 3 steps x 27
    ranks = [PairSampler(records, config, 0, rank, world_size=2).epoch(1) for rank in range(2)]
    assert [len(plans) for plans in ranks] == [3, 3]
    anchors = [plan.image_indices[plan.anchors] for plans in ranks for plan in plans]
    assert Counter(np.concatenate(anchors).tolist()) == dict.fromkeys(range(54), 3)
    seeds = np.concatenate([plan.image_seeds for plans in ranks for plan in plans])
    assert len(np.unique(seeds)) == len(seeds)


def test_identities_know_no_copies() -> None:
    with pytest.raises(ConfigError, match=r"sampler\.copies.* pairs.*found 2"):
        IdentitySampler(crowd(), replace(IDENTITIES, copies=2), seed=0)


def test_the_positive_comes_from_another_camera_where_there_is_one() -> None:
    records = crowd()
    for plan in PairSampler(records, PAIRS, seed=3).epoch(0):
        for first, second, same in pairs_of(plan):
            one, other = (records[plan.image_indices[slot]] for slot in (first, second))
            assert (one.person_id == other.person_id) is same
            if same:
                assert one.camera_id != other.camera_id


def test_a_person_of_one_camera_has_another_image_for_its_positive() -> None:
    records = records_of([(1, 0), (1, 0), (1, 0), (2, 0), (2, 0)])
    for plan in PairSampler(records, PAIRS, seed=0).epoch(0):
        for first, second, same in pairs_of(plan):
            if same:
                assert plan.image_indices[first] != plan.image_indices[second]


def test_a_persons_only_image_meets_itself_under_another_augmentation() -> None:
    records = records_of([(1, 0), (2, 0), (2, 1)])
    (plan,) = PairSampler(records, PAIRS, seed=0).epoch(0)
    only = [pair for pair in pairs_of(plan) if pair[2] and plan.labels[pair[0]] == 0]
    ((first, second, _),) = only
    assert first != second
    assert plan.image_indices[first] == plan.image_indices[second] == 0
    assert plan.image_seeds[first] != plan.image_seeds[second]


def test_each_anchor_has_one_positive_and_two_negatives() -> None:
    for plan in PairSampler(crowd(), PAIRS, seed=5).epoch(2):
        kinds: defaultdict[int, list[bool]] = defaultdict(list)
        for first, _, same in pairs_of(plan):
            kinds[first].append(same)
        assert sorted(kinds) == plan.anchors.tolist()
        assert all(sorted(kind) == [False, False, True] for kind in kinds.values())


@settings(max_examples=60, deadline=None)
@given(views, st.integers(0, 3))
def test_pairs_say_the_truth_and_an_image_has_one_slot(
    rows: list[tuple[int, int]], negatives: int
) -> None:
    records = records_of(rows)
    people = Counter(person for person, _ in rows)
    classes = class_of_person(records)
    config = SamplerConfig(anchors_per_batch=5, negatives_per_positive=negatives)
    for plan in PairSampler(records, config, seed=0).epoch(0):
        persons = [records[i].person_id for i in plan.image_indices]
        assert plan.labels.tolist() == [classes[person] for person in persons]
        for first, second, same in pairs_of(plan):
            assert (persons[first] == persons[second]) is same
        slots = Counter(plan.image_indices.tolist())
        assert all(n == 1 or people[records[i].person_id] == 1 for i, n in slots.items())
        assert len(plan.pair_same) == len(plan.anchors) * (1 + negatives)
        assert len(plan.image_seeds) == len(plan.image_indices)


def test_negatives_reach_every_other_person_equally() -> None:
    # Person 0 has 30 images, the others 2: chance goes by person, not by image.
    records = records_of([(0, i % 2) for i in range(30)] + [(1 + i // 2, i % 2) for i in range(8)])
    seen: Counter[int] = Counter()
    sampler = PairSampler(records, PAIRS, seed=0)
    for plan in (plan for epoch in range(60) for plan in sampler.epoch(epoch)):
        for first, second, same in pairs_of(plan):
            if not same and plan.labels[first] == 1:
                seen[int(plan.labels[second])] += 1
    assert set(seen) == {0, 2, 3, 4}
    assert max(seen.values()) < 1.5 * min(seen.values())


def test_every_image_of_another_person_can_be_a_negative() -> None:
    sampler = PairSampler(crowd(), PAIRS, seed=0)
    seen = {
        int(plan.image_indices[second])
        for epoch in range(10)
        for plan in sampler.epoch(epoch)
        for _, second, same in pairs_of(plan)
        if not same
    }
    assert seen == set(range(54))


@pytest.mark.parametrize(
    "config",
    [
        replace(PAIRS, negatives_across_cameras=True),
        replace(IDENTITIES, negatives_across_cameras=True),
        replace(PAIRS, kind="all_pairs", copies=2, negatives_across_cameras=True),
    ],
    ids=lambda config: config.kind,
)
def test_negatives_can_be_of_another_camera_than_their_pairs_first_image(
    config: SamplerConfig,
) -> None:
    records = crowd()
    seen: defaultdict[int, set[int]] = defaultdict(set)
    for plan in sampler_from_config(records, config, seed=0).epoch(0):
        assert plan.cameras.tolist() == [records[i].camera_id for i in plan.image_indices]
        for first, second, same in pairs_of(plan):
            one, other = (records[plan.image_indices[slot]] for slot in (first, second))
            assert (one.person_id == other.person_id) == same
            if not same:
                assert one.camera_id != other.camera_id
                seen[one.person_id].add(other.person_id)
    assert len(seen) == 9
    assert all(len(others) > 1 for others in seen.values())


def test_negatives_of_other_cameras_reach_each_person_there_equally() -> None:
    """Of camera 1, where person 2 has three images, person 3 one and person 4 none."""
    records = records_of([(1, 0), (1, 1), (2, 0), (2, 1), (3, 1), (4, 0), (2, 1), (2, 1)])
    config = replace(PAIRS, copies=100, negatives_across_cameras=True)
    counts: Counter[tuple[int, int]] = Counter()
    for plan in PairSampler(records, config, seed=0).epoch(0):
        for first, second, same in pairs_of(plan):
            one, other = (records[plan.image_indices[slot]] for slot in (first, second))
            if not same and (one.person_id, one.camera_id) in ((1, 0), (4, 0)):
                counts[one.person_id, other.person_id] += 1
    assert set(counts) == {(1, 2), (1, 3), (4, 1), (4, 2), (4, 3)}
    for (one, _), number in counts.items():
        total = sum(n for (person, _), n in counts.items() if person == one)
        assert number / total == pytest.approx(1 / 2 if one == 1 else 1 / 3, abs=0.1)


def test_negatives_of_other_cameras_need_two_people_there() -> None:
    records = records_of([(1, 0), (2, 0), (1, 1), (3, 0)])
    with pytest.raises(DataError, match=r"negatives_across_cameras .*camera 0, found 1"):
        PairSampler(records, replace(PAIRS, negatives_across_cameras=True), seed=0)


@pytest.mark.parametrize("config", [PAIRS, IDENTITIES], ids=lambda config: config.kind)
def test_a_plan_depends_on_seed_and_epoch_alone(config: SamplerConfig) -> None:
    one, other = (sampler_from_config(crowd(), config, seed=4) for _ in range(2))
    one.epoch(0)
    plans = one.epoch(3)
    assert all(map(same_plan, plans, other.epoch(3)))
    assert not any(map(same_plan, plans, one.epoch(4)))
    different_seed = sampler_from_config(crowd(), config, seed=5)
    assert not any(map(same_plan, plans, different_seed.epoch(3)))


@pytest.mark.parametrize("config", [PAIRS, IDENTITIES], ids=lambda config: config.kind)
def test_each_epoch_has_an_order_of_its_own(config: SamplerConfig) -> None:
    sampler = sampler_from_config(crowd(), config, seed=4)
    one, other = ([plan.labels[plan.anchors].tolist() for plan in sampler.epoch(e)] for e in (0, 1))
    assert one != other


@pytest.mark.parametrize("config", [PAIRS, IDENTITIES], ids=lambda config: config.kind)
def test_no_two_slots_share_a_seed_within_an_epoch_or_between_two(config: SamplerConfig) -> None:
    sampler = sampler_from_config(crowd(), config, seed=0)
    seeds = np.concatenate([plan.image_seeds for e in range(2) for plan in sampler.epoch(e)])
    assert len(np.unique(seeds)) == len(seeds)


def test_two_ranks_share_no_anchor_and_cover_every_image() -> None:
    records = crowd()
    ranks = [PairSampler(records, PAIRS, 0, rank, world_size=2) for rank in range(2)]
    assert [rank.num_batches for rank in ranks] == [4, 4]
    everything = set()
    for one, other in zip(ranks[0].epoch(1), ranks[1].epoch(1), strict=True):
        anchors = [set(plan.image_indices[plan.anchors].tolist()) for plan in (one, other)]
        assert [len(a) for a in anchors] == [8, 8]
        assert not anchors[0] & anchors[1]
        everything |= anchors[0] | anchors[1]
    assert everything == set(range(len(records)))


def test_two_ranks_share_no_identity_within_a_step() -> None:
    ranks = [IdentitySampler(crowd(), IDENTITIES, 0, rank, world_size=2) for rank in range(2)]
    for one, other in zip(ranks[0].epoch(0), ranks[1].epoch(0), strict=True):
        assert not set(one.labels.tolist()) & set(other.labels.tolist())


def test_an_identity_batch_is_p_people_of_k_different_images() -> None:
    sampler = IdentitySampler(crowd(), IDENTITIES, seed=0)
    plans = sampler.epoch(0)
    assert len(plans) == sampler.num_batches == 5  # ceil(54 / (4 * 3))
    for plan in plans:
        assert sorted(Counter(plan.labels.tolist()).values()) == [3, 3, 3, 3]
        assert len(set(plan.image_indices.tolist())) == 12
        assert plan.anchors.tolist() == list(range(12))


def test_identities_take_turns() -> None:
    records = crowd()  # 9 people; 2 batches of 4 see 8 of them, the third brings the ninth
    plans = IdentitySampler(records, IDENTITIES, seed=2).epoch(0)
    people = [label for plan in plans for label in plan.labels[::3].tolist()]
    assert set(people[:9]) == set(range(9))
    assert set(people[9:18]) == set(range(9))


def test_a_persons_images_come_from_all_its_cameras_however_few_one_has() -> None:
    rare = [(person, camera) for person in range(4) for camera in [0] * 20 + [1]]
    records = records_of(rare)
    for plan in IdentitySampler(records, IDENTITIES, seed=0).epoch(0):
        for label in set(plan.labels.tolist()):
            cameras = {records[i].camera_id for i in plan.image_indices[plan.labels == label]}
            assert cameras == {0, 1}


def test_a_camera_with_one_image_is_not_asked_for_two() -> None:
    records = records_of([(person, camera) for person in range(4) for camera in [0, 1, 1, 1]])
    config = SamplerConfig("identities", identities_per_batch=4, images_per_identity=4)
    for plan in IdentitySampler(records, config, seed=0).epoch(0):
        assert sorted(plan.image_indices.tolist()) == list(range(16))


def test_images_repeat_only_where_a_person_has_too_few() -> None:
    records = records_of([(person, 0) for person in range(4) for _ in range(person + 1)])
    for plan in IdentitySampler(records, IDENTITIES, seed=0).epoch(0):
        distinct = [len(set(plan.image_indices[plan.labels == k].tolist())) for k in range(4)]
        assert distinct == [1, 2, 3, 3]
        assert len(set(plan.image_seeds.tolist())) == 12


def test_identity_pairs_are_all_positives_and_two_negatives_to_each() -> None:
    for plan in IdentitySampler(crowd(), IDENTITIES, seed=0).epoch(0):
        pairs = pairs_of(plan)
        positives = {frozenset(pair[:2]) for pair in pairs if pair[2]}
        labels = plan.labels.tolist()
        expected = {
            frozenset((a, b)) for a in range(12) for b in range(a) if labels[a] == labels[b]
        }
        assert positives == expected
        assert sum(same for *_, same in pairs) == len(expected)
        negatives = [pair for pair in pairs if not pair[2]]
        assert len(negatives) == 2 * len(expected)
        assert all(labels[first] != labels[second] for first, second, _ in negatives)


def test_fewer_images_than_a_batch_make_one_smaller_batch() -> None:
    (plan,) = PairSampler(records_of([(1, 0), (1, 1), (2, 0)]), PAIRS, seed=0).epoch(0)
    assert sorted(plan.image_indices[plan.anchors].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("config", [PAIRS, IDENTITIES], ids=lambda config: config.kind)
def test_one_identity_alone_is_refused(config: SamplerConfig) -> None:
    with pytest.raises(DataError, match="two identities, found 1 in 4 images"):
        sampler_from_config(records_of([(5, 0), (5, 1), (5, 2), (5, 3)]), config, seed=0)


def test_no_images_at_all_are_refused() -> None:
    with pytest.raises(DataError, match="found 0 in 0 images"):
        sampler_from_config([], PAIRS, seed=0)


def test_fewer_identities_than_a_step_takes_are_refused() -> None:
    with pytest.raises(DataError, match="need 12 training identities, found 9"):
        IdentitySampler(crowd(), IDENTITIES, 0, 0, world_size=3)


def test_fewer_images_than_processes_are_refused() -> None:
    with pytest.raises(DataError, match=r"3 processes need .*found 2"):
        PairSampler(records_of([(1, 0), (2, 0)]), PAIRS, 0, 0, world_size=3)


def test_a_batch_of_one_identity_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        IdentitySampler(crowd(), SamplerConfig(kind="identities", identities_per_batch=1), 0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed must be 0 or above, found -1"):
        PairSampler(crowd(), PAIRS, seed=-1)
