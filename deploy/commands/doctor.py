"""``reid doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.errors import MissingPackageError, ParityError
from reid.printing import json_text, show


@click.command()
@click.argument("model", type=options.MODEL)
@click.option("--golden", type=options.FILE, help="The golden crops (default: the bundle's).")
@click.option(
    "--answers",
    type=options.FILE,
    help="A .npy file with your own program's outputs for the golden crops' PNG files, in the "
    "order of their names: doctor then looks for faults in that program.",
)
@click.option(
    "--deepstream",
    default="",
    metavar="VERSION",
    help="Check also whether the file fits this version of DeepStream, such as 7.1.",
)
@options.device
@options.as_json
def doctor(
    model: Path,
    golden: Path | None,
    answers: Path | None,
    deepstream: str,
    device: str,
    as_json: bool,
) -> dict[str, Any]:
    """Find out what is wrong with MODEL on this machine; exit code 3 if something is.

    Runs the golden crops of `reid bundle` and names the fault: wrong channel order, normalised
    twice or not at all, another resize, an engine for another GPU or TensorRT version, FP32
    instead of FP16, a missing library and how to install it.
    """
    from ..doctor.machine import this_machine

    try:
        from ..doctor.examination import examine
    except ModuleNotFoundError as error:  # nothing can be read without OpenCV
        line = this_machine().install_line(error.name or "")
        if not line:
            raise
        raise MissingPackageError(f"{error.name} is not installed: {line}") from error
    found = examine(
        model, golden_file=golden, answers_file=answers, device=device, deepstream=deepstream
    )
    show(json_text(found.to_json()) if as_json else found.text())
    if not found.healthy:
        fault = next(finding for finding in found.findings if finding.status == "fault")
        raise ParityError(f"{model}: {fault.words}")
    return found.to_json()
