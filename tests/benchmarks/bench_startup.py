"""How long `reid --help` takes: python tests/benchmarks/bench_startup.py"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 20


def startup_s(command: list[str]) -> float:
    """Wall-clock seconds of one run of a command, from its start to its end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print the median and the slowest of RUNS runs, for Python alone and for the door."""
    script = Path(sys.executable).with_name("reid")
    for name, command in (
        ("python -c pass", [sys.executable, "-c", "pass"]),
        ("reid --help", [str(script), "--help"]),
    ):
        startup_s(command)
        times = [startup_s(command) for _ in range(RUNS)]
        median, slowest = statistics.median(times), max(times)
        print(f"{name:<16} median {median:.3f} s  slowest {slowest:.3f} s  of {RUNS} runs")


if __name__ == "__main__":
    main()
