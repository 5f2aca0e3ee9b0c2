"""Opening a gallery by its name: a folder, or ``milvus://host:port/collection``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reid.matching import Matcher

from .gallery import GalleryStore
from .head import read_head
from .local import SHORTLIST, LocalGallery
from .no_model import NoModel
from .search import AUTO
from .store import create_store
from .vectors import faiss

MILVUS = "milvus:"
"""Prefix of the name of a Milvus gallery."""


def open_gallery(
    name: str,
    matcher: Matcher[Any] | None,
    *,
    create: bool = False,
    index: str = AUTO,
    shortlist: int = SHORTLIST,
    threads: int = 0,
    partial: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> GalleryStore:
    """Open the gallery ``name``, made with ``matcher``'s model.

    Without a ``matcher`` it is opened for erasing, listing and verdicts alone.

    ``create`` makes a new one if there is none. For a gallery in a folder: ``index`` is one of
    ``reid.deploy.gallery.search.CHOICES``, ``shortlist`` how many images a network that compares
    pairs compares with a query (0: all), ``threads`` those of exact search (0: all cores), and
    ``say`` gets the lines about building an index. If ``partial``, damaged images are left out,
    as ``say`` and ``GalleryStore.left_out`` report.

    Raises ModelFileError for a gallery of another model, preprocessing or precision, or a
    damaged one, DataError if there is none, ConfigError for an unknown index or a malformed
    name, OutputError if it cannot be created, MissingPackageError.
    """
    if name.startswith(MILVUS):
        module = importlib.import_module("reid.deploy.gallery.milvus")
        gallery: GalleryStore = module.open_milvus(name, matcher, create, say)
        return gallery
    if threads:
        faiss.omp_set_num_threads(threads)
    folder = Path(name)
    if matcher is None:
        matcher = NoModel(read_head(folder).model)
    elif create:
        create_store(folder, matcher.identity)
    return LocalGallery(folder, matcher, index=index, shortlist=shortlist, partial=partial, say=say)
