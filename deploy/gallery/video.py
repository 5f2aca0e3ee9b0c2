"""People out of videos, for a gallery: one look every so often, each person a picture."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reid.matching import Matcher
from reid.progress import SILENT, Reporter
from reid.types import FloatArray, Image

from ..cameras.readers import Lost, read_source
from ..cameras.sources import Source
from ..people.boxes import tidy
from ..people.detector import PeopleDetector
from .gallery import Box, Gallery, Sighting
from .indexing import Indexed, add_images, content_hash
from .pictures import jpeg

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm")

MIN_SCORE = 0.5
"""A detector's least score of a person who is kept (a choice)."""

PEOPLE_AT_ONCE = 256
"""People of one transaction."""


def index_video(
    gallery: Gallery,
    matcher: Matcher[Any],
    detector: PeopleDetector,
    video: Path,
    *,
    every_s: float = 1.0,
    camera: str = "",
    start_s: float | None = None,
    reporter: Reporter = SILENT,
) -> Indexed:
    """Add the people of a frame every ``every_s`` seconds of a video, with their pictures.

    ``camera`` is the file's name where it is empty; with ``start_s``, when the video begins in
    seconds since 1970, each has its time. People that are in the gallery already are not
    described again. Raises DataError for a file that is no video, and what ``add_images`` raises.
    """
    start, progress = time.perf_counter(), reporter.begin("people", 0)
    found = added = 0
    waiting: list[tuple[Image, Sighting]] = []
    for person in people_in_video(detector, video, every_s, camera or video.stem, start_s):
        found += 1
        waiting.append(person)
        if len(waiting) == PEOPLE_AT_ONCE:
            added += _add(gallery, matcher, waiting)
            progress(len(waiting))
            waiting = []
    added += _add(gallery, matcher, waiting)
    progress(len(waiting))
    return Indexed(found, added, time.perf_counter() - start)


def people_in_video(
    detector: PeopleDetector, video: Path, every_s: float, camera: str, start_s: float | None
) -> Iterator[tuple[Image, Sighting]]:
    """Each person cut out, and what is known of them; frames that do not decode are left out."""
    path = str(video.resolve())
    next_s = 0.0
    for frame in read_source(Source(video.stem, "video", path, str(video), live=False)):
        if isinstance(frame, Lost) or frame.time_s < next_s:
            continue
        next_s = frame.time_s + every_s
        height, width = frame.image.shape[:2]
        people = tidy(detector.detect([frame.image])[0], width, height)
        for box in map(_whole_pixels, people.boxes[people.scores >= MIN_SCORE]):
            left, top, wide, high = box
            crop = np.ascontiguousarray(frame.image[top : top + high, left : left + wide])
            picture = jpeg(crop)
            yield (
                crop,
                Sighting(
                    path,
                    camera=camera,
                    time_s=None if start_s is None else start_s + frame.time_s,
                    box=box,
                    content=content_hash(picture + repr(frame.time_s).encode()),
                    picture=picture,
                ),
            )


def _whole_pixels(box: FloatArray) -> Box:
    """Left, top, width, height of a box that lies in the frame, none of them empty."""
    left, top = (int(edge) for edge in np.floor(box[:2]))
    right, bottom = (int(edge) for edge in np.ceil(box[2:]))
    return left, top, max(1, right - left), max(1, bottom - top)


def _add(gallery: Gallery, matcher: Matcher[Any], people: list[tuple[Image, Sighting]]) -> int:
    """Those that are new."""
    if not people:
        return 0
    unknown = gallery.unknown([sighting for _, sighting in people])
    new = [one for one, is_new in zip(people, unknown, strict=True) if is_new]
    return add_images(gallery, matcher, [crop for crop, _ in new], [one for _, one in new])
