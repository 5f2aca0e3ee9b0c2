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

    name: str = "msp_cnn"
    dropout_ratio: float = 0.5  # [DGD] fc7's dropout
    embed_at: str = "bn"  # [inferred] bn: before the ReLU, as DGD extracts features; relu: after
    recompute_low_level: bool = False  # on: less memory, slower, same weights

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
