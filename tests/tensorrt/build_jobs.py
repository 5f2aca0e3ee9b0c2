"""Builds engines from a list of jobs on stdin (JSON) and prints what came of each.

A job has ``onnx``, ``target`` and ``options``; it may have ``raise_at``, a number of
progress calls after which the callback raises. An outcome is what was built or the
error's class and message.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from reid.errors import ReidError
from reid.export.tensorrt.engine import build_engine
from reid.export.tensorrt.options import EngineOptions
from reid.model_file.manifest import BatchProfile
from reid.progress import Advance, Reporter


class Listener(Reporter):
    """Writes down (done, total, words), and interrupts at one of the calls."""

    def __init__(self, raise_at: int | None) -> None:
        self.calls: list[tuple[int, int, str]] = []
        self._raise_at, self._done = raise_at, 0

    def begin(self, what: str, total: int) -> Advance:
        def advance(count: int, /, words: str = "") -> None:
            self._done += count
            self.calls.append((self._done, total, words))
            if len(self.calls) == self._raise_at:
                raise KeyboardInterrupt

        return advance


def outcome_of(job: dict[str, Any]) -> dict[str, Any]:
    heard = Listener(job.get("raise_at"))
    options = dict(job.get("options", {}))
    if "timing_cache_file" in options:
        options["timing_cache_file"] = Path(options["timing_cache_file"])
    if "more_profiles" in options:
        options["more_profiles"] = tuple(BatchProfile(*p) for p in options["more_profiles"])
    try:
        built = build_engine(
            Path(job["onnx"]), Path(job["target"]), EngineOptions(**options), heard
        )
    except (ReidError, KeyboardInterrupt) as error:
        return {"error": type(error).__name__, "message": str(error), "calls": len(heard.calls)}
    return {
        "path": str(built.path),
        "bytes": built.path.stat().st_size,
        "seconds": built.seconds,
        "notes": built.notes,
        "progress": heard.calls,
    }


if __name__ == "__main__":
    json.dump([outcome_of(job) for job in json.load(sys.stdin)], sys.stdout)
