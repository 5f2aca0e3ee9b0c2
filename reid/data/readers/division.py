"""Dividing a dataset by rule and seed, where it does not come divided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid.errors import DataError
from reid.types import ImageRecord

VALIDATION = ("auto", "train", "apart")
"""What happens to a dataset's validation part; ``auto`` is what its users mostly do."""

_QUERIES = 1
"""Purpose of a random stream, apart from the one that draws identities."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How to divide a dataset, as far as it leaves a choice."""

    num_test_identities: int = 0
    seed: int = 0
    validation: str = "auto"


def draw_identities(
    dataset: str,
    where: Path,
    candidates: Sequence[int],
    wanted: int,
    seed: int,
    condition: str,
    purpose: str = "test",
) -> frozenset[int]:
    """``wanted`` of the ``candidates`` (ascending), at random; a seed draws the same anywhere.

    Raises DataError where there are fewer; ``condition`` says what the candidates fulfil.
    """
    if not 0 < wanted <= len(candidates):
        raise DataError(
            f"{dataset}: {wanted} {purpose} identities were asked for, but {where} has "
            f"{len(candidates)} that {condition}"
        )
    order = np.random.default_rng(seed).permutation(len(candidates))
    return frozenset(candidates[index] for index in order[:wanted])


def searchable_identities(records: Iterable[ImageRecord], has_cameras: bool) -> tuple[int, ...]:
    """People, ascending, who can be searched for: seen by two cameras, or without cameras
    on two images."""
    seen: dict[int, set[object]] = defaultdict(set)
    for record in records:
        seen[record.person_id].add(record.camera_id if has_cameras else record.path)
    return tuple(sorted(person for person, views in seen.items() if person > 0 and len(views) > 1))


def query_and_gallery(
    records: Sequence[ImageRecord], seed: int
) -> tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...]]:
    """Queries as Market-1501 has them: one random image of each (person, camera).

    A camera's only image stays in the gallery, unless none of the person's cameras has
    two: then the first camera's is the query. So each person who can be searched for has a
    query and, seen by another camera, an answer; everything that is no query is gallery.
    """
    views: dict[int, dict[int, list[ImageRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.person_id > 0:
            views[record.person_id][record.camera_id].append(record)
    rng = np.random.default_rng((seed, _QUERIES))
    chosen: set[ImageRecord] = set()
    for _, cameras in sorted(views.items()):
        groups = [images for _, images in sorted(cameras.items())]
        for images in [group for group in groups if len(group) > 1] or groups[:1]:
            chosen.add(images[int(rng.integers(len(images)))])
    query = tuple(record for record in records if record in chosen)
    return query, tuple(record for record in records if record not in chosen)
