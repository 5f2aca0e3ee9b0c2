"""Searching a gallery for the people of some image files, as one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.data.images import read_image
from reid.errors import ModelFileError
from reid.files import write_text
from reid.model_file.thresholds import Limit

from ..gallery import ANYWHERE, GalleryEntry, Where
from ..gallery.limits import limit_in
from ..gallery.results import Answer, limit_to_json, page_of, text_of, to_json
from .model_to_open import ModelToOpen
from .opening import GalleryToOpen, opened


@dataclass(frozen=True, slots=True)
class SearchReport:
    """The matches of each query; ``left_out`` is a line about damaged images, mostly empty."""

    gallery: str
    answers: tuple[Answer, ...]
    left_out: str
    limit: Limit
    """The distance by which matches are marked as within or beyond."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "gallery": self.gallery,
            "left_out": self.left_out or None,
            "limit": limit_to_json(self.limit),
            "queries": [
                {
                    "image": one.query.source,
                    "matches": [to_json(match, self.limit) for match in one.matches],
                }
                for one in self.answers
            ],
        }

    def to_text(self) -> str:
        """A table for each query."""
        return text_of(self.answers, self.limit)

    def check_complete(self) -> None:
        """Raise ModelFileError if damaged images were left out."""
        if self.left_out:
            raise ModelFileError(
                f"this answer is incomplete, because {self.gallery} is damaged; see reid gallery "
                "check"
            )


def search_gallery(
    model: ModelToOpen,
    gallery: GalleryToOpen,
    images: Sequence[Path],
    k: int = 10,
    where: Where = ANYWHERE,
    page: Path | None = None,
    max_distance: float | None = None,
) -> SearchReport:
    """Search for the person in each image file: the ``k`` nearest of ``where``, nearest first.

    ``page`` is an HTML file to write, with the pictures. Matches up to ``max_distance`` are marked
    as within the limit; by default it is the model's measured one for a gallery of this size. If
    the gallery is damaged, the images that are intact are searched. Raises DataError for an image
    that cannot be read or if there is no gallery, ModelFileError for another model's gallery,
    ConfigError for an unknown index or a distance of the other sign, OutputError,
    MissingPackageError.

    >>> with reid.Gallery.open(folder / "people.gallery", model) as gallery:
    ...     added = gallery.add(people / "query")
    >>> query = next((people / "query").glob("*.jpg"))
    >>> to_search = GalleryToOpen(str(folder / "people.gallery"))
    >>> report = search_gallery(ModelToOpen(run, "cpu"), to_search, [query], k=2)
    >>> [len(answer.matches) for answer in report.answers]
    [2]
    """
    queries = [read_image(path) for path in images]
    with opened(model, gallery, partial=True) as (matcher, store):
        limit = limit_in(store, matcher, max_distance)
        found = store.search(matcher.describe(queries), k, where)
        answers = [
            Answer(GalleryEntry(str(path)), matches)
            for path, matches in zip(images, found, strict=True)
        ]
        if page is not None:
            note = f"{store.name}, {len(store):,} images"
            write_text(page, page_of(answers, "Search", note, store.entry, limit), private=True)
        return SearchReport(store.name, tuple(answers), store.left_out, limit)
