"""How the INT8 of a file was made, and whether real images have proven it: part of its manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.errors import ModelFileError

if TYPE_CHECKING:
    from reid.model_file.manifest import Manifest

INT8 = "int8"
"""The precision of a graph whose products are of 8-bit integers."""

DRAWN = ("", "synthetic")
"""Datasets of a parity report whose images are drawn, or not known: they prove no accuracy."""

LARGEST_CHANGE = 0.005
"""Of mAP, for a proof. One query has more weight than this among fewer than ``MIN_QUERIES``."""

MIN_QUERIES = 200


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How the 8-bit integers of a graph were chosen.

    ``activations`` are ``int8`` (symmetric, what TensorRT takes) or ``uint8``; weights are
    symmetric int8 for each channel. The ranges come from ``crops`` of the ``images`` of
    ``dataset``, drawn with ``seed``, by the ``method``. ``float_layers`` are the graph's nodes that
    stay in floating point. ``proven_on`` is the dataset of real images that the accuracy was
    measured on; empty: it is not proven.
    """

    activations: str
    method: str
    crops: int
    dataset: str
    images: str
    seed: int
    float_layers: tuple[str, ...] = ()
    proven_on: str = ""

    def judged(self, verdict: Mapping[str, Any]) -> Quantisation:
        """The same after a parity report, in plain values.

        A passed one proves only with real images, rank-1 and mAP measured with enough queries, and
        a reference in FP32; a failed one disproves.
        """
        if not verdict.get("passed"):
            return dataclasses.replace(self, proven_on="")
        change = verdict.get("checks", {}).get("map_change", {})
        dataset = str(verdict.get("dataset", ""))
        proves = (
            dataset not in DRAWN
            and verdict.get("reference_precision") == "fp32"
            and change.get("status") == "ok"
            and change.get("allowed", 1.0) <= LARGEST_CHANGE + 1e-6
        )
        return dataclasses.replace(self, proven_on=dataset) if proves else self


def quantisation_from_json(item: Any) -> Quantisation:
    """Raises TypeError or AttributeError for a part that is not valid."""
    layers = tuple(item.pop("float_layers", ()))
    found = Quantisation(**item, float_layers=layers)
    texts = (found.activations, found.method, found.dataset, found.images, found.proven_on)
    if not all(isinstance(text, str) for text in (*texts, *layers)):
        raise TypeError(f"a quantisation must be described in words, found {found}")
    if type(found.crops) is not int or type(found.seed) is not int:
        raise TypeError(f"crops and seed must be integers, found {found.crops} and {found.seed}")
    return found


def refuse_unproven(path: Path, manifest: Manifest, allowed: bool = False) -> None:
    """Raise ModelFileError for INT8 whose accuracy no real images have proven."""
    quantisation = manifest.quantisation
    if allowed or quantisation is None or quantisation.proven_on:
        return
    raise ModelFileError(
        f"{path} is INT8 and not proven: its accuracy was not measured on real images, and such "
        f"networks can lose much; prove it: reid parity REFERENCE {path} --data NAME --data-root "
        f"DIR (REFERENCE is the run or the FP32 file; {MIN_QUERIES} queries or more), or use it as "
        "it is with --allow-unproven"
    )
