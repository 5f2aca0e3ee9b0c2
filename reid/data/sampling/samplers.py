"""Choose the sampler by the configuration.

A sampler is a pure function of (seed, epoch) and keeps no state between calls. A resumed run,
or one with another number of loader workers, therefore sees the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence

from reid.config.settings import SamplerConfig
from reid.data.sampling.all_pairs_sampler import AllPairsSampler
from reid.data.sampling.batch_plan import Sampler
from reid.data.sampling.identity_sampler import IdentitySampler
from reid.data.sampling.pair_sampler import PairSampler
from reid.types import ImageRecord

_SAMPLERS: dict[str, type[Sampler]] = {
    "pairs": PairSampler,
    "all_pairs": AllPairsSampler,
    "identities": IdentitySampler,
}


def sampler_from_config(
    records: Sequence[ImageRecord],
    config: SamplerConfig,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
) -> Sampler:
    """The sampler that ``config.kind`` names. Raises as the samplers do."""
    return _SAMPLERS[config.kind](records, config, seed, rank, world_size)
