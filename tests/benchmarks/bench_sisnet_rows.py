"""The six rows of the poster's tables: python tests/benchmarks/bench_sisnet_rows.py

On data in Market-1501's layout: Baseline, SiSNet and SiSNet + DRC under softmax (S) and under
softmax and triplet (S+T), each trained with the same recipe, seed and number of epochs by ``reid
train`` and measured by ``reid eval``: one branch, the other, both cascaded, the gap between
branch and cascade (Table 3) and the mean correlation of the two scales' activation maps. Runs lie
in ``--out``; what is there is not trained again, and a stopped one goes on. ``--record`` keeps
the figures of the rows that are complete in tests/benchmarks/records/sisnet_rows.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from reid.evaluation.published import published_tests
from reid.files import write_text

RECORD = Path(__file__).parent / "records" / "sisnet_rows.json"

ONE_SCALE = ("network.two_scales=false",)
NO_DRC = ("stages.0.loss_weights.drc=0.0",)
TRIPLET = ("stages.0.loss_weights.triplet=1.0",)

ROWS = {
    "Baseline, S": (*ONE_SCALE, *NO_DRC),
    "SiSNet, S": NO_DRC,
    "SiSNet+DRC, S": (),
    "Baseline, S+T": (*ONE_SCALE, *NO_DRC, *TRIPLET),
    "SiSNet, S+T": (*NO_DRC, *TRIPLET),
    "SiSNet+DRC, S+T": TRIPLET,
}
"""The poster's rows, as settings."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="sisnet_market1501_cpu")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    for name in options.rows:
        run = options.out / name.lower().replace(", ", "-").replace("+", "_")
        if not (run / "eval.json").is_file():
            trained(run, options.recipe, options.data_root, [*options.overrides, *ROWS[name]])
            evaluated(run, options.data_root)
        rows[name] = row_of(run)
        print(f"{name:16} {json.dumps(rows[name])}", flush=True)
        if options.record:
            found = {
                "recipe": options.recipe,
                "set": options.overrides,
                "threads": len(os.sched_getaffinity(0)),
                "note": "figures of one seed on another split than the published one: compare "
                "the rows with one another only",
                "rows": rows,
                "poster": poster(),
            }
            write_text(RECORD, json.dumps(found, indent=2) + "\n")


def poster() -> dict[str, Any]:
    """The poster's own figures: of pretrained networks, on the published split."""
    (test,) = (
        one
        for one in published_tests()
        if one.dataset == "market1501" and any(row.method.startswith("SiSNet") for row in one.rows)
    )
    rows = [row.to_json() for row in test.rows if row.method.startswith("SiSNet")]
    return {"note": "pretrained, on the published split: 3,368 queries", "rows": rows}


def trained(
    run: Path, recipe: str, data_root: Path, overrides: list[str], processes: int = 1
) -> None:
    """Trains, or goes on where it was stopped; settings that a finished run takes are taken."""
    settings = [word for each in overrides for word in ("--set", each)]
    resume = ["--resume"] if (run / "config.toml").is_file() else []
    folders = ("--data-root", str(data_root), "--out", str(run))
    reid("train", recipe, *folders, *settings, *resume, processes=processes)


def evaluated(run: Path, data_root: Path) -> None:
    stages = ["--graph", "embed", "--graph", "second", "--graph", "cascade"]
    data = ["--data", "market1501", "--data-root", str(data_root)]
    write_text(run / "eval.json", reid("eval", str(run), *stages, *data, "--json"))


def reid(*words: str, processes: int = 1) -> str:
    """What the command prints; its progress goes to this terminal. Ends this one if it fails.

    Several processes share the cores.
    """
    command = ["-m", "reid.cli", *words]
    environment = dict(os.environ)
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone"]
        command = [*launcher, f"--nproc-per-node={processes}", *command]
        environment["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)) // processes)
    done = subprocess.run(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def row_of(run: Path) -> dict[str, Any]:
    """Figures in percent; gaps in points, of the cascade over the first branch."""
    found = json.loads((run / "eval.json").read_text())
    branch, second, cascade = (
        {"rank1": 100 * one["cmc"]["rank1"], "map": 100 * one["map_step"]}
        for one in found["models"]
    )
    with (run / "log.csv").open(newline="") as file:
        log = list(csv.DictReader(file))
    row = {
        **branch,
        **{f"second_{name}": value for name, value in second.items()},
        **{f"cascade_{name}": value for name, value in cascade.items()},
        **{f"gap_{name}": cascade[name] - value for name, value in branch.items()},
    }
    row = {name: round(value, 2) for name, value in row.items()}
    (maps,) = found["map_consistency"]
    return {
        **row,
        "map_correlation": round(maps["mean_correlation"], 4),
        "epochs": float(log[-1]["epoch"]),
        "steps": int(log[-1]["step"]),
        "median_images_per_s": round(median(float(one["images_per_s"]) for one in log), 1),
        "split": found["split"],
    }


if __name__ == "__main__":
    main()
