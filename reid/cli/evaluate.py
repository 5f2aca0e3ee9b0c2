"""``reid eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reid.cli import options
from reid.errors import InputError
from reid.printing import json_text, show
from reid.progress import progress_bar, say

if TYPE_CHECKING:
    from reid.data.readers.division import AskedSplit


@click.command("eval")
@click.argument("models", nargs=-1, required=True, type=options.MODEL)
@click.option(
    "--data",
    "names",
    required=True,
    multiple=True,
    help="The dataset, e.g. market1501 or cuhk01. Given several times: a table of models and "
    "datasets, each in the folder of its name below --data-root.",
)
@options.data_root
@options.asked_split
@click.option(
    "--allow-trained-on",
    is_flag=True,
    help="Evaluate also if test images were trained on; the results then say how many.",
)
@options.device_and_precision
@options.threads
@click.option(
    "--batch",
    type=options.BATCH,
    help="Images per call of the network (default: 64; 128 if the network compares pairs; with an "
    "engine for larger batches its largest, up to 256).",
)
@options.shortlist(None, multiple=True)
@click.option(
    "--graph",
    "--stage",
    "graphs",
    cls=options.Renamed,
    multiple=True,
    help="Graph of a SiSNet run: cascade (both scales), embed (the first) or second. Given several "
    "times, the differences from the first are printed (Table 3 of the poster).",
)
@click.option(
    "--shots",
    type=click.IntRange(min=1),
    metavar="N",
    help="Evaluate single-shot (1) or multi-shot (more) by CUHK's protocol: people are ranked by "
    "the nearest of N random gallery images of each, from cameras other than the query's; wrong "
    "people of the query's own camera are left out too (default: the dataset's own protocol).",
)
@click.option(
    "--any-camera",
    is_flag=True,
    help="Evaluate by X-Corr's protocol: one random image of each person, from any camera, is the "
    "gallery, and all others are queries (default: the dataset's own protocol).",
)
@click.option(
    "--rerank", is_flag=True, help="Add a row with k-reciprocal re-ranking for each model."
)
@click.option(
    "--rerank-settings",
    type=(int, int, float),
    metavar="K1 K2 LAMBDA",
    help="Re-rank with these settings (default: 20 6 0.3, the paper's).",
)
@click.option("--camera-pairs", is_flag=True, help="Print the results of each pair of cameras.")
@click.option(
    "--published", is_flag=True, help="Also print the papers' results with the same protocol."
)
@click.option(
    "--query-features",
    "query_file",
    type=options.FILE,
    help="Features of the queries, written by `reid describe --side query`.",
)
@click.option(
    "--gallery-features",
    "gallery_file",
    type=options.FILE,
    help="Features of the gallery, written by `reid describe`.",
)
@click.option("--query", "old_query_file", type=options.FILE, hidden=True)
@click.option("--gallery", "old_gallery_file", type=options.FILE, hidden=True)
@click.option("--picture", type=options.FILE, help="Write a ranked-list PNG of the first model.")
@click.option(
    "--report",
    "folder",
    type=options.FOLDER,
    help="Write an HTML page with results and pictures into this folder; for a run also what its "
    "network sees: feature maps and patches, CSN's attended parts and similarities, SiSNet's "
    "activations.",
)
@click.option("--worst-first", is_flag=True, help="Show the worst queries in the pictures.")
@options.as_json
def evaluate(
    models: tuple[Path, ...],
    names: tuple[str, ...],
    data_root: Path,
    asked: AskedSplit,
    allow_trained_on: bool,
    device: str,
    threads: int,
    batch: int | None,
    shortlists: tuple[int, ...],
    graphs: tuple[str, ...],
    shots: int | None,
    any_camera: bool,
    rerank: bool,
    rerank_settings: tuple[int, int, float] | None,
    camera_pairs: bool,
    published: bool,
    query_file: Path | None,
    gallery_file: Path | None,
    old_query_file: Path | None,
    old_gallery_file: Path | None,
    picture: Path | None,
    folder: Path | None,
    worst_first: bool,
    as_json: bool,
) -> dict[str, Any]:
    """Evaluate MODELS (run folders, checkpoints, .onnx or .engine files) in one table.

    If a dataset is split by a seed, the split of the first model's training is used. With several
    datasets a cell of the table is marked where the model was not trained on the dataset.
    """
    from reid.api.evaluation import Settings, compare_models, prepare_report
    from reid.api.grid import compare_on
    from reid.outputs import refuse_inputs

    if len(names) > 1 and (picture or folder):
        raise InputError("--picture and --report show one dataset; give --data once")
    settings = Settings(
        names[0],
        data_root,
        shots=shots,
        shortlists=shortlists,
        rerank=rerank_settings or rerank,
        asked=asked,
        query_file=query_file or old_query_file,
        gallery_file=gallery_file or old_gallery_file,
        allow_trained_on=allow_trained_on,
        any_camera=any_camera,
    )
    outputs = {"--picture": picture}
    refuse_inputs(outputs, [*models, settings.query_file, settings.gallery_file, data_root])
    if folder is not None:
        prepare_report(folder)
    with progress_bar() as bar:
        how: dict[str, Any] = {
            "graphs": graphs,
            "device": device,
            "threads": threads,
            "batch_size": batch,
            "reporter": bar,
        }
        if len(names) > 1:
            grid = compare_on(models, names, settings, **how)
            found, words = grid.summary(camera_pairs=camera_pairs, published=published)
            show(json_text(found) if as_json else words)
            return found
        compared = compare_models(models, settings, **how)
    found, words = compared.summary(camera_pairs=camera_pairs, published=published)
    show(json_text(found) if as_json else words)
    if picture is not None:
        compared.write_picture(picture, worst_first=worst_first)
        say(f"wrote {picture}")
    if folder is not None:
        page, not_drawn = compared.write_report(folder, found, worst_first=worst_first)
        for line in [*not_drawn, f"wrote {page}"]:
            say(line)
    return found
