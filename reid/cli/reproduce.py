"""``reid reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.printing import json_text, show


@click.command()
@click.argument("table", required=False)
@click.option("--data-root", type=options.FOLDER, help="The dataset's folder.")
@click.option("--out", type=options.FOLDER, help="The folder of the runs (default: runs/TABLE).")
@click.option(
    "--splits",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Random splits of the dataset; with a split of its own: seeds of the training.",
)
@click.option(
    "--budget",
    metavar="8h",
    help="Cut all schedules to the same share of their steps, so that the whole table takes about "
    "this long here (default: the papers' schedules).",
)
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override one setting.")
@options.as_json
def reproduce(
    table: str | None,
    data_root: Path | None,
    out: Path | None,
    splits: int,
    budget: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> dict[str, Any] | None:
    """Train and evaluate the rows of TABLE; without TABLE, list the tables.

    Mean and deviation between splits are printed beside the paper's figures, where the protocol is
    the same. The same command goes on where it was stopped.
    """
    from reid import reproduce as reproduce_table
    from reid.config.tables import tables

    if table is None:
        titles = {name: one.title for name, one in tables().items()}
        width = max(map(len, titles))
        lines = (f"{name.ljust(width)}  {title}" for name, title in titles.items())
        show(json_text(titles) if as_json else "\n".join(lines))
        return None
    if data_root is None:
        raise click.UsageError("Missing option '--data-root'.")
    done = reproduce_table(
        table,
        data_root,
        out or Path("runs") / table,
        splits=splits,
        budget=budget,
        overrides=overrides,
        progress=True,
    )
    found: dict[str, Any] = done.to_json()
    show(json_text(found) if as_json else done.to_text())
    return found
