"""Check a dataset's folder: ``reid data check``."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reid.data.images import read_image
from reid.data.readers.datasets import list_dataset, published_counts, reader_of
from reid.data.readers.division import USUAL, Choice, OwnImages
from reid.data.readers.folders import Contents, identities
from reid.errors import DataError
from reid.files import sha256_of_file
from reid.printing import printable
from reid.progress import SILENT, Reporter, counted
from reid.types import DISTRACTOR_ID, JUNK_ID, ImageRecord

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class SubsetCounts:
    """One folder or view. ``images`` includes junk and distractors, ``identities`` does not.

    ``published_images`` and ``published_identities`` are None if no counts are published.
    """

    images: int
    identities: int
    cameras: int
    junk: int
    distractors: int
    published_images: int | None
    published_identities: int | None

    @property
    def matches_published(self) -> bool | None:
        """Whether both counts equal the published ones; None if none are published."""
        if self.published_images is None:
            return None
        found = (self.images, self.identities)
        return found == (self.published_images, self.published_identities)


@dataclass(frozen=True, slots=True)
class Inspection:
    """The findings of a check. ``unreadable``: one line per file, starting with its path.

    ``split`` describes how training would split the images; ``notes`` says how the folder was
    interpreted. ``single_camera`` lists the identities seen by one camera only, by part of the
    dataset (``train``, ``test``; ``all`` if there is no split; empty without cameras). They
    have no positive pair across cameras in training and no correct match in testing.
    ``duplicates`` are files with identical bytes, one in train and one in test, or, if there
    is no split, of two identities.
    """

    dataset: str
    root: str
    subsets: Mapping[str, SubsetCounts]
    unreadable: tuple[str, ...]
    skipped: Mapping[str, tuple[str, ...]]
    single_camera: Mapping[str, tuple[int, ...]]
    duplicates: tuple[str, ...]
    split: str
    notes: tuple[str, ...]

    @property
    def matches_published(self) -> bool | None:
        """Whether every subset has the published counts; None if none are published."""
        matches = [counts.matches_published for counts in self.subsets.values()]
        return None if None in matches else all(matches)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "dataset": self.dataset,
            "root": self.root,
            "matches_published": self.matches_published,
            "subsets": {
                name: {**asdict(counts), "matches_published": counts.matches_published}
                for name, counts in self.subsets.items()
            },
            "unreadable": list(self.unreadable),
            "skipped": {name: list(names) for name, names in self.skipped.items()},
            "single_camera": {name: list(ids) for name, ids in self.single_camera.items()},
            "duplicates": list(self.duplicates),
            "split": self.split,
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """The same as text: one line per finding, with a table of the counts."""
        table = [f"{self.dataset} at {self.root}", *self.notes, f"split: {self.split}"]
        table = [printable(line) for line in table]
        table += ["", _row(*_HEADINGS)]
        table += [_subset_row(name, counts) for name, counts in self.subsets.items()]
        table.append("")
        table += _named("unreadable files", self.unreadable)
        skipped = [f"{subset}/{name}" for subset, names in self.skipped.items() for name in names]
        table += _named("image files without a recognisable identity", skipped)
        for part, ids in self.single_camera.items():
            people = [f"{person:04d}" for person in ids]
            table += _named(f"identities seen by one camera only ({part})", people)
        where = "across train and test" if "train" in self.subsets else "across identities"
        return table + _named(f"exact duplicates {where}", self.duplicates)


def inspect_dataset(
    name: str,
    root: str | Path,
    *,
    threads: int = 0,
    reporter: Reporter = SILENT,
    own: OwnImages = USUAL,
) -> Inspection:
    """Count a dataset's images, compare with the published counts, and decode every file.

    Decoding runs on ``threads`` threads (0: one per core); ``own`` is that of ``load_split``.
    Counts that differ from the published ones and unreadable files are findings, not errors.
    Raises DataError if the dataset's folders are missing or empty, or the name is unknown.
    """
    choice = Choice(own=own, progress=counted(reporter, "listing"))
    contents = list_dataset(name, root, choice)
    subsets, published = contents.subsets, published_counts(name)
    records = [record for listing in subsets.values() for record in listing.records]
    unreadable, digests = _read_all(records, threads or os.cpu_count() or 1, reporter)
    return Inspection(
        dataset=name,
        root=str(root),
        subsets={
            subset: _counts(listing.records, published.get(subset), contents.has_cameras)
            for subset, listing in subsets.items()
        },
        unreadable=unreadable,
        skipped={subset: listing.skipped for subset, listing in subsets.items()},
        single_camera=_single_camera(contents) if contents.has_cameras else {},
        duplicates=_duplicates(contents, digests),
        split=_split_in_words(name, root, choice),
        notes=contents.notes,
    )


def _split_in_words(name: str, root: str | Path, choice: Choice) -> str:
    try:
        return reader_of(name).read(Path(root), choice).note
    except DataError as error:
        return f"not possible: {error}"


def _counts(
    records: Sequence[ImageRecord], published: tuple[int, int] | None, has_cameras: bool
) -> SubsetCounts:
    ids = [record.person_id for record in records]
    return SubsetCounts(
        images=len(records),
        identities=len(identities(records)),
        cameras=len({record.camera_id for record in records}) if has_cameras else 0,
        junk=ids.count(JUNK_ID),
        distractors=ids.count(DISTRACTOR_ID),
        published_images=published[0] if published else None,
        published_identities=published[1] if published else None,
    )


def _parts(contents: Contents) -> dict[str, list[ImageRecord]]:
    """``train`` and ``test``, or ``all`` if the dataset has no split."""
    parts: dict[str, list[ImageRecord]] = defaultdict(list)
    for subset, listing in contents.subsets.items():
        part = "train" if subset == "train" else "test"
        parts[part if "train" in contents.subsets else "all"] += listing.records
    return parts


def _single_camera(contents: Contents) -> dict[str, tuple[int, ...]]:
    return {part: _seen_once(records) for part, records in _parts(contents).items()}


def _duplicates(contents: Contents, digests: Mapping[Path, str]) -> tuple[str, ...]:
    """``a = b``: the first file of each part (or identity) that shares the same bytes."""
    found: dict[str, dict[str | int, Path]] = defaultdict(dict)
    for part, records in _parts(contents).items():
        for record in records:
            if record.path in digests:
                side = record.person_id if part == "all" else part
                found[digests[record.path]].setdefault(side, record.path)
    return tuple(" = ".join(map(str, one.values())) for one in found.values() if len(one) > 1)


def _seen_once(records: Iterable[ImageRecord]) -> tuple[int, ...]:
    cameras: dict[int, set[int]] = defaultdict(set)
    for record in records:
        if record.person_id > DISTRACTOR_ID:
            cameras[record.person_id].add(record.camera_id)
    return tuple(sorted(person for person, seen in cameras.items() if len(seen) == 1))


def _read_all(
    records: Sequence[ImageRecord], threads: int, reporter: Reporter
) -> tuple[tuple[str, ...], dict[Path, str]]:
    """Error messages of unreadable files, and the digests of the readable ones."""
    complaints, digests = [], {}
    advance = reporter.begin("reading", len(records))
    with ThreadPoolExecutor(threads) as pool:
        looks = pool.map(_look, (record.path for record in records))
        for record, (complaint, digest) in zip(records, looks, strict=True):
            if complaint:
                complaints.append(complaint)
            else:
                digests[record.path] = digest
            advance(1)
    return tuple(complaints), digests


def _look(path: Path) -> tuple[str, str]:
    """An error message, or the file's digest."""
    try:
        read_image(path)
    except DataError as error:
        return str(error), ""
    return "", sha256_of_file(path)


_HEADINGS = ("subset", "images", "identities", "cameras", "junk", "distractors", "published")


def _row(subset: str, *cells: str) -> str:
    first, *numbers, remark = cells
    start = f"{subset}{first:>{20 - len(subset)}}"
    return start + "".join(f"{cell:>12}" for cell in numbers) + f"  {remark}".rstrip()


def _subset_row(name: str, counts: SubsetCounts) -> str:
    remark = "no published counts"
    if counts.matches_published:
        remark = "matches published"
    elif counts.published_images is not None:
        remark = (
            f"differs from the published {counts.published_images:,} images, "
            f"{counts.published_identities:,} identities"
        )
    numbers = (counts.images, counts.identities, counts.cameras, counts.junk, counts.distractors)
    return _row(name, *(f"{number:,}" for number in numbers), remark)


def _named(what: str, names: Sequence[str]) -> list[str]:
    """A heading with the count, and the first names below it."""
    shown = [f"  {printable(name)}" for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        shown.append(f"  and {len(names) - _SHOWN:,} more (--json lists all)")
    return [f"{what}: {len(names):,}", *shown]
