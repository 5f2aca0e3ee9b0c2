"""The data of MSP-CNN's pictures: feature maps from low to high level, and matching patches.

Shen et al., "Person re-identification by multi-level similarity perception", ACM MM 2017,
section 2 with Figure 4: maps of Conv1, Conv2, Pool1 and Inception 1a; sections 2.1 and 2.2: for
each patch of the first image's Pool1, the patch of the second's with the largest response.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from reid.losses.patch_matching import Search, best_match, patch_workspace, patches_of
from reid.losses.settings import LossConfig
from reid.model_file.preprocess import Preprocess
from reid.models.looks import MATCHES_SHOWN, FeatureMaps, PatchMatch, PatchMatches
from reid.models.msp_cnn.network import MspCnn
from reid.types import FloatArray, Image

LAYERS: Mapping[str, str] = {
    "conv1": "Conv1",
    "conv2": "Conv2",
    "pool1": "Pool1",
    "inception_1a": "Inception 1a",
}
"""The network's modules of Figure 4 -> the paper's names."""


def feature_maps(
    network: MspCnn, preprocess: Preprocess, images: list[Image], losses: LossConfig
) -> FeatureMaps:
    """The maps of ``LAYERS`` for images (H, W, 3) uint8 BGR."""
    found = layer_maps(network, torch.from_numpy(preprocess.batch(images)), list(LAYERS))
    return {LAYERS[layer]: maps for layer, maps in found.items()}


def patch_matches(
    network: MspCnn, preprocess: Preprocess, images: list[Image], losses: LossConfig
) -> PatchMatches:
    """The first image's strongest matches on Pool1 with each other image, as in the loss."""
    search = Search(
        losses.correlation_patch,
        losses.correlation_rows,
        losses.correlation_sigma_eps,
        losses.correlation_outside_rows,
    )
    with torch.inference_mode():
        first, *others = network.low_level(torch.from_numpy(preprocess.batch(images)))
        pairs = [strongest_matches(first, other, search, MATCHES_SHOWN) for other in others]
    return PatchMatches(search.patch, (first.shape[1], first.shape[2]), pairs)


def layer_maps(network: nn.Module, images: Tensor, layers: Sequence[str]) -> dict[str, FloatArray]:
    """The named modules' outputs for images (N, 3, H, W): (N, C, h, w) each.

    Hooks record them while the whole network runs as at test.
    """
    kept: dict[str, FloatArray] = {}

    def listen(name: str) -> torch.utils.hooks.RemovableHandle:
        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            kept[name] = output.float().numpy().copy()  # the next layer may work in place

        return network.get_submodule(name).register_forward_hook(keep)

    handles = [listen(name) for name in layers]
    try:
        with torch.inference_mode():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return kept


def strongest_matches(
    first: Tensor, second: Tensor, search: Search, number: int
) -> list[PatchMatch]:
    """The best-matching patches of two images' maps, (C, H, W) each, strongest first.

    Each position and channel of ``first`` has one match; dead patches are left out, as in the loss.
    Also left out [inferred]: patches that cover padding, because they match the map's edge, and
    patches that overlap a stronger one of any channel.
    """
    first, second = first[None].float(), second[None].float()
    channels, height, width = first.shape[1:]
    a, b = (
        patches_of(maps, search, side, patch_workspace(maps, channels, search, side))
        for side, maps in enumerate((first, second))
    )
    best = best_match(a, b, search.rows)
    other_y, other_x = best.place // width - search.rows // 2, best.place % width
    reach = search.patch // 2
    inside = torch.zeros_like(best.score, dtype=torch.bool)
    inside[:, reach : height - reach, reach : width - reach] = True
    for places, size in ((other_y, height), (other_x, width)):
        inside &= (places >= reach) & (places < size - reach)
    alive = (inside & (a.deviation > 0)).flatten().nonzero()[:, 0]
    order = alive[best.score.flatten()[alive].argsort(descending=True, stable=True)]
    found: list[PatchMatch] = []
    for index in order.tolist():
        channel, place = divmod(index, height * width)
        y, x = divmod(place, width)
        if all(max(abs(y - one.y), abs(x - one.x)) >= search.patch for one in found):
            to = int(other_y[channel, y, x]), int(other_x[channel, y, x])
            found.append(PatchMatch(channel, float(best.score[channel, y, x]), y, x, *to))
        if len(found) == number:
            break
    return found
