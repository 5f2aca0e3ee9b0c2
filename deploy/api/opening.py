"""Opening a model file and a gallery made with it, for the length of one call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from reid.matching import Matcher
from reid.progress import say

from ..gallery import GalleryStore
from ..gallery.local import SHORTLIST
from ..gallery.opening import open_gallery
from ..gallery.search import AUTO
from .model_to_open import ModelToOpen


@dataclass(frozen=True, slots=True)
class GalleryToOpen:
    """A gallery's folder or URL, and how it is searched: see ``open_gallery``."""

    name: str
    index: str = AUTO
    shortlist: int = SHORTLIST


@contextmanager
def opened(
    model: ModelToOpen, gallery: GalleryToOpen, *, create: bool = False, partial: bool = False
) -> Iterator[tuple[Matcher[Any], GalleryStore]]:
    """The opened model and gallery; both are closed at the end.

    ``create`` makes a new gallery if there is none; ``partial`` leaves damaged images out.
    Raises what ``open_matcher`` and ``open_gallery`` raise.
    """
    with closing(model.matcher()) as matcher:
        store = open_gallery(
            gallery.name,
            matcher,
            create=create,
            index=gallery.index,
            shortlist=gallery.shortlist,
            threads=model.threads,
            partial=partial,
            say=say,
        )
        with closing(store):
            yield matcher, store


@contextmanager
def opened_again(gallery: GalleryToOpen, matcher: Matcher[Any]) -> Iterator[GalleryStore]:
    """The same gallery once more, for another thread; its lines have been said already."""
    with closing(open_gallery(gallery.name, matcher, partial=True)) as store:
        yield store
