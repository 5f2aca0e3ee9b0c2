"""Pictures of what a network sees inside: how each kind is drawn.

A network's description lists its kinds of picture and provides their data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from reid.data import read_image
from reid.errors import ConfigError
from reid.evaluation.evaluating import Evaluation
from reid.model_file.opening import ModelFile
from reid.model_file.preprocess import Preprocess
from reid.models import network_named
from reid.models.description import Look, part
from reid.models.looks import CLASS_SHOWN
from reid.report.activations import Attention, activations_picture
from reid.report.chosen import Trio, ranking_of, trio_of
from reid.report.drawing import Picture
from reid.report.feature_maps import feature_maps_picture
from reid.report.patch_matches import patch_matches_picture
from reid.report.similarities import similarities_picture
from reid.types import Image


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """An evaluated run, opened for pictures of its network."""

    file: ModelFile
    network: nn.Module
    preprocess: Preprocess
    evaluation: Evaluation

    @property
    def name(self) -> str:
        return self.evaluation.report.name

    def sees(self, look: Look) -> Callable[[list[Image]], Any]:
        """The data of ``look`` for images (H, W, 3) uint8 BGR; the type depends on its kind."""
        losses = self.file.checkpoint.config.losses
        return partial(part(look.data), self.network, self.preprocess, losses=losses)


def inside_pictures(network: str, runs: Sequence[OpenedRun], rows: Sequence[int]) -> list[Picture]:
    """The pictures of the runs of one network, for the queries ``rows`` (at least one).

    Fewer if no query has both a correct match and a false match.
    """
    drawn = (DRAWERS[look.kind](look, runs, rows) for look in network_named(network).looks)
    return [picture for picture in drawn if picture is not None]


def what_is_shown(network: str) -> str:
    """What ``inside_pictures`` can draw, as text; empty for nothing, as of another program's."""
    try:
        looks = network_named(network).looks
    except ConfigError:
        return ""
    return " and ".join(look.what for look in looks)


def _trio(run: OpenedRun, rows: Sequence[int]) -> Trio | None:
    """The trio of the first query that has one."""
    return next(filter(None, (trio_of(run.evaluation, q) for q in rows)), None)


def _feature_maps(look: Look, runs: Sequence[OpenedRun], rows: Sequence[int]) -> Picture | None:
    run, trio = runs[0], _trio(runs[0], rows)
    if trio is None:
        return None
    return Picture(
        "feature_maps.png",
        "Feature maps",
        f"Feature maps of {run.name} for a query, its nearest correct match and its nearest "
        "wrong gallery image. Shown are each layer's channels that vary most over the query; "
        "each channel has one colour scale.",
        feature_maps_picture(run.sees(look), run.preprocess, trio),
    )


def _patch_matches(look: Look, runs: Sequence[OpenedRun], rows: Sequence[int]) -> Picture | None:
    run, trio = runs[0], _trio(runs[0], rows)
    if trio is None:
        return None
    return Picture(
        "patch_matches.png",
        "Matched patches",
        f"Patches whose low-level feature maps match best, as found by the loss of {run.name}, "
        "with channel and score (at most 1). Patches beyond the edge are left out.",
        patch_matches_picture(run.sees(look), run.preprocess, trio),
    )


def _parts(look: Look, runs: Sequence[OpenedRun], rows: Sequence[int]) -> Picture:
    """What the first run compared."""
    run, k = runs[0], 3
    split = run.evaluation.split
    return Picture(
        "similarities.png",
        "What was compared",
        f"Outlined: the parts that {run.name} attends to, one colour per level. Warm colours: "
        "where the gallery image is similar to the query's parts of a level (correlation, "
        "mean over channels and stripes). Each level has one colour scale per row; "
        "'up to' is a panel's greatest value.",
        similarities_picture(
            run.sees(look),
            [split.query[q] for q in rows],
            split.gallery,
            ranking_of(run.evaluation, rows, k),
            k,
        ),
    )


def _scales(look: Look, runs: Sequence[OpenedRun], rows: Sequence[int]) -> Picture:
    """Where the two scales of each run find evidence."""
    records = [runs[0].evaluation.split.query[q] for q in rows]
    images = [read_image(record.path) for record in records]
    seen = [Attention(run.name, run.preprocess, run.sees(look)(images)) for run in runs]
    return Picture(
        "activation_maps.png",
        "Activation maps of the two scales",
        f"Where each run finds evidence for one class, {CLASS_SHOWN}. Each map is coloured from "
        "its least to its greatest value; below is the correlation of the two.",
        activations_picture(records, seen),
    )


DRAWERS: Mapping[str, Callable[[Look, Sequence[OpenedRun], Sequence[int]], Picture | None]] = {
    "feature_maps": _feature_maps,
    "patch_matches": _patch_matches,
    "parts": _parts,
    "scales": _scales,
}
"""Kind, one of ``reid.models.looks.KINDS`` -> its picture for all runs of a network in a report
and the rows of the queries shown; None if no query has both a correct match and a false match."""
