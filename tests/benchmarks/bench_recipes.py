"""The paper's recipe and the tuned one at one budget: python tests/benchmarks/bench_recipes.py

On data in Market-1501's layout, MSP-CNN is trained from scratch with either recipe on the same
number of images of 64x24, and measured by ``reid eval``. The schedules are the recipes' own, shrunk
to the budget: the paper's rate of 0.1 falls tenfold after 40 and 80 % of it, the tuned one's from
0.05 as a cosine. Both have softmax and the Euclidean loss, the paper's first stage. Runs lie in
``--out``; what is there is not trained again, and a stopped one goes on. ``--record`` keeps the
figures in tests/benchmarks/records/recipes.json.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from bench_sisnet_rows import reid, trained

from reid.files import write_text

RECORD = Path(__file__).parent / "records" / "recipes.json"

LOSSES = "loss_weights={softmax=1.0,euclidean=1.0}"
SMALL = (
    "preprocess.resize_height=72",
    "preprocess.resize_width=28",
    "preprocess.crop_height=64",
    "preprocess.crop_width=24",
)
PAPER_BATCH, TUNED_BATCH = 192, 64
"""Images of one step: 48 anchors with a positive and two negatives each; 32 identities twice."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=36_864)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    for recipe, stage in schedules(options.images).items():
        run = options.out / recipe
        if not (run / "eval.json").is_file():
            trained(run, recipe, options.data_root, [*SMALL, *options.overrides, stage])
            data = ["--data", "market1501", "--data-root", str(options.data_root)]
            write_text(run / "eval.json", reid("eval", str(run), *data, "--json"))
        rows[recipe] = {"stage": stage, **figures(run)}
        print(f"{recipe:24} {json.dumps(rows[recipe])}", flush=True)
    if options.record:
        found = {
            "images": options.images,
            "set": [*SMALL, *options.overrides],
            "threads": len(os.sched_getaffinity(0)),
            "note": "one seed; small images: compare the rows with one another only",
            "rows": rows,
        }
        write_text(RECORD, json.dumps(found, indent=2) + "\n")


def schedules(images: int) -> dict[str, str]:
    """Each recipe's own schedule over so many images, as a setting."""
    paper, tuned = images // PAPER_BATCH, images // TUNED_BATCH
    return {
        "msp_cnn_market1501": (
            f"stages=[{{name='all',iterations={paper},lr_policy='step',base_lr=0.1,gamma=0.1,"
            f"stepsize={round(0.4 * paper)},{LOSSES}}}]"
        ),
        "msp_cnn_market1501_tuned": (
            f"stages=[{{name='all',iterations={tuned},lr_policy='cosine',base_lr=0.05,"
            f"min_lr=0.0005,warmup_iterations=30,{LOSSES}}}]"
        ),
    }


def figures(run: Path) -> dict[str, Any]:
    found = json.loads((run / "eval.json").read_text())
    (model,) = found["models"]
    return {
        "rank1": round(100 * model["cmc"]["rank1"], 2),
        "map": round(100 * model["map_step"], 2),
        "chance_rank1": round(100 * found["chance_rank1"], 2),
        "num_query": model["num_query"],
    }


if __name__ == "__main__":
    main()
