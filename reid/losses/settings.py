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

    label_smoothing: float = 0.0  # of the softmax loss, 0 to 1; not in the paper
    # distance that a negative pair should have [inferred] the form that CSN prints
    euclidean_margin: float = 1.0
    # added to the distance of a negative pair where the gradient divides by it; Caffe has 1e-4
    euclidean_gradient_eps: float = 0.0
    correlation_patch: int = 5  # side of a patch, odd [X-Corr] PATCHSIZE
    # rows that a patch is searched in, all columns; odd [X-Corr] VERTICALWIDTH
    correlation_rows: int = 5
    # count rows above and below the map, zero-padded [X-Corr]
    correlation_outside_rows: bool = True
    correlation_sigma_eps: float = 0.01  # added to the standard deviation of a patch [X-Corr]
    # positive pairs: a lower correlation is noise, 0 [inferred]
    correlation_positive_threshold: float = 0.5
    # negative pairs: a higher correlation is shared, 0 [inferred]
    correlation_negative_threshold: float = 0.7
    # leave negative pairs out, the other reading of "we will ignore"
    correlation_positives_only: bool = False
    # search each image for the other's patches, not only the other for the anchor's [inferred]
    correlation_symmetric: bool = False
    contrastive_margin: float = 1.0  # CSN: distance that a negative pair should have [paper]
    # CSN: a negative is the nearest of so many images of other people, by their vectors; 1: as the
    # sampler drew it [paper]
    negative_candidates: int = 1
    # CSN's prior on its attended parts: weight of their scale [inferred]
    prior_scale_weight: float = 1.0
    # the same prior: weight of staying inside the image [inferred]
    prior_inside_weight: float = 1.0
    prior_rotation_weight: float = 0.1  # the same prior: weight of not turning [inferred]
    # the same prior: smallest scale without a penalty, beta [inferred]
    prior_min_scale: float = 0.1
    # the same prior: squared distance of the image's edge, gamma [inferred]
    prior_extent: float = 1.0
    triplet_margin: float = 0.3  # SiSNet's triplet loss [inferred] the strong baseline's
    triplet_soft_margin: bool = False  # softplus in place of the margin [inferred]
    drc_normalise: str = "minmax"  # activation maps before DRC: minmax, l2 or none [inferred]
    # size at which DRC compares two maps: larger, or lcm of both sizes [inferred]
    drc_grid: str = "larger"
    drc_rectify: bool = False  # drop negative activation; off: it counts too [inferred]

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
        if self.euclidean_gradient_eps < 0:
            raise ConfigError(
                "losses.euclidean_gradient_eps must be at least 0, found "
                f"{self.euclidean_gradient_eps}"
            )
        if self.negative_candidates < 1:
            raise ConfigError(
                f"losses.negative_candidates must be at least 1, found {self.negative_candidates}"
            )
        if not 0 <= self.label_smoothing <= 1:
            raise ConfigError(
                f"losses.label_smoothing must be in [0, 1], found {self.label_smoothing}"
            )


DEFAULTS = LossConfig()
"""The default arguments of the losses."""
