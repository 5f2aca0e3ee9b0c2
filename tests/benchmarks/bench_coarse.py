"""How far coarse images can go at equal time: python tests/benchmarks/bench_coarse.py

MSP-CNN on data in Market-1501's layout: each row trains for the same minutes, most of them on
images of one size, the last ones on 144x56, and is measured at 144x56 by ``reid eval``. A short run
measures the steps per second of both stages first. Runs lie in ``--out``; what is there is not
trained again, and a stopped one goes on. ``--record`` keeps the figures in
tests/benchmarks/records/coarse.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bench_recipes import LOSSES, TUNED_BATCH, figures
from bench_sisnet_rows import reid, trained
from equal_time import CORES, minutes_of, steps_in

from reid.files import write_text

RECORD = Path(__file__).parent / "records" / "coarse.json"
RECIPE = "msp_cnn_market1501_cpu"
FULL = (144, 56)
SIZES = ((48, 20), (64, 24), (80, 32), (112, 44), FULL)
COARSE_SHARE = 0.6
"""Of the time, as the recipe has it."""
RATES = {"coarse": (0.05, 0.01), "fine": (0.015, 0.0001)}
"""The recipe's learning rates, at the start of a stage and at its end."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10, help="of training, for each row")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    settings = [
        f"sampler.identities_per_batch={TUNED_BATCH // 2 // CORES}",
        "data.num_workers=0",
        *options.overrides,
    ]
    rows: dict[str, Any] = {}
    for size in SIZES:
        name = "x".join(map(str, size))
        run = options.out / name
        if not (run / "eval.json").is_file():
            measured(run, size, settings, options)
        rows[name] = {
            **figures(run),
            "steps": json.loads((run / "steps.json").read_text()),
            "minutes": minutes_of(run, TUNED_BATCH),
        }
        print(f"{name:8} {json.dumps(rows[name])}", flush=True)
    if options.record:
        found = {
            "recipe": RECIPE,
            "set": settings,
            "minutes": options.minutes,
            "coarse_share": COARSE_SHARE,
            "processes": CORES,
            "note": "one seed; short runs: compare the rows with one another only",
            "rows": rows,
        }
        write_text(RECORD, json.dumps(found, indent=2) + "\n")


def measured(
    run: Path, size: tuple[int, int], settings: list[str], options: argparse.Namespace
) -> None:
    def stages(steps: dict[str, int]) -> str:
        each = (
            stage(name, count, FULL if name == "fine" else size) for name, count in steps.items()
        )
        return f"stages=[{','.join(each)}]"

    if not (run / "steps.json").is_file():
        minutes = {
            "coarse": COARSE_SHARE * options.minutes,
            "fine": (1 - COARSE_SHARE) * options.minutes,
        }
        steps = steps_in(minutes, RECIPE, settings, stages, options.data_root, TUNED_BATCH)
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / "steps.json", json.dumps(steps))
    steps = json.loads((run / "steps.json").read_text())
    trained(run, RECIPE, options.data_root, [*settings, stages(steps)], CORES)
    data = ["--data", "market1501", "--data-root", str(options.data_root)]
    write_text(run / "eval.json", reid("eval", str(run), *data, "--json"))


def stage(name: str, steps: int, size: tuple[int, int]) -> str:
    """One stage of the schedule, as a part of a setting."""
    first, last = RATES[name]
    height, width = size
    warm_up = min(50, steps // 4) if name == "coarse" else 0
    return (
        f"{{name='{name}',iterations={steps},lr_policy='cosine',base_lr={first},min_lr={last},"
        f"warmup_iterations={warm_up},image_height={height},image_width={width},{LOSSES}}}"
    )


if __name__ == "__main__":
    main()
