"""What of erased people is outside the gallery: events, recordings, frames, features, pages, logs.

Every function erases and returns an ``Artefact``; with ``dry_run`` it only counts. A file is
replaced as a whole, so that a stopped erasure can be repeated.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reid.errors import DataError, output_errors
from reid.files import atomic_path
from reid.locks import locked

from .gallery import GalleryEntry
from .receipts import Artefact
from .retention import frames_of

AROUND_S = 10.0
"""Seconds before and after an erased image in which a recording shows the person (a choice)."""

VIDEOS = (".webm", ".mp4")


@dataclass(frozen=True, slots=True)
class Erased:
    """The people, tracks and times that an erasure is about."""

    people: frozenset[str] = frozenset()
    tracks: frozenset[tuple[str, int]] = frozenset()
    spans: tuple[tuple[str, float, float], ...] = ()
    """Camera (empty: all), first and last second since 1970."""
    whole_spans: bool = False
    """Whether everything in the spans goes, not only the tracks."""
    queries: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    entries: tuple[GalleryEntry, ...] = field(default=(), repr=False)

    def has_time(self, camera: object, start_s: float, end_s: float) -> bool:
        """Whether a camera's stretch of time overlaps a span."""
        return any(
            (not name or name == camera) and start_s <= last and end_s >= first
            for name, first, last in self.spans
        )


def erase_events(path: Path, erased: Erased, dry_run: bool) -> Artefact:
    """Remove the lines of these tracks, people and spans; of rotated files beside it too."""
    return _erase_lines("events", path, lambda line: _is_event_of(line, erased), dry_run)


def erase_access(path: Path, erased: Erased, dry_run: bool) -> Artefact:
    """Remove the lines that hold the hash of an erased query, or the id of an erased image."""
    names = erased.queries | erased.ids
    return _erase_lines(
        "access log", path, lambda line: not names.isdisjoint(_texts(line)), dry_run
    )


def erase_recordings(folder: Path, erased: Erased, dry_run: bool) -> Artefact:
    """Delete the segments in which the people may be seen. Others in them go too."""
    _require_folder(folder)
    count, left = 0, []
    for video in sorted(path for path in folder.rglob("*") if path.suffix in VIDEOS):
        beside = video.with_suffix(".json")
        try:
            said = json.loads(beside.read_bytes())
            camera, start_s = str(said["camera"]), float(said["start"])
            end_s = None if said["end"] is None else float(said["end"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            left.append(f"{video} has no description beside it: look at it")
            continue
        if not erased.has_time(camera, start_s, float("inf") if end_s is None else end_s):
            continue
        if end_s is None:
            left.append(f"{video} is still being written: erase again when it is complete")
            continue
        count += 1
        if not dry_run:
            _remove(video)
            _remove(beside)
    return Artefact("recordings", str(folder), True, count, "segments", "; ".join(left))


def erase_frames(folder: Path, erased: Erased, dry_run: bool) -> Artefact:
    """Delete the whole frames that were kept of the erased images."""
    _require_folder(folder)
    found = frames_of(erased.entries, folder)
    if not dry_run:
        for path in found:
            _remove(path)
    return Artefact("frames", str(folder), True, len(found), "files")


def erase_page(path: Path, erased: Erased, dry_run: bool) -> Artefact:
    """Delete a page of search results if it shows an erased image's picture, file or name."""
    try:
        text = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return Artefact("page", str(path), True, 0, "files", "there is no such file")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    words = [one.source for one in erased.entries if one.source]
    words += [base64.b64encode(one.picture).decode() for one in erased.entries if one.picture]
    shown = any(word in text for word in (*words, *erased.people))
    if shown and not dry_run:
        _remove(path)
    left = "" if shown else "it names none of the images; look at it if it may show the person"
    return Artefact("page", str(path), True, int(shown), "files", left)


def erase_features(path: Path, dry_run: bool) -> Artefact:
    """Name a file of features: what is in it cannot be attributed to images of the gallery."""
    if not path.is_file():
        raise DataError(f"{path}: no such file of features")
    left = "it holds features that cannot be attributed: delete it, or describe the images again"
    return Artefact("features", str(path), True, 0, "rows", left)


def erase_identities(path: Path, dry_run: bool) -> Artefact:
    """Delete the file of `reid watch --identities`, whose looks have no names.

    Raises OutputError while it is in use.
    """
    if not path.is_file():
        left = "there is no such file"
        return Artefact("identities", str(path), True, 0, "files", left)
    if not dry_run:
        with locked(path.with_name(f"{path.name}.lock"), patience_s=0.0):
            _remove(path)
    return Artefact("identities", str(path), True, 1, "files")


def not_searched(kind: str, option: str) -> Artefact:
    """An artefact for which no place was given."""
    return Artefact(kind, "", False, left=f"name it with {option} if there is any")


def rotated(path: Path) -> list[Path]:
    """A file and what was rotated from it: FILE.1, FILE.2026-05-01 and the like."""
    beside = sorted(one for one in path.parent.glob(f"{path.name}.*") if one.is_file())
    stems = sorted(path.parent.glob(f"{path.stem}[-.]*{path.suffix}")) if path.suffix else []
    files = [one for one in dict.fromkeys((path, *beside, *stems)) if one.is_file()]
    if not files:
        raise DataError(f"{path}: no such file")
    return files


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")


def _erase_lines(
    kind: str, path: Path, is_erased: Callable[[Any], bool], dry_run: bool
) -> Artefact:
    count, unread = 0, 0
    for file in rotated(path):
        if file.suffix in (".gz", ".xz", ".bz2", ".zst", ".part"):
            unread += 1
            continue
        lines, gone = [], 0
        with open(file, "rb") as opened:
            for line in opened:
                try:
                    if is_erased(json.loads(line)):
                        gone += 1
                        continue
                except (ValueError, RecursionError):
                    pass  # an empty or unfinished line says nothing of a person that can be read
                lines.append(line)
        if gone and not dry_run:
            with atomic_path(file, private=True) as temporary:
                temporary.write_bytes(b"".join(lines))
        count += gone
    left = f"{unread} compressed files were not searched" if unread else ""
    return Artefact(kind, str(path), True, count, "lines", left)


def _is_event_of(event: Any, erased: Erased) -> bool:
    if not isinstance(event, dict):
        return False
    if (event.get("run"), event.get("track")) in erased.tracks:
        return True
    candidate = event.get("candidate")
    named = candidate.get("person") if isinstance(candidate, dict) else candidate
    if not erased.people.isdisjoint(str(name) for name in (named, event.get("person")) if name):
        return True
    moment = event.get("unix_time", event.get("time"))
    is_person = event.get("track") is not None
    if not (erased.whole_spans and is_person and isinstance(moment, int | float)):
        return False
    return erased.has_time(event.get("camera"), moment, moment)


def _texts(value: Any) -> Iterator[str]:
    """All texts and numbers in plain values, as texts."""
    if isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str | int):
        yield str(value)


def _remove(path: Path) -> None:
    with output_errors(path):
        path.unlink(missing_ok=True)


def spans_of(entries: Sequence[GalleryEntry]) -> tuple[tuple[str, float, float], ...]:
    """The times around these images, by camera; overlapping ones joined."""
    times: dict[str, list[float]] = {}
    for one in entries:
        if one.time_s is not None:
            times.setdefault(one.camera, []).append(one.time_s)
    found: list[tuple[str, float, float]] = []
    for camera, moments in times.items():
        for moment in sorted(moments):
            start_s, end_s = moment - AROUND_S, moment + AROUND_S
            if found and found[-1][0] == camera and start_s <= found[-1][2]:
                found[-1] = (camera, found[-1][1], end_s)
            else:
                found.append((camera, start_s, end_s))
    return tuple(found)


def queries_of(ids: Collection[int], verdicts: Sequence[Any]) -> frozenset[str]:
    """The queries that a user confirmed to show the person of one of these images."""
    wanted = frozenset(ids)
    return frozenset(one.query for one in verdicts if one.same and one.id in wanted)
