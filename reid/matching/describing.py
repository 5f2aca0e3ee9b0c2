"""Describing images on disk: both sides of a split, or into a file for later."""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from reid.data import read_image
from reid.errors import DataError, ModelFileError, few_of
from reid.matching import Matcher, open_matcher
from reid.matching.files import load_descriptions, save_descriptions, stored_form
from reid.matching.labels import labels_from_records
from reid.matching.lower_precision import say_lower_precision
from reid.progress import SILENT, Advance, Reporter, Say
from reid.types import Image, ImageRecord, Split

Item = TypeVar("Item")
Found = TypeVar("Found")

READ_THREADS = min(4, os.cpu_count() or 1)
"""Threads that decode images; OpenCV releases the GIL meanwhile."""

READ_AHEAD = 256
"""Decoded images waiting for the network at most, about 6 MB of 128x64 crops."""


@dataclass(frozen=True, slots=True)
class Described:
    """Descriptions of query and gallery by one matcher, and the time in seconds."""

    query: Any
    gallery: Any
    seconds: float


def describe_split(
    matcher: Matcher[Any],
    split: Split,
    reporter: Reporter = SILENT,
    query_file: Path | None = None,
    gallery_file: Path | None = None,
) -> Described:
    """Describe a split's images, or read a side from a file of ``describe_to_file``.

    The other side is then described in the file's form, float16 or float32. Raises DataError for
    an empty side or an image that cannot be read, ModelFileError for an output that is not finite
    or not the manifest's, and for files of another model or in two forms.
    """
    refuse_empty(split)
    matcher = _in_form_of(gallery_file or query_file, matcher)
    start = time.perf_counter()
    sides = {
        "query": (split.query, query_file),
        "gallery": (split.gallery, gallery_file),
    }
    progress = reporter.begin(
        "describing", sum(len(records) for records, file in sides.values() if not file)
    )
    query, gallery = (
        describe_records(matcher, records, side, progress)
        if file is None
        else _from_file(file, matcher, records, side)
        for side, (records, file) in sides.items()
    )
    return Described(query, gallery, time.perf_counter() - start)


def _in_form_of(file: Path | None, matcher: Matcher[Any]) -> Matcher[Any]:
    """The matcher that stores descriptions in ``file``'s form; it may be the same one."""
    form = stored_form(file) if file else None
    return matcher.storing(form) if form else matcher


def _from_file(file: Path, matcher: Matcher[Any], records: Sequence[ImageRecord], side: str) -> Any:
    """The descriptions in ``file``, which must be of exactly these images."""
    stored = load_descriptions(file, matcher)
    names = tuple(record.path.name for record in records)
    # Names alone are not enough: in person/camera/0.jpg many are the same.
    labels = labels_from_records(records)
    if stored.names != names or not all(map(np.array_equal, stored.labels, labels)):
        raise ModelFileError(
            f"{file} has {len(stored.names):,} images that are not the {side} of this data "
            f"({len(records):,} images); describe it again: reid describe MODEL --side {side}"
        )
    refuse_not_finite(matcher, stored.descriptions, _paths(records), side)
    return stored.descriptions


def describe_to_file(
    model: Path,
    records: Sequence[ImageRecord],
    side: str,
    out: Path,
    *,
    device: str = "auto",
    threads: int = 0,
    batch_size: int | None = None,
    graph: str = "",
    stored: str = "float16",
    mirror: bool = False,
    reporter: Reporter = SILENT,
) -> int:
    """Describe ``records`` with a model into the file ``out``; return the file's bytes.

    ``graph`` chooses among the graphs of a SiSNet run: one branch, the other, or both. ``stored``,
    float16 or float32, is the form in which a network that compares pairs stores descriptions.
    ``mirror`` averages the mirror image in.

    Raises what ``describe_split``, ``open_matcher`` and ``Matcher.mirroring`` raise, and
    OutputError.
    """
    _refuse_none(records, f"the {side}")
    with closing(open_matcher(model, device, threads, batch_size, graph, stored=stored)) as opened:
        matcher = mirrored(opened, model, reporter.say) if mirror else opened
        say_lower_precision(device, matcher.backend, reporter.say)
        progress = reporter.begin("describing", len(records))
        descriptions = describe_records(matcher, records, side, progress)
        save_descriptions(out, matcher, descriptions, records)
    return out.stat().st_size


def mirrored(matcher: Matcher[Any], model: Path, say: Say) -> Matcher[Any]:
    """The matcher that averages the mirror image in; ``say`` hears of a graph that does it itself.

    Raises ConfigError for a network that compares pairs.
    """
    mirroring = matcher.mirroring()
    if mirroring is matcher:
        say(f"{model} averages the mirror image inside its graph: --mirror changes nothing for it")
    return mirroring


def describe_records(
    matcher: Matcher[Any],
    records: Sequence[ImageRecord],
    side: str,
    progress: Advance,
) -> Any:
    """Descriptions of images on disk, in order; decoding runs in parallel with the network."""
    descriptions = matcher.describe(read_ahead(records), progress)
    refuse_not_finite(matcher, descriptions, _paths(records), side)
    return descriptions


def _paths(records: Sequence[ImageRecord]) -> list[str]:
    return [str(record.path) for record in records]


def refuse_not_finite(
    matcher: Matcher[Any], descriptions: Any, names: Sequence[str], side: str
) -> None:
    """Raise ModelFileError that names the images with NaN or infinity."""
    bad = np.flatnonzero(~matcher.finite(descriptions))
    if len(bad):
        named = few_of([names[i] for i in bad.tolist()])
        if matcher.overflowed(descriptions) >= set(bad.tolist()):
            raise ModelFileError(
                f"{len(bad)} of {len(names)} {side} images ({named}) are "
                "described by values beyond the range of float16, in which descriptions are "
                f"stored; store them as float32: reid describe MODEL --side {side} --stored float32"
            )
        raise ModelFileError(
            f"the model's output is NaN or infinite for {len(bad)} of {len(names)} {side} "
            f"images ({named}); check its weights, or use FP32"
        )


def read_ahead(records: Sequence[ImageRecord]) -> Iterator[Image]:
    """The records' images in order, decoded ahead by several threads."""
    return done_ahead(records, lambda record: read_image(record.path))


def done_ahead(items: Iterable[Item], read: Callable[[Item], Found]) -> Iterator[Found]:
    """``read`` of each item in order, called ahead by several threads."""
    todo = iter(items)
    with ThreadPoolExecutor(READ_THREADS) as pool:
        waiting: deque[Future[Found]] = deque(
            pool.submit(read, item) for item in itertools.islice(todo, READ_AHEAD)
        )
        try:
            while waiting:
                found = waiting.popleft().result()
                for item in itertools.islice(todo, 1):
                    waiting.append(pool.submit(read, item))
                yield found
        finally:
            for future in waiting:
                future.cancel()


def refuse_empty(split: Split) -> None:
    for name, records in (("query", split.query), ("gallery", split.gallery)):
        _refuse_none(records, f"{split.dataset or 'the split'}: the {name}")


def _refuse_none(records: Sequence[ImageRecord], what: str) -> None:
    if not records:
        raise DataError(f"{what} is empty; at least one image is needed to evaluate")
