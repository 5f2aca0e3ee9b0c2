"""What the papers leave open in each network, as settings; ``name`` says which network.

The tags of the sources are those of ``reid.config.settings``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reid.errors import ConfigError


@dataclass(frozen=True, slots=True)
class MspCnnConfig:
    """MSP-CNN: see ``reid.models.msp_cnn.network``."""

    name: str = "msp_cnn"
    dropout_ratio: float = 0.5  # [DGD] fc7's dropout
    embed_at: str = "bn"  # [inferred] fc7_bn before its ReLU, as DGD extracts it
    recompute_low_level: bool = False  # a fifth less memory, some % slower, the same weights

    def __post_init__(self) -> None:
        if self.embed_at not in ("bn", "relu"):
            raise ConfigError(f"network.embed_at is bn or relu, found {self.embed_at!r}")
        if not 0 <= self.dropout_ratio < 1:
            raise ConfigError(f"network.dropout_ratio is in [0, 1), found {self.dropout_ratio}")

    @property
    def output_meaning(self) -> str:
        """What the manifest calls the network's answer."""
        return f"fc7_{self.embed_at}"

    @property
    def losses_left_out(self) -> Mapping[str, str]:
        """Losses that these settings leave nothing to compare -> the setting."""
        return {}


@dataclass(frozen=True, slots=True)
class CsnConfig:
    """CSN: see ``reid.models.csn.network``; the paper leaves most of these open."""

    name: str = "csn"
    levels: tuple[int, ...] = (2, 3)  # [paper] also (2, 3, 4); alone: rows of Table 3
    classification_only: bool = False  # [paper] Table 3, row 1: no ranking net
    divide: bool = True  # [paper] three stripes; off: Table 4, C1
    attention: str = "stn"  # [paper]; centre_crop: Table 4, C2
    attention_init_scale: float = 0.8  # [inferred] a part begins as most of its stripe
    align_corners: bool = True  # [inferred] as the samplers of 2017
    part_sizes: tuple[int, int, int] = (10, 5, 3)  # [paper] levels 2, 3; [inferred] level 4
    pool_conv3: str = "auto"  # [inferred] off with level 4, where only that gives Table 5
    extra_sim_pool: bool = False  # [inferred] on: the printed 10x4
    normalise_similarity: bool = False  # batch norm before conv4; not in the paper
    ranking_dim: int = 256  # [paper]
    ranking_pooled: tuple[int, ...] = (2,)  # [inferred] from Table 5's operations
    ranking_sharing: str = "hybrid"  # [inferred] from "only 3 convolutional layers"
    even_padding: str = "after"  # [inferred] as TensorFlow pads an even part; before: the mirror
    correlation_form: str = "auto"  # how training computes the correlations; the same numbers

    def __post_init__(self) -> None:
        if not self.levels or list(self.levels) != sorted({*self.levels} & {2, 3, 4}):
            raise ConfigError(
                f"network.levels are some of 2, 3, 4 in this order, found {list(self.levels)}"
            )
        _one_of("attention", self.attention, ("stn", "centre_crop"))
        _one_of("pool_conv3", self.pool_conv3, ("auto", "on", "off"))
        _one_of("ranking_sharing", self.ranking_sharing, ("hybrid", "shared", "separate"))
        _one_of("even_padding", self.even_padding, ("after", "before"))
        _one_of("correlation_form", self.correlation_form, ("auto", "conv", "spectra"))
        for name, sizes in (("ranking_dim", (self.ranking_dim,)), ("part_sizes", self.part_sizes)):
            if not 1 <= min(sizes) <= max(sizes) <= 65536:
                raise ConfigError(f"network.{name} is 1 to 65536, found {list(sizes)}")
        if not 0 < self.attention_init_scale < 1:
            raise ConfigError(
                f"network.attention_init_scale is in (0, 1), found {self.attention_init_scale}"
            )

    @property
    def output_meaning(self) -> str:
        """What the manifest calls the network's answer."""
        return "p_match" if self.classification_only else "p_match + 0.2 / (d + 1e-4)"

    @property
    def losses_left_out(self) -> Mapping[str, str]:
        """Losses that these settings leave nothing to compare -> the setting."""
        return {"contrastive": "classification_only=true"} if self.classification_only else {}


@dataclass(frozen=True, slots=True)
class SisNetConfig:
    """SiSNet: see ``reid.models.sisnet.network``; the poster gives none of these numbers."""

    name: str = "sisnet"
    depth: int = 50  # [inferred] ResNet-50; 18 and 34 for small machines
    last_stride: int = 1  # [inferred] as the strong baseline, whose figures are nearest
    second_size: tuple[int, int] = (192, 96)  # [inferred] height and width of the other scale
    two_scales: bool = True  # off: the poster's baseline
    bnneck: bool = True  # [inferred]
    embed_at: str = "neck"  # [inferred] or features, before the neck
    fold_neck: bool = True  # [inferred] the neck's scale belongs to the activation maps
    pretrained: str = ""  # a file of backbone weights; nothing is ever downloaded

    def __post_init__(self) -> None:
        _one_of("embed_at", self.embed_at, ("neck", "features"))
        if self.depth not in (18, 34, 50):
            raise ConfigError(f"network.depth is 18, 34 or 50, found {self.depth}")
        if self.last_stride not in (1, 2):
            raise ConfigError(f"network.last_stride is 1 or 2, found {self.last_stride}")
        if min(self.second_size) < 32:
            raise ConfigError(
                f"network.second_size is at least 32 high and wide, found {self.second_size}"
            )

    @property
    def output_meaning(self) -> str:
        """What the manifest calls the network's answer."""
        return f"sisnet_{self.embed_at}"

    @property
    def losses_left_out(self) -> Mapping[str, str]:
        """Losses that these settings leave nothing to compare -> the setting."""
        return {} if self.two_scales else {"drc": "two_scales=false"}


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"network.{name} is one of {', '.join(known)}; found {value!r}")


NetworkConfig = MspCnnConfig | CsnConfig | SisNetConfig
"""Any of them: a configuration's ``network.name`` chooses."""
