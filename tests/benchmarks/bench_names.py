"""Names that `reid watch` gives: python tests/benchmarks/bench_names.py --video-root DIR ...

DIR holds ``video.mp4`` and ``gt.txt`` (MOT format) of PETS09-S2L1. The people of the video's first
half are a gallery: the true boxes of every ``--every`` frames, under their names. The second half
is watched, and each box of a track that lies on a true one (IoU 0.5) counts: its name is right,
wrong, or there is none. For a person who is not in the gallery every name is wrong.

Three galleries are tried: with all people, and with either half of them, so that the others are
not in it. The truth gives a person who comes back a new number; ``--as-numbered`` takes those
numbers as names, otherwise they are one person's (``SAME``, decided by eye).

Prints, and with ``--record`` adds to records/names.json under ``--label``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from reid.deploy.cameras.cameras import Cameras
from reid.deploy.cameras.readers import Decoded, Frames, read_source
from reid.deploy.cameras.sources import CameraSource, parse_sources
from reid.deploy.gallery import GalleryEntry, GalleryStore
from reid.deploy.gallery.indexing import add_images, content_hash
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.people.boxes import overlaps
from reid.deploy.people.detector import open_detector
from reid.deploy.watch.assignment import assign
from reid.deploy.watch.clock import RunClock
from reid.deploy.watch.events import TrackedFrame, person_event
from reid.deploy.watch.watching import Watcher, cut_out, watch
from reid.files import write_text
from reid.matching import Matcher, open_matcher
from reid.types import FloatArray, Image

RECORD = Path(__file__).parent / "records" / "names.json"
TRUTH_WIDTH = 768
MIN_OVERLAP = 0.5
CLOCK = RunClock()
MOST_HIDDEN = 0.3
"""A true box that overlaps another more than this is no picture of one person."""

SAME = ((1, 19), (2, 13), (3, 11), (4, 12), (5, 9), (6, 10), (8, 14, 15, 18))
"""Numbers of one person, who leaves and comes back."""

Truth = list[tuple[list[int], FloatArray]]


def read_truth(path: Path, num_frames: int, width: int, as_numbered: bool) -> Truth:
    first = {} if as_numbered else {number: min(group) for group in SAME for number in group}
    rows = np.loadtxt(path, delimiter=",")
    rows = rows[rows[:, 6] != 0]
    corners = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)
    corners *= width / TRUTH_WIDTH
    frames = [rows[:, 0] == number + 1 for number in range(num_frames)]
    return [
        ([first.get(int(n), int(n)) for n in rows[at, 1]], corners[at].astype(np.float32))
        for at in frames
    ]


def named_crops(frames: Sequence[Image], truth: Truth, every: int) -> list[tuple[str, Image]]:
    """Pictures of each person: name and crop."""
    found = []
    for frame, (people, boxes) in list(zip(frames, truth, strict=False))[::every]:
        height, width = frame.shape[:2]
        for number, box in zip(people, boxes, strict=True):
            others = boxes[[other != number for other in people]]
            inside = np.clip(box, 0, (width, height) * 2)
            if (overlaps(box[None], others) > MOST_HIDDEN).any() or (inside != box).any():
                continue
            found.append((str(number), np.ascontiguousarray(cut_out(frame, inside))))
    return found


class Names:
    """A sink that compares names with the truth."""

    def __init__(self, truth: Truth, known: set[str], first: int) -> None:
        self._truth, self._known, self._first = truth, known, first
        self.boxes: Counter[str] = Counter()
        self.tracks: dict[int, Counter[str]] = {}

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        for one in seen:
            people, true = self._truth[self._first + one.frame.number]
            boxes = np.array([track.box for track in one.tracks], np.float32).reshape(-1, 4)
            for row, column in assign(1 - overlaps(boxes, true), 1 - MIN_OVERLAP):
                event = person_event(one.frame, one.tracks[row], CLOCK)
                kind = self._kind(name_in(event), str(people[column]))
                self.boxes[kind] += 1
                self.tracks.setdefault(event["track"], Counter())[kind] += 1

    def news(self, news: object) -> None:
        """A file has none but its end."""

    def _kind(self, name: str, true: str) -> str:
        if true not in self._known:
            return "stranger named" if name else "stranger unnamed"
        return "right" if name == true else "wrong" if name else "unnamed"

    def found(self) -> dict[str, Any]:
        kinds = ("right", "wrong", "unnamed", "stranger named", "stranger unnamed")
        ever = {kind: sum(kind in one for one in self.tracks.values()) for kind in kinds}
        return {
            "boxes": {kind: self.boxes[kind] for kind in kinds},
            "right": self.boxes["right"],
            "wrong": self.boxes["wrong"] + self.boxes["stranger named"],
            "tracks": len(self.tracks),
            "tracks_ever": ever,
        }


def name_in(event: dict[str, Any]) -> str:
    """The name in an event: ``person`` in earlier versions, the candidate's since."""
    if "candidate" not in event:
        return str(event["person"])
    candidate = event["candidate"]
    return str(candidate["person"]) if candidate else ""


def measured(options: argparse.Namespace) -> dict[str, Any]:
    (source,) = parse_sources([str(options.video_root / "video.mp4")])
    images = [item.image for item in read_source(source) if isinstance(item, Decoded)]
    half, width = len(images) // 2, images[0].shape[1]
    truth = read_truth(options.video_root / "gt.txt", len(images), width, options.as_numbered)
    crops = named_crops(images[:half], truth, options.every)
    people = sorted({name for name, _ in crops}, key=int)
    detector = open_detector(options.detector, threads=options.threads)
    matcher = open_matcher(options.model, threads=options.threads)
    found: dict[str, Any] = {
        "model": options.model.name,
        "detector": detector.name,
        "pictures": len(crops),
        "people": len(people),
    }
    galleries = {"all": people, "even": people[::2], "odd": people[1::2]}
    for which, known in galleries.items():
        names = Names(truth, set(known), half)
        chosen = [(name, crop) for name, crop in crops if name in known]
        with gallery_of(chosen, matcher) as gallery:
            watcher = Watcher(detector, matcher, gallery=gallery, limit=options.max_distance)
            frames = partial(second_half, half)
            watch(Cameras([source], frames), watcher, [names])
        found[which] = names.found()
    for kind in ("right", "wrong"):
        found[kind] = sum(found[which][kind] for which in galleries)
    return found


def second_half(first: int, source: CameraSource) -> Frames:
    """The video from frame ``first`` on."""
    yield from itertools.islice(read_source(source), first, None)


@contextmanager
def gallery_of(crops: Sequence[tuple[str, Image]], matcher: Matcher[Any]) -> Iterator[GalleryStore]:
    with tempfile.TemporaryDirectory() as folder:
        gallery = open_gallery(str(Path(folder) / "people"), matcher, create=True)
        entries = [
            GalleryEntry(
                "video", person=name, content=content_hash(crop.tobytes()), picture=jpeg(crop)
            )
            for name, crop in crops
        ]
        add_images(gallery, matcher, [crop for _, crop in crops], entries)
        yield gallery
        gallery.close()


def jpeg(image: Image) -> bytes:
    return bytes(cv2.imencode(".jpg", image)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video-root", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--every", type=int, default=40, help="frames between two of the gallery")
    parser.add_argument("--as-numbered", action="store_true")
    parser.add_argument("--max-distance", type=float)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--label", default="")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    found = measured(options)
    print(json.dumps(found, indent=2))
    if options.record:
        kept = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        write_text(RECORD, json.dumps({**kept, options.label: found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
