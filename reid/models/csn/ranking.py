"""CSN's ranking net: the attended parts of one image -> one vector.

Guo and Cheung, CVPR 2018, section 3.1: per stripe a 3x3 convolution of 96 filters and a MAX pool;
the stripes one below the other; another such convolution; the levels side by side; GAP and a linear
layer of 256; L2 normalisation. "Only 3 convolutional layers" in the model of two levels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reid.models.csn.settings import DEFAULTS, WORDS
from reid.models.embedding import L2Normalise
from reid.models.layers import ConvBnRelu, xavier_

SHARING = WORDS["ranking_sharing"]
"""Which convolutions the levels share: the second, both, or none."""


class IdentityClassifier(nn.Module):
    """Ranking vectors (N, dim) -> logits of the training people (N, num_identities).

    Used in training only, and not in the paper. As in Luo et al. 2019: batch normalisation, then a
    linear layer without bias.
    """

    def __init__(self, dim: int, num_identities: int) -> None:
        super().__init__()
        self.neck = nn.BatchNorm1d(dim)
        self.linear = nn.Linear(dim, num_identities, bias=False)
        nn.init.normal_(self.linear.weight, std=0.01)

    def forward(self, vectors: Tensor) -> Tensor:
        out: Tensor = self.linear(self.neck(vectors))
        return out


class RankingNet(nn.Module):
    """One (N, S, channels, f, f) of parts per level -> (N, dim), rows of length 1.

    ``pooled`` says for each level whether its parts are pooled after the first convolution.
    Three convolutions for two levels imply ``sharing`` ``hybrid`` (inferred). Means are taken level
    by level, which equals GAP after the concatenation and does not need equal sizes.
    """

    def __init__(
        self,
        pooled: tuple[bool, ...],
        channels: int,
        dim: int = DEFAULTS.ranking_dim,
        sharing: str = DEFAULTS.ranking_sharing,
    ) -> None:
        super().__init__()
        if sharing not in SHARING:
            raise ValueError(f"sharing must be one of {', '.join(SHARING)}; found {sharing!r}")
        self.pooled = pooled
        levels = len(pooled)
        first, second = {"hybrid": (levels, 1), "shared": (1, 1), "separate": (levels, levels)}[
            sharing
        ]
        self.conv_a = nn.ModuleList(ConvBnRelu(channels, channels, 3, pad=1) for _ in range(first))
        self.conv_b = nn.ModuleList(ConvBnRelu(channels, channels, 3, pad=1) for _ in range(second))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.embedding = nn.Linear(levels * channels, dim)
        self.l2_normalise = L2Normalise()
        xavier_(self.embedding.weight)
        nn.init.zeros_(self.embedding.bias)

    def forward(self, parts: tuple[Tensor, ...]) -> Tensor:
        described = [self._level(level, x) for level, x in enumerate(parts)]
        out: Tensor = self.l2_normalise(self.embedding(torch.cat(described, 1)))
        return out

    def _level(self, level: int, parts: Tensor) -> Tensor:
        """(N, S, C, f, f) -> (N, C)."""
        x = self.conv_a[level % len(self.conv_a)](parts.flatten(0, 1))
        if self.pooled[level]:
            x = self.pool(x)
        below_one_another = x.view(*parts.shape[:2], *x.shape[1:]).transpose(1, 2).flatten(2, 3)
        x = self.conv_b[level % len(self.conv_b)](below_one_another)
        return torch.flatten(self.global_pool(x), 1)
