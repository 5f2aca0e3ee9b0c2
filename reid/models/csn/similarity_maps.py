"""CSN's attended parts and similarity maps: the data of the paper's Figure 4.

Guo and Cheung, "Efficient and Deep Person Re-Identification using Multi-Level Similarity",
CVPR 2018. Points (x, y) are measured from the outer edge: pixel i of an image or a
map covers i to i + 1.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import torch
from torch import Tensor

from reid.losses.settings import LossConfig
from reid.model_file.preprocess import Preprocess
from reid.models.csn.correlation import correlate
from reid.models.csn.network import Csn, CsnDescription
from reid.models.csn.settings import DEFAULTS
from reid.models.csn.spatial_transformer import CentreCrop, SpatialTransformer, stripes
from reid.models.looks import PartsSeen
from reid.types import FloatArray, Image


def parts_seen(
    network: Csn, preprocess: Preprocess, images: list[Image], losses: LossConfig
) -> PartsSeen:
    """Attended parts of a query and gallery images, and maps of similarity to the query's parts.

    Images (H, W, 3) uint8 BGR, the query first; the losses' settings are not used.
    """
    with torch.inference_mode():
        described = network.describe(torch.from_numpy(preprocess.batch(images)))
        every = torch.arange(len(images))
        maps = similarity_maps(network, described.rows(every[:1]), described.rows(every[1:]))
        outlines = parts_in_image(network, described, preprocess)
    sides = [cast(int, attend.size) for attend in network.attend]

    def over(level: int, match: int, size: tuple[int, int]) -> FloatArray:
        return over_image(maps[level][match], sides[level], preprocess, size)

    return PartsSeen("CSN", network.settings.levels, outlines, maps, over)


def map_stride(image_height: int, map_height: int) -> int:
    """Rows of the network's input per row of a map; pooling rounds up."""
    stride = 1
    while image_height > map_height:
        image_height, stride = (image_height + 1) // 2, 2 * stride
    return stride


def part_corners(
    thetas: Tensor,
    map_size: tuple[int, int],
    part_size: int,
    align_corners: bool = DEFAULTS.align_corners,
) -> FloatArray:
    """Outer corners of attended parts on a map of (height, width).

    (N, S, 2, 3) transforms of S stripes -> (N, S, 4, 2) float32 points, clockwise from the
    upper left. They enclose the part's pixels, whose centres ``sample`` reads.
    """
    height, width = map_size
    rows = stripes(torch.arange(height).view(1, 1, height, 1), divide=thetas.shape[1] > 1)
    tops, stripe_height = rows[0, :, 0, 0, 0], rows.shape[3]
    # With aligned corners -1 and 1 are the outermost pixels' centres, half a step inside.
    end = part_size / max(1, part_size - 1) if align_corners else 1.0
    corners = torch.tensor([[-end, end, end, -end], [-end, -end, end, end], [1, 1, 1, 1]])
    points = (thetas.float().cpu() @ corners).mT  # (N, S, 4, 2), from -1 to 1 in the stripe
    size = torch.tensor([width, stripe_height], dtype=torch.float32)
    inside = (points + 1) / 2 * (size - 1) + 0.5 if align_corners else (points + 1) / 2 * size
    inside[..., 1] += tops[:, None]
    return np.asarray(inside, np.float32)


def parts_in_image(
    network: Csn, described: CsnDescription, preprocess: Preprocess
) -> list[FloatArray]:
    """Corners of attended parts per level (N, S, 4, 2), as shares of the whole image's size."""
    found = []
    for attend, maps, thetas in zip(network.attend, described.maps, described.thetas, strict=True):
        part = cast("SpatialTransformer | CentreCrop", attend)
        height, width = maps.shape[2:]
        corners = part_corners(thetas, (height, width), part.size, part.align_corners)
        seen = corners * map_stride(preprocess.crop_height, height)
        found.append(((seen + _crop_start(preprocess)) / _resized(preprocess)).astype(np.float32))
    return found


def similarity_maps(
    network: Csn, query: CsnDescription, gallery: CsnDescription
) -> list[FloatArray]:
    """Per level (N, H, W): one query's attended parts over the maps of N gallery images.

    The correlations of Eq. 2, their mean over channels and stripes (inferred). The paper shows
    the other direction, the test image's parts over the query's maps. This one is drawn over the
    gallery image, so that gallery images of one query can be compared.
    """
    num = gallery.maps[0].shape[0]
    found = []
    for maps, parts in zip(gallery.maps, query.parts, strict=True):
        similarity = correlate(
            maps,
            parts.expand(num, *parts.shape[1:]),
            network.settings.correlation_form,
            even_padding=network.settings.even_padding,
        )
        found.append(np.asarray(similarity.mean(1).float().cpu(), np.float32))
    return found


def over_image(
    similarity: FloatArray, part_size: int, preprocess: Preprocess, size: tuple[int, int]
) -> FloatArray:
    """A similarity map (H, W), resized to an image shown in (height, width) pixels.

    Each value is at the centre of the compared window. NaN outside the crop, which the network
    does not see.
    """
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    shown = np.stack([x, y], -1) / np.array([width, height], np.float32)
    seen = shown * _resized(preprocess) - _crop_start(preprocess)
    stride = map_stride(preprocess.crop_height, similarity.shape[0])
    # A window of even size has its centre between two pixels, half a pixel after its index.
    beyond = 0.5 if part_size % 2 == 0 else 0.0
    index = (seen / stride - 0.5 - beyond).astype(np.float32)
    laid = cv2.remap(
        similarity, index[..., 0], index[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    inside = (seen >= 0) & (seen < (preprocess.crop_width, preprocess.crop_height))
    return np.where(inside.all(-1), laid, np.float32(np.nan))


def _resized(preprocess: Preprocess) -> FloatArray:
    return np.array([preprocess.resize_width, preprocess.resize_height], np.float32)


def _crop_start(preprocess: Preprocess) -> FloatArray:
    """Left and top of the centre crop, rounded down as ``Preprocess.crop`` does."""
    left = (preprocess.resize_width - preprocess.crop_width) // 2
    top = (preprocess.resize_height - preprocess.crop_height) // 2
    return np.array([left, top], np.float32)
