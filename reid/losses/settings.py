"""The settings of the losses: the only place with defaults of losses.

They are ``[losses]`` in a configuration, and the default arguments of a loss that is called
directly. The tags of the sources are explained in ``reid.config.settings``.
"""

from __future__ import annotations

from dataclasses import dataclass

from reid.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Margins, thresholds and shapes of the losses; stages have the weights."""

    label_smoothing: float = 0.0  # not in the paper
    euclidean_margin: float = 1.0  # [inferred] contrastive form and margin as in CSN
    correlation_patch: int = 5  # [X-Corr] PATCHSIZE
    correlation_rows: int = 5  # [X-Corr] VERTICALWIDTH, rows y-2 .. y+2, all columns
    correlation_outside_rows: bool = True  # [X-Corr] rows above and below the map, zero-padded
    correlation_sigma_eps: float = 0.01  # [X-Corr] added to the standard deviation
    correlation_positive_threshold: float = 0.5  # [inferred] below it is noise, zeroed
    correlation_negative_threshold: float = 0.7  # [inferred] above it is a shared pattern, zeroed
    correlation_positives_only: bool = (
        False  # leave negative pairs out: the other reading of "we will ignore"
    )
    correlation_symmetric: bool = False  # [inferred] anchor -> other image only
    contrastive_margin: float = 1.0  # [paper] CSN
    prior_scale_weight: float = 1.0  # [inferred] CSN's prior on its parts; also the next four
    prior_inside_weight: float = 1.0  # [inferred]
    prior_rotation_weight: float = 0.1  # [inferred]
    prior_min_scale: float = 0.1  # [inferred] beta in Li et al. (CVPR 2017), cited by CSN
    prior_extent: float = 1.0  # [inferred] gamma there: squared distance of the image's edge
    triplet_margin: float = 0.3  # [inferred] SiSNet: as the strong baseline (Luo et al.)
    triplet_soft_margin: bool = False  # [inferred]
    drc_normalise: str = "minmax"  # [inferred] minmax, l2 or none
    drc_grid: str = "larger"  # [inferred] larger, or lcm of the two maps' sizes
    drc_rectify: bool = False  # [inferred] negative evidence counts too

    def __post_init__(self) -> None:
        for name, allowed in (
            ("drc_normalise", ("minmax", "l2", "none")),
            ("drc_grid", ("larger", "lcm")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(
                    f"losses.{name} must be one of {', '.join(allowed)}; found {value!r}"
                )
        for name, least in (("correlation_patch", 3), ("correlation_rows", 1)):
            size = getattr(self, name)
            if size < least or size % 2 == 0:
                raise ConfigError(f"losses.{name} must be odd and at least {least}, found {size}")
        if not 0 <= self.label_smoothing <= 1:
            raise ConfigError(
                f"losses.label_smoothing must be in [0, 1], found {self.label_smoothing}"
            )


DEFAULTS = LossConfig()
"""The default arguments of the losses."""
