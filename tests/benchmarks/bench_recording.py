"""What a recording costs: python tests/benchmarks/bench_recording.py --video VIDEO.mp4

Encodes the first --frames frames of a video with each codec that OpenCV has here, by turns, and
prints milliseconds a frame and bytes of the file; with ``--record`` writes records/recording.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from reid.deploy.bench.setting import cpu_name
from reid.deploy.cameras.readers import Decoded, read_source  # which silences FFmpeg
from reid.deploy.cameras.sources import parse_sources
from reid.deploy.watch.encoders import CODECS, open_encoder
from reid.files import write_text

RECORD = Path(__file__).parent / "records" / "recording.json"
FPS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    (source,) = parse_sources([str(options.video)])
    read = (item.image for item in read_source(source) if isinstance(item, Decoded))
    frames = list(itertools.islice(read, options.frames))
    height, width = frames[0].shape[:2]
    seconds: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    for _ in range(options.rounds):
        for codec, about in CODECS.items():
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / f"one{about.suffix}"
                start = time.perf_counter()
                writer = open_encoder(file, codec, FPS, width, height)
                if writer is None:
                    continue
                for frame in frames:
                    writer.write(frame)
                writer.release()
                seconds.setdefault(codec, []).append(time.perf_counter() - start)
                sizes[codec] = file.stat().st_size
    found: dict[str, Any] = {"cpu": cpu_name(), "size": [width, height], "frames": len(frames)}
    found["ms_per_frame"] = {
        codec: round(1000 * median(times) / len(frames), 1) for codec, times in seconds.items()
    }
    found["bytes"] = sizes
    print(json.dumps(found, indent=1))
    if options.record:
        write_text(RECORD, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
