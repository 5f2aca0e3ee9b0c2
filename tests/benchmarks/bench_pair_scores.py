"""What CSN's scores are made of: bench_pair_scores.py RUN... --data-root DIR

Of a run folder of CSN: rank-1 by the probability p alone, by the distance d alone, and by their sum
(Eq. 7), for images of the dataset's lowest camera against one image per person of its highest,
20 draws; and the mean p of pairs of different people, of one camera and of two, which are equal
unless the network learned to tell cameras. ``--people train`` takes as many people that it was
trained on: what it has learned by heart. ``--record`` keeps the figures in
tests/benchmarks/records/pair_scores.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid.data import load_split
from reid.data.images import read_image
from reid.files import write_text
from reid.model_file.opening import ModelFile
from reid.models.csn.network import Csn, CsnDescription, pair_score
from reid.training.checkpoint import network_of
from reid.types import ImageRecord, IntArray

RECORD = Path(__file__).parent / "records" / "pair_scores.json"
DRAWS = 20
PAIRS_AT_ONCE = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--people", choices=("test", "train"), default="test")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    rows = {}
    for run in options.runs:
        rows[run.name] = figures(run, options.data_root, options.people == "train")
        print(f"{run.name:24} {json.dumps(rows[run.name])}", flush=True)
    if options.record:
        recorded = {"people": options.people, "torch": torch.__version__, "rows": rows}
        write_text(RECORD, json.dumps(recorded, indent=2) + "\n")


def figures(run: Path, root: Path, trained: bool) -> dict[str, Any]:
    """In percent, but for the probabilities."""
    file = ModelFile.at(run)
    config = file.checkpoint.config
    network = network_of(file)
    assert isinstance(network, Csn)
    data = config.data
    split = load_split(
        data.name, root, num_test_identities=data.num_test_identities, split_seed=data.split_seed
    )
    records = people_of(split.train if trained else split.gallery, data.num_test_identities)
    cameras = [record.camera_id for record in records]
    sides = [[r for r in records if r.camera_id == one] for one in (min(cameras), max(cameras))]
    with torch.inference_mode():
        here, there = (
            network.describe(
                torch.from_numpy(config.preprocess.batch([read_image(r.path) for r in side]))
            )
            for side in sides
        )
        across, far = compared(network, here, there)
        within, _ = compared(network, here, here)
    own, other = (np.array([record.person_id for record in side]) for side in sides)
    different = torch.from_numpy(own[:, None] != own[None])
    same = torch.from_numpy(own[:, None] == other[None])
    return {
        "rank1_by_p": rank1(across, own, other),
        "rank1_by_d": rank1(-far, own, other),
        "rank1_by_both": rank1(across + 0.2 / (far + 1e-4), own, other),
        "p_same_person": round(float(across[same].mean()), 4),
        "p_others_two_cameras": round(float(across[~same].mean()), 4),
        "p_others_one_camera": round(float(within[different].mean()), 4),
        "d_same_person": round(float(far[same].mean()), 4),
        "d_others": round(float(far[~same].mean()), 4),
        "images": [len(own), len(other)],
        "sha256": file.sha256,
    }


def people_of(records: tuple[ImageRecord, ...], count: int) -> list[ImageRecord]:
    """The images of ``count`` people, evenly chosen."""
    people = sorted({record.person_id for record in records})
    chosen = {people[i] for i in np.linspace(0, len(people) - 1, count or 100).astype(int)}
    return [record for record in records if record.person_id in chosen]


def compared(network: Csn, one: CsnDescription, other: CsnDescription) -> tuple[Tensor, Tensor]:
    """p and d of all pairs, (Q, G) each."""
    first, second = torch.cartesian_prod(
        torch.arange(len(one.vector)), torch.arange(len(other.vector))
    ).T
    p, d = [], torch.cdist(one.vector, other.vector)
    for a, b in zip(first.split(PAIRS_AT_ONCE), second.split(PAIRS_AT_ONCE), strict=True):
        logits = network.logits(one.rows(a), other.rows(b))
        nothing = torch.empty(len(a), 0)
        p.append(pair_score(logits, nothing, nothing))
    return torch.cat(p).view_as(d), d


def rank1(scores: Tensor, own: IntArray, other: IntArray) -> float:
    """The mean over draws of one image of each person of the other side."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        drawn = [rng.choice(np.flatnonzero(other == person)) for person in np.unique(other)]
        best = scores[:, drawn].argmax(1).numpy()
        found.append((other[drawn][best] == own).mean())
    return round(100 * float(np.mean(found)), 2)


if __name__ == "__main__":
    main()
