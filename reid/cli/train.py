"""``reid recipes`` and ``reid train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reid.cli import options
from reid.printing import json_text, show

if TYPE_CHECKING:
    from reid.data.readers.division import OwnImages


@click.command()
@click.argument("name", required=False)
@options.as_json
def recipes(name: str | None, as_json: bool) -> None:
    """List the recipes, or print every setting of recipe NAME."""
    import dataclasses

    from reid import recipes as recipe_names
    from reid.config.toml import config_to_toml, load_recipe

    if name is None:
        names = recipe_names()
        show(json_text(names, None) if as_json else "\n".join(names))
        return
    config = load_recipe(name)
    shown = json_text(dataclasses.asdict(config)) if as_json else config_to_toml(config)
    show(shown)


@click.command()
@click.argument("recipe")
@options.data_root
@click.option("--out", type=options.FOLDER, required=True, help="The run folder to write.")
@click.option(
    "--solver",
    type=options.FILE,
    help="Caffe solver prototxt: type, learning rate, policy, max_iter, momentum, decay, "
    "iter_size, clip_gradients.",
)
@click.option("--config", "config_file", type=options.FILE, help="TOML that overrides the recipe.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override one setting.")
@click.option(
    "--from",
    "start_from",
    type=options.MODEL,
    metavar="RUN_OR_FILE",
    help="Begin with the weights of a run folder, a checkpoint or a file of weights.",
)
@click.option(
    "--freeze-steps",
    type=options.COUNT,
    default=0,
    metavar="N",
    help="First train N steps in which the loaded weights stay as they are: a stage before the "
    "recipe's.",
)
@click.option("--resume", is_flag=True, help="Continue from the checkpoint in the run folder.")
@options.own_images
@options.as_json
def train(
    recipe: str,
    data_root: Path,
    out: Path,
    solver: Path | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    start_from: Path | None,
    freeze_steps: int,
    resume: bool,
    own: OwnImages,
    as_json: bool,
) -> dict[str, Any]:
    """Train RECIPE (see `reid recipes`) and write checkpoint, log and curves into a folder.

    --solver overrides the recipe, --config overrides --solver, --set overrides all. A solver
    describes one stage: it sets the learning rate and length of the recipe's first stage, whose
    losses stay, and the type (SGD, Nesterov, Adam), momentum, decay, iter_size and clip_gradients
    of all stages; later stages keep their rates ([[stages]] in --config replaces them all). Fields
    missing in the solver take Caffe's default (no momentum, no decay); fields that are not used
    are listed.

    --from fine-tunes: --freeze-steps 200 --set optimizer.loaded_lr_mult=0.1 trains the new
    classifier alone at first, then all, the loaded weights at a tenth of the rate.

    Several GPUs or processes: torchrun --nproc-per-node N -m reid.cli train RECIPE ...
    """
    from reid import train as train_recipe

    read = {"junk": own.junk, "distractors": own.distractors, "layout": own.layout}
    given = [f"data.{name}={json.dumps(value)}" for name, value in read.items() if value]
    run = train_recipe(
        recipe,
        data_root,
        out,
        overrides=(*given, *overrides),
        config_file=config_file,
        solver=solver,
        start_from=start_from,
        freeze_steps=freeze_steps,
        resume=resume,
        progress=True,
    )
    found = run.to_json()
    show(json_text(found) if as_json else run.to_text())
    return found
