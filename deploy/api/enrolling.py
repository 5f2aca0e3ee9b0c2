"""Enrolment by `reid watch`: what is asked for, and how it is put together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reid.errors import ConfigError
from reid.matching import Matcher
from reid.progress import Say

from ..gallery.opening import open_gallery
from ..watch.appearance import features_of
from ..watch.clock import RunClock
from ..watch.enrolment import Enrolment
from ..watch.frames import FrameFolder
from ..watch.gallery_writer import DAY_S, Erase, GalleryWriter
from ..watch.looks import LookSettings


@dataclass(frozen=True, slots=True)
class EnrolSettings:
    """What cameras see goes into ``gallery``, which is made if there is none.

    ``looks`` images of a track at most, which are erased ``keep_days`` after they were filmed;
    ``frames`` is a folder for their whole frames.
    """

    gallery: str
    keep_days: float
    looks: int = LookSettings().most
    frames: Path | None = None

    def check(self, clock: RunClock) -> None:
        """Raise ConfigError for recordings of an unknown time, or too long ago to be kept."""
        oldest_s = time.time() - self.keep_days * DAY_S
        for name, start_s in clock.starts.items():
            if start_s is None:
                raise ConfigError(
                    f"--enrol must know when {name} was recorded, as its images expire: give "
                    f"--start-time {name}=2026-05-01T12:30:00Z"
                )
            if start_s < oldest_s:
                raise ConfigError(
                    f"{name} was recorded more than --keep-days {self.keep_days:g} ago, so that "
                    "its images would be erased at once; keep them longer, or give --start-time"
                )


@dataclass(frozen=True, slots=True)
class OpenEnrolment:
    """``looks`` is the sink, ``writer`` has the counts."""

    looks: Enrolment
    writer: GalleryWriter


def open_enrolment(
    stack: ExitStack,
    settings: EnrolSettings,
    matcher: Matcher[Any],
    clock: RunClock,
    say: Say,
    *,
    erase: Sequence[Erase] = (),
) -> OpenEnrolment:
    """Open the gallery for writing, and a thread that fills it; both end with ``stack``.

    ``erase`` are further places that expire after ``keep_days``. Raises ConfigError as
    ``EnrolSettings.check``, and what ``open_gallery`` and ``FrameFolder`` raise.
    """
    settings.check(clock)
    store = open_gallery(settings.gallery, matcher, create=True, say=say)
    stack.callback(store.close)
    frames = None if settings.frames is None else FrameFolder(settings.frames)
    describe = partial(features_of, matcher)
    writer = stack.enter_context(
        GalleryWriter(store, describe, settings.keep_days, say, frames=frames, erase=erase)
    )
    looks = Enrolment(
        clock,
        writer,
        settings=LookSettings(most=settings.looks),
        keep_frames=frames is not None,
    )
    return OpenEnrolment(looks, writer)
