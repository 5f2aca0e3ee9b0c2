"""Where SiSNet looks at two scales of an image, and how far the two agree.

Zhang et al., "Scale-Invariant Siamese Network for Person Re-Identification" (poster), Figure 3,
and a number for it. The maps are SiSNet's own, and lie on one grid as in the DRC loss: what is
measured here is what that loss trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from reid.losses.drc import FLAT, on_one_grid
from reid.matching.describing import read_ahead
from reid.matching.matcher import prepared_batches
from reid.model_file.opening import ModelFile
from reid.models.sisnet.network import SisNet, activation_maps
from reid.progress import SILENT, Reporter
from reid.runtime.torch_runner import TorchRunner
from reid.types import ArraySpec, FloatArray, ImageRecord

CLASS_SHOWN = "the training identity that the first scale's largest logit names"
"""Whose maps are compared [inferred]: test identities are no classes of the classifier."""


class ScaleMaps(NamedTuple):
    """The activation maps of N images: ``first`` (N, h, w), ``second`` (N, h', w').

    ``classes`` (N,) int64 are the training identities whose evidence they show.
    """

    first: Tensor
    second: Tensor
    classes: Tensor


def scale_maps(network: SisNet, images: Tensor) -> ScaleMaps:
    """Both scales' maps of images (N, 3, H, W) of the first scale, for one class each.

    The class is ``CLASS_SHOWN`` for both scales: a class for each would compare the evidence
    for different people. A network trained on one scale has a second one too.
    """
    branches = [network.branch(x) for x in (images, network.second_scale(images))]
    classes = branches[0].logits.argmax(1)
    weights = network.cam_weights()
    first, second = (activation_maps(branch.maps, weights, classes) for branch in branches)
    return ScaleMaps(first, second, classes)


def map_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of each image's two maps over the larger grid's places: (N,).

    (N, h, w) and (N, h', w') maps. Shift and strength do not count, as in the DRC loss with
    min-max scaling. NaN where a map is flat as that loss defines it: it says nothing of where.
    """
    centred = []
    for maps in on_one_grid(first.double(), second.double()):
        values = maps.flatten(1)
        flat = values.amax(1) - values.amin(1) <= FLAT * values.abs().amax(1)
        centred.append(torch.where(flat[:, None], torch.nan, values - values.mean(1, keepdim=True)))
    one, other = centred
    correlation: Tensor = (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
    return correlation


@dataclass(frozen=True, slots=True)
class MapConsistency:
    """How far the two scales' maps of a run agree: the mean ``map_correlation``.

    ``mean`` is in [-1, 1], over ``num_images``; ``num_flat`` more had a flat map. None where
    all had.
    """

    model: str
    mean: float | None
    num_images: int
    num_flat: int

    def words(self) -> str:
        """For the terminal: one line."""
        flat = f" ({self.num_flat:,} with a flat map left out)" if self.num_flat else ""
        mean = "-" if self.mean is None else f"{self.mean:.3f}"
        return (
            f"{self.model}: mean correlation {mean} of the two scales' activation maps, "
            f"{self.num_images:,} query images{flat}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json`` and ``report.json``."""
        return {
            "model": self.model,
            "mean_correlation": self.mean,
            "num_images": self.num_images,
            "num_flat": self.num_flat,
            "class": CLASS_SHOWN,
        }


class _Correlation(nn.Module):
    """Images -> their ``map_correlation``, as a stage that a runner runs."""

    def __init__(self, network: SisNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        maps = scale_maps(self.network, x)
        return map_correlation(maps.first, maps.second)


def map_consistencies(
    models: Sequence[Path],
    query: Sequence[ImageRecord],
    *,
    device: str = "auto",
    threads: int = 0,
    batch_size: int = 64,
    reporter: Reporter = SILENT,
) -> list[MapConsistency]:
    """Of each run among ``models`` whose network has two scales, over a test's query images.

    The queries are every tested identity at a fraction of the gallery's cost [inferred: the
    poster has no number]. Exported files hold no maps and other networks no scales: nothing is
    measured of them. Raises what ``ModelFile.network`` and ``read_ahead`` raise.
    """
    found = []
    for model in models:
        file = ModelFile.at(model)
        if not file.is_checkpoint:
            continue
        network, manifest = file.network(), file.checkpoint.manifest
        if isinstance(network, SisNet):
            inputs, outputs = manifest.input_arrays, (ArraySpec("correlation", ()),)
            stage = manifest.of_graph("map_correlation", inputs, outputs)
            runner = TorchRunner(_Correlation(network), stage, device, threads)
            advance = reporter.begin("activation maps", len(query))
            values = []
            for batch in prepared_batches(manifest.preprocess, read_ahead(query), batch_size):
                values.append(runner.run({inputs[0].name: batch})["correlation"])
                advance(len(batch))
            found.append(_consistency(str(model), np.concatenate(values)))
    return found


def _consistency(model: str, correlations: FloatArray) -> MapConsistency:
    known = correlations[~np.isnan(correlations)]
    mean = float(known.mean()) if len(known) else None
    return MapConsistency(model, mean, len(known), len(correlations) - len(known))
