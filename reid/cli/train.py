"""``reid recipes`` and ``reid train``."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reid.cli import options
from reid.progress import progress_bar, say

if TYPE_CHECKING:
    from reid.config.settings import DataConfig


@click.command()
@click.argument("name", required=False)
@options.as_json
def recipes(name: str | None, as_json: bool) -> None:
    """List the recipes, or print every setting of recipe NAME."""
    import dataclasses

    from reid.config.toml import config_to_toml, load_recipe, recipe_names

    if name is None:
        names = recipe_names()
        click.echo(json.dumps(names) if as_json else "\n".join(names))
        return
    config = load_recipe(name)
    shown = json.dumps(dataclasses.asdict(config), indent=2) if as_json else config_to_toml(config)
    click.echo(shown)


@click.command()
@click.argument("recipe")
@options.data_root
@click.option("--out", type=options.FOLDER, required=True, help="The run folder to write.")
@click.option(
    "--solver",
    type=options.FILE,
    help="Caffe solver prototxt: rate, policy, max_iter, momentum, decay, iter_size.",
)
@click.option("--config", "config_file", type=options.FILE, help="TOML that overrides the recipe.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override one setting.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in the run folder.")
@options.own_images
@options.as_json
def train(
    recipe: str,
    data_root: Path,
    out: Path,
    solver: Path | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    junk: tuple[str, ...],
    distractors: tuple[str, ...],
    layout: str,
    as_json: bool,
) -> dict[str, Any]:
    """Train RECIPE (see `reid recipes`) and leave checkpoint, log and curves in a folder.

    The recipe is overridden by --solver, that by --config, that by --set. A solver describes
    one stage: it sets the rate and length of the recipe's first, whose losses stay, and the
    momentum, decay and iter_size of all; later stages keep their rates ([[stages]] in
    --config replaces them all). What it leaves out has Caffe's default (no momentum, no
    decay); what finds no use is listed.

    Several GPUs or processes: torchrun --nproc-per-node N -m reid.cli train RECIPE ...
    """
    from reid.config.toml import resolve_config
    from reid.training.loop import train as run_training

    from_solver: dict[str, Mapping[str, Any]] = {}
    if solver is not None:
        from reid.caffe.solver import settings_of_solver_file

        from_solver = settings_of_solver_file(solver, say)
    own = {"junk": list(junk), "distractors": list(distractors), "layout": layout}
    given = [f"data.{name}={json.dumps(value)}" for name, value in own.items() if value]
    config = resolve_config(recipe, config_file, (*given, *overrides), **from_solver)
    with progress_bar("training") as bar:
        result = run_training(config, data_root, out, resume=resume, say=bar.say, progress=bar.show)
    # A finished run that is resumed has no step to take, and JSON no word for NaN.
    loss = result.loss if math.isfinite(result.loss) else None
    found = {
        "run": str(out),
        "step": result.step,
        "num_steps": result.num_steps,
        "interrupted": result.interrupted,
        "seconds": round(result.seconds, 1),
        "images_per_s": round(result.images_per_s, 2),
        "loss": loss,
    }
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif result.interrupted:
        click.echo(f"stopped at step {result.step} of {result.num_steps}; go on with --resume")
    else:
        click.echo(
            f"{out}: {result.step} steps in {result.seconds:.0f} s, {result.images_per_s:.1f} "
            f"images/s{'' if loss is None else f', loss {loss:.3f}'}\nnext: reid eval {out} "
            f"--data {config.data.name} --data-root {data_root}{_own_options(config.data)}"
        )
    return found


def _own_options(data: DataConfig) -> str:
    """The options by which `reid eval` reads a user's own images as training did."""
    words = [word for name in data.junk for word in ("--junk", name)]
    words += [word for name in data.distractors for word in ("--distractors", name)]
    words += ["--layout", data.layout] if data.layout else []
    return f" {shlex.join(words)}" if words else ""
