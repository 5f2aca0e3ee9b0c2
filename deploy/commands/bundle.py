"""``reid bundle``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from reid.cli import options
from reid.printing import json_text, show
from reid.progress import say

_out = click.option("--out", type=options.FOLDER, required=True, help="The folder to write into.")
_batch = click.option(
    "--batch", type=options.BATCH, help="Images per call (default: the engine's)."
)
_reference = click.option(
    "--reference",
    type=options.FILE,
    help="The file that computes the golden answers (default: the FP32 ONNX beside MODEL, or "
    "MODEL).",
)


_allow_unproven = click.option(
    "--allow-unproven",
    is_flag=True,
    help="Take an INT8 file whose accuracy no real images have proven.",
)


@click.group()
def bundle() -> None:
    """Write the files that DeepStream or Triton needs to run a model, from its manifest."""


@bundle.command()
@click.argument("model", type=options.MODEL)
@_out
@_batch
@click.option(
    "--tracker",
    type=click.Choice(["nvdcf", "nvdeepsort"]),
    default="nvdcf",
    show_default=True,
    help="DeepStream's tracker that the ReID block is for.",
)
@click.option(
    "--person-class",
    type=options.COUNT,
    default=0,
    show_default=True,
    help="The detector's class of people.",
)
@click.option(
    "--deepstream",
    "version",
    default="",
    metavar="VERSION",
    help="DeepStream's version, such as 7.1 (default: what all have in common).",
)
@_reference
@_allow_unproven
@options.as_json
def deepstream(
    model: Path,
    out: Path,
    batch: int | None,
    tracker: str,
    person_class: int,
    version: str,
    reference: Path | None,
    allow_unproven: bool,
    as_json: bool,
) -> dict[str, list[str]]:
    """The tracker's ReID block and an nvinfer file for MODEL, an .onnx or .engine file."""
    from ..bundle.writing import bundle_deepstream

    files = bundle_deepstream(
        model,
        out,
        batch=batch,
        tracker=tracker,
        person_class=person_class,
        version=version,
        reference=reference,
        allow_unproven=allow_unproven,
    )
    return _shown(files, as_json)


@bundle.command()
@click.argument("models", nargs=-1, required=True, type=options.MODEL)
@_out
@_batch
@click.option("--name", default="", help="The model's name (default: network and precision).")
@_reference
@_allow_unproven
@options.as_json
def triton(
    models: Sequence[Path],
    out: Path,
    batch: int | None,
    name: str,
    reference: Path | None,
    allow_unproven: bool,
    as_json: bool,
) -> dict[str, list[str]]:
    """A model repository with MODELS: one .onnx, or engines of one graph for several GPUs."""
    from ..bundle.writing import bundle_triton

    files = bundle_triton(
        models,
        out,
        batch=batch,
        name=name,
        reference=reference,
        allow_unproven=allow_unproven,
    )
    return _shown(files, as_json)


def _shown(files: list[Path], as_json: bool) -> dict[str, list[str]]:
    """Print the files, and return what ``--json`` prints."""
    found = {"files": [str(file) for file in files]}
    show(json_text(found) if as_json else "\n".join(found["files"]))
    say(f"next: reid doctor {files[0]}")
    return found
