"""Space for all distances of queries to a gallery, which may not fit in memory."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile

import numpy as np

from reid.progress import Say
from reid.types import FloatArray


def room_for_distances(num_query: int, num_gallery: int, say: Say) -> FloatArray | None:
    """(Q, G) float32 in a temporary file; None if there is nothing to keep or no space.

    ``say`` reports missing space. The space is allocated now, because a memory map that cannot be
    written ends the process.
    """
    num_bytes = 4 * num_query * num_gallery
    if not num_bytes:
        return None
    try:
        with tempfile.TemporaryFile() as file:  # its map outlives it
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            # macOS and Windows have no such call; there the free space is only checked.
            elif shutil.disk_usage(tempfile.gettempdir()).free < num_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return np.memmap(file, np.float32, "w+", shape=(num_query, num_gallery))
    except OSError as error:
        say(
            f"{num_query * num_gallery:,} distances are not kept ({num_bytes / 1e6:,.1f} MB in "
            f"{tempfile.tempdir or 'a temporary folder'}: {error.strerror or error}), but computed "
            "again when needed; free some space, or set TMPDIR"
        )
        return None
