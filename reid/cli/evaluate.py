"""``reid eval``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.errors import output_errors
from reid.progress import progress_bar, say


@click.command("eval")
@click.argument("models", nargs=-1, required=True, type=options.MODEL)
@click.option("--data", "name", required=True, help="The dataset, e.g. market1501 or cuhk01.")
@options.data_root
@options.test_identities
@options.split_seed
@options.own_images
@options.all_test
@options.device
@options.threads
@click.option(
    "--batch",
    type=options.BATCH,
    help="Images per call of the network (else: 64, or 128 of one that compares pairs).",
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
    "--stage",
    "stages",
    multiple=True,
    help="SiSNet's run: cascade (both scales), embed (the first) or second. Given several times, "
    "the differences from the first are told (Table 3 of the poster).",
)
@click.option(
    "--shots",
    type=click.IntRange(min=1),
    metavar="N",
    help="Rank people by the nearest of N random gallery images of each, seen by other cameras: "
    "1 is single-shot, more is multi-shot (else: by the dataset's own protocol).",
)
@click.option(
    "--rerank", is_flag=True, help="Add a row with k-reciprocal re-ranking for each model."
)
@click.option(
    "--rerank-settings",
    type=(int, int, float),
    metavar="K1 K2 LAMBDA",
    help="Re-rank with these settings (else: 20 6 0.3, the paper's).",
)
@click.option("--camera-pairs", is_flag=True, help="Print figures of each pair of cameras.")
@click.option(
    "--published", is_flag=True, help="Print the papers' figures of the same test beside it."
)
@click.option("--query", "query_file", type=options.FILE, help="Queries from `reid describe`.")
@click.option("--gallery", "gallery_file", type=options.FILE, help="Gallery from `reid describe`.")
@click.option("--picture", type=options.FILE, help="Write a ranked-list PNG of the first model.")
@click.option(
    "--report",
    "folder",
    type=options.FOLDER,
    help="Write a page with the figures and pictures into this folder; of a run also what its "
    "network sees: maps and patches, CSN's attended parts and similarities, SiSNet's activations.",
)
@click.option("--worst-first", is_flag=True, help="Show the worst queries in the pictures.")
@options.as_json
def evaluate(
    models: tuple[Path, ...],
    name: str,
    data_root: Path,
    test_identities: int | None,
    split_seed: int | None,
    junk: tuple[str, ...],
    distractors: tuple[str, ...],
    layout: str,
    all_test: bool,
    device: str,
    threads: int,
    batch: int | None,
    shortlists: tuple[int, ...],
    stages: tuple[str, ...],
    shots: int | None,
    rerank: bool,
    rerank_settings: tuple[int, int, float] | None,
    camera_pairs: bool,
    published: bool,
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
    from reid.evaluation.cascade import cascades
    from reid.evaluation.evaluating import (
        chance_rank1,
        evaluate_models,
        split_as_trained,
        with_shots,
    )
    from reid.evaluation.reranking import Reranking
    from reid.evaluation.telling import told
    from reid.matching.vectors import DESCRIBE_BATCH
    from reid.model_file.opening import ModelFile

    # A missing one is told before the others are described.
    are_runs = [ModelFile.at(model).is_checkpoint for model in models]
    reranking = Reranking(*rerank_settings or ()) if rerank or rerank_settings else None
    split = split_as_trained(
        models[0],
        name,
        data_root,
        test_identities,
        split_seed,
        junk=junk,
        distractors=distractors,
        layout=layout,
        all_test=all_test,
    )
    split = with_shots(split, shots) if shots else split
    if folder is not None:  # what it needs and lacks is told before what may take hours
        from reid.report.eval_pictures import draw_pictures

        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    with progress_bar("opening") as bar:
        results = evaluate_models(
            models,
            split,
            device=device,
            threads=threads,
            batch_size=batch,
            shortlists=shortlists,
            rerank=reranking,
            stages=stages,
            query_file=query_file,
            gallery_file=gallery_file,
            phase=bar.phase,
            say=bar.say,
        )
        consistencies = []
        if any(are_runs):
            from reid.report.activation_maps import map_consistencies  # needs torch

            consistencies = map_consistencies(
                models,
                results[0].split.query,
                device=device,
                threads=threads,
                batch_size=batch or DESCRIBE_BATCH,
                phase=bar.phase,
            )
    reports = [result.report for result in results]
    lost = cascades(reports, shortlists)
    found, words = told(
        reports,
        lost,
        consistencies,
        chance=chance_rank1(split),
        note=split.note,
        against_first=len(models) > 1 or len(stages) > 1 or reranking is not None,
        camera_pairs=camera_pairs,
        published=published,
    )
    click.echo(json.dumps(found, indent=2) if as_json else words)
    if picture is not None:
        from reid.report.ranked import write_ranked_list

        write_ranked_list(
            picture, results[0].split, results[0].ranking(10), worst_first=worst_first
        )
        say(f"wrote {picture}")
    if folder is not None:
        from reid.report.eval_page import write_report

        pictures, not_drawn = draw_pictures(folder, models, results, worst_first)
        page = write_report(folder, found, reports, lost, pictures=pictures, not_drawn=not_drawn)
        for line in [*not_drawn, f"wrote {page}"]:
            say(line)
    return found
