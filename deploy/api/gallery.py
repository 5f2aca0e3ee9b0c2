"""``reid.Gallery``: a stored set of images to search in."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import compress
from pathlib import Path
from typing import Any

from reid.api.arrays import ImageList, Images, OneImage, as_list, checked_image
from reid.api.features import Features
from reid.api.model import Model, described_by, matcher_of
from reid.api.notebook import Cell, rows_of_pictures
from reid.closing import Closeable
from reid.data.images import decode_image
from reid.errors import ClosedError, DataError, InputError
from reid.matching import Matcher
from reid.model_file.thresholds import Limit
from reid.packages import named_packages
from reid.progress import Reporter, reporting
from reid.types import Image

from ..gallery import GalleryEntry, GalleryStore, Match, Summary, Where
from ..gallery.filters import Names, Time, Times, seconds_from_time, where_from_values
from ..gallery.indexing import add_images, content_hash, index_images, require_all_read
from ..gallery.limits import limit_in
from ..gallery.listing import list_images
from ..gallery.local import SHORTLIST
from ..gallery.opening import MILVUS, open_gallery
from ..gallery.pictures import jpeg, picture_of


@dataclass(frozen=True, slots=True)
class Matches:
    """Gallery images of one query, nearest first: ``matches[0].distance``, ``.entry.person``.

    A ``Match`` has ``distance`` (smaller is more similar), ``id`` and ``entry``: person,
    camera, time, source, box. A notebook shows the pictures.
    """

    query: str
    """The query's path; empty for an array."""
    found: tuple[Match, ...]
    source: Path | Image | None = field(default=None, repr=False)
    """The query's image, for a notebook."""
    gallery: GalleryStore | None = field(default=None, repr=False)
    """The folder of pictures of entries without a file."""
    limit: Limit | None = None
    """The greatest distance that means the same person: ``distance``, ``words``, and whether it was
    ``measured`` (see ``Model.threshold``) or is a guess."""

    def within(self, match: Match) -> bool:
        """Whether a match is up to the limit; beyond it, it is only the nearest."""
        return self.limit is None or match.distance <= self.limit.distance

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: int) -> Match:
        return self.found[index]

    def __iter__(self) -> Iterator[Match]:
        return iter(self.found)

    def _repr_html_(self) -> str:
        cells = [
            Cell(
                self._picture(one),
                f"{one.entry.person} {one.distance:.3f}{'' if self.within(one) else ' beyond'}",
            )
            for one in self.found
        ]
        return rows_of_pictures([[Cell(self.source, "query"), *cells]])

    def _picture(self, match: Match) -> Image | None:
        """The picture of the person; None if the file was removed."""
        kept = self.gallery.entry(match.id) if self.gallery is not None else None
        try:
            return decode_image(picture_of(kept or match.entry), "match")
        except DataError:
            return None


class Gallery(Closeable):
    """A stored set of images to search in: a folder, or a Milvus collection (``milvus://...``).

    The model must be the one the gallery was made with; the caller closes it. A gallery that does
    not exist is created by the first ``add``.

    >>> with reid.Gallery.open(folder / "people.gallery", model) as gallery:
    ...     added = gallery.add(people / "bounding_box_test")
    ...     found = gallery.search(next((people / "query").glob("*.jpg")), k=5)
    >>> added > 0, len(found)
    (True, 5)
    >>> found[0].distance <= found[1].distance
    True
    """

    def __init__(self, name: str, model: Model, index: str, shortlist: int) -> None:
        """For ``open``."""
        self.name = name
        """The folder, or the collection's URL."""
        self._model, self._settings = model, (index, shortlist)
        self._opened: GalleryStore | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: Model,
        *,
        index: str = "auto",
        shortlist: int = SHORTLIST,
    ) -> Gallery:
        """Open the gallery in the folder ``path``; the first ``add`` creates it.

        ``index`` is how it is searched: ``exact``, or by an index (``auto``: exact up to 50,000
        images). A network that compares pairs compares a query with ``shortlist`` images, the
        nearest by ranking vector.

        Raises ModelFileError for a gallery of another model or a damaged one, ConfigError for an
        unknown index, ClosedError for a closed model, MissingPackageError.
        """
        gallery = cls(os.fspath(path), model, index, shortlist)
        matcher_of(model)
        if gallery._exists():
            gallery._open(create=False)
        return gallery

    def __len__(self) -> int:
        """Number of images; 0 before the gallery is created."""
        return len(self._open(create=False)) if self._opened or self._exists() else 0

    def add(
        self,
        images: Images,
        *,
        people: Names = None,
        cameras: Names = None,
        times: Times = None,
        progress: bool | Reporter = False,
    ) -> int:
        """Add the images that are new; returns how many. The others get labels that they lack.

        ``images`` are paths, arrays (H, W, 3) uint8 BGR, folders or CSV files. Identities and
        cameras may come from the layout (person/camera/image.jpg, 0002_c1_000451.jpg);
        ``people``, ``cameras`` and ``times``, one value for all or one per image, override it.

        An image is known by its content, wherever its file is. If files cannot be read, all others
        are added before the DataError that names them is raised.

        Raises InputError for anything but images or lists of another length, DataError for files
        that cannot be read or a malformed time, ModelFileError, OutputError, ClosedError.

        >>> with reid.Gallery.open(folder / "door.gallery", model) as gallery:
        ...     image = np.full((128, 64, 3), 90, np.uint8)
        ...     gallery.add([image], people="ann", cameras="door", times="2026-05-01T12:30")
        1
        """
        matcher = matcher_of(self._model)
        stills, arrays = _paths_and_arrays(images)
        entries = [*(list_images(stills) if stills else ()), *map(_entry_of, arrays)]
        entries = _labelled(entries, people, cameras, times)
        opened = self._open(create=True)
        with reporting(progress) as reporter, named_packages():
            if arrays:
                return _add_arrays(opened, matcher, arrays, entries)
            done = index_images(opened, matcher, entries, reporter)
        require_all_read(done.unreadable)
        return done.added

    def search(
        self,
        image: OneImage | Features,
        k: int = 10,
        *,
        people: Names = None,
        cameras: Names = None,
        since: Time | None = None,
        until: Time | None = None,
    ) -> Matches:
        """The ``k`` nearest images to one image, nearest first.

        ``image`` is a path, an array (H, W, 3) uint8 BGR, or features of one image. ``people``,
        ``cameras``, ``since`` and ``until`` limit the search, if given.

        Raises InputError for several images or ``k`` below 1, DataError if there is no
        gallery or the file cannot be read, ModelFileError, ClosedError.
        """
        (found,) = self.search_each(image, k, people, cameras, since, until, _only_one=True)
        return found

    def search_each(
        self,
        images: Images | Features,
        k: int = 10,
        people: Names = None,
        cameras: Names = None,
        since: Time | None = None,
        until: Time | None = None,
        *,
        _only_one: bool = False,
    ) -> list[Matches]:
        """``search`` for each of several images."""
        matcher_of(self._model)
        if k < 1:
            raise InputError(f"k must be the number of images to find, 1 or more; found {k}")
        sources: Sequence[Path | Image] = ()
        if not isinstance(images, Features):
            sources = ImageList(images).sources
            images = self._model.embed(images)
        if _only_one and len(images) != 1:
            raise InputError(
                f"search takes one image, found {len(images)}; use search_each for several"
            )
        opened = self._open(create=False)
        described = described_by(self._model, images)
        limit = limit_in(opened, matcher_of(self._model))
        with named_packages():
            found = opened.search(described, k, where_from_values(people, cameras, since, until))
        return [
            Matches(
                name,
                tuple(matches),
                sources[number] if sources else None,
                opened,
                limit,
            )
            for number, (name, matches) in enumerate(zip(images.names, found, strict=True))
        ]

    def delete(
        self,
        *,
        people: Names = None,
        cameras: Names = None,
        since: Time | None = None,
        until: Time | None = None,
    ) -> int:
        """Erase the images that match all conditions; returns how many.

        Raises InputError without a condition (that would erase all images), DataError if there
        is no gallery, OutputError, ClosedError.
        """
        where = where_from_values(people, cameras, since, until)
        if where == Where():
            raise InputError(
                "expected people, cameras, since or until to choose the images to erase; found "
                "none of them; to erase everything remove the gallery's folder"
            )
        return self._open(create=False).delete(where)

    def summary(self) -> Summary:
        """Counts of images, identities and cameras, and the first and last time."""
        return self._open(create=False).summary()

    def close(self) -> None:
        """Close files and connections; may be called twice. The model stays open."""
        self._closed = True
        if self._opened is not None:
            self._opened.close()

    def opened(self) -> GalleryStore:
        """The gallery object of ``reid.deploy``, for its tools. Raises DataError."""
        return self._open(create=False)

    def _exists(self) -> bool:
        return self.name.startswith(MILVUS) or Path(self.name).exists()

    def _open(self, *, create: bool) -> GalleryStore:
        if self._closed:
            raise ClosedError(f"the gallery {self.name} is closed; open it again")
        if self._opened is None:
            index, shortlist = self._settings
            with named_packages():
                self._opened = open_gallery(
                    self.name,
                    matcher_of(self._model),
                    create=create,
                    index=index,
                    shortlist=shortlist,
                )
        return self._opened


def _paths_and_arrays(images: Images) -> tuple[list[Path], list[Image]]:
    """Paths (files, folders, CSV files) and checked arrays. Paths come first in the gallery."""
    paths: list[Path] = []
    arrays: list[Image] = []
    for number, one in enumerate(as_list(images)[0]):
        if isinstance(one, str | os.PathLike):
            if arrays:
                raise InputError("paths and arrays are mixed; add them by two calls")
            paths.append(Path(one))
        else:
            if paths:
                raise InputError("paths and arrays are mixed; add them by two calls")
            arrays.append(checked_image(one, f"image {number}"))
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such image file or folder; check the path")
    return paths, arrays


def _entry_of(image: Image) -> GalleryEntry:
    """Images without a file, of which the gallery stores a picture."""
    picture = jpeg(image)
    return GalleryEntry("array", content=content_hash(image.tobytes()), picture=picture)


def _add_arrays(
    opened: GalleryStore, matcher: Matcher[Any], arrays: list[Image], entries: list[GalleryEntry]
) -> int:
    """Add the new ones in one transaction, and label the others."""
    unknown = opened.unknown(entries).tolist()
    opened.label([one for one, is_new in zip(entries, unknown, strict=True) if not is_new])
    new = list(compress(arrays, unknown))
    return add_images(opened, matcher, new, list(compress(entries, unknown))) if new else 0


def _labelled(
    entries: list[GalleryEntry], people: Names, cameras: Names, times: Times
) -> list[GalleryEntry]:
    """The entries with the caller's people, cameras and times."""
    count = len(entries)
    persons = _for_each("people", people, count)
    places = _for_each("cameras", cameras, count)
    moments = _for_each("times", times, count)
    return [
        dataclasses.replace(
            one,
            person=one.person if person is None else str(person),
            camera=one.camera if camera is None else str(camera),
            time_s=one.time_s if moment is None else seconds_from_time(moment),
        )
        for one, person, camera, moment in zip(entries, persons, places, moments, strict=True)
    ]


def _for_each(what: str, given: Any, count: int) -> list[Any]:
    """One value for each image. Raises InputError for a list of another length."""
    if given is None or isinstance(given, str | int | float | datetime):
        return [given] * count
    values = list(given)
    if len(values) != count:
        raise InputError(
            f"{what} has {len(values)} entries for {count} images; give one for all, or one for "
            "each"
        )
    return values
