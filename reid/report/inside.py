"""What runs show of their networks' insides: a table of pictures by network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import nn

from reid.data import read_image
from reid.evaluation.evaluating import Evaluation
from reid.losses.patch_matching import Search
from reid.model_file.opening import ModelFile
from reid.model_file.preprocess import Preprocess
from reid.models.csn.network import Csn
from reid.models.msp_cnn.network import MspCnn
from reid.models.sisnet.network import SisNet
from reid.report.activation_maps import CLASS_SHOWN
from reid.report.activations import activations_picture, attention
from reid.report.chosen import ranking_of, trio_of
from reid.report.drawing import Picture
from reid.report.feature_maps import feature_maps_picture
from reid.report.patch_matches import patch_matches_picture
from reid.report.similarities import similarities_picture


@dataclass(frozen=True, slots=True)
class Run:
    """An evaluated run, opened to be looked into."""

    file: ModelFile
    network: nn.Module
    preprocess: Preprocess
    evaluation: Evaluation

    @property
    def name(self) -> str:
        return self.evaluation.report.model


@dataclass(frozen=True, slots=True)
class Inside:
    """How runs of one network are looked into.

    ``what`` can be drawn of them; ``draw`` takes all of a report's runs of the network and the
    rows of the queries to show, of which there is at least one. It gives no picture where no
    query has both a right and a wrong image.
    """

    what: str
    draw: Callable[[Sequence[Run], Sequence[int]], list[Picture]]


def _msp_cnn(runs: Sequence[Run], rows: Sequence[int]) -> list[Picture]:
    """The first run's maps and matches, of the first query that has a trio."""
    run = runs[0]
    trio = next(filter(None, (trio_of(run.evaluation, q) for q in rows)), None)
    if trio is None:
        return []
    network = cast(MspCnn, run.network)
    losses = run.file.checkpoint.config.losses
    search = Search(
        losses.correlation_patch,
        losses.correlation_rows,
        losses.correlation_sigma_eps,
        losses.correlation_outside_rows,
    )
    return [
        Picture(
            "feature_maps.png",
            "Feature maps",
            f"Maps of {run.name} for a query, its nearest right and its nearest wrong gallery "
            "image: of each layer the channels that vary most over the query, a channel in one "
            "scale of colours.",
            feature_maps_picture(network, run.preprocess, trio),
        ),
        Picture(
            "patch_matches.png",
            "Matched patches",
            f"The strongest matches of the cross-correlation on Pool1 of {run.name}, as its loss "
            "finds them: channel and score, at most 1; patches over the edge are left out.",
            patch_matches_picture(network, run.preprocess, trio, search),
        ),
    ]


def _csn(runs: Sequence[Run], rows: Sequence[int]) -> list[Picture]:
    """What the first run compares."""
    run, k = runs[0], 3
    split = run.evaluation.split
    query = [split.query[q] for q in rows]
    return [
        Picture(
            "similarities.png",
            "What was compared",
            f"Outlined: the parts that {run.name} attends to, one colour per level. Warm: where "
            "the query's parts of a level find their like in the gallery image (correlations, "
            "mean over channels and stripes). A level has one scale of colours in each row; "
            "'up to' is a panel's greatest value.",
            similarities_picture(
                cast(Csn, run.network),
                run.preprocess,
                query,
                split.gallery,
                ranking_of(run.evaluation, rows, k),
                k,
            ),
        )
    ]


def _sisnet(runs: Sequence[Run], rows: Sequence[int]) -> list[Picture]:
    """Where the two scales of each run look."""
    records = [runs[0].evaluation.split.query[q] for q in rows]
    images = [read_image(record.path) for record in records]
    seen = [attention(run.name, cast(SisNet, run.network), run.preprocess, images) for run in runs]
    return [
        Picture(
            "activation_maps.png",
            "Activation maps of the two scales",
            f"Where each run finds evidence for one class, {CLASS_SHOWN}: each map from its "
            "least to its greatest value, and the correlation of the two.",
            activations_picture(records, seen),
        )
    ]


INSIDE: Mapping[str, Inside] = {
    "msp_cnn": Inside("feature maps and matched patches", _msp_cnn),
    "csn": Inside("attended parts and similarity maps", _csn),
    "sisnet": Inside("activation maps", _sisnet),
}
"""Network name -> what its runs show beside their ranking."""
