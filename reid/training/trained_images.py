"""The hashes of training images that a checkpoint keeps, so that evaluation knows them again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid.data.content import HASH_BYTES, TrainedImages, image_hashes, people_hashes
from reid.data.readers.joint import TrainingImages
from reid.errors import CheckpointError
from reid.progress import Reporter, counted
from reid.training.checkpoint import IMAGES, PEOPLE, Checkpoint, load_checkpoint


def hashes_to_keep(
    data: TrainingImages,
    checkpoint: Checkpoint | None,
    pretrained: Path | None,
    reporter: Reporter,
) -> dict[str, Tensor]:
    """What goes into the training state: that of ``checkpoint``, or hashes of the training images.

    Those of a checkpoint that the weights begin with, ``pretrained``, are added. Each is
    (N, HASH_BYTES) uint8. Raises DataError for an image that cannot be read, CheckpointError for
    damaged hashes in that checkpoint.
    """
    if checkpoint is not None and checkpoint.trained_images is not None:
        return {name: checkpoint.training[name] for name in (IMAGES, PEOPLE)}
    before = TrainedImages() if pretrained is None else _hashes_in(pretrained)
    images = set(image_hashes(data.records, counted(reporter, "hashing training images")))
    people = {
        digest for split, root in data.parts for digest in people_hashes(split, split.train, root)
    }
    return {IMAGES: _rows(before.images | images), PEOPLE: _rows(before.people | people)}


def _hashes_in(path: Path) -> TrainedImages:
    """Those of a checkpoint of this toolkit; none in a file of another kind."""
    try:
        checkpoint = load_checkpoint(path)
    except CheckpointError:
        return TrainedImages()
    return checkpoint.trained_images or TrainedImages()


def _rows(hashes: Iterable[bytes]) -> Tensor:
    array = np.frombuffer(b"".join(sorted(hashes)), np.uint8)
    return torch.from_numpy(array.reshape(-1, HASH_BYTES).copy())
