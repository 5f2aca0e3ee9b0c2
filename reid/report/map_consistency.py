"""Agreement of the activation maps of a network's two scales, over the query images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid.evaluation.tables import short_names
from reid.matching.describing import read_ahead
from reid.matching.matcher import prepared_batches
from reid.model_file.opening import ModelFile
from reid.models import network_named
from reid.models.description import part
from reid.models.looks import CLASS_SHOWN
from reid.progress import SILENT, Reporter
from reid.runtime.torch_runner import TorchRunner
from reid.types import ArraySpec, FloatArray, ImageRecord


@dataclass(frozen=True, slots=True)
class MapConsistency:
    """Agreement of a run's two scales: the mean correlation of an image's two maps.

    ``name`` is the model's short name. ``mean`` is in [-1, 1], over ``num_images``; another
    ``num_flat`` had a flat map. None if all had.
    """

    model: str
    name: str
    mean: float | None
    num_images: int
    num_flat: int

    def words(self) -> str:
        """For the terminal: one line."""
        flat = f" ({self.num_flat:,} with a flat map left out)" if self.num_flat else ""
        mean = "-" if self.mean is None else f"{self.mean:.3f}"
        return (
            f"{self.name}: mean correlation {mean} of the two scales' activation maps, "
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


def map_consistencies(
    models: Sequence[Path],
    query: Sequence[ImageRecord],
    *,
    device: str = "auto",
    threads: int = 0,
    batch_size: int = 64,
    reporter: Reporter = SILENT,
) -> list[MapConsistency]:
    """The agreement of each run among ``models`` whose network has two scales.

    It is measured on the query images, which show every test identity at a fraction of the
    gallery's cost [inferred: the poster gives no number]. Exported files have no maps and other
    networks no scales, so they are skipped. Raises what ``ModelFile.network`` and ``read_ahead``
    raise.
    """
    found = []
    names = short_names(list(map(str, models)))
    for model in models:
        file = ModelFile.at(model)
        if not file.is_checkpoint:
            continue
        manifest = file.checkpoint.manifest
        agreement = network_named(manifest.network).scale_agreement
        if not agreement:
            continue
        inputs, outputs = manifest.input_arrays, (ArraySpec("correlation", ()),)
        of_graph = manifest.of_graph("map_correlation", inputs, outputs)
        runner = TorchRunner(part(agreement)(file.network()), of_graph, device, threads)
        advance = reporter.begin("activation maps", len(query))
        values = []
        for batch in prepared_batches(manifest.preprocess, read_ahead(query), batch_size):
            values.append(runner.run({inputs[0].name: batch})["correlation"])
            advance(len(batch))
        found.append(_consistency(str(model), names[str(model)], np.concatenate(values)))
    return found


def _consistency(model: str, name: str, correlations: FloatArray) -> MapConsistency:
    known = correlations[~np.isnan(correlations)]
    mean = float(known.mean()) if len(known) else None
    return MapConsistency(model, name, mean, len(known), len(correlations) - len(known))
