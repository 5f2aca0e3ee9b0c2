"""What is in a dataset's folder: ``reid data check``."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reid.data.datasets import list_dataset, published_counts
from reid.data.folders import Listing, identities
from reid.data.images import read_image
from reid.errors import DataError
from reid.types import DISTRACTOR_ID, JUNK_ID, ImageRecord

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class SubsetCounts:
    """One folder or view. ``images`` includes junk and distractors, ``identities`` does not.

    ``published_images`` and ``published_identities`` are None where nothing is published.
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
        """Whether both counts are the published ones; None where nothing is published."""
        if self.published_images is None:
            return None
        found = (self.images, self.identities)
        return found == (self.published_images, self.published_identities)


@dataclass(frozen=True, slots=True)
class Inspection:
    """The findings. ``unreadable`` are one-line reasons that begin with the file's path.

    ``single_camera`` are the identities that one camera alone has seen, by part of the
    dataset (``train``, ``test``; ``all`` where it is not divided): no positive pair across
    cameras in training, no right answer in testing.
    """

    dataset: str
    root: str
    subsets: Mapping[str, SubsetCounts]
    unreadable: tuple[str, ...]
    skipped: Mapping[str, tuple[str, ...]]
    single_camera: Mapping[str, tuple[int, ...]]

    @property
    def matches_published(self) -> bool | None:
        """Whether every subset has the published counts; None where nothing is published."""
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
        }

    def lines(self) -> list[str]:
        """The same as a table for reading."""
        table = [f"{self.dataset} at {self.root}", "", _row(*_HEADINGS)]
        table += [_subset_row(name, counts) for name, counts in self.subsets.items()]
        table.append("")
        table += _named("unreadable files", self.unreadable)
        skipped = [f"{subset}/{name}" for subset, names in self.skipped.items() for name in names]
        table += _named("image files with other names, skipped", skipped)
        for part, ids in self.single_camera.items():
            people = [f"{person:04d}" for person in ids]
            table += _named(f"identities seen by one camera only ({part})", people)
        return table


def inspect_dataset(
    name: str, root: str | Path, *, threads: int = 0, progress: Progress | None = None
) -> Inspection:
    """Count a dataset, compare with what was published, and decode every file.

    Decoding runs on ``threads`` threads (0: one per core). Counts that differ from the
    published ones and unreadable files are findings, not errors. Raises DataError where
    the dataset's folders are missing or empty, or the name is unknown.
    """
    listings = list_dataset(name, root)
    published = published_counts(name)
    paths = [record.path for listing in listings.values() for record in listing.records]
    return Inspection(
        dataset=name,
        root=str(root),
        subsets={
            subset: _counts(listing.records, published.get(subset))
            for subset, listing in listings.items()
        },
        unreadable=_unreadable(paths, threads or os.cpu_count() or 1, progress),
        skipped={subset: listing.skipped for subset, listing in listings.items()},
        single_camera=_single_camera(listings),
    )


def _counts(records: Sequence[ImageRecord], published: tuple[int, int] | None) -> SubsetCounts:
    ids = [record.person_id for record in records]
    return SubsetCounts(
        images=len(records),
        identities=len(identities(records)),
        cameras=len({record.camera_id for record in records}),
        junk=ids.count(JUNK_ID),
        distractors=ids.count(DISTRACTOR_ID),
        published_images=published[0] if published else None,
        published_identities=published[1] if published else None,
    )


def _single_camera(listings: Mapping[str, Listing]) -> dict[str, tuple[int, ...]]:
    if "train" not in listings:
        everything = [record for listing in listings.values() for record in listing.records]
        return {"all": _seen_once(everything)}
    test = (*listings["query"].records, *listings["gallery"].records)
    return {"train": _seen_once(listings["train"].records), "test": _seen_once(test)}


def _seen_once(records: Iterable[ImageRecord]) -> tuple[int, ...]:
    cameras: dict[int, set[int]] = defaultdict(set)
    for record in records:
        if record.person_id > DISTRACTOR_ID:
            cameras[record.person_id].add(record.camera_id)
    return tuple(sorted(person for person, seen in cameras.items() if len(seen) == 1))


def _unreadable(paths: Sequence[Path], threads: int, progress: Progress | None) -> tuple[str, ...]:
    complaints = []
    with ThreadPoolExecutor(threads) as pool:
        for done, complaint in enumerate(pool.map(_complaint, paths), start=1):
            if complaint:
                complaints.append(complaint)
            if progress is not None:
                progress(done, len(paths))
    return tuple(complaints)


def _complaint(path: Path) -> str:
    try:
        read_image(path)
    except DataError as error:
        return str(error)
    return ""


_HEADINGS = ("subset", "images", "identities", "cameras", "junk", "distractors", "published")


def _row(subset: str, *cells: str) -> str:
    *numbers, remark = cells
    return f"{subset:<8}" + "".join(f"{cell:>12}" for cell in numbers) + f"  {remark}".rstrip()


def _subset_row(name: str, counts: SubsetCounts) -> str:
    remark = "nothing published"
    if counts.matches_published:
        remark = "as published"
    elif counts.published_images is not None:
        remark = (
            f"differs from the published {counts.published_images:,} images, "
            f"{counts.published_identities:,} identities"
        )
    numbers = (counts.images, counts.identities, counts.cameras, counts.junk, counts.distractors)
    return _row(name, *(f"{number:,}" for number in numbers), remark)


def _named(what: str, names: Sequence[str]) -> list[str]:
    """A count, and the first names below it."""
    shown = [f"  {name}" for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        shown.append(f"  and {len(names) - _SHOWN:,} more (all of them with --json)")
    return [f"{what}: {len(names):,}", *shown]
