"""SiSNet's activation maps at two scales of an image, and their agreement.

Zhang et al., "Scale-Invariant Siamese Network for Person Re-Identification" (poster), Figure 3,
with a measure for it. The maps are put on one grid as in the DRC loss, so the measure is what
that loss trains.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from reid.losses.drc import FLAT, on_one_grid
from reid.losses.settings import LossConfig
from reid.model_file.preprocess import Preprocess
from reid.models.looks import ScalesSeen
from reid.models.sisnet.network import SisNet
from reid.types import Image


def activation_maps(maps: Tensor, cam_weights: Tensor, classes: Tensor) -> Tensor:
    """Where each image has evidence for its class: sum_k w[class, k] * maps[k], (N, h, w).

    CAM of Zhou et al. (CVPR 2016, Eq. 2), neither rectified nor scaled.

    Args:
        maps: (N, C, h, w); half precision is computed in float32.
        cam_weights: (M, C).
        classes: (N,) int64 in 0 .. M - 1: the true ones in training. An identity that is
            unknown to the network has none; then the class of the largest logit is used.
    """
    with torch.autocast(maps.device.type, enabled=False):
        maps = maps if maps.element_size() >= 4 else maps.float()
        return torch.einsum("nkhw,nk->nhw", maps, cam_weights.to(maps.dtype)[classes])


class ScaleMaps(NamedTuple):
    """The activation maps of N images: ``first`` (N, h, w), ``second`` (N, h', w').

    ``classes`` (N,) int64 are the training identities that the evidence is for.
    """

    first: Tensor
    second: Tensor
    classes: Tensor


def scale_maps(network: SisNet, images: Tensor) -> ScaleMaps:
    """Both scales' maps of images (N, 3, H, W) of the first scale, for one class each.

    The class is ``reid.models.looks.CLASS_SHOWN`` for both scales: separate classes would compare
    the evidence for different people. A network trained on one scale has a second scale too.
    """
    branches = [network.branch(x) for x in (images, network.second_scale(images))]
    classes = branches[0].logits.argmax(1)
    weights = network.cam_weights()
    first, second = (activation_maps(branch.maps, weights, classes) for branch in branches)
    return ScaleMaps(first, second, classes)


def map_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of each image's two maps over the larger grid's positions: (N,).

    (N, h, w) and (N, h', w') maps. Offset and strength do not count, as in the DRC loss with
    min-max scaling. NaN for a map that is flat by that loss's definition: it has no position.
    """
    centred = []
    for maps in on_one_grid(first.double(), second.double()):
        values = maps.flatten(1)
        flat = values.amax(1) - values.amin(1) <= FLAT * values.abs().amax(1)
        centred.append(torch.where(flat[:, None], torch.nan, values - values.mean(1, keepdim=True)))
    one, other = centred
    correlation: Tensor = (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
    return correlation


class MapCorrelation(nn.Module):
    """Images (N, 3, H, W) -> their ``map_correlation``, (N,)."""

    def __init__(self, network: SisNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        maps = scale_maps(self.network, x)
        return map_correlation(maps.first, maps.second)


def scales_seen(
    network: SisNet, preprocess: Preprocess, images: list[Image], losses: LossConfig
) -> ScalesSeen:
    """A report's data for images (H, W, 3) uint8 BGR; the losses' settings are not used."""
    with torch.inference_mode():
        maps = scale_maps(network, torch.from_numpy(preprocess.batch(images)))
        correlations = map_correlation(maps.first, maps.second)
    sizes = (preprocess.crop_height, preprocess.crop_width), network.settings.second_size
    first, second = (f"{height}x{width}" for height, width in sizes)
    return ScalesSeen(
        maps=(np.asarray(maps.first.float()), np.asarray(maps.second.float())),
        sizes=(first, second),
        classes=maps.classes.tolist(),
        agreement=correlations.tolist(),
    )
