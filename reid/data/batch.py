"""A plan and its images, joined into what the training loop receives."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from reid.data.sampling.batch_plan import BatchPlan
from reid.losses.batch import Batch
from reid.model_file.preprocess import Preprocess
from reid.types import Image


def collate(
    plan: BatchPlan, crops: Image, names: tuple[str, ...], preprocess: Preprocess | None
) -> Batch:
    """Join a plan with its images: ``crops`` (N, H, W, 3) uint8 BGR, normalised here, once.

    Without ``preprocess`` they stay as they are, for ``normalised`` on their device. Raises
    ValueError where the numbers of images disagree.
    """
    found = (len(plan.image_indices), len(crops), len(names))
    if len(set(found)) != 1:
        raise ValueError(f"plan, crops and names must agree in number, found {found}")
    return Batch(
        images=torch.from_numpy(crops if preprocess is None else preprocess.normalise(crops)),
        labels=_tensor(plan.labels),
        cameras=_tensor(plan.cameras),
        anchors=_tensor(plan.anchors),
        pair_first=_tensor(plan.pair_first),
        pair_second=_tensor(plan.pair_second),
        pair_same=_tensor(plan.pair_same),
        names=names,
    )


def normalised(images: Tensor, preprocess: Preprocess) -> Tensor:
    """A batch's images as (N, 3, H, W) float32, on their device, equal to ``preprocess.normalise``.

    What the loader normalised stays as it is.
    """
    if images.dtype != torch.uint8:
        return images
    if preprocess.channel_order == "RGB":
        images = images.flip(-1)
    planes = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    # Tensors, not numbers: by a number CUDA multiplies with the reciprocal.
    mean, std = (_per_channel(each, images.device) for each in (preprocess.mean, preprocess.std))
    return planes.sub_(mean).div_(std)


@functools.lru_cache(maxsize=8)
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(3, 1, 1) float32, copied once: a GPU's queue has to end before such a copy does."""
    return torch.tensor(values, dtype=torch.float32, device=device).view(3, 1, 1)


def _tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
