"""Images for a gallery: a user's folders, a CSV file, or single files.

Folders may have any layout of ``reid.data.readers.person_folders``, or none: images without a
label get no person. A CSV file has a column ``path`` and any of ``person_id``, ``camera_id``,
``time`` (see ``seconds_from_text``) and ``box`` (left, top, width, height in pixels, separated by
spaces); its paths are relative to its folder and must stay inside it.
"""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reid.data.readers.label_files import Progress, name_from_cell, read_table
from reid.data.readers.own_images import LabelledImage, junk_hint, name_key, without_identity
from reid.data.readers.person_folders import FolderImages, labelled_images
from reid.errors import ConfigError, DataError, nearest
from reid.printing import printable

from .gallery import Box, GalleryEntry, Where
from .indexing import ResolvedPaths
from .times import seconds_from_text

COLUMNS = ("path", "person_id", "camera_id", "time", "box")


@dataclass
class Listed:
    """The images of some sources, and what was found beside them.

    ``left_out`` counts files that are not indexed, by reason; ``notes`` are lines on how the
    sources were understood.
    """

    entries: list[GalleryEntry] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What a user should know, a line each."""
        counted = [
            f"not indexed: {count:,} {'file' if count == 1 else 'files'} {what}"
            for what, count in self.left_out.items()
        ]
        return [printable(line) for line in (*self.notes, *counted)]


@dataclass(frozen=True, slots=True)
class HowRead:
    """What a user says of the sources.

    ``junk`` and ``distractors`` are names of people that count as such, ``layout`` the meaning of
    folders (``camera/person``; empty: recognised).
    """

    junk: tuple[str, ...] = ()
    distractors: tuple[str, ...] = ()
    layout: str = ""
    progress: Progress | None = None


def list_images(
    sources: Sequence[Path],
    how: HowRead | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> list[GalleryEntry]:
    """The entries of ``read_sources``; ``say`` gets a line on each thing that a user should know.

    Raises what ``read_sources`` raises.
    """
    found = read_sources(sources, how or HowRead())
    for line in found.lines():
        say(line)
    return found.entries


def read_sources(sources: Sequence[Path], how: HowRead) -> Listed:
    """The images of each source, sorted by name.

    ``GalleryEntry.source`` is an absolute path. Raises DataError if there is no image, if the
    meaning of the folders is not clear, for a malformed line of a CSV file, and for a source
    that is missing.
    """
    found = Listed()
    for source in sources:
        if source.suffix.lower() == ".csv":
            _from_csv(source, how, found)
        elif source.is_dir():
            _from_folder(source, how, found)
        elif source.exists():
            found.entries.append(GalleryEntry(os.path.abspath(source)))
        else:
            raise DataError(f"{source}: no such folder or file")
    if not found.entries:
        counted = "; ".join(f"{count:,} files {what}" for what, count in found.left_out.items())
        raise DataError(
            f"{', '.join(map(str, sources))}: no image found; expected a folder of .jpg, .png or "
            f"other image files, or a CSV file that names them{counted and '; found '}{counted}"
        )
    return found


def labelled(entries: Sequence[GalleryEntry], camera: str, time: str) -> list[GalleryEntry]:
    """Entries with this camera and time where they have none; ``time`` "file" is each file's time.

    Raises DataError for a malformed time.
    """
    given = seconds_from_text(time) if time not in ("", "file") else None
    return [
        dataclasses.replace(
            one,
            camera=one.camera or camera,
            time_s=(_written_s(one) if time == "file" else given)
            if one.time_s is None
            else one.time_s,
        )
        for one in entries
    ]


def where_from(conditions: Sequence[str]) -> Where:
    """``person=NAME``, ``camera=NAME``, ``since=TIME``, ``until=TIME``. Raises ConfigError."""
    found: dict[str, list[str]] = {key: [] for key in ("person", "camera", "since", "until")}
    for condition in conditions:
        key, equals, value = condition.partition("=")
        if key not in found or not equals or not value:
            raise ConfigError(
                f"expected person=NAME, camera=NAME, since=TIME or until=TIME; found {condition!r}"
                f"{nearest(key, found)}"
            )
        found[key].append(value)
    since, until = ([seconds_from_text(text) for text in found[key]] for key in ("since", "until"))
    return Where(
        names_from(found["person"]),
        names_from(found["camera"]),
        max(since, default=None),
        min(until, default=None),
    )


def names_from(words: Sequence[str]) -> tuple[str, ...]:
    """Names to filter by: as written, and as ``list_images`` stores them (0002 as 2).

    Galleries of earlier versions have names in either of Unicode's forms.
    """
    forms = (
        name
        for word in words
        for name in (word, name_key(word), unicodedata.normalize("NFD", word))
    )
    return tuple(dict.fromkeys(forms))


def _written_s(entry: GalleryEntry) -> float | None:
    """None for a file that is gone: it is counted where it is read."""
    try:
        return os.stat(entry.source).st_mtime
    except OSError:
        return None


def _from_folder(root: Path, how: HowRead, found: Listed) -> None:
    folder = labelled_images(root, how.layout, everything=True)
    images = without_identity(folder.images, how.junk, how.distractors, root)
    labelled = [(one.path, _person(one), _camera(one.camera)) for one in images]
    unplaced = [one for some in folder.unplaced.values() for one in some]
    labelled += [(one.path, "", _camera(one.camera)) for one in unplaced]
    found.entries += [
        GalleryEntry(os.path.abspath(path), person, camera)
        for path, person, camera in sorted(labelled)
    ]
    _tell(root, folder, [_person(one) for one in images], found)
    if hint := junk_hint(images):
        found.notes.append(f"{root}: {hint}")


def _tell(root: Path, folder: FolderImages, people: Sequence[str], found: Listed) -> None:
    """Note how a folder was understood, and what is not indexed or has no person."""
    names, cameras = set(people) - {""}, {_camera(one.camera) for one in folder.images} - {""}
    unplaced = [one for some in folder.unplaced.values() for one in some]
    cameras |= {_camera(one.camera) for one in unplaced} - {""}
    if names or cameras:
        found.notes.append(f"{root}: {_some('people', names)}, {_some('cameras', cameras)}")
    found.notes += [
        f"{root}: {note}" for note in folder.notes if note.startswith(("folders ", "not "))
    ]
    reasons = Counter(one.reason for one in unplaced)
    for reason, count in reasons.items():
        first = next(one.name for one in unplaced if one.reason == reason)
        images = "image has" if count == 1 else "images have"
        found.notes.append(f"{root}: {count:,} {images} no person: {reason}, the first {first}")
    not_read = [one for some in folder.not_read.values() for one in some]
    if not_read:
        suffixes = ", ".join(sorted({one.path.suffix.lower() for one in not_read}))
        found.left_out[f"in image formats that are not read ({suffixes})"] += len(not_read)
    if folder.other_files:
        suffixes = ", ".join(sorted(suffix or "no suffix" for suffix in folder.other_files)[:8])
        found.left_out[f"that are no images ({suffixes})"] += folder.other_files.total()


_ONE = {"people": "person", "cameras": "camera"}


def _some(what: str, names: Iterable[str]) -> str:
    """``4 people (alice, bob, carol and 1 more)``."""
    ordered = sorted(names)
    if not ordered:
        return f"no {what}"
    what = _ONE[what] if len(ordered) == 1 else what
    more = f" and {len(ordered) - 3:,} more" if len(ordered) > 3 else ""
    return f"{len(ordered):,} {what} ({', '.join(ordered[:3])}{more})"


def _from_csv(source: Path, how: HowRead, found: Listed) -> None:
    base, place = os.path.realpath(source.parent), ResolvedPaths()
    entries: list[GalleryEntry] = []
    labels: list[LabelledImage] = []
    for line, row in read_table(source, COLUMNS, COLUMNS[:1], how.progress):
        try:
            entries.append(_entry(base, row, place))
        except (DataError, ValueError) as error:
            raise DataError(f"{source}, line {line}: {error}") from None
        labels.append(LabelledImage(source, name_from_cell(row["person_id"]), None))
    if how.junk or how.distractors:
        labels = without_identity(labels, how.junk, how.distractors, source)
        entries = [
            dataclasses.replace(entry, person=_person(label))
            for entry, label in zip(entries, labels, strict=True)
        ]
    if hint := junk_hint(labels):
        found.notes.append(f"{source}: {hint}")
    found.entries += entries


def _entry(base: str, row: Mapping[str, str], place: ResolvedPaths) -> GalleryEntry:
    """Raises DataError or ValueError for malformed values."""
    path, person, camera, time, box = (row[name] for name in COLUMNS)
    file = os.path.join(base, path.replace("\\", "/"))  # a Windows path
    source = place(file)
    if file.endswith("..") or os.path.islink(source):
        source = os.path.realpath(source)
    if not path or "\0" in path or not source.startswith(base + os.sep):
        raise ValueError(f"{path!r} is not inside the CSV file's folder; images must be there")
    return GalleryEntry(
        source,
        _name(name_from_cell(person)),
        _name(name_from_cell(camera)),
        seconds_from_text(time) if time else None,
        _box(box) if box else None,
    )


def _box(words: str) -> Box:
    try:
        left, top, width, height = map(int, words.split())
        if not (min(width, height) > 0 and max(map(abs, (left, top, width, height))) < 2**31):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"a box is left, top, width and height in pixels, at least 1x1; found {words[:60]!r}"
        ) from None
    return left, top, width, height


def _person(image: LabelledImage) -> str:
    """The stored name of a person; empty for junk and distractors."""
    has_none = isinstance(image.person, int) and image.person <= 0
    return "" if has_none else _name(image.person)


def _camera(camera: int | str | None) -> str:
    return "" if camera is None else _name(camera)


def _name(word: int | str) -> str:
    """A stored name: numbers without leading zeros, letters composed."""
    return name_key(word) if word != "" else ""
