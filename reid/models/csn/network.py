"""CSN: do two images show the same person, by similarities at several levels.

Guo and Cheung, "Efficient and Deep Person Re-Identification using Multi-Level Similarity",
CVPR 2018, Figures 2 and 3, Table 1. An image is described once (``describe``) and compared
many times (``similarity``, ``head``). Open points of the paper are settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reid.models.csn.correlation import by_spectra, correlate, correlate_spectra, spectra
from reid.models.csn.ranking import IdentityClassifier, RankingNet
from reid.models.csn.settings import DEFAULTS, CsnSettings
from reid.models.csn.spatial_transformer import CentreCrop, SpatialTransformer, stripes
from reid.models.layers import BN_EPS, BN_MOMENTUM, ConvBnRelu, xavier_

CHANNELS = 96
"""Maps of each level."""

LEVELS = (2, 3, 4)
"""After conv2, after conv3, and after one more convolution ("Model extension")."""

SAME_PERSON = 1
"""The class of matching pairs, y = 1 of Eq. 3."""

DISTANCE_WEIGHT, DISTANCE_EPS = 0.2, 1e-4
"""lambda and epsilon of Eq. 7."""


class CsnDescription(NamedTuple):
    """Descriptions of N images for comparisons; sizes for 160x60 and levels 2 and 3.

    maps:    per level (N, 96, 40, 15), (N, 96, 20, 8)
    parts:   per level (N, S, 96, 10, 10), (N, S, 96, 5, 5); S = 3 stripes, or 1 undivided
    vector:  (N, 256), L2-normalised; (N, 0) if the network only classifies
    thetas:  per level (N, S, 2, 3), the transforms of Eq. 1
    """

    maps: tuple[Tensor, ...]
    parts: tuple[Tensor, ...]
    vector: Tensor
    thetas: tuple[Tensor, ...]

    def rows(self, index: Tensor) -> CsnDescription:
        """The descriptions of the images at ``index``, (P,) int64."""
        return CsnDescription(
            tuple(x[index] for x in self.maps),
            tuple(x[index] for x in self.parts),
            self.vector[index],
            tuple(x[index] for x in self.thetas),
        )


class CsnOutput(NamedTuple):
    """The input of the training losses: P pairs of N images.

    logits:  (P, 2); column 1 is "the same person"
    vector:  (N, 256), L2-normalised
    thetas:  per level (N, S, 2, 3)
    """

    logits: Tensor
    vector: Tensor
    thetas: tuple[Tensor, ...]


class Csn(nn.Module):
    """The network of Figure 2; the levels are CSN-2, CSN-3 and CSN-4.

    The rows of Tables 3 and 4: ``classification_only`` has no ranking net; ``levels`` of (2,),
    (3,) or (4,) one CSN; ``divide`` off is C1, ``attention`` "centre_crop" C2. Only
    ``classify_identities`` needs to know the number of training people.
    """

    def __init__(self, settings: CsnSettings = DEFAULTS, num_identities: int = 1) -> None:
        super().__init__()
        self.settings = settings
        levels = settings.levels
        self.pool_conv3 = settings.pool_conv3 == "on" or (
            settings.pool_conv3 == "auto" and 4 not in levels
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)  # "same": an odd side is rounded up
        self.conv1 = ConvBnRelu(3, 32, 5, pad=2)
        self.conv2 = ConvBnRelu(32, CHANNELS, 3, pad=1)
        self.conv3 = ConvBnRelu(CHANNELS, CHANNELS, 3, pad=1) if max(levels) >= 3 else None
        self.conv3b = ConvBnRelu(CHANNELS, CHANNELS, 3, pad=1) if 4 in levels else None
        self.attend = nn.ModuleList(
            attention(settings.part_sizes[LEVELS.index(level)], settings) for level in levels
        )
        pooled = tuple(level in settings.ranking_pooled for level in levels)
        self.ranking = (
            None
            if settings.classification_only
            else RankingNet(pooled, CHANNELS, settings.ranking_dim, settings.ranking_sharing)
        )
        self.identities = (
            IdentityClassifier(settings.ranking_dim, num_identities)
            if settings.classify_identities
            else None
        )
        similarities = CHANNELS * 2 * (3 if settings.divide else 1) * len(levels)
        self.similarity_bn = (
            nn.BatchNorm2d(similarities, eps=BN_EPS, momentum=BN_MOMENTUM)
            if settings.normalise_similarity
            else None
        )
        self.conv4 = ConvBnRelu(similarities, 32, 1)
        self.conv5 = ConvBnRelu(32, 32, 3, pad=1)
        self.conv6 = ConvBnRelu(32, 500, 1)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(500, 2)
        xavier_(self.classify.weight)
        nn.init.zeros_(self.classify.bias)

    def maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, 160, 60) -> one (N, 96, H, W) per level: 40x15 and 20x8.

        With level 4 and conv3 unpooled 40x15, 40x15 and 20x8.
        """
        found = {2: self.pool(self.conv2(self.pool(self.conv1(x))))}
        if self.conv3 is not None:
            conv3 = self.conv3(found[2])
            found[3] = self.pool(conv3) if self.pool_conv3 else conv3
        if self.conv3b is not None:
            found[4] = self.pool(self.conv3b(found[3]))
        return tuple(found[level] for level in self.settings.levels)

    def describe(self, x: Tensor) -> CsnDescription:
        """Compute the descriptions of N images: (N, 3, 160, 60)."""
        maps = self.maps(x)
        parts, thetas = [], []
        for attend, level in zip(self.attend, maps, strict=True):
            striped = stripes(level, self.settings.divide)
            part, theta = attend(striped.flatten(0, 1))
            parts.append(part.view(-1, striped.shape[1], *part.shape[1:]))
            thetas.append(theta.view(-1, striped.shape[1], 2, 3))
        vector = x.new_empty(x.shape[0], 0) if self.ranking is None else self.ranking(tuple(parts))
        return CsnDescription(maps, tuple(parts), vector, tuple(thetas))

    def similarity_pools(self) -> tuple[int, ...]:
        """2x2 MAX pools over each level's similarities, before they are concatenated.

        They bring all levels to the size of the coarsest; the finest level alone is halved (the
        paper always pools level 2). ``extra_sim_pool`` adds one more.
        """
        halvings = {2: 2, 3: 2 + self.pool_conv3, 4: 3 + self.pool_conv3}
        coarsest = max(3, *(halvings[level] for level in self.settings.levels))
        return tuple(coarsest - halvings[level] for level in self.settings.levels)

    def similarity(self, first: CsnDescription, second: CsnDescription) -> Tensor:
        """P descriptions against P, row by row -> (P, 96 * 2 * S * levels, 20, 8).

        Channels: level by level; in a level first the maps of ``first`` with the parts of
        ``second``, then the maps of ``second`` with the parts of ``first``; in a direction
        stripe by stripe, top to bottom, 96 channels each.
        """
        return torch.cat(list(self._similarities(first, second)), 1)

    def _similarities(self, first: CsnDescription, second: CsnDescription) -> Iterator[Tensor]:
        """The two directions of each level, which ``similarity`` concatenates."""
        form, even = self.settings.correlation_form, self.settings.even_padding
        for level, pools in enumerate(self.similarity_pools()):
            for one, other in ((first, second), (second, first)):
                out = correlate(one.maps[level], other.parts[level], form, pools > 0, even)
                yield self._pooled(out, pools)

    def _pooled(self, similarity: Tensor, pools: int) -> Tensor:
        """A direction after the pools that follow the first of ``similarity_pools``."""
        for _ in range(max(0, pools - 1) + self.settings.extra_sim_pool):
            similarity = self.pool(similarity)
        return similarity

    def logits(self, first: CsnDescription, second: CsnDescription) -> Tensor:
        """P descriptions against P, row by row -> (P, 2): ``head`` of their ``similarity``."""
        return self.head(self.similarity(first, second))

    def compare(self, described: CsnDescription, first: Tensor, second: Tensor) -> Tensor:
        """N descriptions and the pairs' indices, (P,) int64 each -> (P, 2): the pairs' ``logits``.

        By spectra each image is transformed once, however many pairs it is in.
        """
        if not by_spectra(self.settings.correlation_form, described.vector.device):
            return self.logits(described.rows(first), described.rows(second))
        found: list[Tensor] = []
        both_ways = torch.cat((first, second)), torch.cat((second, first))
        levels = zip(described.maps, described.parts, self.similarity_pools(), strict=True)
        for maps, parts, pools in levels:
            images = spectra(maps, parts, self.settings.even_padding)
            out = correlate_spectra(images, *both_ways, pools > 0)
            found += self._pooled(out, pools).chunk(2)
        return self.head(torch.cat(found, 1))

    def head(self, similarity: Tensor) -> Tensor:
        """Output of ``similarity`` -> (P, 2) logits; column 1 is "the same person"."""
        if self.similarity_bn is not None:
            similarity = self.similarity_bn(similarity)
        return self.decide(self.conv4(similarity))

    def decide(self, conv4: Tensor) -> Tensor:
        """(P, 32, 20, 8) -> (P, 2): the head after conv4."""
        x = self.conv6(self.pool(self.conv5(conv4)))
        out: Tensor = self.classify(torch.flatten(self.global_pool(x), 1))
        return out

    def forward(self, x: Tensor, first: Tensor, second: Tensor) -> CsnOutput:
        """(N, 3, 160, 60) distinct images and the pairs' indices, (P,) int64 each.

        Each image is described once, however many pairs it is in.
        """
        described = self.describe(x)
        logits = self.compare(described, first, second)
        return CsnOutput(logits, described.vector, described.thetas)


def build(num_identities: int, settings: CsnSettings) -> Csn:
    """Build the network; pairs have two classes, whatever the number of identities."""
    return Csn(settings, num_identities)


def attention(size: int, settings: CsnSettings) -> nn.Module:
    """The module that chooses the parts, of side ``size``, of one level."""
    if settings.attention == "centre_crop":
        return CentreCrop(size, settings.align_corners)
    return SpatialTransformer(CHANNELS, size, settings.attention_init_scale, settings.align_corners)


def pair_score(
    logits: Tensor, first_vector: Tensor, second_vector: Tensor, weight: float = 1.0
) -> Tensor:
    """Eq. 7: p(same person) + 0.2 / (d + 1e-4), larger for more similar pairs.

    (P, 2) logits and the (P, D) vectors of both images -> (P,) float32. With empty
    vectors (a network that only classifies) it is p(same person). ``weight`` is the setting
    ``probability_weight``, a factor of p.
    """
    probability = logits.float().softmax(1)[:, SAME_PERSON]
    if weight != 1:
        probability = weight * probability
    if first_vector.shape[1] == 0:
        return probability
    distance: Tensor = torch.linalg.vector_norm(first_vector.float() - second_vector.float(), dim=1)
    return probability + DISTANCE_WEIGHT / (distance + DISTANCE_EPS)
