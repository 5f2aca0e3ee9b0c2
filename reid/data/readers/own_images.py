"""A user's own labelled images: number people and cameras, and split the images if needed.

Protocol with cameras: as for Market-1501, correct matches are images of the same person from
other cameras. Without cameras every gallery image of the person is a correct match. That is
easier, so results of the two protocols are not comparable.

Images without a split are split at random: half of the identities that can be queries, or
``num_test_identities``, are for testing, the rest for training. In a test part without queries,
one random image per identity and camera is a query (see ``reid.data.readers.division``). The
same seed gives the same split on every machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from reid.data.readers.division import (
    Choice,
    draw_identities,
    query_and_gallery,
    searchable_identities,
)
from reid.data.readers.folders import Contents, Listing, identities, require_two_identities
from reid.errors import DataError
from reid.types import DISTRACTOR_ID, JUNK_ID, ImageRecord, Protocol, Split

SUBSETS = ("train", "query", "gallery", "test")
"""The subsets of a split; ``test`` is divided into query and gallery at random."""

UNDIVIDED = "all"

QUERY_SIDE, GALLERY_SIDE = 0, 1
"""``camera_id`` without cameras: two values, so that no gallery image has the query's camera."""

_MAX_DIGITS = 9


class Labelled(NamedTuple):
    """An image with the user's labels.

    ``person`` is an int in Market-1501's numbering (-1 junk, 0 distractor), or any string;
    ``camera`` is None if unknown.
    """

    path: Path
    person: int | str
    camera: int | str | None
    subset: str = UNDIVIDED


def number_images(
    images: Sequence[Labelled],
    skipped: dict[str, tuple[str, ...]],
    notes: Sequence[str],
    root: Path,
) -> Contents:
    """Number people and cameras: keep their names if all are numbers above 0, else use
    1, 2, ... in the order of the names.

    Raises DataError if there is no image, or if only some images have a camera.
    """
    if not images:
        raise DataError(
            f"{root}: expected images as person/camera/image.jpg or person/image.jpg, or with "
            "names such as 0002_c1_000451.jpg; found no such image"
        )
    without = [image.path for image in images if image.camera is None]
    if 0 < len(without) < len(images):
        raise DataError(
            f"{root}: {len(without):,} of {len(images):,} images have no camera, the first is "
            f"{without[0]}; give every image a camera, or none"
        )
    people = {image.person for image in images} - {JUNK_ID, DISTRACTOR_ID}
    person_ids = _numbers(people)
    person_ids |= {JUNK_ID: JUNK_ID, DISTRACTOR_ID: DISTRACTOR_ID}
    camera_ids = _numbers({image.camera for image in images if image.camera is not None})
    subsets = {
        subset: Listing(
            tuple(
                ImageRecord(
                    image.path,
                    person_ids[image.person],
                    camera_ids[image.camera] if image.camera is not None else QUERY_SIDE,
                )
                for image in images
                if image.subset == subset
            ),
            skipped.get(subset, ()),
        )
        for subset in (*SUBSETS, UNDIVIDED)
        if any(image.subset == subset for image in images)
    }
    all_notes = [*notes, _numbering_note("identities", person_ids, people)]
    all_notes.append(
        "no cameras: every gallery image of the person is a correct match"
        if without
        else _numbering_note("cameras", camera_ids, camera_ids)
    )
    return Contents(subsets, (*all_notes, *_shared_people(subsets)), has_cameras=not without)


def divide(dataset: str, contents: Contents, choice: Choice, where: Path) -> Split:
    """The split given by the subsets, or a random split of them.

    Training may be empty if there is a test part: the data is then for evaluation only.
    Raises DataError if the subsets have no queries or no gallery, and for too few identities.
    """
    found = {subset: listing.records for subset, listing in contents.subsets.items()}
    words = "split given by the data"
    if UNDIVIDED in found:
        train, test, words = _by_rule(dataset, found[UNDIVIDED], contents, choice, where)
        query, gallery = query_and_gallery(test, choice.seed)
    else:
        if choice.num_test_identities:
            raise DataError(
                f"{dataset}: {where} has a fixed split; leave num_test_identities at 0, "
                f"found {choice.num_test_identities}"
            )
        train = found.get("train", ())
        query, gallery = found.get("query", ()), found.get("gallery", found.get("test", ()))
        if not query and "test" in found:
            query, rest = query_and_gallery(found["test"], choice.seed)
            gallery = (*rest, *found.get("gallery", ()))
            words += f", random queries with seed {choice.seed}"
    query = tuple(record for record in query if record.person_id > DISTRACTOR_ID)
    if not query or not gallery:
        raise DataError(
            f"{dataset}: expected query and gallery, or test, or no split at all in {where}; "
            f"found {', '.join(found)} with {len(query)} queries and {len(gallery)} gallery images"
        )
    if train:
        train = tuple(record for record in train if record.person_id > DISTRACTOR_ID)
        require_two_identities(dataset, where, train)
    if not contents.has_cameras:
        words += "; no cameras: every gallery image of the person is a correct match"
        gallery = tuple(dataclasses.replace(one, camera_id=GALLERY_SIDE) for one in gallery)
    people = f"{len(identities(train))}/{len(identities(query))} identities"
    return Split(dataset, train, query, gallery, Protocol("market"), f"{people}, {words}")


def _by_rule(
    dataset: str,
    records: Sequence[ImageRecord],
    contents: Contents,
    choice: Choice,
    where: Path,
) -> tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...], str]:
    """Training images, test images, and a note on the split.

    Junk and distractors go to the test images.
    """
    searchable = searchable_identities(records, contents.has_cameras)
    condition = f"are seen {'by two cameras' if contents.has_cameras else 'in two images'} or more"
    if not searchable:
        raise DataError(
            f"{dataset}: expected identities in {where} that {condition}, as queries; found "
            f"none among {len(identities(records))}"
        )
    wanted = choice.num_test_identities or max(1, len(searchable) // 2)
    test = draw_identities(dataset, where, searchable, wanted, choice.seed, condition)
    no_identity = (JUNK_ID, DISTRACTOR_ID)
    require_two_identities(
        dataset, where, (record for record in records if record.person_id not in test)
    )
    return (
        tuple(r for r in records if r.person_id not in test and r.person_id not in no_identity),
        tuple(r for r in records if r.person_id in test or r.person_id in no_identity),
        f"random split with seed {choice.seed}",
    )


def _numbers(names: Iterable[int | str]) -> dict[int | str, int]:
    """Each name's number; ``"0002"`` and ``"2"`` are the same."""
    names = list(names)
    if all(_number(name) > 0 for name in names):
        return {name: _number(name) for name in names}
    return {name: rank for rank, name in enumerate(sorted(names, key=_order), start=1)}


def _number(name: int | str) -> int:
    """The name as a number, or -1 if it is not one."""
    text = str(name)
    whole = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
    return int(text) if whole else -1


def _order(name: int | str) -> tuple[bool, int, str]:
    number = _number(name)
    return number < 0, number, str(name)


def _numbering_note(what: str, numbers: dict[int | str, int], names: Iterable[int | str]) -> str:
    """How the names were numbered: unchanged, or such as ``1 = alice to 7 = zoe``."""
    ordered = sorted(names, key=lambda name: numbers[name])
    if not ordered:
        return f"{what}: none"
    first, last = ordered[0], ordered[-1]
    if _number(first) == numbers[first] and _number(last) == numbers[last]:
        return f"{what}: numbers taken from the names, {numbers[first]} to {numbers[last]}"
    return (
        f"{what}: numbered in the order of their names, {numbers[first]} = {first} to "
        f"{numbers[last]} = {last}"
    )


def _shared_people(subsets: dict[str, Listing]) -> list[str]:
    train = set(identities(subsets["train"].records)) if "train" in subsets else set()
    tested = {
        person
        for subset, listing in subsets.items()
        if subset != "train"
        for person in identities(listing.records)
    }
    if not train & tested:
        return []
    return [
        f"{len(train & tested)} identities are in both train and test: results will be too good"
    ]
