"""TensorRT's timing cache: kernel timings reused between builds, in trtexec's file format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reid.errors import BuildError
from reid.files import write_atomically


def attach_timing_cache(trt: Any, config: Any, path: Path, log: Any) -> str:
    """Load ``path`` into ``config``, or start an empty cache; return a line on what was done.

    A cache from another TensorRT version or GPU, or a damaged one, is replaced, since it only
    saves time. Raises BuildError if the file cannot be read.
    """
    log.take()
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        stored = b""
    except OSError as error:
        raise BuildError(
            f"the timing cache {path} cannot be read ({error.strerror}); give another "
            "--timingCacheFile"
        ) from error
    cache = config.create_timing_cache(stored)
    accepted = cache is not None and config.set_timing_cache(cache, ignore_mismatch=False)
    complaints = log.take()
    if accepted and not complaints:
        return f"timing cache {path}: {'reused' if stored else 'new'}"
    empty = config.create_timing_cache(b"")
    if empty is None or not config.set_timing_cache(empty, ignore_mismatch=False):
        raise BuildError(
            f"{trt.__name__} cannot create a timing cache; build without --timingCacheFile"
        )
    reason = (
        " ".join(complaints[0].split()) if complaints else "from another TensorRT version or GPU"
    )
    return f"timing cache {path}: not usable, replaced ({reason})"


def save_timing_cache(config: Any, path: Path) -> None:
    """Write the cache, including the timings of this build. Raises OutputError."""
    cache = config.get_timing_cache()
    serialized = None if cache is None else cache.serialize()
    if serialized is not None:
        stored = bytes(serialized)
        write_atomically(path, lambda file: file.write(stored))
