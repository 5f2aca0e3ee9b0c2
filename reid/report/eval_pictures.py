"""The pictures of an evaluation's report: curves of all models, and what each run sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reid.errors import DataError, output_errors
from reid.evaluation.evaluating import Evaluation
from reid.model_file.opening import ModelFile
from reid.report.chosen import queries_to_show
from reid.report.drawing import Picture, save_png
from reid.report.inside import OpenedRun, inside_pictures, what_is_shown
from reid.report.ranked import ranked_list_picture
from reid.report.retrieval_charts import curves_picture, distances_picture

NAMES = (
    *("curves.png", "distances.png", "ranked.png"),
    *("feature_maps.png", "patch_matches.png", "similarities.png", "activation_maps.png"),
)
"""Files of a report's pictures; files not drawn are removed from its folder."""

RANKED_ROWS, INNER_ROWS = 6, 3
"""Queries in the ranked lists and in the pictures of what a network sees."""


def draw_pictures(
    folder: Path, models: Sequence[Path], evaluations: Sequence[Evaluation], worst_first: bool
) -> tuple[list[Picture], list[str]]:
    """Draw a report's pictures and write them into ``folder``.

    ``evaluations`` are those of ``evaluate_models`` for ``models``, the same number for each. Also
    returns a line for each picture that was left out, with the reason. Raises DataError for
    an image that cannot be read, CheckpointError, OutputError.
    """
    split, ranking = evaluations[0].split, evaluations[0].ranking(10)
    pictures, not_drawn = _charts(evaluations), []
    try:
        rows = queries_to_show(split.query, split.gallery, ranking, RANKED_ROWS, worst_first)
    except DataError as error:  # no answerable query
        not_drawn.append(str(error))
    else:
        pictures.append(_ranked(evaluations[0], worst_first))
        runs, not_drawn = _opened(models, evaluations)
        for network, of_network in runs.items():
            drawn = inside_pictures(network, of_network, rows[:INNER_ROWS])
            pictures += drawn
            if not drawn and what_is_shown(network):
                why = "no query shown has a false match among the nearest"
                not_drawn.append(f"{what_is_shown(network)}: {why}")
    with output_errors(folder):
        for name in NAMES:
            (folder / name).unlink(missing_ok=True)  # left by an earlier report
    for picture in pictures:
        save_png(picture.image, folder / picture.name)
    return pictures, not_drawn


def _charts(evaluations: Sequence[Evaluation]) -> list[Picture]:
    return [
        Picture(
            "curves.png",
            "Curves",
            "Left: the share of queries with a correct match among the first k. Right: the share "
            "of positive pairs below a distance threshold, against that of negative pairs.",
            curves_picture(evaluations),
        ),
        Picture(
            "distances.png",
            "Distances",
            "Distances of positive and of negative pairs, each as a share of its total.",
            distances_picture(evaluations),
        ),
    ]


def _ranked(evaluation: Evaluation, worst_first: bool) -> Picture:
    split, report = evaluation.split, evaluation.report
    beyond = "" if report.limit is None else f" Beyond: farther than {report.limit_words}."
    return Picture(
        "ranked.png",
        "Query images and their nearest gallery images",
        f"Ranked by {report.name}; images that the protocol skips are left out.{beyond}",
        ranked_list_picture(
            split.query,
            split.gallery,
            evaluation.ranking(10),
            num_queries=RANKED_ROWS,
            worst_first=worst_first,
            limit=report.limit,
        ),
    )


def _opened(
    models: Sequence[Path], evaluations: Sequence[Evaluation]
) -> tuple[dict[str, list[OpenedRun]], list[str]]:
    """Networks -> their runs; a line for each network with exported files only."""
    per_model = len(evaluations) // len(models)  # one for each shortlist and re-ranking
    runs: dict[str, list[OpenedRun]] = {}
    files: dict[str, Path] = {}
    for model, evaluation in zip(models, evaluations[::per_model], strict=True):
        file = ModelFile.at(model)
        if file.is_checkpoint:
            manifest = file.checkpoint.manifest
            run = OpenedRun(file, file.network(), manifest.preprocess, evaluation)
            runs.setdefault(manifest.network, []).append(run)
        elif file.has_manifest_beside:
            files.setdefault(file.unchecked_manifest.network, model)
    return runs, [
        f"{model}: {what_is_shown(network)} are drawn only for a run (checkpoint.pt)"
        for network, model in files.items()
        if network not in runs and what_is_shown(network)
    ]
