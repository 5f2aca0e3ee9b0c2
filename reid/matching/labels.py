"""Identities and cameras of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from reid.types import ImageRecord, IntArray


class Labelled(Protocol):
    """Anything with identities and cameras of N images."""

    @property
    def person_ids(self) -> IntArray: ...

    @property
    def camera_ids(self) -> IntArray: ...


class Labels(NamedTuple):
    """Identities and cameras of N images, (N,) int64 each, without embeddings."""

    person_ids: IntArray
    camera_ids: IntArray


def labels_from_records(records: Sequence[ImageRecord]) -> Labels:
    """The labels of images on disk, in order."""
    return Labels(
        np.array([record.person_id for record in records], np.int64),
        np.array([record.camera_id for record in records], np.int64),
    )
