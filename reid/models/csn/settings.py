"""The settings of CSN: the only place with its defaults.

The tags of the sources are explained in ``reid.config.settings``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reid.errors import ConfigError
from reid.models.description import NetworkSettings, refuse_other_words

MIN_SIZE = (73, 37)
"""Height and width of the smallest image whose stripes fit the paper's parts, 10x10 of level 2 and
5x5 of level 3."""

WORDS = {
    "attention": ("stn", "centre_crop"),
    "pool_conv3": ("auto", "on", "off"),
    "ranking_sharing": ("hybrid", "shared", "separate"),
    "even_padding": ("after", "before"),
    "correlation_form": ("auto", "conv", "spectra"),
}
"""Setting -> its possible words."""


@dataclass(frozen=True, slots=True)
class CsnSettings(NetworkSettings):
    """Rows of the paper's Tables 3 and 4, and choices that it leaves open.

    The defaults come closest to the numbers of parameters and operations in its Table 5.
    """

    name: str = "csn"
    levels: tuple[int, ...] = (2, 3)  # [paper] also (2, 3, 4); a single level: rows of Table 3
    classification_only: bool = False  # [paper] Table 3, row 1: no ranking net
    divide: bool = True  # [paper] three stripes; off: Table 4, C1
    attention: str = "stn"  # [paper]; centre_crop: Table 4, C2
    attention_init_scale: float = (
        0.8  # [inferred] a part's size at the start, as a share of its stripe
    )
    align_corners: bool = True  # [inferred] as in samplers of 2017
    part_sizes: tuple[int, int, int] = (10, 5, 3)  # [paper] levels 2, 3; [inferred] level 4
    pool_conv3: str = "auto"  # [inferred] auto: off with level 4, the only way to match Table 5
    extra_sim_pool: bool = False  # [inferred] on: conv4 has 10x4 as printed in the paper; off: 20x8
    normalise_similarity: bool = False  # batch norm before conv4; not in the paper
    ranking_dim: int = 256  # [paper]
    ranking_pooled: tuple[int, ...] = (2,)  # [inferred] from Table 5's operations
    ranking_sharing: str = "hybrid"  # [inferred] from "only 3 convolutional layers"
    even_padding: str = (
        "after"  # [inferred] padding of even parts: after as in TensorFlow, or before
    )
    correlation_form: str = (
        "auto"  # how training computes correlations: auto, conv, spectra; same results
    )

    def __post_init__(self) -> None:
        if not self.levels or list(self.levels) != sorted({*self.levels} & {2, 3, 4}):
            raise ConfigError(
                f"network.levels must be some of 2, 3, 4 in this order, found {list(self.levels)}"
            )
        for name, known in WORDS.items():
            refuse_other_words(name, getattr(self, name), known)
        for name, sizes in (("ranking_dim", (self.ranking_dim,)), ("part_sizes", self.part_sizes)):
            if not 1 <= min(sizes) <= max(sizes) <= 65536:
                raise ConfigError(f"network.{name} must be from 1 to 65536, found {list(sizes)}")
        if not 0 < self.attention_init_scale < 1:
            raise ConfigError(
                f"network.attention_init_scale must be in (0, 1), found {self.attention_init_scale}"
            )

    @property
    def output_meaning(self) -> str:
        """The manifest's name for the network's output."""
        return "p_match" if self.classification_only else "p_match + 0.2 / (d + 1e-4)"

    @property
    def losses_left_out(self) -> Mapping[str, str]:
        """Losses that have nothing to compare under these settings -> the setting."""
        return {"contrastive": "classification_only=true"} if self.classification_only else {}


DEFAULTS = CsnSettings()
