"""Pictures of what a network sees inside: the data of each kind of picture.

A network's ``looks`` (``reid.models.description.Look``) provide the data; ``reid.report`` draws
it. The kinds and what their functions return for images:

feature_maps:   ``FeatureMaps`` of a query, its nearest correct match and nearest false match
patch_matches:  ``PatchMatches`` of the first of those with each of the other two
parts:          ``PartsSeen`` of a query, the first image, and its nearest gallery images
scales:         ``ScalesSeen`` of queries
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from reid.types import FloatArray

KINDS = ("feature_maps", "patch_matches", "parts", "scales")

MATCHES_SHOWN = 8
"""Patches shown of each pair of images."""

CLASS_SHOWN = "the training identity of the first scale's largest logit"
"""The class whose maps are compared [inferred]; test identities are unknown to the classifier."""

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
    """The best matches of each pair, strongest first; patches of side ``patch`` on maps of
    ``map_size`` (h, w), which cover the crop."""

    patch: int
    map_size: tuple[int, int]
    pairs: list[list[PatchMatch]]


@dataclass(frozen=True, slots=True)
class PartsSeen:
    """Attended parts and similarities of a query and N gallery images, per level."""

    name: str
    """Put before the level's number."""
    levels: tuple[int, ...]
    outlines: list[FloatArray]
    """(1 + N, S, 4, 2), the query's first: corners of attended parts, as shares of the image."""
    maps: list[FloatArray]
    """(N, H, W): similarity of each position of a gallery image to the query's parts."""
    over_image: Callable[[int, int, tuple[int, int]], FloatArray]
    """(level's index, gallery image, (height, width)) -> that map over the shown image; NaN outside
    the network's input."""


@dataclass(frozen=True, slots=True)
class ScalesSeen:
    """Activation maps of N images in two scales: (N, h, w) and (N, h', w')."""

    maps: tuple[FloatArray, FloatArray]
    sizes: tuple[str, str]
    """Names of the two scales, for captions."""
    classes: list[int]
    """See ``CLASS_SHOWN``."""
    agreement: list[float]
    """Correlation of an image's two maps; NaN where one is flat."""
