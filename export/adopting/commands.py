"""The command ``reid import-onnx``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.printing import json_text, show
from reid.progress import say


@click.command("import-onnx")
@click.argument("model", type=options.FILE, metavar="MODEL")
@click.option("--out", type=options.FOLDER, required=True, help="The folder to write.")
@click.option(
    "--mean",
    default="",
    metavar="MEAN",
    help="imagenet (default), caffe, none (the graph normalises by itself), or a,b,c in the order "
    "of the channels, for pixels of 0-255 or of 0-1.",
)
@click.option("--std", default="", metavar="STD", help="The same for the standard deviation.")
@click.option("--rgb/--bgr", "rgb", default=None, help="Order of the channels (default: RGB).")
@click.option(
    "--resize",
    default="",
    metavar="HxW",
    help="What images are resized to before a centre crop (default: the crop).",
)
@click.option(
    "--crop",
    default="",
    metavar="HxW",
    help="The network's input, where the graph leaves its size free.",
)
@click.option(
    "--interpolation",
    default="bilinear",
    show_default=True,
    metavar="NAME",
    help="bilinear, area or cubic.",
)
@click.option(
    "--output",
    default="",
    metavar="NAME",
    help="The output with the embedding, if several can be it.",
)
@options.as_json
def import_onnx(
    model: Path,
    out: Path,
    mean: str,
    std: str,
    rgb: bool | None,
    resize: str,
    crop: str,
    interpolation: str,
    output: str,
    as_json: bool,
) -> dict[str, Any]:
    """Take in MODEL, a re-identification network of another program.

    MODEL is an ONNX file, or the .xml of an OpenVINO model with its .bin beside it. Writes a copy
    with its manifest and golden crops into the folder. Every other command then takes it like a
    file of `reid export`. What the graph takes and gives is found by running it on synthetic
    people; a warning says where a setting looks wrong. Needs no PyTorch.
    """
    from .writing import adopt

    adopted = adopt(
        model,
        out,
        mean=mean,
        std=std,
        channels="" if rgb is None else "RGB" if rgb else "BGR",
        resize=resize,
        crop=crop,
        interpolation=interpolation,
        output=output,
        progress=True,
    )
    found = adopted.to_json()
    if as_json:
        show(json_text(found))
    else:
        show(str(adopted.path))
        say(f"next: reid eval {adopted.path} --data NAME --data-root DIR")
    return found
