"""MP4 files that can be played up to where their writer was killed.

OpenCV cannot be asked for a fragmented MP4 (its options reach FFmpeg's encoder, not its muxer), so
it encodes into a pipe, as an AVI, and the frames are put into the file here: fragment by fragment,
each complete in itself (ISO/IEC 14496-12, 8.8). At the end the whole becomes an ordinary MP4 with
one table of all frames behind them.
"""

from __future__ import annotations

import glob
import os
import struct
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2

from reid.closing import Closeable
from reid.errors import OutputError, output_errors
from reid.files import PRIVATE, open_private, sync_folder
from reid.progress import Say
from reid.types import Image

FRAGMENT_FRAMES = 12
FRAGMENT_S = 1.0
"""A fragment is written after so many frames or seconds: no more is lost by a kill."""

_STEP = 1000
"""Units of time of a frame: the timescale is this many times the frame rate."""
_OPENED = (b"AVI ", b"movi")
"""Lists of an AVI whose chunks are read one by one."""
_PIPE_BYTES = 1 << 20
_KEY_FLAGS, _OTHER_FLAGS = 0x02000000, 0x01010000
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


class Mp4Writer(Closeable):
    """An MP4 (MPEG-4 part 2, which every OpenCV encodes) of pictures of one size.

    ``path`` can be played while it grows. A new file is for its owner alone. ``say`` gets a line
    when the disk is full; frames that find no room are counted in ``lost``, and writing is tried
    again. Raises OutputError if the file or the encoder cannot be opened.
    """

    def __init__(self, path: Path, width: int, height: int, fps: float, say: Say) -> None:
        self.written = 0
        self._path = path
        self._pipe, self._encoder = _encoder(path, width, height, fps)
        try:
            with output_errors(path):
                _make_room(path)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                descriptor = open_private(path, flags)
        except OutputError:
            self._encoder.release()
            os.close(self._pipe)
            raise
        self._file = _Fragments(descriptor, path, (width, height), fps, say)
        self._thread = threading.Thread(target=self._copy, name="video", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Frames that could not be written."""
        return self._file.lost

    def write(self, picture: Image) -> None:
        """Append a picture, (height, width, 3) uint8 BGR."""
        self._encoder.write(picture)
        self.written += 1

    def close(self) -> None:
        """Finish the file, and make it outlive a power cut."""
        self._encoder.release()
        self._thread.join()
        self._file.finish(self.written)
        with output_errors(self._path):
            sync_folder(self._path.parent)

    def _copy(self) -> None:
        with open(self._pipe, "rb", buffering=0) as pipe:
            for packet in _packets(pipe.read):
                self._file.add(packet)


def _make_room(path: Path) -> None:
    """Take an earlier file away; its other names (hard links) keep it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_old_parts(path)
    path.unlink(missing_ok=True)


def _remove_old_parts(path: Path) -> None:
    """Remove what killed processes of earlier versions left: nothing in it can be played."""
    for found in path.parent.glob(f".{glob.escape(path.stem)}.*.part.mp4"):
        number = found.name.removesuffix(".part.mp4").rpartition(".")[2]
        if number.isdecimal() and not Path("/proc", number).exists():
            found.unlink(missing_ok=True)


def _encoder(path: Path, width: int, height: int, fps: float) -> tuple[int, Any]:
    """The reading end of a pipe, and an encoder that writes an AVI into it."""
    with tempfile.TemporaryDirectory(prefix="reid-video-") as folder:
        name = os.path.join(folder, "pipe.avi")
        os.mkfifo(name, PRIVATE)
        pipe = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        code = cv2.VideoWriter.fourcc(*"mp4v")
        encoder = cv2.VideoWriter(name, cv2.CAP_FFMPEG, code, fps, (width, height))
    if not encoder.isOpened():
        os.close(pipe)
        raise OutputError(f"{path}: this OpenCV cannot write MP4 videos; leave --video out")
    os.set_blocking(pipe, True)
    return pipe, encoder


def _packets(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The frames of an AVI that arrives piece by piece."""
    waiting = bytearray()
    while piece := read(_PIPE_BYTES):
        waiting += piece
        at = 0
        while len(waiting) - at >= 12:
            kind, length = struct.unpack_from("<4sI", waiting, at)
            if kind in (b"RIFF", b"LIST") and bytes(waiting[at + 8 : at + 12]) in _OPENED:
                at += 12
                continue
            end = at + 8 + length + length % 2
            if end > len(waiting):
                break
            if kind == b"00dc" and length:
                yield bytes(waiting[at + 8 : at + 8 + length])
            at = end
        del waiting[:at]
    # The last frame's padding may be all that is behind it.


class _Fragments:
    """The file: fragments as frames come, one table of all at the end."""

    def __init__(
        self,
        descriptor: int,
        path: Path,
        size: tuple[int, int],
        fps: float,
        say: Say,
    ) -> None:
        self.lost = 0
        self._descriptor, self._path, self._say = descriptor, path, say
        self._size, self._timescale = size, max(1, round(fps * _STEP))
        self._sizes, self._keys = array("I"), array("I")
        self._chunks: list[tuple[int, int]] = []
        self._waiting: list[bytes] = []
        self._end = 0
        self._head_at = 0
        self._config = b""
        self._wants_key = self._failed = False
        self._written_s = time.perf_counter()

    def add(self, packet: bytes) -> None:
        """Append one encoded frame; never raises for a full disk."""
        if not self._config:
            self._config = packet[: max(0, packet.find(b"\0\0\1\xb6"))]
        if _is_key(packet):
            self._flush()
            self._wants_key = False
        elif self._wants_key:  # it refers to a frame that was lost
            self.lost += 1
            return
        self._waiting.append(packet)
        late = time.perf_counter() - self._written_s >= FRAGMENT_S
        if late or len(self._waiting) >= FRAGMENT_FRAMES:
            self._flush()

    def finish(self, expected: int) -> None:
        """Write what waits and the table of all frames. ``expected``: frames that were given."""
        self._flush()
        self.lost += max(0, expected - self.lost - len(self._sizes))
        try:
            if self._sizes:
                end = self._end
                self._append(self._whole_movie())
                os.fsync(self._descriptor)
                head = struct.pack(">I4sQ", 1, b"mdat", end - self._head_at)
                os.pwrite(self._descriptor, head, self._head_at)
            os.fsync(self._descriptor)
        except OSError as error:  # what is there can be played, fragment by fragment
            self._fail(error)
        finally:
            os.close(self._descriptor)

    def _flush(self) -> None:
        frames, self._waiting = self._waiting, []
        self._written_s = time.perf_counter()
        if not frames:
            return
        try:
            if not self._end:
                self._begin()
            first = len(self._sizes)
            head = _fragment_head(len(self._chunks) + 1, first, frames)
            place = self._end + len(head) + 8
            body = b"".join(frames)
            self._append(head + struct.pack(">I4s", 8 + len(body), b"mdat") + body)
        except OSError as error:
            self.lost += len(frames)
            self._wants_key = True
            self._fail(error)
            return
        for number, frame in enumerate(frames, first + 1):
            self._sizes.append(len(frame))
            if _is_key(frame):
                self._keys.append(number)
        self._chunks.append((place, len(frames)))
        if self._failed:
            self._failed = False
            self._say(f"reid: {self._path}: the video is written again; {self.lost} frames lost")

    def _fail(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            reason = error.strerror or str(error)
            self._say(f"reid: cannot write {self._path}: {reason}; the cameras go on")

    def _append(self, data: bytes) -> None:
        """All of ``data`` or nothing. Raises OSError."""
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._descriptor, data[done:], self._end + done)
        except OSError:
            os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(data)

    def _begin(self) -> None:
        """The file's type, 16 bytes that later cover all fragments, and a movie without frames."""
        kind = _box(b"ftyp", b"isom", struct.pack(">I", 0x200), b"isomiso2iso5mp41")
        empty = [_full(b"stts", 0, bytes(4)), _full(b"stsc", 0, bytes(4))]
        empty += [_full(b"stsz", 0, bytes(8)), _full(b"stco", 0, bytes(4))]
        extends = _box(b"mvex", _full(b"trex", 0, struct.pack(">5I", 1, 1, _STEP, 0, 0)))
        self._head_at = len(kind)
        self._append(kind + _box(b"free", bytes(8)) + self._movie(0, empty, extends))

    def _whole_movie(self) -> bytes:
        count = len(self._sizes)
        sizes, keys = (array("I", some) for some in (self._sizes, self._keys))
        for table in (sizes, keys):
            if struct.pack("=I", 1) != struct.pack(">I", 1):
                table.byteswap()
        runs: list[tuple[int, int, int]] = []
        for number, (_, frames) in enumerate(self._chunks, 1):
            if not runs or runs[-1][1] != frames:
                runs.append((number, frames, 1))
        tables = [
            _full(b"stts", 0, struct.pack(">3I", 1, count, _STEP)),
            _full(b"stss", 0, struct.pack(">I", len(keys)), keys.tobytes()),
            _full(
                b"stsc", 0, struct.pack(">I", len(runs)), *(struct.pack(">3I", *r) for r in runs)
            ),
            _full(b"stsz", 0, struct.pack(">2I", 0, count), sizes.tobytes()),
            _full(
                b"co64",
                0,
                struct.pack(">I", len(self._chunks)),
                *(struct.pack(">Q", place) for place, _ in self._chunks),
            ),
        ]
        return self._movie(count * _STEP, tables)

    def _movie(self, duration: int, tables: list[bytes], extends: bytes = b"") -> bytes:
        width, height = self._size
        head = struct.pack(">QQIQ", 0, 0, self._timescale, duration)
        rest = struct.pack(">IHHQ", 0x10000, 0x100, 0, 0) + _MATRIX + bytes(24)
        movie = _full(b"mvhd", 1 << 24, head, rest, struct.pack(">I", 2))
        track = _full(
            b"tkhd",
            1 << 24 | 3,
            struct.pack(">QQIIQ", 0, 0, 1, 0, duration),
            bytes(16),
            _MATRIX,
            struct.pack(">II", width << 16, height << 16),
        )
        media = _full(b"mdhd", 1 << 24, head, struct.pack(">HH", 0x55C4, 0))
        handler = _full(b"hdlr", 0, bytes(4), b"vide", bytes(12), b"cameras\0")
        data = _box(b"dinf", _full(b"dref", 0, struct.pack(">I", 1), _full(b"url ", 1)))
        described = _full(b"stsd", 0, struct.pack(">I", 1), self._sample_entry())
        sample_table = _box(b"stbl", described, *tables)
        information = _box(b"minf", _full(b"vmhd", 1, bytes(8)), data, sample_table)
        body = _box(b"trak", track, _box(b"mdia", media, handler, information))
        return _box(b"moov", movie, body, extends)

    def _sample_entry(self) -> bytes:
        """``mp4v`` with the stream's own head (ISO/IEC 14496-1, 7.2.6)."""
        special = _descriptor(5, self._config)
        config = _descriptor(4, bytes([0x20, 0x11]) + bytes(11) + special)
        stream = _descriptor(3, struct.pack(">HB", 1, 0) + config + _descriptor(6, b"\2"))
        width, height = self._size
        return _box(
            b"mp4v",
            bytes(6),
            struct.pack(">H", 1),
            bytes(16),
            struct.pack(">HHIIIH", width, height, 0x480000, 0x480000, 0, 1),
            bytes(32),
            struct.pack(">Hh", 24, -1),
            _full(b"esds", 0, stream),
        )


def _fragment_head(number: int, first: int, frames: list[bytes]) -> bytes:
    """The ``moof`` of frames, of which the first is the track's ``first``, counted from 0."""
    table = b"".join(
        struct.pack(">II", len(one), _KEY_FLAGS if _is_key(one) else _OTHER_FLAGS) for one in frames
    )

    def built(offset: int) -> bytes:
        header = _full(b"tfhd", 0x20000, struct.pack(">I", 1))  # offsets count from the moof
        begins = _full(b"tfdt", 1 << 24, struct.pack(">Q", first * _STEP))
        run = _full(b"trun", 0x601, struct.pack(">II", len(frames), offset), table)
        sequence = _full(b"mfhd", 0, struct.pack(">I", number))
        return _box(b"moof", sequence, _box(b"traf", header, begins, run))

    return built(len(built(0)) + 8)


def _is_key(packet: bytes) -> bool:
    """Whether an MPEG-4 part 2 frame is coded by itself (ISO/IEC 14496-2, vop_coding_type)."""
    at = packet.find(b"\0\0\1\xb6")
    return 0 <= at < len(packet) - 4 and packet[at + 4] >> 6 == 0


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full(kind: bytes, version_and_flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version_and_flags), *parts)


def _descriptor(tag: int, body: bytes) -> bytes:
    length = len(body)
    sizes = [length >> shift & 0x7F | 0x80 for shift in (21, 14, 7)]
    return bytes([tag, *sizes, length & 0x7F]) + body
