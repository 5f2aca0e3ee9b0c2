"""CSN's 1250 pairs: python tests/benchmarks/bench_pairs.py

What ``reid bench --pairs`` prints, of a run folder or an exported file (``--model``), or of the
network of a recipe as it comes into the world: the time does not depend on the weights.
``--record`` keeps the figures in tests/benchmarks/records/pairs.json, beside those of other
backends, precisions and numbers of pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from reid.config.toml import resolve_config
from reid.data.synthetic.writing import write_synthetic
from reid.deploy.bench.pairs import bench_pairs
from reid.files import write_text
from reid.training.loop import train

RECORD = Path(__file__).parent / "records" / "pairs.json"


def fresh_run(folder: Path, recipe: str) -> Path:
    """A run folder of ``recipe``'s network after one step on a few synthetic people."""
    overrides = [
        "data.name=synthetic",
        "data.num_test_identities=0",
        "stages.0.epochs=0",
        "stages.0.iterations=1",
        "sampler.anchors_per_batch=4",
        "run.precision=fp32",
        "run.channels_last=off",
    ]
    write_synthetic(folder / "people", num_train_identities=8, num_test_identities=4)
    train(resolve_config(recipe, None, overrides), folder / "people", folder / "run")
    return folder / "run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--recipe", default="csn_cuhk01")
    parser.add_argument("--pairs", type=int, default=1250)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = bench_pairs(
            options.model or fresh_run(Path(folder), options.recipe),
            options.pairs,
            seconds=options.seconds,
            threads=options.threads,
            device=options.device,
        )
    print(report.to_text())
    if options.record:
        kept = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
        found = {"load_average": round(os.getloadavg()[0], 1), **report.to_json()}
        kept[f"{report.backend}, {report.precision}, {report.pairs} pairs"] = found
        write_text(RECORD, json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
