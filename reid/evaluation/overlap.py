"""Test images that make results too good: trained on, or their own correct match.

Images are compared by their bytes, so a renamed copy is found. A model file that keeps no hashes
(an exported file, a checkpoint of an earlier version) is not checked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reid.data.content import image_hashes, people_hashes
from reid.errors import DataError, few_of
from reid.model_file.opening import ModelFile
from reid.progress import Reporter, counted
from reid.types import DISTRACTOR_ID, JUNK_ID, ImageRecord, Split


@dataclass(frozen=True, slots=True)
class Overlap:
    """What one model's results should say: test images trained on, None if not known; warnings."""

    num_trained_on: int | None = None
    warnings: tuple[str, ...] = ()


def overlaps(
    models: Sequence[Path | ModelFile],
    split: Split,
    root: Path,
    *,
    allow_trained_on: bool = False,
    reporter: Reporter,
) -> list[Overlap]:
    """The overlap of each model's training with the split, which is read from ``root``.

    Images that the protocol skips as junk do not count. Raises DataError if test images were
    trained on and that is not allowed, or an image cannot be read; CheckpointError.
    """
    files = [ModelFile.at(model) for model in models]
    names = [str(one.path if isinstance(one, ModelFile) else one) for one in models]
    trained = [file.checkpoint.trained_images if file.is_checkpoint else None for file in files]
    own = _warning_of_own_matches(own_matches(split))
    # Images that the protocol skips have no part in the results.
    both = (one for one in (*split.query, *split.gallery) if one.person_id != JUNK_ID)
    tested = list({one.path: one for one in both}.values())
    hashes: tuple[bytes, ...] = ()
    if any(one is not None for one in trained):
        hashes = tuple(image_hashes(tested, counted(reporter, "hashing test images")))
    people = people_hashes(split, tested, root)
    found = []
    for name, one in zip(names, trained, strict=True):
        if one is None:
            found.append(Overlap(None, own))
            continue
        pairs = zip(tested, hashes, strict=True)
        again = [record.path for record, digest in pairs if digest in one.images]
        if again and not allow_trained_on:
            raise DataError(_refusal(name, again, len(tested)))
        shared = sorted(person for digest, person in people.items() if digest in one.people)
        alike = () if again else _warning_of_names(name, shared)
        found.append(Overlap(len(again), (*own, *alike)))
    return found


def own_matches(split: Split) -> tuple[ImageRecord, ...]:
    """Query images that, as the same file or a copy, are a correct match of themselves.

    The protocol skips images of the query's own camera, so this is mostly for images without
    cameras. Only files of one person and of the same size are read.
    """
    by_size: defaultdict[tuple[int, int], list[ImageRecord]] = defaultdict(list)
    for record in split.gallery:
        by_size[_person_and_size(record)].append(record)
    pairs = [
        (query, image)
        for query in split.query
        if query.person_id not in (JUNK_ID, DISTRACTOR_ID)
        for image in by_size.get(_person_and_size(query), ())
        if image.camera_id != query.camera_id
    ]
    records = list({record.path: record for pair in pairs for record in pair}.values())
    hashes = dict(zip((one.path for one in records), image_hashes(records), strict=True))
    same = (query for query, image in pairs if hashes[query.path] == hashes[image.path])
    return tuple(dict.fromkeys(same))


def _person_and_size(record: ImageRecord) -> tuple[int, int]:
    try:
        return record.person_id, record.path.stat().st_size
    except OSError as error:
        raise DataError(f"{record.path}: cannot be read: {error.strerror or error}") from error


def _refusal(model: str, again: Sequence[Path], num_tested: int) -> str:
    return (
        f"{model} was trained on {len(again):,} of the {num_tested:,} test images, such as "
        f"{again[0]}, so its results would be too good; evaluate with the split of its training "
        "or on other images, or give --allow-trained-on (in Python: allow_trained_on=True)"
    )


def _warning_of_names(model: str, names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    return (
        f"{model} was trained on other images of people with the names of {len(names):,} test "
        f"people ({few_of(names)}): if they are the same people, the results are too good",
    )


def _warning_of_own_matches(queries: Sequence[ImageRecord]) -> tuple[str, ...]:
    if not queries:
        return ()
    return (
        f"{len(queries):,} query images are in the gallery too, as correct matches of themselves, "
        f"such as {queries[0].path}: the results are too good; take them out of the gallery, or "
        "give the images cameras",
    )
