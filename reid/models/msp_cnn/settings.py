"""The settings of MSP-CNN: the only place with its defaults.

The tags of the sources are explained in ``reid.config.settings``.
"""

from __future__ import annotations

from dataclasses import dataclass

from reid.errors import ConfigError
from reid.models.description import NetworkSettings

MIN_SIZE = (16, 8)
"""Height and width of the smallest image that ``inception_3b`` can still halve."""


@dataclass(frozen=True, slots=True)
class MspCnnSettings(NetworkSettings):
    """Choices that the paper leaves open."""

    name: str = "msp_cnn"  # the network
    dropout_ratio: float = 0.5  # after fc7, from 0 to below 1 [DGD]
    # the embedding: fc7_bn before its ReLU (bn), or after (relu) [inferred] as DGD has it
    embed_at: str = "bn"
    # compute the first layers twice: less memory, slower, the same weights
    recompute_low_level: bool = False
    # as Caffe: two towers, normalised apart, an anchor once for each pair; off: an image once
    separate_towers: bool = False

    def __post_init__(self) -> None:
        if self.embed_at not in ("bn", "relu"):
            raise ConfigError(f"network.embed_at must be bn or relu, found {self.embed_at!r}")
        if not 0 <= self.dropout_ratio < 1:
            raise ConfigError(
                f"network.dropout_ratio must be in [0, 1), found {self.dropout_ratio}"
            )

    @property
    def output_meaning(self) -> str:
        """The manifest's name for the network's output."""
        return f"fc7_{self.embed_at}"


DEFAULTS = MspCnnSettings()
