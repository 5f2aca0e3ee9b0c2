"""``reid watch`` on a real video: python tests/benchmarks/bench_watch.py --video-root DIR ...

DIR holds ``video.mp4`` and ``gt.txt`` (MOT format) of PETS09-S2L1; the boxes are for 768x576 and
are brought to the video's size. Prints, and with ``--record`` keeps in records/watch.json:

- the detector alone: recall and precision of its boxes of score 0.5 and more, at IoU 0.5;
- people followed frame by frame: HOTA, MOTA, IDF1 and identity switches, of tracks and of
  identities, by TrackEval (MIT); ground truth that is marked 0 is left out, as TrackEval does for
  MOT15 (with ``--record-scores`` they are kept in records/hota.json, without times);
- frames per second, and latency from a frame's being handed over to its events;
- the same video played live, at its own 10 frames a second (``--live``): latency from a frame's
  arrival, and how many frames were superseded by newer ones;
- the memory of the process while the video is looped (``--loop-minutes``).

REID_TRACKEVAL_PYTHON names the interpreter of an environment that has TrackEval: see mot_scores.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reid.deploy.bench.setting import cpu_name
from reid.deploy.cameras.cameras import Cameras
from reid.deploy.cameras.readers import Decoded, Frames, read_source
from reid.deploy.cameras.sources import CameraSource, parse_sources
from reid.deploy.people.boxes import People, overlaps
from reid.deploy.people.detector import PeopleDetector, open_detector
from reid.deploy.watch.assignment import assign
from reid.deploy.watch.events import TrackedFrame
from reid.deploy.watch.tracker import USUAL
from reid.deploy.watch.watching import Watcher, WatchReport, watch
from reid.files import write_text
from reid.matching import Matcher, open_matcher
from reid.types import FloatArray, Image, IntArray

RECORD = Path(__file__).parent / "records" / "watch.json"
SCORES_RECORD = RECORD.with_name("hota.json")
SCORES = Path(__file__).with_name("mot_scores.py")
TRUTH_WIDTH = 768
MIN_OVERLAP = 0.5
SETTLED_S = 120.0
"""Memory counts from here on: libraries have taken theirs."""

Boxes = tuple[IntArray, FloatArray]
"""Who, (n,), and where, (n, 4) corners, in one frame."""


def read_truth(path: Path, num_frames: int, width: int) -> list[Boxes]:
    rows = np.loadtxt(path, delimiter=",")
    rows = rows[rows[:, 6] != 0]
    corners = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)
    corners *= width / TRUTH_WIDTH
    frames = [rows[:, 0] == number + 1 for number in range(num_frames)]
    return [(rows[at, 1].astype(int), corners[at].astype(np.float32)) for at in frames]


class Notes:
    """A sink that keeps every frame's boxes, under their tracks' and identities' numbers.

    A track without an identity yet stands under minus its number.
    """

    def __init__(self) -> None:
        self.tracks: list[Boxes] = []
        self.identities: list[Boxes] = []
        self.width = 0

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        for one in seen:
            boxes = np.array([track.box for track in one.tracks], np.float32).reshape(-1, 4)
            numbers = [track.number for track in one.tracks]
            named = [t.identity.number if t.identity else -t.number for t in one.tracks]
            self.tracks.append((np.array(numbers, int), boxes))
            self.identities.append((np.array(named, int), boxes))
            self.width = one.frame.image.shape[1]

    def news(self, news: object) -> None:
        """A file has none but its end."""


class Recorder:
    """A detector that keeps what it found."""

    def __init__(self, detector: PeopleDetector) -> None:
        self.name, self._detector = detector.name, detector
        self.found: list[People] = []

    def detect(self, frames: Sequence[Image]) -> list[People]:
        found = self._detector.detect(frames)
        self.found += found
        return found

    def close(self) -> None:
        self._detector.close()


def detection(found: Sequence[People], truth: Sequence[Boxes]) -> dict[str, float]:
    """Recall and precision, each true box matched with one found box at most."""
    hits = boxes = people = 0
    for one, (_, true) in zip(found, truth, strict=True):
        strong = one.boxes[one.scores >= USUAL.high_score]
        hits += len(assign(1 - overlaps(true, strong), 1 - MIN_OVERLAP))
        boxes, people = boxes + len(strong), people + len(true)
    return {"recall": hits / people, "precision": hits / boxes, "boxes": boxes, "people": people}


def following(found: Sequence[Boxes], truth: Sequence[Boxes]) -> dict[str, float]:
    """TrackEval's figures, computed in its own environment."""
    python = os.environ.get("REID_TRACKEVAL_PYTHON")
    if not python:
        raise SystemExit("set REID_TRACKEVAL_PYTHON: an interpreter with `pip install trackeval`")
    true_ids, found_ids = ({n for ids, _ in frames for n in ids} for frames in (truth, found))
    places = [{n: i for i, n in enumerate(sorted(ids))} for ids in (true_ids, found_ids)]
    matrices = [overlaps(a, b).ravel() for (_, a), (_, b) in zip(truth, found, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frames.npz"
        np.savez(
            file,
            gt_counts=[len(ids) for ids, _ in truth],
            gt_ids=[places[0][n] for ids, _ in truth for n in ids],
            tracker_counts=[len(ids) for ids, _ in found],
            tracker_ids=[places[1][n] for ids, _ in found for n in ids],
            similarity=np.concatenate(matrices),
        )
        done = subprocess.run([python, SCORES, file], capture_output=True, text=True, check=True)
    scores: dict[str, float] = json.loads(done.stdout)
    return {**scores, "numbers": len(found_ids), "true_people": len(true_ids)}


def speed(report: WatchReport) -> dict[str, Any]:
    (counts,) = report.cameras.values()
    return {
        "frames": report.frames,
        "frames_per_s": report.frames_per_s,
        "latency_p50_ms": report.latency_p50_ms,
        "latency_p99_ms": report.latency_p99_ms,
        "superseded": counts.dropped,
        "boxes": report.people,
        "described": report.described,
    }


def looped(source: CameraSource) -> Frames:
    """The video again and again, its clock going on."""
    begun_s = 0.0
    while True:
        time_s = 0.0
        for item in read_source(source):
            if isinstance(item, Decoded):
                time_s = item.time_s
                yield Decoded(item.image, begun_s + time_s)
        begun_s += time_s + 0.1


def memory_over(
    source: CameraSource, detector: PeopleDetector, matcher: Matcher[Any], minutes: float
) -> dict[str, Any]:
    """Resident megabytes once a second from SETTLED_S on (or half the time), and their trend."""
    began_s = time.monotonic()
    settled_s = min(SETTLED_S, 30 * minutes)
    samples: list[tuple[float, float]] = []

    def over() -> bool:
        passed_s = time.monotonic() - began_s
        if passed_s > settled_s and (not samples or passed_s - samples[-1][0] >= 1):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            samples.append((passed_s, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
        return passed_s > 60 * minutes

    report = watch(Cameras([source], looped), Watcher(detector, matcher), stop=over)
    passed_s, megabytes = np.array(samples).T
    return {
        "minutes": minutes,
        "frames": report.frames,
        "identities": report.identities,
        "first_mb": float(megabytes[0]),
        "last_mb": float(megabytes[-1]),
        "least_mb": float(megabytes.min()),
        "most_mb": float(megabytes.max()),
        "trend_mb_per_hour": float(np.polyfit(passed_s / 3600, megabytes, 1)[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video-root", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--max-frames", type=int, default=0)
    parser.add_argument("--loop-minutes", type=float, default=0.0)
    parser.add_argument("--no-live", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--record-scores", action="store_true")
    options = parser.parse_args()
    video = str(options.video_root / "video.mp4")
    detector = Recorder(open_detector(options.detector, options.device, options.threads))
    matcher = open_matcher(options.model, options.device, options.threads)
    notes = Notes()
    report = watch(
        Cameras(parse_sources([video])),
        Watcher(detector, matcher),
        [notes],
        max_rounds=options.max_frames,
    )
    truth = read_truth(options.video_root / "gt.txt", report.frames, notes.width)
    found: dict[str, Any] = {
        "cpu": cpu_name(),
        "num_cpus": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 1),
        "threads": options.threads,
        "detector": detector.name,
        "appearance": f"{matcher.identity['network']} {matcher.identity['precision']}",
        "backend": matcher.backend,
        "detection": detection(detector.found, truth),
        "tracks": following(notes.tracks, truth),
        "identities": following(notes.identities, truth),
        "in_order": speed(report),
    }
    if not options.no_live:
        live = watch(
            Cameras(parse_sources([video], live=True)),
            Watcher(detector, matcher),
            max_rounds=options.max_frames,
        )
        found["live"] = speed(live)
    detector.found.clear()
    if options.loop_minutes:
        (source,) = parse_sources([video])
        plain = open_detector(options.detector, options.device, options.threads)
        found["loop"] = memory_over(source, plain, matcher, options.loop_minutes)
    print(json.dumps(found, indent=2))
    if options.record:
        write_text(RECORD, json.dumps(found, indent=2) + "\n")
    if options.record_scores:
        kept = ("detector", "appearance", "detection", "tracks", "identities")
        scores = {name: found[name] for name in kept}
        write_text(SCORES_RECORD, json.dumps(scores, indent=2) + "\n")


if __name__ == "__main__":
    main()
