"""``reid eval``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reid import options
from reid.errors import output_errors
from reid.progress import progress_bar, say

if TYPE_CHECKING:
    from reid.evaluate import Evaluation


@click.command("eval")
@click.argument("models", nargs=-1, required=True, type=options.MODEL)
@click.option("--data", "name", required=True, help="The dataset, e.g. market1501 or cuhk01.")
@options.data_root
@click.option(
    "--test-identities",
    type=options.COUNT,
    help="CUHK01: 100 or 486; own images: any (else: as trained).",
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
@click.option(
    "--shortlist",
    "shortlists",
    type=options.COUNT,
    multiple=True,
    metavar="K",
    help="A network that compares pairs: compare only the K best by the ranking vector. 0 is the "
    "whole gallery; give it several times to compare the figures.",
)
@click.option(
    "--stage", default="", help="SiSNet's run: embed, second (the other scale) or cascade (both)."
)
@click.option("--query", "query_file", type=options.FILE, help="Queries from `reid describe`.")
@click.option("--gallery", "gallery_file", type=options.FILE, help="Gallery from `reid describe`.")
@click.option("--picture", type=options.FILE, help="Write a ranked-list PNG of the first model.")
@click.option(
    "--report",
    "folder",
    type=options.FOLDER,
    help="Write a page with the figures and pictures of the first model into this folder.",
)
@click.option("--worst-first", is_flag=True, help="Show the worst queries in the pictures.")
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
    shortlists: tuple[int, ...],
    stage: str,
    query_file: Path | None,
    gallery_file: Path | None,
    picture: Path | None,
    folder: Path | None,
    worst_first: bool,
    as_json: bool,
) -> dict[str, Any]:
    """Evaluate MODELS: run folders, checkpoints, .onnx or .engine files, in one table.

    Where a dataset is split by a seed, the split is the one that the first model was trained on.
    """
    from reid.cascade import cascades, savings
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
    if folder is not None:
        with output_errors(folder):  # told before what may take hours
            folder.mkdir(parents=True, exist_ok=True)
    with progress_bar("opening") as bar:
        results = evaluate_models(
            models,
            split,
            device=device,
            threads=threads,
            batch_size=batch,
            shortlists=shortlists,
            stage=stage,
            query_file=query_file,
            gallery_file=gallery_file,
            phase=bar.phase,
            say=bar.say,
        )
    reports = [result.report for result in results]
    chance = chance_rank1(split)
    lost = cascades(reports, shortlists)
    found = {
        "split": split.note,
        "chance_rank1": chance,
        "models": [report.to_json() for report in reports],
        "shortlists": [one.to_json() for one in lost],
    }
    note = [f"the split: {split.note}"] if split.note else []
    words = "\n\n".join([table(reports, chance), *savings(lost), *note])
    click.echo(json.dumps(found, indent=2) if as_json else words)
    if picture is not None:
        from reid.pictures import write_ranked_list  # needs matplotlib, which [edge] has not

        write_ranked_list(
            picture, results[0].split, results[0].ranking(10), worst_first=worst_first
        )
        say(f"wrote {picture}")
    if folder is not None:
        from reid.eval_page import write_report

        not_drawn = _draw(folder, models[0], results[0], worst_first)
        page = write_report(folder, found, reports, lost, not_drawn=not_drawn)
        say(f"wrote {page}")
    return found


def _draw(folder: Path, model: Path, first: Evaluation, worst_first: bool) -> str:
    """Draw a report's pictures; returns why there are no similarity maps, where that is told."""
    from reid.eval_page import RANKED, SIMILARITIES
    from reid.pictures import write_ranked_list
    from reid.runtime import model_file

    ranking = first.ranking(10)
    write_ranked_list(folder / RANKED, first.split, ranking, worst_first=worst_first)
    (folder / SIMILARITIES).unlink(missing_ok=True)  # of another model's report
    if not first.report.num_compared:
        return ""
    if model_file(model).suffix != ".pt":
        why = f"{model}: attended parts and similarity maps are drawn of the run only"
        say(why)
        return why
    from reid.similarity_pictures import write_similarities  # needs torch

    picture = folder / SIMILARITIES
    write_similarities(picture, model, first.split, ranking, worst_first=worst_first)
    return ""
