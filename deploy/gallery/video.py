"""Adding people from videos to a gallery: a frame at regular intervals, a picture per person."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from reid.data.readers.folders import files_below, is_image
from reid.matching import Matcher
from reid.progress import SILENT, Reporter, Say
from reid.types import Image

from ..cameras.readers import Lost, read_source
from ..cameras.sources import CameraSource
from ..people.boxes import tidy, whole_pixels
from ..people.detector import PeopleDetector
from .gallery import GalleryEntry, GalleryStore, Labelled
from .indexing import Indexed, add_images, content_hash
from .pictures import jpeg

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".mj2"),
    *(".mkv", ".mk3d", ".webm", ".avi", ".divx", ".flv", ".wmv", ".asf", ".ogv", ".ogm", ".nut"),
    *(".ts", ".m2ts", ".mts", ".m2t", ".tp", ".trp", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v"),
    *(".vob", ".evo", ".mxf", ".gxf", ".wtv", ".rm", ".rmvb", ".dv"),
    *(".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".h261", ".h263", ".ivf", ".obu"),
    *(".mjpg", ".mjpeg", ".y4m", ".amv", ".dav", ".ismv"),
)
"""Suffixes of videos, in lower case, that OpenCV's FFmpeg has a reader for."""

MIN_SCORE = 0.5
"""The least detector score of a person (a choice)."""

PEOPLE_AT_ONCE = 256
"""People per transaction."""


def is_video(path: Path) -> bool:
    """Whether a file has a video's suffix; macOS's ``._`` files are not videos."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("._")


def videos_and_stills(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Videos, those in folders at any depth too, and the paths in which images are to be sought.

    A folder with videos and without an image is not in the second list.
    """
    videos: list[Path] = []
    stills: list[Path] = []
    for path in paths:
        if not path.is_dir():
            (videos if is_video(path) else stills).append(path)
            continue
        files = list(files_below(path))
        inside = sorted(filter(is_video, files))
        videos += inside
        if not inside or any(is_image(file.name) for file in files):
            stills.append(path)
    return videos, stills


def index_video(
    gallery: GalleryStore,
    matcher: Matcher[Any],
    detector: PeopleDetector,
    video: Path,
    *,
    every_s: float = 1.0,
    camera: str = "",
    start_s: float | None = None,
    reporter: Reporter = SILENT,
) -> Indexed:
    """Add the people in a frame every ``every_s`` seconds of a video, with their pictures.

    An empty ``camera`` means the file's name; with ``start_s``, the video's start in seconds since
    1970, each person gets a time; the frame's number and its seconds in the file are always kept.
    People that are in the gallery already are labelled as by ``index_images``; ``reporter``
    gets a line about frames that cannot be decoded. Raises DataError for a file that is not a
    video, and what ``add_images`` raises.
    """
    start, progress = time.perf_counter(), reporter.begin("people", 0)
    found = added = 0
    waiting: list[tuple[Image, GalleryEntry]] = []
    known: list[GalleryEntry] = []
    camera = camera or video.stem
    for person in people_in_video(detector, video, every_s, camera, start_s, reporter.say):
        found += 1
        waiting.append(person)
        if len(waiting) == PEOPLE_AT_ONCE:
            added += _add(gallery, matcher, waiting, known)
            progress(len(waiting))
            waiting = []
    added += _add(gallery, matcher, waiting, known)
    progress(len(waiting))
    labelled = gallery.label(known) if known else Labelled(0, 0, 0)
    return Indexed(found, added, time.perf_counter() - start, (), *labelled)


def people_in_video(
    detector: PeopleDetector,
    video: Path,
    every_s: float,
    camera: str,
    start_s: float | None,
    say: Say = lambda line: None,
) -> Iterator[tuple[Image, GalleryEntry]]:
    """Crop and entry of each person; undecodable frames are counted in a line to ``say``."""
    path = str(video.resolve())
    next_s, lost, following = 0.0, 0, 0
    for frame in read_source(CameraSource(video.stem, "video", path, str(video), live=False)):
        number = following
        if isinstance(frame, Lost):
            lost += frame.frames
            following += frame.frames
            continue
        following += 1
        if frame.time_s < next_s:
            continue
        next_s = frame.time_s + every_s
        height, width = frame.image.shape[:2]
        people = tidy(detector.detect([frame.image])[0], width, height)
        for box in map(whole_pixels, people.boxes[people.scores >= MIN_SCORE]):
            left, top, wide, high = box
            crop = np.ascontiguousarray(frame.image[top : top + high, left : left + wide])
            picture = jpeg(crop)
            yield (
                crop,
                GalleryEntry(
                    path,
                    camera=camera,
                    time_s=None if start_s is None else start_s + frame.time_s,
                    box=box,
                    content=content_hash(picture + repr(frame.time_s).encode()),
                    picture=picture,
                    frame=number,
                    seconds=frame.time_s,
                ),
            )
    if lost:
        say(f"reid: {video}: {lost} frames cannot be decoded and are left out")


def _add(
    gallery: GalleryStore,
    matcher: Matcher[Any],
    people: list[tuple[Image, GalleryEntry]],
    known: list[GalleryEntry],
) -> int:
    """Add the new people; returns how many. The others go to ``known``, without pictures."""
    if not people:
        return 0
    unknown = gallery.unknown([entry for _, entry in people])
    new = [one for one, is_new in zip(people, unknown, strict=True) if is_new]
    there = compress((entry for _, entry in people), (~unknown).tolist())
    known += [dataclasses.replace(entry, picture=b"") for entry in there]
    return add_images(gallery, matcher, [crop for crop, _ in new], [one for _, one in new])
