"""Writes a video and waits to be killed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from reid.deploy.watch.mp4 import Mp4Writer

if __name__ == "__main__":
    path, frames = Path(sys.argv[1]), int(sys.argv[2])
    writer = Mp4Writer(path, 64, 48, 10, print)
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 2 * number, np.uint8))
    print("ready", flush=True)
    sys.stdin.read()
