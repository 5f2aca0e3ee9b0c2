"""Opening a gallery by its name: a folder, or ``milvus://host:port/collection``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reid.matching import Matcher

from .gallery import Gallery
from .local import SHORTLIST, LocalGallery
from .search import AUTO
from .store import create_store
from .vectors import faiss

MILVUS = "milvus:"
"""How a name begins that is no folder's."""


def open_gallery(
    name: str,
    matcher: Matcher[Any],
    *,
    create: bool = False,
    engine: str = AUTO,
    shortlist: int = SHORTLIST,
    threads: int = 0,
    say: Callable[[str], object] = lambda line: None,
) -> Gallery:
    """Open the gallery ``name``, which ``matcher``'s model must have described.

    ``create`` makes a new one where there is none. Of a folder's gallery: ``engine`` is one of
    ``reid.deploy.gallery.search.CHOICES``, ``shortlist`` how many images a network that compares
    pairs compares with a query (0: all), ``threads`` of exact search (0: all cores), and
    ``say`` hears what building an index measured.

    Raises ModelFileError for a gallery of another model, preprocessing or precision, or a
    damaged one, DataError where there is none, ConfigError for an unknown engine or an
    impossible name, OutputError where it cannot be made, MissingPackageError.
    """
    if name.startswith(MILVUS):
        module = importlib.import_module("reid.deploy.gallery.milvus")
        gallery: Gallery = module.open_milvus(name, matcher, create)
        return gallery
    if threads:
        faiss.omp_set_num_threads(threads)
    folder = Path(name)
    if create:
        create_store(folder, matcher.identity)
    return LocalGallery(folder, matcher, engine=engine, shortlist=shortlist, say=say)
