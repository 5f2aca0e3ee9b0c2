"""What the mirror image adds: python tests/benchmarks/bench_mirror.py MODEL... --data-root DIR

Each model is evaluated with and without ``--mirror`` by ``reid eval``, on a dataset in
Market-1501's layout; a file that mirrors inside its graph, once. ``--record`` keeps the figures in
tests/benchmarks/records/mirror.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import onnxruntime
from bench_sisnet_rows import reid

from reid.files import write_text

RECORD = Path(__file__).parent / "records" / "mirror.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    data = ["--data", "market1501", "--data-root", str(options.data_root), "--threads", "1"]
    rows: dict[str, Any] = {}
    for model in options.models:
        inside = ".mirror." in model.name
        for more in ([],) if inside else ([], ["--mirror"]):
            found = json.loads(reid("eval", str(model), *data, *more, "--json"))
            name = f"{model.name}{', mirrored' if more else ''}"
            rows[name] = figures(found)
            print(f"{name:48} {json.dumps(rows[name])}", flush=True)
    if options.record:
        recorded = {
            "onnxruntime": onnxruntime.__version__,
            "chance_rank1": round(100 * found["chance_rank1"], 2),
            "rows": rows,
        }
        write_text(RECORD, json.dumps(recorded, indent=2) + "\n")


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """In percent; the hashes say which files they are of."""
    (model,) = found["models"]
    return {
        **{rank: round(100 * share, 2) for rank, share in model["cmc"].items()},
        **{name: round(100 * model[name], 2) for name in ("map_step", "map_trapezoid", "minp")},
        "mirrored": model["mirrored"],
        "num_query": model["num_query"],
        "num_gallery": model["num_gallery"],
        "sha256": sorted(model["sha256"].values()),
    }


if __name__ == "__main__":
    main()
