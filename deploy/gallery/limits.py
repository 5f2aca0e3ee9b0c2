"""The greatest distance that means the same person: measured, or a guess that says so."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reid.errors import ConfigError
from reid.matching import Matcher
from reid.model_file.thresholds import Limit, Thresholds

from .gallery import GalleryStore

VECTOR_LIMIT = 0.65
"""Distance of unit vectors above which two images count as two people, where none was measured.

[inferred] It depends on the model. For MSP-CNN trained on Market-1501 it rarely links two people,
and misses more than half of the links of one person over two cameras; a higher limit mixed up
people in the video of tests/benchmarks/bench_watch.py.
"""


def limit_in(store: GalleryStore, matcher: Matcher[Any], asked: float | None = None) -> Limit:
    """The limit for a search of an open gallery, as large as it is now. Raises ConfigError."""
    usual = usual_limit(matcher, not isinstance(matcher.describe([]), np.ndarray))
    return gallery_limit(matcher.manifest.thresholds, usual, len(store), asked)


def usual_limit(matcher: Matcher[Any], compares_pairs: bool) -> float:
    """The guess for the kind of network; of one that scores pairs: minus its usual score."""
    return -matcher.manifest.usual_score if compares_pairs else VECTOR_LIMIT


def pair_limit(thresholds: Thresholds | None, usual: float, asked: float | None = None) -> Limit:
    """The limit for two tracks: as asked, as measured, or the guess ``usual``."""
    if asked is None and thresholds is not None:
        return thresholds.for_pairs()
    return _unmeasured(usual, asked)


def gallery_limit(
    thresholds: Thresholds | None, usual: float, entries: int, asked: float | None = None
) -> Limit:
    """The limit for a search of a gallery with so many images, as ``pair_limit``.

    Raises ConfigError for an ``asked`` one of the other kind of network.
    """
    if asked is not None and not 0 < asked / usual < math.inf:
        raise ConfigError(
            f"the largest distance must have the sign of {usual} for this network (a pair's "
            f"distance is minus its score); found {asked}: change --max-distance"
        )
    if asked is None and thresholds is not None:
        return thresholds.for_gallery(entries)
    return _unmeasured(usual, asked)


def _unmeasured(usual: float, asked: float | None) -> Limit:
    if asked is not None:
        return Limit(asked, f"{asked:g}, as asked by --max-distance")
    return Limit(
        usual,
        f"{usual:g}, which is a guess: measure this model's with reid threshold MODEL --data NAME "
        "--data-root DIR (or --footage VIDEO)",
        measured=False,
    )
