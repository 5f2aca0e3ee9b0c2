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

    name: str = "csn"  # the network
    # levels that are compared; (2, 3, 4) too; one alone: rows of Table 3 [paper]
    levels: tuple[int, ...] = (2, 3)
    classification_only: bool = False  # no ranking net [paper] on: Table 3, row 1
    divide: bool = True  # three horizontal stripes [paper] off: Table 4, C1
    # how a part is found: stn or centre_crop [paper] centre_crop: Table 4, C2
    attention: str = "stn"
    attention_init_scale: float = 0.8  # a part begins as this share of its stripe [inferred]
    # sample from corner pixel to corner pixel [inferred] as the samplers of 2017
    align_corners: bool = True
    # side of the parts of levels 2, 3 and 4 [paper] 2 and 3; [inferred] 4
    part_sizes: tuple[int, int, int] = (10, 5, 3)
    # pool after conv3: auto, on, off [inferred] off with level 4, as Table 5 needs
    pool_conv3: str = "auto"
    # pool similarities once more [inferred] on: the printed 10x4; off: conv4 has 20x8
    extra_sim_pool: bool = False
    normalise_similarity: bool = False  # batch norm before conv4; not in the paper
    ranking_dim: int = 256  # length of the ranking vector [paper]
    # levels that the ranking net pools [inferred] from Table 5's operations
    ranking_pooled: tuple[int, ...] = (2,)
    # of its convolutions: hybrid, shared, separate [inferred] from "only 3 convolutional layers"
    ranking_sharing: str = "hybrid"
    # where an even part has the extra row: after, before [inferred] as TensorFlow pads
    even_padding: str = "after"
    # weight of p(same person) in the score, 0 to 1; not used in training [paper] 1 (Eq. 7)
    probability_weight: float = 1.0
    # a classifier of the training people on the ranking vector, for the loss softmax; not in the
    # paper
    classify_identities: bool = False
    # how training computes correlations: auto, conv, spectra; the same numbers
    correlation_form: str = "auto"

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
        if self.classification_only and self.classify_identities:
            raise ConfigError(
                "network.classify_identities needs the ranking net's vector, which "
                "network.classification_only leaves out; set one of them"
            )
        if not 0 <= self.probability_weight <= 1:
            raise ConfigError(
                f"network.probability_weight must be from 0 to 1, found {self.probability_weight}"
            )
        if self.classification_only and self.probability_weight != 1:
            raise ConfigError(
                "network.probability_weight weighs p(same person) against the vectors' distance, "
                "which network.classification_only leaves out; set one of them"
            )
        if not 0 < self.attention_init_scale < 1:
            raise ConfigError(
                f"network.attention_init_scale must be in (0, 1), found {self.attention_init_scale}"
            )

    @property
    def output_meaning(self) -> str:
        """The manifest's name for the network's output."""
        weight = "" if self.probability_weight == 1 else f"{self.probability_weight:g} * "
        return "p_match" if self.classification_only else f"{weight}p_match + 0.2 / (d + 1e-4)"

    @property
    def usual_score(self) -> float:
        """[inferred] The score of Eq. 7 where p is 0.5 and d is 1."""
        return 0.5 * self.probability_weight + 0.2

    @property
    def losses_left_out(self) -> Mapping[str, str]:
        """Losses that have nothing to compare under these settings -> the setting."""
        left_out = {} if self.classify_identities else {"softmax": "classify_identities=false"}
        if self.classification_only:
            left_out["contrastive"] = "classification_only=true"
        return left_out


DEFAULTS = CsnSettings()
