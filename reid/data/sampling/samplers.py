"""Which sampler a configuration names.

A sampler is a pure function of (seed, epoch): it keeps nothing between calls, so a run
that resumes, or that loads with another number of processes, sees the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence

from reid.config.settings import SamplerConfig
from reid.data.sampling.identity_sampler import IdentitySampler
from reid.data.sampling.pair_sampler import PairSampler
from reid.types import ImageRecord


def sampler_from_config(
    records: Sequence[ImageRecord],
    config: SamplerConfig,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
) -> PairSampler | IdentitySampler:
    """The sampler that ``config.kind`` names. Raises as the samplers do."""
    kind = PairSampler if config.kind == "pairs" else IdentitySampler
    return kind(records, config, seed, rank, world_size)
