"""The settings of SiSNet: the only place with its defaults.

The tags of the sources are explained in ``reid.config.settings``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reid.errors import ConfigError
from reid.models.description import NetworkSettings, refuse_other_words

MIN_SIZE = (32, 16)
"""Height and width of the smallest image of either scale; last_stride 1 makes its map 2x1."""


@dataclass(frozen=True, slots=True)
class SisNetSettings(NetworkSettings):
    """The poster gives none of these values."""

    name: str = "sisnet"  # the network
    depth: int = 50  # of its ResNet: 50; 18 and 34 for small machines [inferred]
    last_stride: int = 1  # 1 or 2 [inferred] the strong baseline's, whose figures are nearest
    second_size: tuple[int, int] = (192, 96)  # height and width of the second scale [inferred]
    two_scales: bool = True  # off: the poster's baseline, the first branch alone
    bnneck: bool = True  # batch norm before a classifier without bias (Luo et al. 2019) [inferred]
    embed_at: str = "neck"  # the embedding: neck, or features, before the neck [inferred]
    fold_neck: bool = True  # count the neck's scale in the activation maps [inferred]
    pretrained: str = ""  # a file of backbone weights; nothing is ever downloaded

    def __post_init__(self) -> None:
        refuse_other_words("embed_at", self.embed_at, ("neck", "features"))
        if self.depth not in (18, 34, 50):
            raise ConfigError(f"network.depth must be 18, 34 or 50, found {self.depth}")
        if self.last_stride not in (1, 2):
            raise ConfigError(f"network.last_stride must be 1 or 2, found {self.last_stride}")
        if self.second_size[0] < MIN_SIZE[0] or self.second_size[1] < MIN_SIZE[1]:
            raise ConfigError(
                f"network.second_size must be at least {MIN_SIZE[0]}x{MIN_SIZE[1]}, found "
                f"{self.second_size}"
            )

    @property
    def output_meaning(self) -> str:
        """The manifest's name for the network's output."""
        return f"sisnet_{self.embed_at}"

    @property
    def losses_left_out(self) -> Mapping[str, str]:
        """Losses that have nothing to compare under these settings -> the setting."""
        return {} if self.two_scales else {"drc": "two_scales=false"}


DEFAULTS = SisNetSettings()
