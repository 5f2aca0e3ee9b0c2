"""Writes a video, says when its first fragments are on the disk, and waits to be killed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from reid.deploy.watch.mp4 import Mp4Writer

if __name__ == "__main__":
    path, frames = Path(sys.argv[1]), int(sys.argv[2])
    writer = Mp4Writer(path, 64, 48, 10, print)
    before = 0
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 2 * number, np.uint8))
    while os.path.getsize(path) in (0, before):
        before = os.path.getsize(path)
        time.sleep(0.01)
    print("ready", flush=True)
    sys.stdin.read()
