"""What CSN's scores are made of: bench_pair_scores.py RUN... --data-root DIR

Of a run folder of CSN: rank-1 by the probability p alone, by the distance d alone, and by their sum
(Eq. 7), for half of the images of the lowest camera against one image per person of the highest, 20
draws; and the mean p of pairs of different people, of one camera and of two, which are equal unless
the network learned to tell cameras. ``rank1_by_weight`` is that of the sum with other weights of p
(``network.probability_weight``), over searches from either camera. ``--people train`` takes as many
people that it was trained on; ``--people held-out`` those that its training kept out, with all
their images, to choose a weight by. ``--record`` adds the figures to
tests/benchmarks/records/pair_scores.json.
"""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reid.data import load_split
from reid.data.images import read_image
from reid.files import write_text
from reid.matching import PairDescriptions, PairMatcher, open_matcher
from reid.matching.matcher import VECTOR
from reid.model_file.opening import ModelFile
from reid.models.csn.network import DISTANCE_EPS, DISTANCE_WEIGHT
from reid.training.held_out import HeldOut
from reid.types import FloatArray, ImageRecord, IntArray

RECORD = Path(__file__).parent / "records" / "pair_scores.json"
DRAWS = 20
WEIGHTS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--people", choices=("test", "train", "held-out"), default="test")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    rows = {}
    for run in options.runs:
        name = run.name + ("" if options.people == "test" else f", {options.people} people")
        rows[name] = {"torch": torch.__version__} | figures(run, options.data_root, options.people)
        print(f"{name:24} {json.dumps(rows[name])}", flush=True)
    if options.record:
        recorded = json.loads(RECORD.read_text())
        recorded["rows"].update(rows)
        write_text(RECORD, json.dumps(recorded, indent=2) + "\n")


def figures(run: Path, root: Path, people: str) -> dict[str, Any]:
    """In percent, but for the probabilities and the distances."""
    config = ModelFile.at(run).checkpoint.config
    data = config.data
    split = load_split(
        data.name, root, num_test_identities=data.num_test_identities, split_seed=data.split_seed
    )
    if people == "held-out":
        trained = HeldOut(config, split.train).trained
        records = [record for record in split.train if record not in set(trained)]
    else:
        tested = tuple(dict.fromkeys((*split.query, *split.gallery)))
        some = split.train if people == "train" else tested
        records = people_of(some, data.num_test_identities)
    cameras = [record.camera_id for record in records]
    sides = [[r for r in records if r.camera_id == one] for one in (min(cameras), max(cameras))]
    with closing(open_matcher(run, "cpu")) as matcher:
        assert isinstance(matcher, PairMatcher)
        sides[0] = sides[0][:: 1 if people == "held-out" else 2]
        here, there = (matcher.describe([read_image(r.path) for r in side]) for side in sides)
        weight = config.network.probability_weight
        across, far = compared(matcher, here, there, weight)
        within, _ = compared(matcher, here, here, weight)
    own, other = (np.array([record.person_id for record in side]) for side in sides)
    different, same = own[:, None] != own[None], own[:, None] == other[None]
    return {
        "rank1_by_p": rank1(across, own, other),
        "rank1_by_d": rank1(-far, own, other),
        "rank1_by_both": rank1(across + term(far), own, other),
        "rank1_by_weight": {
            f"{weight:g}": round((rank1(score, own, other) + rank1(score.T, other, own)) / 2, 2)
            for weight in WEIGHTS
            for score in [weight * across + term(far)]
        },
        "p_same_person": round(float(across[same].mean()), 4),
        "p_others_two_cameras": round(float(across[~same].mean()), 4),
        "p_others_one_camera": round(float(within[different].mean()), 4),
        "d_same_person": round(float(far[same].mean()), 4),
        "d_others": round(float(far[~same].mean()), 4),
        "images": [len(own), len(other)],
        "sha256": ModelFile.at(run).sha256,
    }


def people_of(records: tuple[ImageRecord, ...], count: int) -> list[ImageRecord]:
    """The images of ``count`` people, evenly chosen."""
    people = sorted({record.person_id for record in records})
    places = np.linspace(0, len(people) - 1, min(count or 100, len(people)))
    chosen = {people[i] for i in places.astype(int)}
    return [record for record in records if record.person_id in chosen]


def compared(
    matcher: PairMatcher, one: PairDescriptions, other: PairDescriptions, weight: float
) -> tuple[FloatArray, FloatArray]:
    """p and d of all pairs, (Q, G) each: p is what the score has without its second term.

    ``weight`` is that of p in the network's score, above 0.
    """
    queries, gallery = (
        np.concatenate([np.asarray(piece[VECTOR], np.float32) for piece in matcher.pieces(side)])
        for side in (one, other)
    )
    d = np.linalg.norm(queries[:, None] - gallery[None], axis=2)
    scores = -matcher.tiles(one, other)(slice(0, len(one)))
    return (scores - term(d)) / weight, d


def term(d: FloatArray) -> FloatArray:
    """The second term of Eq. 7."""
    return np.asarray(DISTANCE_WEIGHT / (d + DISTANCE_EPS), np.float32)


def rank1(scores: FloatArray, own: IntArray, other: IntArray) -> float:
    """The mean over draws of one image of each person of the other side."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        drawn = [rng.choice(np.flatnonzero(other == person)) for person in np.unique(other)]
        found.append((other[drawn][scores[:, drawn].argmax(1)] == own).mean())
    return round(100 * float(np.mean(found)), 2)


if __name__ == "__main__":
    main()
