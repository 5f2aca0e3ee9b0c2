"""Random splits by seed, for datasets without a fixed split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reid.errors import DataError
from reid.types import ImageRecord

VALIDATION = ("auto", "train", "apart")
"""How to use a dataset's validation part; ``auto`` follows common practice for the dataset."""

_QUERIES = 1
"""Second element of the seed, so that queries and identities use separate random streams."""


@dataclass(frozen=True, slots=True)
class OwnImages:
    """How a user's own images (``folder``, ``csv``) are read.

    ``junk`` and ``distractors`` are names of people that count as such, ``layout`` says what the
    folders mean (``camera/person``; empty: recognised), and ``all_test`` makes all images test
    images.
    """

    junk: tuple[str, ...] = ()
    distractors: tuple[str, ...] = ()
    layout: str = ""
    all_test: bool = False


USUAL = OwnImages()
"""The defaults, which fit every other dataset."""


@dataclass(frozen=True, slots=True)
class AskedSplit:
    """The split to test on. None: as the model was trained."""

    test_identities: int | None = None
    seed: int | None = None
    own: OwnImages = USUAL


AS_TRAINED = AskedSplit()


@dataclass(frozen=True, slots=True)
class Choice:
    """How to read and split a dataset, if that is not fixed.

    ``progress`` is called with (lines read, lines in all) of a list.
    """

    num_test_identities: int = 0
    seed: int = 0
    validation: str = "auto"
    own: OwnImages = USUAL
    progress: Callable[[int, int], object] | None = field(default=None, compare=False)


def draw_identities(
    dataset: str,
    where: Path,
    candidates: Sequence[int],
    wanted: int,
    seed: int,
    condition: str,
    purpose: str = "test",
) -> frozenset[int]:
    """Draw ``wanted`` of the ``candidates`` (ascending) at random, the same on every machine.

    Raises DataError if there are fewer; ``condition`` describes the candidates in the message.
    """
    if not 0 < wanted <= len(candidates):
        raise DataError(
            f"{dataset}: cannot choose {wanted} {purpose} identities: {where} has "
            f"{len(candidates)} that {condition}"
        )
    order = np.random.default_rng(seed).permutation(len(candidates))
    return frozenset(candidates[index] for index in order[:wanted])


def searchable_identities(records: Iterable[ImageRecord], has_cameras: bool) -> tuple[int, ...]:
    """Identities, ascending, that can be queries: seen by two or more cameras, or without
    cameras in two or more images."""
    seen: dict[int, set[object]] = defaultdict(set)
    for record in records:
        seen[record.person_id].add(record.camera_id if has_cameras else record.path)
    return tuple(sorted(person for person, views in seen.items() if person > 0 and len(views) > 1))


def query_and_gallery(
    records: Sequence[ImageRecord], seed: int
) -> tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...]]:
    """Queries as in Market-1501: one random image per (person, camera); the rest is gallery.

    A camera's only image stays in the gallery, unless none of the person's cameras has two:
    then the first camera's image is the query. So each identity of ``searchable_identities``
    has a query and a correct match from another camera.
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
