"""Describing a gallery again when the model changes, as one call."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from reid.errors import ConfigError
from reid.progress import SILENT, Reporter

from ..gallery.opening import MILVUS, open_gallery
from ..gallery.reindexing import reindex_collection, reindex_folder
from .model_to_open import ModelToOpen

MOST_NAMED = 1000
"""Images without a picture that are named; all are counted."""


def reindex_gallery(
    gallery: str, model: ModelToOpen, out: str = "", reporter: Reporter = SILENT
) -> dict[str, Any]:
    """Describe ``gallery`` with another model into ``out``; what ``reid gallery reindex`` prints.

    ``out`` is a folder for a folder (default: GALLERY.new) and a collection for a collection
    (default: COLLECTION_new). Ids, labels, times and verdicts stay, and the old gallery is not
    changed. Call it again to go on after a stop. Raises ConfigError for an ``out`` of the other
    kind, DataError, ModelFileError, OutputError, UnavailableError.

    >>> with reid.Gallery.open(folder / "people.gallery", model) as gallery:
    ...     added = gallery.add(people / "query")
    >>> found = reindex_gallery(str(folder / "people.gallery"), ModelToOpen(run, "cpu"))
    >>> found["total"] == added, found["num_left_out"]
    (True, 0)
    """
    is_milvus = gallery.startswith(MILVUS)
    name = out or (_new_collection(gallery) if is_milvus else f"{gallery.rstrip('/')}.new")
    if name.startswith(MILVUS) != is_milvus or name == gallery:
        raise ConfigError(
            "--out names a new gallery of the same kind: a folder for a folder, a collection for a "
            "collection"
        )
    with closing(model.matcher()) as matcher:
        if is_milvus:
            with (
                closing(open_gallery(gallery, None)) as old,
                closing(open_gallery(name, matcher, create=True)) as new,
            ):
                done = reindex_collection(old, new, new.put, matcher, reporter)  # type: ignore[attr-defined]
                new.prepare()
                name = new.name  # without a password
        else:
            done = reindex_folder(Path(gallery), Path(name), matcher, reporter)
    return {
        "gallery": name,
        "added": done.added,
        "total": done.total,
        "num_left_out": len(done.left_out),
        "left_out": list(done.left_out[:MOST_NAMED]),
    }


def _new_collection(gallery: str) -> str:
    place, mark, options = gallery.partition("?")
    return f"{place}_new{mark}{options}"
