"""What `reid watch --enrol` keeps, for a search: python tests/benchmarks/bench_enrol.py ...

``--video-root`` holds ``video.mp4`` and ``gt.txt`` (MOT format) of PETS09-S2L1. Two galleries are
filled from the video: by ``reid watch --enrol``, and by ``reid index VIDEO --every 1``. An entry's
person is that of the true box on which its box lies (IoU of --overlap), else it is no one.
Queries are the true boxes of frames of which neither gallery has an image; those that are cut by
the frame's edge or hidden by another are left out. Rank-1 and mAP are over persons (``SAME`` of
bench_names), where ``--apart`` leaves out the images filmed less than so many seconds from the
query: with 0, a search over every second finds the same moment again.

Prints, and with ``--record`` adds to records/enrol.json under ``--label``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from bench_names import MIN_OVERLAP, Truth, named_crops, read_truth

from reid.cli import main as reid
from reid.deploy.cameras.readers import Decoded, read_source
from reid.deploy.cameras.sources import parse_sources
from reid.deploy.gallery import GalleryEntry, GalleryStore
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.people.boxes import overlaps
from reid.files import write_text
from reid.matching import open_matcher
from reid.types import BoolArray, FloatArray, Image

RECORD = Path(__file__).parent / "records" / "enrol.json"
CAMERA = "hall"


def filled(options: argparse.Namespace, folder: Path, start: str) -> dict[str, Path]:
    """The galleries, by the commands of a user."""
    video = str(options.video_root / "video.mp4")
    shared = ["--detector", str(options.detector), "--device", "cpu", "--json"]
    shared += ["--threads", str(options.threads)]
    enrolled, indexed = folder / "enrolled", folder / "indexed"
    watch = ["--gallery", str(enrolled), "--enrol", "--keep-days", "7", "--start-time", start]
    watch += ["--looks", str(options.looks), "--source", f"{CAMERA}={video}"]
    index = ["--gallery", str(indexed), "--every", "1", "--time", start, "--camera", CAMERA]
    for words in (
        ["watch", str(options.model), *watch],
        ["index", str(options.model), video, *index],
    ):
        if reid([*words, *shared]):
            raise SystemExit(f"reid {words[0]} failed")
    return {"enrolled": enrolled, "indexed": indexed}


def people_of(entries: Sequence[GalleryEntry], truth: Truth, least: float) -> list[int]:
    """Each entry's true person; 0 for none."""
    found = []
    for entry in entries:
        numbers, boxes = truth[entry.frame or 0]
        left, top, width, height = entry.box or (0, 0, 0, 0)
        box = np.array([[left, top, left + width, top + height]], np.float32)
        common = overlaps(box, boxes)[0] if numbers else np.zeros(0, np.float32)
        best = int(common.argmax()) if len(common) else -1
        found.append(numbers[best] if best >= 0 and common[best] >= least else 0)
    return found


def scores(distances: FloatArray, same: BoolArray, counted: BoolArray) -> tuple[float, float, int]:
    """Rank-1, mAP and the number of queries; a person without a kept image is a miss.

    ``counted`` (Q, G) says which images count for a query.
    """
    first, precision = [], []
    for row in range(len(distances)):
        at = np.flatnonzero(counted[row])
        ranked = same[row, at[np.argsort(distances[row, at], kind="stable")]]
        hits = np.flatnonzero(ranked)
        first.append(bool(len(ranked)) and bool(ranked[0]))
        precision.append(
            float(np.mean(np.arange(1, len(hits) + 1) / (hits + 1))) if len(hits) else 0.0
        )
    return float(np.mean(first)), float(np.mean(precision)), len(first)


def every_entry(gallery: GalleryStore, query: Any) -> tuple[list[GalleryEntry], FloatArray]:
    """All entries, and each query's distance to them."""
    found = gallery.search(query, max(1, len(gallery)))
    entries = {match.id: match.entry for match in found[0]}
    columns = {number: column for column, number in enumerate(entries)}
    table = np.full((len(found), len(entries)), np.inf, np.float32)
    for row, matches in enumerate(found):
        for match in matches:
            table[row, columns[match.id]] = match.distance
    return list(entries.values()), table


def queries_of(
    frames: Sequence[Image], truth: Truth, taken: set[int], every: int
) -> list[tuple[int, int, Image]]:
    """Frame, person and crop of frames that no gallery has: the first free one of each step."""
    found = []
    for begin in range(0, len(frames), every):
        free = [at for at in range(begin, min(begin + every, len(frames))) if at not in taken]
        if free:
            at = free[0]
            crops = named_crops(frames[at : at + 1], truth[at : at + 1], 1)
            found += [(at, int(name), crop) for name, crop in crops]
    return found


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    start = datetime.fromtimestamp(int(time.time()) - 86_400, timezone.utc).isoformat()
    folders = filled(options, folder, start)
    (source,) = parse_sources([str(options.video_root / "video.mp4")])
    decoded = [item for item in read_source(source) if isinstance(item, Decoded)]
    images, times_s = [one.image for one in decoded], np.array([one.time_s for one in decoded])
    truth = read_truth(options.video_root / "gt.txt", len(images), images[0].shape[1], False)
    with closing(open_matcher(options.model, "cpu", options.threads)) as matcher:
        galleries = {which: open_gallery(str(path), matcher) for which, path in folders.items()}
        probe = matcher.describe(images[:1])
        taken = {
            one.frame or 0
            for gallery in galleries.values()
            for one in every_entry(gallery, probe)[0]
        }
        queries = queries_of(images, truth, taken, options.query_every)
        described = matcher.describe([crop for _, _, crop in queries])
        people = np.array([person for _, person, _ in queries])
        asked_s = times_s[[frame for frame, _, _ in queries]]
        found: dict[str, Any] = {
            "model": options.model.name,
            "looks": options.looks,
            "queries": len(queries),
            "people": len({*people.tolist()}),
        }
        for which, gallery in galleries.items():
            entries, distances = every_entry(gallery, described)
            owners = np.array(people_of(entries, truth, options.overlap))
            same = owners[None] == people[:, None]
            away_s = np.abs(times_s[[one.frame or 0 for one in entries]][None] - asked_s[:, None])
            found[which] = {
                "entries": len(entries),
                "people": len({*owners[owners > 0].tolist()}),
                "of_no_one": int((owners == 0).sum()),
            }
            for apart_s in options.apart:
                rank1, mean_ap, _ = scores(distances, same, np.asarray(away_s >= apart_s))
                found[which][f"apart {apart_s:g} s"] = {
                    "rank1": round(100 * rank1, 1),
                    "mAP": round(100 * mean_ap, 1),
                }
            gallery.close()
    found["share"] = round(found["enrolled"]["entries"] / found["indexed"]["entries"], 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video-root", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--looks", type=int, default=3)
    parser.add_argument("--query-every", type=int, default=8, help="frames per query frame")
    parser.add_argument("--apart", type=float, nargs="+", default=[0.0, 2.0, 5.0])
    parser.add_argument("--overlap", type=float, default=MIN_OVERLAP)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--label", default="")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(options, Path(folder))
    print(json.dumps(found, indent=2))
    if options.record:
        kept = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        write_text(RECORD, json.dumps({**kept, options.label: found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
