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
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from reid.data.readers.division import (
    Choice,
    draw_identities,
    query_and_gallery,
    searchable_identities,
)
from reid.data.readers.folders import Contents, Listing, identities, require_two_identities
from reid.errors import DataError, nearest
from reid.types import DISTRACTOR_ID, JUNK_ID, ImageRecord, Protocol, Split

SUBSETS = ("train", "query", "gallery", "test")
"""The subsets of a split; ``test`` is divided into query and gallery at random."""

UNDIVIDED = "all"

QUERY_SIDE, GALLERY_SIDE = 0, 1
"""``camera_id`` without cameras: two values, so that no gallery image has the query's camera."""

_MAX_DIGITS = 9

_NAMES_KEPT = 1 << 16
"""Names whose spelling is remembered: each comes with many images."""

_MARKET_DIGITS = 4
"""Digits of an identity in Market-1501's names: 0002."""


class LabelledImage(NamedTuple):
    """An image with the user's labels.

    ``person`` is a name, or an int in Market-1501's numbering (-1 junk, 0 distractor) from a
    file name of that kind; ``camera`` is None if unknown.
    """

    path: Path
    person: int | str
    camera: int | str | None
    subset: str = UNDIVIDED


@lru_cache(_NAMES_KEPT)
def name_key(name: int | str) -> str:
    """One spelling of a name: numbers without leading zeros, letters composed (Unicode's NFC)."""
    number = _number(str(name))
    return str(number) if number >= 0 else unicodedata.normalize("NFC", str(name))


def without_identity(
    images: Sequence[LabelledImage],
    junk: Collection[str],
    distractors: Collection[str],
    where: Path,
) -> list[LabelledImage]:
    """The images with these people as junk and distractors.

    Raises DataError for a name that no person has, or that is in both.
    """
    if not junk and not distractors:
        return list(images)
    known = {name_key(one.person) for one in images if isinstance(one.person, str)}
    meant: dict[str, int] = {}
    for option, names, number in (
        ("--junk", junk, JUNK_ID),
        ("--distractors", distractors, DISTRACTOR_ID),
    ):
        for name in names:
            if name_key(name) not in known:
                raise DataError(
                    f"{where}: {option} {name}: no person has this name{nearest(name, known)}"
                )
            if meant.setdefault(name_key(name), number) != number:
                raise DataError(f"{where}: {name} is given as junk and as distractors; choose one")
    return [
        one._replace(person=meant.get(name_key(one.person), one.person))
        if isinstance(one.person, str)
        else one
        for one in images
    ]


def junk_hint(images: Iterable[LabelledImage]) -> str:
    """A line on people called as Market-1501's junk and distractors are; empty if there are none.

    Their images count like all others, which gives other figures than Market-1501's own layout.
    """
    names = {one.person for one in images if isinstance(one.person, str)}
    junk = "-1" if "-1" in names else ""
    is_market = junk or any(len(name) == _MARKET_DIGITS and name.isdecimal() for name in names)
    distractor = next((name for name in ("0000", "0") if name in names), "")
    if not is_market or (distractor == "0" and not junk):
        distractor = ""
    found = [name for name in (junk, distractor) if name]
    if not found:
        return ""
    options = [f"--junk {junk}"] * bool(junk) + [f"--distractors {distractor}"] * bool(distractor)
    return (
        f"{' and '.join(found)} {'are people' if len(found) > 1 else 'is a person'} here like any "
        f"other; as in Market-1501: {' '.join(options)}"
    )


def number_images(
    images: Sequence[LabelledImage],
    skipped: Mapping[str, tuple[str, ...]],
    notes: Sequence[str],
    root: Path,
    choice: Choice,
) -> Contents:
    """Number people and cameras: keep their names if all are numbers above 0, else use
    1, 2, ... in the order of the names.

    Raises DataError if there is no image, if only some images have a camera, or for a name
    of ``choice.own`` that no person has.
    """
    if not images:
        raise DataError(
            f"{root}: expected images as person/camera/image.jpg or person/image.jpg, or with "
            f"names such as 0002_c1_000451.jpg; found no such image{_first_skipped(skipped)}"
        )
    images = without_identity(images, choice.own.junk, choice.own.distractors, root)
    without = [image.path for image in images if image.camera is None]
    if 0 < len(without) < len(images):
        raise DataError(
            f"{root}: {len(without):,} of {len(images):,} images have no camera, the first is "
            f"{without[0]}; give every image a camera, or none"
        )
    people = {name_key(one.person) for one in images if not _has_no_identity(one)}
    person_ids = _numbers(people)
    camera_ids = _numbers({name_key(one.camera) for one in images if one.camera is not None})
    subsets = _by_subset(images, person_ids, camera_ids, skipped)
    all_notes = [*notes, _numbering_note("identities", person_ids)]
    all_notes.append(
        "no cameras: every gallery image of the person is a correct match"
        if without
        else _numbering_note("cameras", camera_ids)
    )
    hint = junk_hint(images)
    return Contents(
        subsets,
        (*all_notes, *_shared_people(subsets), *[hint] * bool(hint)),
        has_cameras=not without,
        hint=hint,
        names={number: name for name, number in person_ids.items()},
    )


def _first_skipped(skipped: Mapping[str, tuple[str, ...]]) -> str:
    lines = [line for some in skipped.values() for line in some]
    return f" among {len(lines):,}; {lines[0]}" if lines else ""


def _has_no_identity(image: LabelledImage) -> bool:
    """Whether the image is junk or a distractor; a person *called* 0 or -1 is neither."""
    return image.person in (JUNK_ID, DISTRACTOR_ID)


def _by_subset(
    images: Sequence[LabelledImage],
    person_ids: Mapping[str, int],
    camera_ids: Mapping[str, int],
    skipped: Mapping[str, tuple[str, ...]],
) -> dict[str, Listing]:
    records: dict[str, list[ImageRecord]] = {}
    for one in images:
        number = one.person if isinstance(one.person, int) and _has_no_identity(one) else None
        person = person_ids[name_key(one.person)] if number is None else number
        camera = QUERY_SIDE if one.camera is None else camera_ids[name_key(one.camera)]
        records.setdefault(one.subset, []).append(ImageRecord(one.path, person, camera))
    return {
        subset: Listing(tuple(records.get(subset, ())), skipped.get(subset, ()))
        for subset in (*SUBSETS, UNDIVIDED)
        if subset in records or skipped.get(subset)
    }


def divide(dataset: str, contents: Contents, choice: Choice, where: Path) -> Split:
    """The split given by the subsets, or a random split of them.

    Training may be empty if there is a test part: the data is then for evaluation only.
    Raises DataError if the subsets have no queries or no gallery, and for too few identities.
    """
    found = {subset: one.records for subset, one in contents.subsets.items() if one.records}
    train: Sequence[ImageRecord] = ()
    words = "split given by the data"
    if choice.own.all_test:
        require_undivided(dataset, found, choice, where)
        query, gallery = query_and_gallery(found[UNDIVIDED], choice.seed)
        words = f"all images for testing, random queries with seed {choice.seed}"
    elif UNDIVIDED in found:
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
    note = f"{people}, {words}" + (f"; {contents.hint}" if contents.hint else "")
    names = {number: contents.names[number] for number in identities((*train, *query, *gallery))}
    return Split(dataset, tuple(train), query, gallery, Protocol("market"), note, names)


def require_undivided(dataset: str, found: Collection[str], choice: Choice, where: Path) -> None:
    """Raise DataError where ``all_test`` makes no sense: images with a split, or a number."""
    if UNDIVIDED not in found:
        raise DataError(
            f"{dataset}: {where} has a split of its own ({', '.join(found)}); leave --all-test out"
        )
    if choice.num_test_identities:
        raise DataError(
            f"{dataset}: all identities or {choice.num_test_identities} of them for testing? Give "
            "--all-test or --test-identities"
        )


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


def _numbers(names: Iterable[str]) -> dict[str, int]:
    """Each name's number; the names are keys."""
    names = list(names)
    if all(_number(name) > 0 for name in names):
        return {name: _number(name) for name in names}
    return {name: rank for rank, name in enumerate(sorted(names, key=_order), start=1)}


def _number(name: str) -> int:
    """The name as a number, or -1 if it is not one."""
    whole = name.isascii() and name.isdecimal() and len(name) <= _MAX_DIGITS
    return int(name) if whole else -1


def _order(name: str) -> tuple[bool, int, str]:
    number = _number(name)
    return number < 0, number, name


def _numbering_note(what: str, numbers: Mapping[str, int]) -> str:
    """How the names were numbered: unchanged, or such as ``1 = alice to 7 = zoe``."""
    ordered = sorted(numbers, key=lambda name: numbers[name])
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
