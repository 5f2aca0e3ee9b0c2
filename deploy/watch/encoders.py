"""Encoders of videos that browsers play: H.264 where OpenCV finds one, VP9 and VP8 in WebM.

OpenCV hands no options to FFmpeg's software encoders, so VP9 runs at libvpx's slow default: a frame
takes seven times as long as in VP8 (``tests/benchmarks``, recordings), at the same size.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2

from reid.errors import ConfigError

AUTO = "auto"
"""H.264 where an encoder is found, otherwise VP8."""


class Codec(NamedTuple):
    """A codec's four letters, and the suffix of its files."""

    letters: str
    suffix: str


CODECS = {
    "h264": Codec("avc1", ".mp4"),
    "vp9": Codec("VP90", ".webm"),
    "vp8": Codec("VP80", ".webm"),
}

_NOISE = b"OpenCV: FFMPEG: tag"
_OPENING = threading.Lock()


def open_encoder(path: Path, codec: str, fps: float, width: int, height: int) -> Any | None:
    """A ``cv2.VideoWriter`` of one of CODECS, or None where this OpenCV has no such encoder."""
    code = cv2.VideoWriter.fourcc(*CODECS[codec].letters)
    with _OPENING, _without_noise():
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, fps, (width, height))
    return writer if writer.isOpened() else None


def usable_codec(wanted: str = AUTO) -> str:
    """The first usable codec of those wanted. Raises ConfigError without one."""
    names = ("h264", "vp8") if wanted == AUTO else (wanted,)
    for name in names:
        if _works(name):
            return name
    raise ConfigError(
        f"this OpenCV has no encoder for {' or '.join(names)} recordings; expected one of "
        f"{', '.join(CODECS)} that opencv-python-headless from PyPI has (vp8 and vp9)"
    )


@lru_cache
def _works(codec: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="reid-codec-") as folder:
        path = Path(folder, f"try{CODECS[codec].suffix}")
        writer = open_encoder(path, codec, 5.0, 64, 64)
        if writer is not None:
            writer.release()
        return writer is not None


@contextmanager
def _without_noise() -> Iterator[None]:
    """Leave OpenCV's line about WebM's codecs out of stderr; every other line gets there.

    It is printed by C code for each file, though the file is right.
    """
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (AttributeError, OSError, ValueError):  # closed: no one reads it
        yield
        return
    caught = os.memfd_create("stderr")
    try:
        os.dup2(caught, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
        size = os.fstat(caught).st_size
        for line in os.pread(caught, size, 0).splitlines(keepends=True):
            if not line.startswith(_NOISE):
                os.write(2, line)
    finally:
        os.close(kept)
        os.close(caught)
