"""One network for two datasets: python tests/benchmarks/bench_joint.py --data-root DIR --out DIR

MSP-CNN on small images, from scratch by the tuned recipe's rates: trained on Market-1501's layout
(``DIR/market1501``), on CUHK01 (``DIR/cuhk01``), and on both, with as many steps and with twice as
many. Each is tested on both by ``reid eval``. Runs lie in ``--out``; what is there is not trained
again, and a stopped one goes on. ``--record`` keeps the figures in
tests/benchmarks/records/joint.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from bench_recipes import SMALL, TUNED_BATCH, schedules
from bench_sisnet_rows import reid, trained

from reid.files import write_text

RECORD = Path(__file__).parent / "records" / "joint.json"
RECIPE = "msp_cnn_cuhk01_tuned"
SETS = ("market1501", "cuhk01")
BOTH = "data.names=[" + ", ".join(f'"{name}"' for name in SETS) + "]"
ROWS: dict[str, tuple[str, ...]] = {
    "both": (BOTH,),
    "both, twice": (BOTH,),
    "cuhk01": ("data.name=cuhk01",),
    "market1501": ("data.name=market1501", "data.num_test_identities=0"),
}
"""Run -> its data. CUHK01's split is that of the first run in the table."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=576)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    started = time.perf_counter()
    for name, data in ROWS.items():
        single = name in SETS
        root = options.data_root / name if single else options.data_root
        steps = options.steps * (2 if "twice" in name else 1)
        stage = schedules(steps * TUNED_BATCH)["msp_cnn_market1501_tuned"]
        settings = [*data, *SMALL, *options.overrides, stage]
        trained(options.out / name, RECIPE, root, settings)
    sets = [word for name in SETS for word in ("--data", name)]
    runs = [str(options.out / name) for name in ROWS]
    found = json.loads(reid("eval", *runs, *sets, "--data-root", str(options.data_root), "--json"))
    rows = figures(found["table"])
    print(json.dumps(rows, indent=2))
    if options.record:
        recorded = {
            "recipe": RECIPE,
            "steps": options.steps,
            "images_of_a_step": TUNED_BATCH,
            "set": [*SMALL, *options.overrides],
            "threads": len(os.sched_getaffinity(0)),
            "seconds": round(time.perf_counter() - started),
            "note": "one seed; small images: compare the rows with one another only",
            "rows": rows,
        }
        write_text(RECORD, json.dumps(recorded, indent=2) + "\n")


def figures(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In percent, a row for each model and dataset."""
    return [
        {
            "trained_on": one["model"],
            "tested_on": one["dataset"],
            "rank1": round(100 * one["rank1"], 2),
            "map": round(100 * one["map_step"], 2),
        }
        for one in table
    ]


if __name__ == "__main__":
    main()
