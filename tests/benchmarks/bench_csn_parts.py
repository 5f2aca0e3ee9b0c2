"""Parts of CSN's tuned recipe at equal time: python tests/benchmarks/bench_csn_parts.py

On CUHK01, small images: the recipe csn_cuhk01_tuned, and the recipe without one of its parts, or
with one more. Each row trains for as many minutes, not steps: a short run measures the steps of
its stages per second first. Measured by ``reid eval`` with the recipe's weight of p and with the
paper's. Runs lie in ``--out``; what is there is not trained again, and a stopped one goes on.
``--record`` keeps the figures in tests/benchmarks/records/csn_parts.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bench_sisnet_rows import reid, trained
from equal_time import CORES, minutes_of, steps_in

from reid.files import write_text

RECORD = Path(__file__).parent / "records" / "csn_parts.json"
RECIPE = "csn_cuhk01_tuned"
IMAGES = 168 // CORES
"""Images of a step of one process."""

WEIGHTS = ("0.1", "1.0")
"""Of p in the score: the recipe's, the paper's."""

PEOPLE, PAIRS = "people", "pairs"
PEOPLE_SHARE = 0.4
"""Of the time, for the stage in which people are classes."""
LOSSES = {
    PEOPLE: "{softmax=1.0,contrastive=1.0,transform_prior=1.0}",
    PAIRS: "{softmax=1.0,classification=1.0,contrastive=3.0,transform_prior=1.0}",
}
RATES = {PEOPLE: 0.002, PAIRS: 0.001}
ROWS: dict[str, tuple[str, ...]] = {
    "the recipe": (),
    "pairs from the start": (),
    "negatives as drawn": ("losses.negative_candidates=1",),
    "negatives of any camera": ("sampler.negatives_across_cameras=false",),
    "two images of a person": (
        f"sampler.identities_per_batch={IMAGES // 2}",
        "sampler.images_per_identity=2",
    ),
    "no erasing, no jitter": ("augment.erasing_probability=0.0", "augment.colour_jitter_std=0.0"),
    "running mean of the weights": ("optimizer.average_decay=0.98",),
}
"""Row -> what it changes in the recipe."""
COMMON = (
    "preprocess.resize_height=80",
    "preprocess.resize_width=40",
    "preprocess.crop_height=80",
    "preprocess.crop_width=40",
    "network.levels=[2,3]",
    f"sampler.identities_per_batch={IMAGES // 4}",
    "data.num_workers=0",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8, help="of training, for each row")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for name in options.rows:
        run = options.out / name.replace(",", "").replace(" ", "_")
        settings = [*COMMON, *ROWS[name], *options.overrides]
        if not (run / "eval.json").is_file():
            measured(run, name, settings, options)
        found[name] = row_of(run)
        print(f"{name:28} {json.dumps(found[name])}", flush=True)
    if options.record:
        recorded = {
            "recipe": RECIPE,
            "set": [*COMMON, *options.overrides],
            "minutes": options.minutes,
            "processes": CORES,
            "note": "one seed; small images: compare the rows with one another only",
            "changes": {name: list(ROWS[name]) for name in found},
            "rows": found,
        }
        write_text(RECORD, json.dumps(recorded, indent=2) + "\n")


def measured(run: Path, name: str, settings: list[str], options: argparse.Namespace) -> None:
    """Trains the row for its minutes and writes what both weights give."""
    if not (run / "steps.json").is_file():
        minutes = {stage: share * options.minutes for stage, share in shares_of(name).items()}
        steps = steps_in(minutes, RECIPE, settings, stages, options.data_root, IMAGES * CORES)
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / "steps.json", json.dumps(steps))
    steps = json.loads((run / "steps.json").read_text())
    scores = {}
    for weight in WEIGHTS:
        weighted = [*settings, stages(steps), f"network.probability_weight={weight}"]
        trained(run / "run", RECIPE, options.data_root, weighted, CORES)
        scores[weight] = evaluated(run / "run", options.data_root)
    write_text(run / "eval.json", json.dumps(scores))


def shares_of(name: str) -> dict[str, float]:
    """Stage -> its share of the time."""
    if name == "pairs from the start":
        return {PAIRS: 1.0}
    return {PEOPLE: PEOPLE_SHARE, PAIRS: 1 - PEOPLE_SHARE}


def stages(steps: dict[str, int]) -> str:
    """The schedule with so many steps of each stage, as a setting; the rate falls in the last."""
    last = list(steps)[-1]
    each = (
        f"{{name='{name}',iterations={count},lr_policy='cosine',base_lr={RATES[name]},"
        f"min_lr={1e-5 if name == last else RATES[name] / 2},"
        f"warmup_iterations={min(20, count // 2)},loss_weights={LOSSES[name]}}}"
        for name, count in steps.items()
    )
    return f"stages=[{','.join(each)}]"


def evaluated(run: Path, data: Path) -> dict[str, Any]:
    found = reid("eval", str(run), "--data", "cuhk01", "--data-root", str(data), "--json")
    return dict(json.loads(found))


def row_of(run: Path) -> dict[str, Any]:
    """Figures in percent; minutes and steps as they were."""
    found = json.loads((run / "eval.json").read_text())
    (tuned,), (paper,) = (found[weight]["models"] for weight in WEIGHTS)
    return {
        "rank1": round(100 * tuned["cmc"]["rank1"], 2),
        "std": round(100 * tuned["std"]["rank1"], 2),
        "rank5": round(100 * tuned["cmc"]["rank5"], 2),
        "rank1_with_the_papers_weight": round(100 * paper["cmc"]["rank1"], 2),
        "steps": json.loads((run / "steps.json").read_text()),
        "minutes": minutes_of(run / "run", IMAGES * CORES),
    }


if __name__ == "__main__":
    main()
