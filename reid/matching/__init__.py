"""Describing images and measuring distances between descriptions.

A Matcher hides what a description is: one vector per image for MSP-CNN and SiSNet, cached
maps for a pair network. Evaluation, gallery, camera and benchmark speak only to this.
"""

from __future__ import annotations

from typing import Any

from reid.errors import ModelFileError
from reid.matching.descriptions import STORED, PairDescriptions
from reid.matching.matcher import (
    DescriptionT,
    Matcher,
    model_differences,
    prepared_batches,
)
from reid.matching.pairs import PairMatcher
from reid.matching.vectors import VectorMatcher, unit_vectors
from reid.model_file.opening import Openable
from reid.runtime import open_runners

__all__ = [
    "STORED",
    "DescriptionT",
    "Matcher",
    "PairDescriptions",
    "PairMatcher",
    "VectorMatcher",
    "model_differences",
    "open_matcher",
    "prepared_batches",
    "unit_vectors",
]


def open_matcher(
    path: Openable,
    device: str = "auto",
    threads: int = 0,
    batch_size: int | None = None,
    graph: str = "",
    *,
    stored: str = "float16",
) -> Matcher[Any]:
    """Open a model for matching: a run folder, a checkpoint or an exported file.

    ``batch_size`` images go through the network at once, the matcher's own number for None.
    A network that scores pairs is two files, of which either may be named. Of a network with
    several graphs that give vectors (SiSNet's checkpoint) ``graph`` names one, else the first.
    ``stored``, one of STORED, is the form in which a network of pairs keeps its descriptions;
    vectors are always float32. Raises what ``open_runners`` raises, ModelFileError for an unknown
    graph or a file that scores two images at once, and ValueError for an unknown form.
    """
    if stored not in STORED:
        raise ValueError(f"stored must be one of {', '.join(STORED)}, found {stored!r}")
    runners = open_runners(path, device, threads)
    if "describe" in runners:
        return PairMatcher(runners["describe"], runners["compare"], batch_size).storing(stored)
    if graph and graph not in runners:
        raise ModelFileError(f"{path} has the graphs {', '.join(runners)}; found {graph!r}")
    runner = runners[graph] if graph else next(iter(runners.values()))
    if runner.manifest.stage == "pair":
        runner.close()
        raise ModelFileError(
            f"{path} scores two images at once and describes none, so a gallery cannot be ranked "
            "with it; name the 'describe' or 'compare' file of the same export"
        )
    return VectorMatcher(runner, batch_size)
