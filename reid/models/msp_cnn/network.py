"""MSP-CNN: three CONV modules, six Inception modules, one FC module.

Shen et al., "Person re-identification by multi-level similarity perception", ACM MM
2017, section 3.2 and Table 1. The table is not public; the graph is the DGD code's
``models/individually/*`` prototxt, whose layer names the paper uses.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from reid.models.layers import (
    BN_EPS,
    BN_MOMENTUM,
    ConvBnRelu,
    InceptionA,
    InceptionB,
    recomputed,
    xavier_,
)
from reid.models.msp_cnn.settings import DEFAULTS, MspCnnSettings

EMBEDDING_DIM = 256
"""Outputs of ``fc7``."""


class MspCnnOutput(NamedTuple):
    """The input of the training losses. Field names are the prototxt's blobs.

    pool1:  (N, 32, 72, 28), for the cross-correlation loss
    fc7:    (N, 256), batch-normalised, before or after the ReLU by ``embed_at``
    fc8:    (N, num_identities) logits
    """

    pool1: Tensor
    fc7: Tensor
    fc8: Tensor


class MspCnn(nn.Module):
    """The network of Figure 2 (one tower; the Siamese towers share it).

    ``num_identities`` is M of Figure 2: the training identities.
    """

    embedding_dim = EMBEDDING_DIM

    def __init__(self, num_identities: int, settings: MspCnnSettings = DEFAULTS) -> None:
        super().__init__()
        self.settings = settings
        self.conv1 = ConvBnRelu(3, 32, 3, pad=1)
        self.conv2 = ConvBnRelu(32, 32, 3, pad=1)
        self.conv3 = ConvBnRelu(32, 32, 3, pad=1)
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.inception_1a = InceptionA(32, 64)
        self.inception_1b = InceptionB(256, 64)
        self.inception_2a = InceptionA(384, 128)
        self.inception_2b = InceptionB(512, 128)
        self.inception_3a = InceptionA(768, 256)
        self.inception_3b = InceptionB(1024, 256)
        # The mean of the whole map, so that smaller images work too; at 144x56 the map is 9x4,
        # which is Caffe's AVE pooling with that kernel.
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.fc7 = nn.Linear(1536, EMBEDDING_DIM)
        self.fc7_bn = nn.BatchNorm1d(EMBEDDING_DIM, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.fc7_relu = nn.ReLU()
        self.fc7_dropout = nn.Dropout(settings.dropout_ratio)
        self.fc8 = nn.Linear(EMBEDDING_DIM, num_identities)
        xavier_(self.fc7.weight)
        nn.init.zeros_(self.fc7.bias)
        nn.init.normal_(self.fc8.weight, std=0.001)
        nn.init.zeros_(self.fc8.bias)

    def low_level(self, x: Tensor) -> Tensor:
        """(N, 3, 144, 56) -> Pool1, (N, 32, 72, 28)."""
        out: Tensor = self.pool1(self.conv3(self.conv2(self.conv1(x))))
        return out

    def high_level(self, pool1: Tensor) -> Tensor:
        """Pool1 -> ``fc7_bn`` before its ReLU, (N, 256)."""
        x = self.inception_1b(self.inception_1a(pool1))  # (N, 384, 36, 14)
        x = self.inception_2b(self.inception_2a(x))  # (N, 768, 18, 7)
        x = self.inception_3b(self.inception_3a(x))  # (N, 1536, 9, 4)
        out: Tensor = self.fc7_bn(self.fc7(torch.flatten(self.global_pool(x), 1)))
        return out

    def embed(self, x: Tensor) -> Tensor:
        """The embedding: (N, 3, 144, 56) -> (N, 256), not yet L2-normalised."""
        fc7 = self.high_level(self.low_level(x))
        return fc7 if self.settings.embed_at == "bn" else self.fc7_relu(fc7)

    def forward(self, x: Tensor) -> MspCnnOutput:
        if self.settings.recompute_low_level and torch.is_grad_enabled():
            pool1 = recomputed(self.low_level, x, self)
        else:
            pool1 = self.low_level(x)
        fc7_bn = self.high_level(pool1)
        activated = self.fc7_relu(fc7_bn)
        return MspCnnOutput(
            pool1=pool1,
            fc7=fc7_bn if self.settings.embed_at == "bn" else activated,
            fc8=self.fc8(self.fc7_dropout(activated)),
        )
