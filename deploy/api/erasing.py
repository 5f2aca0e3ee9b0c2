"""Erasing a person, a track or a span of time everywhere, with a receipt; and by age."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.errors import ConfigError
from reid.files import write_text
from reid.printing import json_text

from ..gallery import GalleryEntry, GalleryStore, Where
from ..gallery.opening import MILVUS, open_gallery
from ..gallery.receipts import Artefact, Receipt
from ..gallery.retention import prune
from ..gallery.times import text_from_seconds
from ..gallery.traces import (
    Erased,
    erase_access,
    erase_events,
    erase_features,
    erase_frames,
    erase_identities,
    erase_page,
    erase_recordings,
    not_searched,
    queries_of,
    spans_of,
)

_TRACK = re.compile(r"(.+):(\d{1,15})")


@dataclass(frozen=True, slots=True)
class Places:
    """Where else than in the gallery the people may be seen, as far as it is known."""

    events: tuple[Path, ...] = ()
    recordings: tuple[Path, ...] = ()
    frames: tuple[Path, ...] = ()
    pages: tuple[Path, ...] = ()
    features: tuple[Path, ...] = ()
    access_logs: tuple[Path, ...] = ()
    identities: tuple[Path, ...] = ()


def track_from(text: str) -> tuple[str, int]:
    """The run and the number of a track, from ``RUN:NUMBER``. Raises ConfigError."""
    found = _TRACK.fullmatch(text)
    if found is None:
        raise ConfigError(f"a track is written RUN:NUMBER, as in its events; found {text!r}")
    return found[1], int(found[2])


def prune_gallery(gallery: str, older_than_s: float, frames: Path | None = None) -> dict[str, Any]:
    """Erase the images older than ``older_than_s``; what ``reid gallery prune --json`` prints.

    Their verdicts go too, and their whole frames in the folder ``frames``. Images without a time
    stay. Raises DataError if there is no gallery, OutputError, UnavailableError.

    >>> with reid.Gallery.open(folder / "people.gallery", model) as gallery:
    ...     added = gallery.add(people / "query", times="2026-05-01T12:30")
    >>> prune_gallery(str(folder / "people.gallery"), 30 * 86400)["total"]
    0
    """
    with closing(open_gallery(gallery, None)) as store:
        count = prune(store, older_than_s, time.time(), frames)
        return {"gallery": store.name, "deleted": count, "total": len(store)}


def erase(
    gallery: str,
    where: Where,
    receipt: Path,
    places: Places | None = None,
    *,
    dry_run: bool = False,
) -> Receipt:
    """Erase what meets ``where`` from the gallery and from ``places``, and write a receipt.

    The receipt is a JSON file that names every artefact, what was erased of it, what is left, and
    what was not searched. The gallery goes last, so that a stopped erasure can be repeated.
    ``dry_run`` erases nothing and writes the same receipt. Raises ConfigError without a
    condition, DataError if there is no gallery or place, OutputError, UnavailableError.

    >>> with reid.Gallery.open(folder / "people.gallery", model) as gallery:
    ...     added = gallery.add(people / "query", people="ann")
    >>> name, where = str(folder / "people.gallery"), Where(people=("ann",))
    >>> erase(name, where, folder / "receipt.json").artefacts[0].erased > 0
    True
    """
    if where == Where():
        raise ConfigError(
            "name what to erase: --person, --track, --camera, --since, --until or --id"
        )
    places = places or Places()
    with closing(open_gallery(gallery, None)) as store:
        found = dict(store.listed(where, pictures=True))
        erased = _erased(where, found, store)
        if not dry_run:  # a place that is not there is an error before anything is erased
            _outside(erased, places, dry_run=True)
        outside = _outside(erased, places, dry_run)
        inside = _inside(store, where, erased, dry_run)
        done = Receipt(
            _conditions(where), text_from_seconds(time.time()), dry_run, [*inside, *outside]
        )
        write_text(receipt, json_text(done.to_json()) + "\n", private=True)
        return done


def _erased(where: Where, found: dict[int, GalleryEntry], store: GalleryStore) -> Erased:
    entries = tuple(found.values())
    tracks = {(one.run, one.track) for one in entries if one.track is not None}
    of_span = not (where.people or where.tracks or where.ids)
    spans = spans_of(entries)
    if of_span:
        first = float("-inf") if where.since_s is None else where.since_s
        last = float("inf") if where.until_s is None else where.until_s
        spans = tuple((camera, first, last) for camera in where.cameras or ("",))
    queries = frozenset[str]() if of_span else queries_of(found, store.confirmed())
    return Erased(
        frozenset(where.people),
        frozenset({*tracks, *where.tracks}),
        spans,
        of_span,
        queries,
        frozenset(map(str, found)),
        entries,
    )


def _outside(erased: Erased, places: Places, dry_run: bool) -> list[Artefact]:
    done: list[Artefact] = []
    kinds: Sequence[tuple[str, str, Sequence[Path], Any]] = (
        ("events", "--events", places.events, erase_events),
        ("recordings", "--recordings", places.recordings, erase_recordings),
        ("frames", "--frames", places.frames, erase_frames),
        ("page", "--pages", places.pages, erase_page),
        ("access log", "--access-log", places.access_logs, erase_access),
    )
    for kind, option, paths, erase_one in kinds:
        done += [erase_one(path, erased, dry_run) for path in paths]
        done += [] if paths else [not_searched(kind, option)]
    done += [erase_features(path, dry_run) for path in places.features]
    done += [] if places.features else [not_searched("features", "--features")]
    done += [erase_identities(path, dry_run) for path in places.identities]
    done += [] if places.identities else [not_searched("identities", "--identities")]
    images = {one.source for one in erased.entries if Path(one.source).is_file()}
    left = (
        f"{len(images)} image or video files that were indexed are not the gallery's: delete them"
    )
    return [*done, Artefact("sources", "", True, 0, "files", left if images else "")]


def _inside(store: GalleryStore, where: Where, erased: Erased, dry_run: bool) -> list[Artefact]:
    ids = [int(one) for one in erased.ids]
    wanted = frozenset(ids)
    verdicts = [one for one in store.confirmed() if one.query in erased.queries or one.id in wanted]
    count = len(ids)
    if not dry_run:
        store.forget_verdicts(erased.queries, ids)
        count = store.delete(where)
    is_milvus = store.name.startswith(MILVUS)
    left = ""
    if is_milvus and not dry_run:
        store.compact()
        left = (
            "no search finds them; Milvus removes the bytes when it compacts its files, as a "
            "server was asked to, and by its own garbage collection"
        )
    return [
        Artefact("gallery", store.name, True, count, "images", left),
        Artefact("index", store.name, True, count, "images", left),
        Artefact("verdicts", store.name, True, len(verdicts), "verdicts", left),
        Artefact(
            "query hashes", store.name, True, len({one.query for one in verdicts}), "hashes", left
        ),
    ]


def _conditions(where: Where) -> dict[str, Any]:
    return {
        "people": [*where.people],
        "cameras": [*where.cameras],
        "since": text_from_seconds(where.since_s) or None,
        "until": text_from_seconds(where.until_s) or None,
        "tracks": [f"{run}:{number}" for run, number in where.tracks],
        "ids": [*map(str, where.ids)],
    }
