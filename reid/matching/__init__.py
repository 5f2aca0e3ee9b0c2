"""Computing descriptions of images and distances between them.

A description is one embedding per image for MSP-CNN and SiSNet, and stored feature maps for a
network that compares pairs. A Matcher hides the difference from evaluation, gallery, camera and
benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reid.errors import ModelFileError, ReidError
from reid.matching.descriptions import STORED, PairDescriptions
from reid.matching.lower_precision import prove_lower_precision
from reid.matching.matcher import (
    DescriptionT,
    Matcher,
    model_differences,
    prepared_batches,
)
from reid.matching.pairs import PairMatcher
from reid.matching.vectors import VectorMatcher, unit_vectors
from reid.model_file.opening import Openable
from reid.runtime import Runner, open_runners

__all__ = [
    "STORED",
    "DescriptionT",
    "Matcher",
    "PairDescriptions",
    "PairMatcher",
    "VectorMatcher",
    "matcher_of",
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

    ``batch_size`` images go through the network at once; None is the matcher's default. A network
    that scores pairs has two files, either of which may be named. ``graph`` chooses among several
    embedding graphs (of a SiSNet checkpoint); the default is the first. ``stored``, one of STORED,
    is the form in which a network that compares pairs stores descriptions; embeddings are always
    float32. Raises what ``open_runners`` raises, ModelFileError for an unknown
    graph or a file that scores two images at once, and ValueError for an unknown form.
    """
    if stored not in STORED:
        raise ValueError(f"stored must be one of {', '.join(STORED)}, found {stored!r}")
    runners = open_runners(path, device, threads)
    if "describe" in runners:
        return matcher_of(runners, batch_size).storing(stored)
    if graph and graph not in runners:
        raise ModelFileError(f"{path} has the graphs {', '.join(runners)}; found {graph!r}")
    runner = runners[graph] if graph else next(iter(runners.values()))
    if runner.manifest.stage == "pair":
        runner.close()
        raise ModelFileError(
            f"{path} scores two images at once so it cannot rank a gallery; "
            " name the 'describe' or 'compare' file of the same export"
        )
    try:
        prove_lower_precision(runner, path, device, threads)
    except ReidError:
        runner.close()
        raise
    return VectorMatcher(runner, batch_size)


def matcher_of(runners: Mapping[str, Runner], batch_size: int | None = None) -> Matcher[Any]:
    """The matcher of a model's open runners; of a vector network the first one's."""
    if "describe" in runners:
        return PairMatcher(runners["describe"], runners["compare"], batch_size)
    return VectorMatcher(next(iter(runners.values())), batch_size)
