"""How long `reid --help` takes: python tests/benchmarks/bench_startup.py

``--record`` keeps the figures in tests/benchmarks/records/startup.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from reid.files import write_text

RECORD = Path(__file__).parent / "records" / "startup.json"
RUNS = 20


def startup_s(command: list[str]) -> float:
    """Wall-clock seconds of one run of a command, from its start to its end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    script = Path(sys.executable).with_name("reid")
    for name, command in (
        ("python -c pass", [sys.executable, "-c", "pass"]),
        ("reid --help", [str(script), "--help"]),
    ):
        startup_s(command)
        times = [startup_s(command) for _ in range(RUNS)]
        median, slowest = statistics.median(times), max(times)
        found[name] = {"median_s": round(median, 3), "slowest_s": round(slowest, 3)}
        print(f"{name:<16} median {median:.3f} s  slowest {slowest:.3f} s  of {RUNS} runs")
    if options.record:
        write_text(RECORD, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
