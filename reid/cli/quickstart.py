"""``reid quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.printing import show


@click.command()
@click.option(
    "--out",
    type=options.FOLDER,
    default=Path("runs/quickstart"),
    show_default=True,
    help="The folder to write into.",
)
@click.option(
    "--seed",
    type=options.COUNT,
    default=0,
    show_default=True,
    help="Seed of the drawing and of training.",
)
@click.option(
    "--train-identities",
    type=click.IntRange(min=2),
    default=60,
    show_default=True,
    help="People to train on.",
)
@click.option(
    "--people",
    type=click.IntRange(min=2),
    default=20,
    show_default=True,
    help="Other people, to test on.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a training setting."
)
def quickstart(
    out: Path,
    seed: int,
    train_identities: int,
    people: int,
    overrides: tuple[str, ...],
) -> dict[str, Any]:
    """Draw people, train on them, evaluate, export, check parity and measure, in minutes.

    Prints the command for each step, takes under four minutes on two CPU cores, and writes
    index.html with all results.
    """
    from reid.api.quickstart import QuickstartPlan, run_quickstart

    page = run_quickstart(QuickstartPlan(out, seed, train_identities, people, overrides), show)
    if page is not None:
        show(str(page))
    return {"interrupted": page is None}
