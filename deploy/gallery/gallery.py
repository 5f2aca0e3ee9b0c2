"""What a gallery is to those who use it: commands, cameras, the web page.

A gallery keeps the descriptions of images and what is known of each image, its sighting. One
lies in a folder (``reid.deploy.gallery.local``), another in a Milvus collection
(``reid.deploy.gallery.milvus``); ``reid.deploy.gallery.opening.open_gallery`` opens either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from reid.types import BoolArray

Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels of the source's image."""


@dataclass(frozen=True, slots=True)
class GalleryEntry:
    """One image of a person, and all that is known of it.

    ``person`` and ``camera`` are names, empty where unknown; ``time_s`` is in seconds since 1970
    UTC, kept to the microsecond. ``source`` is the image's file, or what a camera is called;
    with a ``box`` the person is that part of it. ``picture`` is a JPEG of the person for sources
    that are no files.

    Two sightings are of one image where source, box and ``content`` (a hash of the file) agree,
    or, without ``content`` (a live camera), source, box and time.
    """

    source: str
    person: str = ""
    camera: str = ""
    time_s: float | None = None
    box: Box | None = None
    content: str = ""
    picture: bytes = b""


@dataclass(frozen=True, slots=True)
class Where:
    """Which images: every condition holds, and of a condition's names one.

    No names: whoever, wherever. An image of unknown time is in no span of time. ``until_s`` is
    not in the span itself.
    """

    people: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    since_s: float | None = None
    until_s: float | None = None


ANYWHERE = Where()


@dataclass(frozen=True, slots=True)
class Match:
    """An image found: its number in the gallery, how far it is, what is known of it.

    ``distance`` is the matcher's: Euclidean for vectors, minus the score for a network that
    compares pairs.
    """

    id: int
    distance: float
    entry: GalleryEntry


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A person at the screen said that an image does, or does not, show whom a query shows."""

    query: str
    """Hash of the query's image."""
    id: int
    same: bool
    time_s: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What is in a gallery; names in order, times in seconds since 1970 UTC."""

    images: int
    people: tuple[str, ...]
    cameras: tuple[str, ...]
    first_s: float | None
    last_s: float | None


class Gallery(Protocol):
    """Used by one thread at a time. Every change is a transaction: all of it, or nothing."""

    name: str
    """Where it is, for people: without credentials."""

    def __len__(self) -> int:
        """How many images it holds now."""
        ...

    def unknown(self, entries: Sequence[GalleryEntry]) -> BoolArray:
        """(N,): which of these images are not in the gallery yet."""
        ...

    def add(self, descriptions: Any, entries: Sequence[GalleryEntry]) -> int:
        """Store described images and return how many: those that are there already are not.

        ``descriptions`` are the matcher's, of N images, ``sightings`` theirs in their order.
        Raises OutputError (a full disk, another writer), and the gallery is as it was.
        """
        ...

    def delete(self, where: Where) -> int:
        """Erase the images and return how many. Raises OutputError."""
        ...

    def search(self, descriptions: Any, k: int = 10, where: Where = ANYWHERE) -> list[list[Match]]:
        """For each query its up to ``k`` nearest images, nearest first.

        What others added since is searched too. Raises ConfigError for ``k`` below 1,
        ModelFileError for a damaged gallery.
        """
        ...

    def entry(self, number: int) -> GalleryEntry | None:
        """What is known of the image ``Match.id``; None where there is none (any more)."""
        ...

    def summary(self) -> Summary:
        """What there is to filter by."""
        ...

    def confirm(self, confirmation: Confirmation) -> None:
        """Keep what somebody said of a match. Raises OutputError."""
        ...

    def confirmed(self) -> list[Confirmation]:
        """All that was said, in order."""
        ...

    def prepare(self) -> None:
        """Build what makes searching quick now, not at the next search."""
        ...

    def close(self) -> None:
        """Let go of files and connections; may be called twice."""
        ...
