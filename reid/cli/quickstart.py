"""``reid quickstart``."""

from __future__ import annotations

from pathlib import Path

import click

from reid.cli import options


@click.command()
@click.option(
    "--out",
    type=options.FOLDER,
    default=Path("runs/quickstart"),
    show_default=True,
    help="The folder to fill.",
)
@click.option(
    "--seed",
    type=options.COUNT,
    default=0,
    show_default=True,
    help="Seed of the drawing and training.",
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
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting of training."
)
@click.pass_context
def quickstart(
    ctx: click.Context,
    out: Path,
    seed: int,
    train_identities: int,
    people: int,
    overrides: tuple[str, ...],
) -> None:
    """Draw people, train on them, evaluate, export, prove parity, measure: in minutes.

    Runs the commands a user would type, one after the other, on two processor cores in
    under four minutes, and leaves index.html with all that came out.
    """
    from reid.cli.quickstart_run import Plan, run_quickstart

    click.echo(run_quickstart(ctx, Plan(out, seed, train_identities, people, overrides)))
