"""A plan and its images, joined into what the training loop receives."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reid.data.sampling.batch_plan import BatchPlan
from reid.losses.batch import Batch
from reid.model_file.preprocess import Preprocess
from reid.types import Image


def collate(plan: BatchPlan, crops: Image, names: tuple[str, ...], preprocess: Preprocess) -> Batch:
    """Join a plan with its images: ``crops`` (N, H, W, 3) uint8 BGR, normalised here, once.

    Raises ValueError where the numbers of images disagree.
    """
    found = (len(plan.image_indices), len(crops), len(names))
    if len(set(found)) != 1:
        raise ValueError(f"plan, crops and names must agree in number, found {found}")
    return Batch(
        images=torch.from_numpy(preprocess.normalise(crops)),
        labels=_tensor(plan.labels),
        anchors=_tensor(plan.anchors),
        pair_first=_tensor(plan.pair_first),
        pair_second=_tensor(plan.pair_second),
        pair_same=_tensor(plan.pair_same),
        names=names,
    )


def _tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
