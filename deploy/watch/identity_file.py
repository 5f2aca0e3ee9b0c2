"""Identities in a file, so that they live across restarts.

A safetensors file of numbers only: ``row.NAME`` (R, ...) the features, one row for each image that
is kept of a track; ``identity``, ``track`` and ``count`` (R,) int64 whose they are, and of how many
images; ``score`` (R,) float32; ``known`` and ``seen_us`` (I,) int64 the identities, and the Unix
time at which each was last seen; ``run`` (I,) int32 which of the texts' ``runs`` gave its number.
The texts have the model's identity too, and the next number: while a run goes on it is RESERVED
numbers ahead, so that a killed run's numbers are not given again.

A file of another model, a damaged one, and anything else under this name is refused, and left as it
is.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reid.closing import Closeable
from reid.errors import ModelFileError, OutputError
from reid.locks import locked
from reid.matching import model_differences
from reid.matching.columns import Column, ColumnFile, open_columns, write_columns
from reid.progress import Say

from .appearance import AppearanceModel, PersonAppearance, Row
from .identities import CAPACITY, Identities
from .track import TRACKS_KEPT, Identity

FORMAT = "reid identities 1"

SAVE_EVERY_S = 60.0
"""How often a run stores its identities (a choice)."""

RESERVED = 1000
"""Numbers that a run may give before it stores again."""

PAIR_TRACKS = 1
"""Newest tracks of an identity that are stored for a network that compares pairs: up to two feature
maps of about 200 kB each."""

LOCK_PATIENCE_S = 2.0
_REMEDY = "name another file, or remove this one"
_ROWS = "row."


class _Row(NamedTuple):
    """One image's features, and whose they are."""

    identity: int
    track: int
    images: int
    score: float
    features: Row


class IdentityFile(Closeable):
    """A sink that stores ``identities`` in ``path`` now and then, and when it is closed.

    Opening it restores those of the file. A context manager; only one process has the file open.
    A file that cannot be written is reported once by ``say``, and tried again. Raises OutputError
    where another process has it, ModelFileError for a damaged file, and one of another model.
    """

    def __init__(
        self,
        path: Path,
        identities: Identities,
        model: AppearanceModel,
        say: Say,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.restored = 0
        """How many identities the file had."""
        self._path, self._identities, self._model = path, identities, model
        self._say, self._clock, self._failed = say, clock, False
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="identities")
        self._writing: Future[None] | None = None
        with ExitStack() as stack:
            lock = path.with_name(f"{path.name}.lock")
            stack.enter_context(locked(lock, LOCK_PATIENCE_S))
            if path.exists():
                self._restore()
            self._next_s, self._reserved = clock() + SAVE_EVERY_S, 0
            self._reserve()
            self._held = stack.pop_all()

    def frames(self, seen: object) -> None:
        """One round: store, if it is time."""
        if self._writing is not None and self._writing.done():
            self._writing.result()
            self._writing = None
        if self._identities.next_number >= self._reserved:
            self._reserve()
        elif self._writing is None and self._clock() >= self._next_s:
            self._next_s = self._clock() + SAVE_EVERY_S
            self._reserved = self._identities.next_number + RESERVED
            self._writing = self._threads.submit(self._write, *self._content(self._reserved))

    def news(self, news: object) -> None:
        """Changes of a source do not matter."""

    def close(self) -> None:
        """Store all, with the number at which the next run begins."""
        try:
            self._threads.shutdown()
            self._write(*self._content(self._identities.next_number))
        finally:
            self._held.close()

    def _reserve(self) -> None:
        """Store now, before numbers are given that the file does not keep free."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None
        self._reserved = self._identities.next_number + RESERVED
        self._write(*self._content(self._reserved))

    def _write(self, texts: dict[str, str], columns: dict[str, Sequence[Column]]) -> None:
        try:
            write_columns(self._path, FORMAT, texts, columns, private=True)
        except OutputError as error:
            if not self._failed:
                self._say(f"reid: {error}; the cameras go on, identities are not stored meanwhile")
            self._failed = True
            return
        if self._failed:
            self._say(f"reid: {self._path}: identities are stored again")
        self._failed = False

    def _content(self, next_number: int) -> tuple[dict[str, str], dict[str, Sequence[Column]]]:
        """The file's texts and columns."""
        most = PAIR_TRACKS if self._model.compares_pairs else TRACKS_KEPT
        known = self._identities.known
        rows = [row for identity in known for row in _rows_of(identity, most)]
        runs = sorted({identity.run for identity in known})
        texts = {
            "model": json.dumps(dict(self._model.identity)),
            "next": str(next_number),
            "runs": json.dumps(runs),
        }
        features = {
            f"{_ROWS}{name}": [row.features[name] for row in rows] or [np.zeros((0, *shape), dtype)]
            for name, (dtype, shape) in self._model.row_kinds.items()
        }
        return texts, {
            **features,
            "identity": [np.array([row.identity for row in rows], np.int64)],
            "track": [np.array([row.track for row in rows], np.int64)],
            "count": [np.array([row.images for row in rows], np.int64)],
            "score": [np.array([row.score for row in rows], np.float32)],
            "known": [np.array([one.number for one in known], np.int64)],
            "seen_us": [np.array([round(one.seen_s * 1e6) for one in known], np.int64)],
            "run": [np.array([runs.index(one.run) for one in known], np.int32)],
        }

    def _restore(self) -> None:
        """Take what the file has. Raises ModelFileError for a file of something else."""
        file = open_columns(self._path, FORMAT, "file of identities", _REMEDY)
        try:
            next_number = int(file.texts["next"])
            model = json.loads(file.texts["model"])
            if not 1 <= next_number < 1 << 53:
                raise ValueError("its next number is out of range")
        except (KeyError, RecursionError, ValueError) as error:
            raise ModelFileError(f"{self._path} is damaged ({error}); {_REMEDY}") from None
        if differences := model_differences(model, self._model.identity):
            raise ModelFileError(
                f"{self._path} has the identities of another model ({differences}); {_REMEDY}"
            )
        try:
            known = self._read(file, next_number)
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            raise ModelFileError(f"{self._path} is damaged ({error}); {_REMEDY}") from None
        self.restored = len(known)
        self._identities.restore(known, next_number)

    def _read(self, file: ColumnFile, next_number: int) -> list[Identity]:
        """The identities. Raises ValueError and others for content that cannot be right."""
        file.require_undamaged()
        columns, runs = file.columns, json.loads(file.texts["runs"])
        numbers, seen_us, run = (_whole(columns[name]) for name in ("known", "seen_us", "run"))
        owners, tracks, counts = (_whole(columns[name]) for name in ("identity", "track", "count"))
        scores, features = columns["score"], self._features(columns, len(owners))
        if not (
            len(numbers) == len(seen_us) == len(run) == len({*numbers})
            and len(owners) == len(tracks) == len(counts) == scores.size
            and len(numbers) <= CAPACITY
            and all(1 <= number < next_number for number in numbers)
            and all(0 <= code < len(runs) for code in run)
            and all(count >= 1 for count in counts)
        ):
            raise ValueError("its numbers do not belong together")
        identities = {
            number: Identity(number, seen_s=seen / 1e6, run=str(runs[code]))
            for number, seen, code in zip(numbers, seen_us, run, strict=True)
        }
        appearances: dict[tuple[int, int], PersonAppearance] = {}
        for row, key in enumerate(zip(owners, tracks, strict=True)):
            piece = {name: np.array(array[row : row + 1]) for name, array in features.items()}
            if key in appearances:
                appearances[key].rows.append(piece)
                continue
            one = appearances[key] = PersonAppearance(piece, float(scores[row]))
            one.count = counts[row]
            identities[key[0]].tracks.append(one)
        return [one for one in identities.values() if one.tracks]

    def _features(self, columns: dict[str, Column], num_rows: int) -> dict[str, Column]:
        """The features by their names, of the model's kind and all finite."""
        found = {name: columns[f"{_ROWS}{name}"] for name in self._model.row_kinds}
        for name, (dtype, shape) in self._model.row_kinds.items():
            if found[name].dtype != dtype or found[name].shape != (num_rows, *shape):
                raise ValueError(f"its {name} is of another kind")
            if not np.isfinite(found[name]).all():
                raise ValueError(f"its {name} is not finite")
        return found


def _rows_of(identity: Identity, most: int) -> Iterator[_Row]:
    """The rows of an identity's newest tracks."""
    for place, one in enumerate([*identity.tracks][-most:]):
        score = one.score if math.isfinite(one.score) else 0.0
        for features in list(one.rows):
            yield _Row(identity.number, place, one.count, score, features)


def _whole(column: Column) -> list[int]:
    """A column of integers, one a row."""
    if column.ndim != 1 or column.dtype.kind not in "iu":
        raise ValueError("a column has another kind")
    found: list[Any] = column.tolist()
    return found
