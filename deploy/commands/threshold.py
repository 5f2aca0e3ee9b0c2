"""``reid threshold``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reid.cli import options
from reid.printing import json_text, show
from reid.progress import progress_bar, say

if TYPE_CHECKING:
    from reid.data.readers.division import AskedSplit

_LARGEST_FPR = 0.1
"""As in ``reid.evaluation.thresholds``, which is not imported for ``--help``."""


@click.command()
@click.argument("model", type=options.MODEL)
@click.option("--data", "name", default="", help="A dataset, e.g. market1501, or your own images.")
@click.option("--data-root", type=options.FOLDER, help="The dataset's folder.")
@click.option(
    "--footage",
    multiple=True,
    metavar="[NAME=]FILE",
    help="Instead of a dataset: a video or a folder of frames of your own camera, without labels; "
    "repeatable. People in one frame are different people. There is no true positive rate then.",
)
@click.option(
    "--fpr",
    type=click.FloatRange(0, _LARGEST_FPR, min_open=True),
    help="The false positive rate that decides about two tracks; it must be one that the data can "
    "show. Default: 1e-3.",
)
@click.option(
    "--detector",
    type=options.FILE,
    help="For footage: the people detector, an .onnx file (see reid watch; default: OpenCV's HOG).",
)
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    help="For footage: seconds between two frames whose people are compared.",
)
@click.option("--no-keep", is_flag=True, help="Print only; leave the model's manifest as it is.")
@options.asked_split
@click.option(
    "--allow-trained-on", is_flag=True, help="Measure also if test images were trained on."
)
@options.device
@options.threads
@options.as_json
def threshold(
    model: Path,
    name: str,
    data_root: Path | None,
    footage: tuple[str, ...],
    fpr: float | None,
    detector: Path | None,
    every_s: float,
    no_keep: bool,
    asked: AskedSplit,
    allow_trained_on: bool,
    device: str,
    threads: int,
    as_json: bool,
) -> dict[str, Any]:
    """Measure which distance of MODEL means the same person, and keep it in its manifest.

    Prints distances at false positive rates of 1e-2 to 1e-5 with the true positive rate over two
    cameras, and how often a search has a match although the person is not in the gallery, for
    several sizes of gallery. Rates that the data is too small for are named with what they need.
    `reid search`, `serve`, `watch` and exports made from MODEL afterwards use the distances.
    """
    from reid.api.evaluation import Settings
    from reid.api.thresholds import measure_on_data

    from ..api.footage import Footage, measure_on_footage
    from ..api.model_to_open import ModelToOpen

    if bool(name) == bool(footage) or bool(name) != bool(data_root):
        raise click.UsageError("give --data and --data-root, or --footage")
    with progress_bar() as bar:
        if name and data_root is not None:
            settings = Settings(name, data_root, asked=asked, allow_trained_on=allow_trained_on)
            result = measure_on_data(
                model, settings, fpr=fpr, device=device, threads=threads, reporter=bar
            )
        else:
            opened_as = ModelToOpen(model, device, threads)
            result = measure_on_footage(opened_as, Footage(footage, detector, every_s), fpr, bar)
    found = result.to_json()
    show(json_text(found) if as_json else result.to_text())
    if not no_keep:
        say(f"kept in {', '.join(map(str, result.keep()))}")
    return found
