"""Filling a gallery from folders, CSV files, images and videos, as one call."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reid.errors import DataError
from reid.matching import Matcher
from reid.progress import SILENT, Reporter, counted

from ..gallery import GalleryStore, Where
from ..gallery.indexing import Indexed, Shard, index_images
from ..gallery.listing import HowRead, Listed, labelled, read_sources
from ..gallery.times import seconds_from_text
from ..gallery.video import index_video, videos_and_stills
from ..people.detector import open_detector
from .model_to_open import ModelToOpen
from .opening import GalleryToOpen, opened


@dataclass(frozen=True, slots=True)
class Sources:
    """The images to add and their labels; ``shard`` is this process's part of them.

    ``camera`` and ``time`` apply to images without their own (``time`` "file" is each file's
    time). For a video ``time`` is its start, and one frame every ``every_s`` seconds is used.
    """

    paths: tuple[Path, ...]
    shard: Shard
    camera: str = ""
    time: str = ""
    detector: Path | None = None
    every_s: float = 1.0
    how: HowRead = field(default_factory=HowRead)

    @property
    def videos(self) -> list[Path]:
        """The sources whose people are added."""
        return videos_and_stills(self.paths)[0]

    @property
    def root(self) -> Path:
        """The common parent folder; shards are assigned by paths relative to it."""
        return Path(os.path.commonpath([os.path.abspath(path) for path in self.paths]))


def index_sources(
    model: ModelToOpen,
    gallery: GalleryToOpen,
    sources: Sources,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Add the new images; returns what ``reid index --json`` prints.

    Files that cannot be read are named in it; all others are added. Raises DataError for a
    malformed time (time "file" cannot be used with a video), and what the gallery and the model
    raise.
    """
    videos, stills = videos_and_stills(sources.paths)
    start_s = seconds_from_text(sources.time) if videos and sources.time else None
    how = dataclasses.replace(sources.how, progress=counted(reporter, "listing"))
    listed = read_sources(stills, how) if stills else Listed()
    for line in listed.lines():
        reporter.say(line)
    entries = labelled(listed.entries, sources.camera, sources.time)
    part, root = sources.shard, sources.root
    with opened(model, gallery, create=True) as (matcher, store):
        parts = [index_images(store, matcher, part.of_images(entries, root), reporter)]
        if videos:
            of_part = part.of_files(videos, root)
            parts += _videos(store, matcher, model, sources, of_part, start_s, reporter)
        if part.of == 1:
            store.prepare()
        return {
            "gallery": store.name,
            "images": sum(one.found for one in parts),
            "added": sum(one.added for one in parts),
            "labelled": sum(one.labelled for one in parts),
            "differing": sum(one.differing for one in parts),
            "moved": sum(one.moved for one in parts),
            "left_out": dict(listed.left_out),
            "unreadable": [line for one in parts for line in one.unreadable],
            "seconds": round(sum(one.seconds for one in parts), 3),
            "total": len(store),
        }


def delete_from(model: ModelToOpen, gallery: GalleryToOpen, where: Where) -> dict[str, Any]:
    """Erase images; returns what ``reid index --delete --json`` prints."""
    with opened(model, gallery) as (_, store):
        deleted = store.delete(where)
        store.prepare()
        return {"gallery": store.name, "deleted": deleted, "total": len(store)}


def _videos(
    store: GalleryStore,
    matcher: Matcher[Any],
    model: ModelToOpen,
    sources: Sources,
    videos: Sequence[Path],
    start_s: float | None,
    reporter: Reporter,
) -> list[Indexed]:
    with closing(open_detector(sources.detector, model.device, model.threads)) as finder:
        if finder.note:
            reporter.say(f"reid: {finder.note}")
        done = []
        for video in videos:
            try:
                one = index_video(
                    store,
                    matcher,
                    finder,
                    video,
                    every_s=sources.every_s,
                    camera=sources.camera,
                    start_s=start_s,
                    reporter=reporter,
                )
            except DataError as error:
                one = Indexed(0, 0, 0.0, (str(error),))
            done.append(one)
        return done
