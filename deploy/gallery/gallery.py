"""The interface of a gallery, for commands, cameras and the web page.

A gallery keeps the features of images and an entry with the labels of each. It is a folder
(``reid.deploy.gallery.local``) or a Milvus collection (``reid.deploy.gallery.milvus``);
``reid.deploy.gallery.opening.open_gallery`` opens either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from reid.types import BoolArray

Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels of the source's image."""


@dataclass(frozen=True, slots=True)
class GalleryEntry:
    """One image of a person and its labels.

    ``person`` and ``camera`` are names, empty if unknown; ``time_s`` is in seconds since 1970
    UTC, kept to the microsecond. ``source`` is the image's file or a camera's name; with a
    ``box`` the person is that part of it. ``picture`` is a JPEG of the person if the source is not
    an image file.

    ``frame`` (counted from 0) and ``seconds`` are the place in the video ``source``, ``track`` and
    ``run`` the track and the run of `reid watch`. ``picture_ref`` says where a picture is kept
    that is not in the gallery, ``model`` which checkpoint described the image.

    Two entries are the same image if box and ``content`` (a hash of the file) agree, wherever the
    file is, or, without ``content`` (a live camera), source, box and time.
    """

    source: str
    person: str = ""
    camera: str = ""
    time_s: float | None = None
    box: Box | None = None
    content: str = ""
    picture: bytes = b""
    frame: int | None = None
    seconds: float | None = None
    track: int | None = None
    run: str = ""
    picture_ref: str = ""
    model: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Where:
    """A filter of images: all conditions must hold, with any of a condition's names.

    Without names it accepts every person or camera. An image without a time is never in a time
    range. ``until_s`` is exclusive. ``tracks`` are pairs of a run and its track's number, ``ids``
    those of ``Match.id``. ``named``: only images with a person's name, or without one.
    """

    people: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    since_s: float | None = None
    until_s: float | None = None
    tracks: tuple[tuple[str, int], ...] = ()
    ids: tuple[int, ...] = ()
    named: bool | None = None


ANYWHERE = Where()


@dataclass(frozen=True, slots=True)
class Match:
    """One search result: the image's id in the gallery, its distance and its entry.

    ``distance`` is the matcher's: Euclidean for vectors, minus the score for a network that
    compares pairs.
    """

    id: int
    distance: float
    entry: GalleryEntry


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A verdict: a user confirmed or denied that an image shows the query's person.

    ``same`` None takes back what was said before. ``user`` is the name of who said it, empty if
    unknown.
    """

    query: str
    """Hash of the query's image."""
    id: int
    same: bool | None
    time_s: float
    user: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is in a gallery; names sorted, times in seconds since 1970 UTC."""

    images: int
    people: tuple[str, ...]
    cameras: tuple[str, ...]
    first_s: float | None
    last_s: float | None


class Labelled(NamedTuple):
    """How many images got a label that they lacked, keep another one, or got a new path."""

    labelled: int
    differing: int
    moved: int


class GalleryStore(Protocol):
    """For one thread at a time. Every change is a transaction: complete, or not made at all."""

    name: str
    """Its location for messages, without credentials."""

    @property
    def left_out(self) -> str:
        """One line about damaged images that are left out; empty if there are none."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def count(self, where: Where) -> int:
        """Number of images that meet the conditions."""
        ...

    def unknown(self, entries: Sequence[GalleryEntry]) -> BoolArray:
        """(N,): which of these images are not in the gallery yet."""
        ...

    def add(self, descriptions: Any, entries: Sequence[GalleryEntry]) -> int:
        """Add images and return how many were new; images that are there already are skipped.

        ``descriptions`` are the matcher's features of N images, ``entries`` the labels in the same
        order. Raises OutputError (a full disk, another writer) and ModelFileError (features that
        are not finite, a damaged gallery); the gallery is then unchanged.
        """
        ...

    def label(self, entries: Sequence[GalleryEntry]) -> Labelled:
        """Give images that are there the person, camera and time of these entries, if they have
        none, and their source, if theirs is gone.

        Raises OutputError, ModelFileError for a damaged gallery.
        """
        ...

    def delete(self, where: Where) -> int:
        """Erase the images and return how many; verdicts on them are erased too.

        Raises OutputError.
        """
        ...

    def search(self, descriptions: Any, k: int = 10, where: Where = ANYWHERE) -> list[list[Match]]:
        """For each query its up to ``k`` nearest images, nearest first.

        Includes images that other processes added. Raises ConfigError for ``k`` below 1,
        ModelFileError for a damaged gallery, UnavailableError if a server does not answer in time.
        """
        ...

    def features(self, ids: Sequence[int]) -> Any:
        """The stored features of these images, in the matcher's form and in this order.

        Raises DataError for an image that is not there any more.
        """
        ...

    def entry(self, number: int) -> GalleryEntry | None:
        """The entry of the image ``Match.id``; None if it is not there or was erased."""
        ...

    def listed(
        self, where: Where = ANYWHERE, *, pictures: bool = False
    ) -> Iterator[tuple[int, GalleryEntry]]:
        """The ids and entries of the images that meet the conditions, in no certain order."""
        ...

    def summary(self) -> Summary:
        """The names and times to filter by."""
        ...

    def confirm(self, confirmation: Confirmation) -> None:
        """Store a verdict, without waiting for those who add images. Raises OutputError."""
        ...

    def confirmed(self) -> list[Confirmation]:
        """All verdicts, in order, also those that were taken back."""
        ...

    def verdicts(self, query: str) -> dict[int, Confirmation]:
        """The newest verdict on each image for this query; those taken back are left out.

        The number of other queries' verdicts does not matter for how long it takes.
        """
        ...

    def forget_verdicts(self, queries: Collection[str], ids: Collection[int] = ()) -> int:
        """Erase all verdicts of these queries and on these images; returns how many.

        Raises OutputError.
        """
        ...

    def prepare(self) -> None:
        """Build the search index now, if the gallery needs one."""
        ...

    def compact(self) -> None:
        """Have a server remove erased rows from its files; a folder's are removed at once."""
        ...

    def close(self) -> None:
        """Release files and connections; may be called twice."""
        ...
