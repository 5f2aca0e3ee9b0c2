"""The learning curve: how a network in training finds people that it is not trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from reid.config.settings import StageConfig, TrainConfig
from reid.data.readers.division import draw_identities, query_and_gallery, searchable_identities
from reid.data.readers.joint import JOINT
from reid.errors import DataError
from reid.evaluation.evaluating import evaluate
from reid.evaluation.scoring import PROTOCOLS
from reid.matching import Matcher, PairMatcher, matcher_of
from reid.matching.matcher import VECTOR
from reid.model_file.manifest import Manifest
from reid.models import build_network
from reid.training.checkpoint import runners_of_network
from reid.training.curves import HELD_OUT
from reid.training.objectives import active_losses
from reid.types import ImageRecord, Protocol, Split

COLUMNS = HELD_OUT
"""The log's columns with the figures, shares of 1."""

COMPARED = 10
"""Of a network that compares pairs, the images that are compared with a query: the nearest by the
vector. All of them would take as long as many steps."""

PAIRS_LOSS = "classification"
"""The loss that teaches a network to compare pairs."""

LEAST_TRAINED = 2
"""People that must be left to train on."""


class HeldOut:
    """People of the training images that are kept out, and the figures of a network for them.

    They are drawn with the run's split seed among people of two cameras, and searched by the
    Market protocol among themselves. ``trained`` are the records that are left to train on.
    Raises DataError where too few people can be searched, or are left to train on.
    """

    def __init__(self, config: TrainConfig, records: Sequence[ImageRecord]) -> None:
        data, wanted = config.data, config.data.held_out_identities
        name = JOINT.join(data.datasets)
        cameras = len({record.camera_id for record in records}) > 1
        chosen = draw_identities(
            name,
            Path("the training part"),
            searchable_identities(records, cameras) if cameras else (),
            wanted,
            data.split_seed,
            "are seen by two cameras",
            "held-out",
        )
        people = {record.person_id for record in records}
        if len(people) - wanted < LEAST_TRAINED:
            raise DataError(
                f"data.held_out_identities={wanted} of {len(people)} training identities leaves "
                f"fewer than {LEAST_TRAINED} to train on; lower it"
            )
        self.trained = tuple(one for one in records if one.person_id not in chosen)
        kept_out = [one for one in records if one.person_id in chosen]
        query, gallery = query_and_gallery(kept_out, data.split_seed)
        self._split = Split(name, (), query, gallery, Protocol(PROTOCOLS[0]))
        self._config = config

    def figures(
        self,
        state: dict[str, torch.Tensor],
        manifest: Manifest,
        num_identities: int,
        device: str,
        stage: StageConfig,
    ) -> dict[str, float]:
        """The values of ``COLUMNS`` for a network with these weights, on the stage's image size.

        They are copied into another network, so that training is not changed.
        """
        if stage.image_size is not None:
            preprocess = manifest.preprocess.with_crop(stage.image_size)
            manifest = dataclasses.replace(manifest, preprocess=preprocess)
        with torch.random.fork_rng(devices=[]):
            network = build_network(num_identities, self._config.network)
        network.load_state_dict(state)
        with closing(matcher_of(runners_of_network(network, manifest, device))) as matcher:
            report = evaluate(matcher, self._split, best=self._shortlist(matcher, stage)).report
        return dict(zip(COLUMNS, (report.cmc[1], report.map_step), strict=True))

    def _shortlist(self, matcher: Matcher[Any], stage: StageConfig) -> int:
        """By the vector alone, which the best one is, as long as no pairs are learned."""
        arrays = {spec.name for spec in matcher.manifest.output_arrays}
        has_both = isinstance(matcher, PairMatcher) and VECTOR in arrays
        compared = COMPARED if PAIRS_LOSS in active_losses(stage) else 1
        return min(compared, len(self._split.gallery)) if has_both else 0
