"""Steps of training on a CPU, variant by variant: python tests/benchmarks/bench_steps.py

Each row is a short ``reid train`` (loader, augmentation, losses and solver included) of a recipe
for CPUs; the rows take turns, round by round. ``--before DIR`` adds to each row of CSN one of
another checkout's code, which trains right after it. ``--short`` has four rows of small images.
People are drawn. ``--record`` keeps the figures in tests/benchmarks/records/steps.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
from pathlib import Path

import torch
from bench_processes import images_per_s

from reid.config.toml import resolve_config
from reid.data.synthetic.writing import write_synthetic
from reid.files import write_text

RECORD = Path(__file__).parent / "records" / "steps.json"
LOSSES = {
    "csn_cuhk01_cpu": "{classification=1.0,contrastive=1.0,transform_prior=1.0}",
    "msp_cnn_cuhk01_cpu": "{softmax=1.0,euclidean=1.0}",
}
IMAGES = {"csn_cuhk01_cpu": 84, "msp_cnn_cuhk01_cpu": 64}
"""Images of a step."""

CORES = len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True)
class Row:
    """A way to train, and the columns of the table that name it."""

    levels: str = "2,3"
    size: str = "160x60"
    precision: str = "bf16"
    channels_last: str = "on"
    images_each: int = 2
    processes: int = 1
    recipe: str = "csn_cuhk01_cpu"
    code: str = "this"

    def settings(self, steps: int) -> list[str]:
        """One short stage."""
        height, width = self.size.split("x")
        people = IMAGES[self.recipe] // self.images_each // self.processes
        return [
            "data.name=synthetic",
            "data.num_test_identities=0",
            "data.num_workers=0",
            f"sampler.identities_per_batch={people}",
            f"sampler.images_per_identity={self.images_each}",
            f"run.precision={self.precision}",
            f"run.channels_last={self.channels_last}",
            "run.log_every=1",
            f"stages=[{{name='all',iterations={steps},base_lr=0.0001,lr_policy='fixed',"
            f"image_height={height},image_width={width},loss_weights={LOSSES[self.recipe]}}}]",
            *([f"network.levels=[{self.levels}]"] if self.recipe.startswith("csn") else []),
        ]

    def rate(self, people: Path, steps: int, code: Path | None) -> list[float]:
        """Images per second of each step."""
        arguments = ["train", self.recipe, "--data-root", str(people)]
        for setting in self.settings(steps):
            arguments += ["--set", setting]
        return images_per_s(arguments, self.processes, CORES // self.processes, code)

    def per_second(self, images: float) -> dict[str, float]:
        """Steps, images and pairs per second, from the images'."""
        sampler = resolve_config(self.recipe, None, self.settings(1)).sampler
        groups = sampler.identities_per_batch * self.processes
        positives = groups * self.images_each * (self.images_each - 1) // 2
        steps = images / (groups * self.images_each)
        pairs = steps * positives * (1 + sampler.negatives_per_positive)
        return {"steps": round(steps, 3), "images": round(images, 1), "pairs": round(pairs, 1)}


def rows(short: bool) -> list[Row]:
    """The fastest variant with one thing changed, then both precisions of what is asked most."""
    fast = Row()
    change = dataclasses.replace
    found = [fast, change(fast, precision="fp32"), change(fast, images_each=4)]
    if CORES > 1:
        found.append(change(fast, processes=CORES))
    if short:
        return [change(row, size="80x40") for row in found]
    found += [
        change(fast, channels_last="off"),
        change(fast, channels_last="off", precision="fp32"),
        change(fast, precision="fp32", images_each=4),
    ]
    for size, levels in (("112x48", "2,3"), ("80x40", "2,3"), ("160x60", "2,3,4")):
        found += [change(fast, size=size, levels=levels, precision=p) for p in ("bf16", "fp32")]
    msp = Row(levels="", size="80x32", recipe="msp_cnn_cuhk01_cpu")
    return [*found, msp, change(msp, precision="fp32")]


def table(found: list[dict[str, object]]) -> str:
    """Columns of equal width, one line a row."""
    lines = [list(found[0]), *([str(value) for value in row.values()] for row in found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [zip(line, widths, strict=True) for line in lines]
    return "\n".join("  ".join(x.rjust(width) for x, width in line) for line in padded)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="a checkout of earlier code")
    parser.add_argument("--steps", type=int, default=7, help="of which the first three warm up")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    measured: dict[Row, list[float]] = {}
    for row in rows(options.short):
        measured[row] = []
        if options.before and row.recipe.startswith("csn"):
            measured[dataclasses.replace(row, code="before")] = []
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(Path(folder), num_train_identities=96, num_test_identities=4)
        for _ in range(options.rounds):
            for row, rates in measured.items():
                code = options.before.resolve() if row.code == "before" else None
                rates += row.rate(Path(folder), options.steps, code)
    found = [
        {**dataclasses.asdict(row), **row.per_second(statistics.median(rates))}
        for row, rates in measured.items()
    ]
    print(table(found))
    record = {
        "cores": CORES,
        "load_average": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "steps": options.steps,
        "rounds": options.rounds,
        "per_second": found,
    }
    if options.record:
        write_text(RECORD, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
