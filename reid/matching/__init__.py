"""Describing images and measuring distances between descriptions.

A Matcher hides what a description is: one vector per image for MSP-CNN and SiSNet, cached
maps for a pair network. Evaluation, gallery, camera and benchmark speak only to this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reid.matching.descriptions import PairDescriptions
from reid.matching.matcher import DescriptionT, Matcher, Progress, prepared_batches
from reid.matching.pairs import PairMatcher
from reid.matching.vectors import VectorMatcher, unit_vectors
from reid.runtime import open_runners

__all__ = [
    "DescriptionT",
    "Matcher",
    "PairDescriptions",
    "PairMatcher",
    "Progress",
    "VectorMatcher",
    "open_matcher",
    "prepared_batches",
    "unit_vectors",
]


def open_matcher(
    path: Path, device: str = "auto", threads: int = 0, batch_size: int = 64
) -> Matcher[Any]:
    """Open a model for matching: a run folder, a checkpoint or an exported file.

    A network that scores pairs is two files, of which either may be named. Raises what
    ``open_runners`` raises.
    """
    runners = open_runners(path, device, threads)
    if "describe" in runners:
        return PairMatcher(runners["describe"], runners["compare"], batch_size)
    (runner,) = runners.values()
    return VectorMatcher(runner, batch_size)
