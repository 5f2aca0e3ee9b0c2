"""One process on all cores against one process a core: python tests/benchmarks/bench_processes.py

Rounds of ``reid train`` on a CPU: one process with a thread for each core, then ``torchrun`` with
a process for each core, one thread and its share of a step each, so that a step takes as
many images either way; each process on a core of its own, and where the system puts it.
``--data-root`` takes real images in CUHK01's layout; without it people are drawn. ``--record``
keeps the figures in tests/benchmarks/records/processes.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from reid.data.synthetic.writing import write_synthetic
from reid.files import write_text

RECORD = Path(__file__).parent / "records" / "processes.json"
LOSSES = {
    "csn_cuhk01": "{classification=1.0,contrastive=1.0,transform_prior=1.0}",
    "msp_cnn_cuhk01_tuned": "{softmax=1.0,euclidean=1.0}",
}
SKIPPED = 3
"""Steps at the start of a round, in which memory is first touched."""


def images_per_s(
    arguments: list[str], processes: int, threads: int, code: Path | None = None
) -> list[float]:
    """Of all processes together, of each step of one ``reid train`` with these arguments.

    ``code`` is a checkout whose ``reid`` trains in place of the installed one.
    """
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    launcher = launcher if processes > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", *launcher, "reid.cli", *arguments, "--out", folder + "/run"],
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(threads),
                **({"PYTHONPATH": str(code)} if code else {}),
            },
            cwd=folder,  # a `reid` in the current folder would come before PYTHONPATH's
            check=True,
            capture_output=True,
        )
        with Path(folder, "run", "log.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    return [float(row["images_per_s"]) for row in rows[SKIPPED:]]


def share(recipe: str, processes: int) -> str:
    """The setting that gives each process its part of a step of 42 anchors, or 32 identities."""
    if recipe.startswith("csn"):
        return f"sampler.anchors_per_batch={42 // processes}"
    return f"sampler.identities_per_batch={32 // processes}"


def settings(recipe: str, steps: int, drawn: bool) -> list[str]:
    """One short stage at full size, in the arithmetic that every CPU has."""
    return [
        *(["data.name=synthetic", "data.num_test_identities=0"] if drawn else []),
        "data.num_workers=0",
        "run.precision=fp32",
        "run.channels_last=on",
        "run.log_every=1",
        f"stages=[{{name='all',iterations={steps},base_lr=0.0001,lr_policy='fixed',"
        f"loss_weights={LOSSES[recipe]}}}]",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, help="real people; else drawn ones")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.data_root is not None:
        options.data_root = options.data_root.resolve()
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        parser.error("one core is no choice; expected two or more")
    found = {}
    with tempfile.TemporaryDirectory() as people:
        if options.data_root is None:
            write_synthetic(Path(people), num_train_identities=96, num_test_identities=4)
        for recipe in LOSSES:
            arguments = ["train", recipe, "--data-root", str(options.data_root or people)]
            for setting in settings(recipe, options.steps, options.data_root is None):
                arguments += ["--set", setting]
            rates: dict[tuple[int, bool], list[float]] = {
                (1, True): [],
                (cores, True): [],
                (cores, False): [],
            }
            for _ in range(options.rounds):
                for (processes, own), measured in rates.items():
                    own_cores = f"run.own_cores={str(own).lower()}"
                    part = ["--set", share(recipe, processes), "--set", own_cores]
                    measured += images_per_s(arguments + part, processes, cores // processes)
            one, many, free = (round(statistics.median(each), 1) for each in rates.values())
            found[recipe] = {
                "one": one,
                "many": many,
                "many_where_the_system_puts_them": free,
                "many_over_one": round(many / one, 2),
                "own_cores_over_where_the_system_puts_them": round(many / free, 2),
            }
            print(recipe, found[recipe], flush=True)
    record = {
        "cores": cores,
        "rounds": options.rounds,
        "load_average": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "steps": options.steps,
        "images_per_s": found,
    }
    if options.record:
        write_text(RECORD, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
