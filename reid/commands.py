"""The ground floor's commands: options, one call, one print.

Each returns what it found, so that ``reid quickstart`` can call the others. Heavy
libraries are imported inside the functions: ``--help`` needs none of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from reid import options
from reid.progress import progress_bar, say


@click.group()
def data() -> None:
    """Draw a synthetic dataset, or check a real one."""


@data.command()
@click.argument("folder", type=options.FOLDER)
@click.option("--train-identities", default=60, show_default=True, help="People to train on.")
@click.option("--test-identities", default=24, show_default=True, help="Other people, to test on.")
@click.option("--cameras", default=4, show_default=True, help="Cameras, each with its own look.")
@click.option("--images", default=4, show_default=True, help="Images of a person per camera.")
@click.option(
    "--seed",
    type=options.COUNT,
    default=0,
    show_default=True,
    help="The same seed draws the same bytes.",
)
@options.as_json
def synth(
    folder: Path,
    train_identities: int,
    test_identities: int,
    cameras: int,
    images: int,
    seed: int,
    as_json: bool,
) -> dict[str, Any]:
    """Draw pedestrians into FOLDER, in Market-1501's layout."""
    import dataclasses

    from reid.data.synthetic import write_synthetic

    with progress_bar("drawing") as bar:
        counts = write_synthetic(
            folder,
            num_train_identities=train_identities,
            num_test_identities=test_identities,
            cameras=cameras,
            images_per_camera=images,
            seed=seed,
            progress=bar.show,
        )
    found = dataclasses.asdict(counts)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(
            f"{folder}: {counts.train_images} images of {counts.train_identities} people to "
            f"train on; {counts.query_images} queries and {counts.gallery_images} gallery images "
            f"of {counts.test_identities} others, {counts.cameras} cameras"
        )
    return found


@data.command()
@click.argument("name")
@options.data_root
@options.as_json
def check(name: str, data_root: Path, as_json: bool) -> dict[str, Any]:
    """Count the images of dataset NAME, compare with the published counts, read every file."""
    from reid.data.inspection import inspect_dataset

    with progress_bar("reading") as bar:
        found = inspect_dataset(name, data_root, progress=bar.show)
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else "\n".join(found.lines()))
    return found.to_json()


@click.command()
@click.argument("name", required=False)
@options.as_json
def recipes(name: str | None, as_json: bool) -> None:
    """List the recipes, or print every setting of recipe NAME."""
    import dataclasses

    from reid.settings import config_to_toml, load_recipe, recipe_names

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
@options.as_json
def train(
    recipe: str,
    data_root: Path,
    out: Path,
    solver: Path | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
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
    from reid.settings import resolve_config
    from reid.train import train as run_training

    from_solver: dict[str, Mapping[str, Any]] = {}
    if solver is not None:
        from reid.caffe.solver import settings_of_solver_file

        from_solver = settings_of_solver_file(solver, say)
    config = resolve_config(recipe, config_file, overrides, **from_solver)
    with progress_bar("training") as bar:
        result = run_training(config, data_root, out, resume=resume, say=bar.say, progress=bar.show)
    found = {
        "run": str(out),
        "step": result.step,
        "num_steps": result.num_steps,
        "interrupted": result.interrupted,
        "seconds": round(result.seconds, 1),
        "images_per_s": round(result.images_per_s, 2),
        "loss": result.loss,
    }
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif result.interrupted:
        click.echo(f"stopped at step {result.step} of {result.num_steps}; go on with --resume")
    else:
        click.echo(
            f"{out}: {result.step} steps in {result.seconds:.0f} s, {result.images_per_s:.1f} "
            f"images/s, loss {result.loss:.3f}\nnext: reid eval {out} --data {config.data.name} "
            f"--data-root {data_root}"
        )
    return found


@click.command("eval")
@click.argument("models", nargs=-1, required=True, type=options.MODEL)
@click.option("--data", "name", required=True, help="The dataset, e.g. market1501 or cuhk01.")
@options.data_root
@click.option(
    "--test-identities", type=options.COUNT, help="CUHK01: 100 or 486 (else: as trained)."
)
@click.option("--split-seed", type=options.COUNT, help="Seed of a random split (else: as trained).")
@options.device
@options.threads
@click.option(
    "--batch",
    type=options.BATCH,
    default=64,
    show_default=True,
    help="Images per call of the network.",
)
@click.option("--picture", type=options.FILE, help="Write a ranked-list PNG of the first model.")
@click.option("--worst-first", is_flag=True, help="Show the worst queries in the picture.")
@options.as_json
def evaluate(
    models: tuple[Path, ...],
    name: str,
    data_root: Path,
    test_identities: int | None,
    split_seed: int | None,
    device: str,
    threads: int,
    batch: int,
    picture: Path | None,
    worst_first: bool,
    as_json: bool,
) -> dict[str, Any]:
    """Evaluate MODELS: run folders, checkpoints, .onnx or .engine files, in one table.

    CUHK01 is split at random: the split is the one that the first model was trained on.
    """
    from reid.data import load_split
    from reid.evaluate import chance_rank1, evaluate_models, split_of_model
    from reid.runtime import model_file
    from reid.tables import table

    for model in models:
        model_file(model)  # a missing one is told before the others are described
    trained_on = split_of_model(models[0], name)
    split = load_split(
        name,
        data_root,
        num_test_identities=trained_on[0] if test_identities is None else test_identities,
        split_seed=trained_on[1] if split_seed is None else split_seed,
    )
    total = len(models) * (len(split.query) + len(split.gallery))
    with progress_bar("describing", total) as bar:
        results = evaluate_models(
            models,
            split,
            device=device,
            threads=threads,
            batch_size=batch,
            progress=bar.advance,
        )
    reports = [result.report for result in results]
    chance = chance_rank1(split)
    if picture is not None:
        from reid.pictures import write_ranked_list  # needs matplotlib, which [edge] has not

        best = results[0]
        write_ranked_list(picture, split, best.query, best.gallery, worst_first=worst_first)
        say(f"wrote {picture}")
    found = {"chance_rank1": chance, "models": [report.to_json() for report in reports]}
    click.echo(json.dumps(found, indent=2) if as_json else table(reports, chance))
    return found


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
    from reid.quickstart import Plan, run_quickstart

    click.echo(run_quickstart(ctx, Plan(out, seed, train_identities, people, overrides)))
