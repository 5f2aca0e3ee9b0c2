"""What a report can show of a network's inside: the data of each kind of picture.

A network's ``looks`` (``reid.models.description.Look``) give these; ``reid.report`` draws them.
The kinds and what their function gives for images:

feature_maps:   ``FeatureMaps`` of a query, its nearest right and its nearest wrong image
patch_matches:  ``PatchMatches`` of the first of those with each of the other two
parts:          ``PartsSeen`` of a query, the first image, and its matches
scales:         ``ScalesSeen`` of queries
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from reid.types import FloatArray

KINDS = ("feature_maps", "patch_matches", "parts", "scales")

MATCHES_SHOWN = 8
"""Patches of each pair of images."""

CLASS_SHOWN = "the training identity that the first scale's largest logit names"
"""Whose activation maps are compared [inferred]: the classifier has no test identities."""

FeatureMaps: TypeAlias = dict[str, FloatArray]
"""Title of a layer -> its maps of the N images, (N, C, h, w)."""


class PatchMatch(NamedTuple):
    """A patch of a first map and its best match on the second: channel, score, centres."""

    channel: int
    score: float
    y: int
    x: int
    other_y: int
    other_x: int


@dataclass(frozen=True, slots=True)
class PatchMatches:
    """Of each pair the best matches, strongest first; patches of side ``patch`` on maps of
    ``map_size`` (h, w), which cover the crop."""

    patch: int
    map_size: tuple[int, int]
    pairs: list[list[PatchMatch]]


@dataclass(frozen=True, slots=True)
class PartsSeen:
    """A query and N matches, as a network that compares parts sees them; per level."""

    name: str
    """Before the level's number."""
    levels: tuple[int, ...]
    outlines: list[FloatArray]
    """(1 + N, S, 4, 2), the query's first: corners of attended parts, as shares of the image."""
    maps: list[FloatArray]
    """(N, H, W): how like the query's parts each place of a match is."""
    over_image: Callable[[int, int, tuple[int, int]], FloatArray]
    """(level's index, match, (height, width)) -> that map over the shown image; NaN where the
    network sees nothing."""


@dataclass(frozen=True, slots=True)
class ScalesSeen:
    """Activation maps of N images in two scales: (N, h, w) and (N, h', w')."""

    maps: tuple[FloatArray, FloatArray]
    sizes: tuple[str, str]
    """Of the two scales, for captions."""
    classes: list[int]
    """See ``CLASS_SHOWN``."""
    agreement: list[float]
    """Correlation of an image's two maps; NaN where one is flat."""
