"""Finding each patch's best match on another map, and the gradient of the match's score.

The operator of X-Corr (Subramaniam et al., NIPS 2016, and its code): the normalised
cross-correlation (NCC) of two zero-padded patches, searched over a few rows and all columns.

The gradient of a maximum is the gradient of the element it selects. So the scores of the search
(140 candidates per location on MSP-CNN's Pool1) are computed a few maps at a time, reduced to the
best one and its position, and dropped. The gradient of the selected scores is then computed in
closed form, on maps instead of unfolded patches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Search(NamedTuple):
    """X-Corr's parameters of a score.

    ``patch``: side of the square patches; ``rows``: height of the search window (both
    odd); ``sigma_eps``: added to the standard deviation; ``outside_rows``: patches
    centred on rows outside the second map are candidates (they score 0 otherwise).
    """

    patch: int
    rows: int
    sigma_eps: float
    outside_rows: bool


class Patches(NamedTuple):
    """Every patch of M maps, on the grid of its centres: G x W of them.

    The grid of a first map is its H x W pixels; that of a second map has rows // 2 more
    rows above and below. Only ``centred`` is unfolded.

    padded:     (M, G + patch - 1, W + patch - 1) the map inside zeros
    mean:       (M, G, W)
    deviation:  (M, G, W) with n - 1; exactly 0 for a patch of equal values
    scale:      (M, G, W) 1 / (deviation + eps), or 0 where a match is excluded
    centred:    (M, patch^2, G, W) patch minus mean; times ``scale`` for a second map
    """

    padded: Tensor
    mean: Tensor
    deviation: Tensor
    scale: Tensor
    centred: Tensor


class BestMatch(NamedTuple):
    """The best match of every location of M first maps: (M, H, W) each.

    ``place`` is an index into the second map's flattened G x W grid of patches.
    """

    score: Tensor
    place: Tensor


def patch_workspace(maps: Tensor, num_maps: int, search: Search, side: int) -> Tensor:
    """Memory for ``Patches.centred``, allocated once: the first access costs more than its use."""
    height, width = maps.shape[2:]
    return maps.new_empty(num_maps, search.patch**2, height + 2 * side * (search.rows // 2), width)


def patches_of(maps: Tensor, search: Search, side: int, work: Tensor) -> Patches:
    """(P, C, H, W) -> the patches of its P * C maps; ``side`` is 1 for second maps."""
    height, width = maps.shape[2:]
    reach, extra = search.patch // 2, side * (search.rows // 2)
    rows = height + 2 * extra
    padded = F.pad(maps.flatten(0, 1), (reach, reach, reach + extra, reach + extra))
    centre = padded[:, reach : reach + rows, reach : reach + width]
    size = search.patch**2
    # Relative to the centre pixel, so that a constant patch has variance exactly 0, and
    # the subtraction below loses at most a factor of ``size`` of precision.
    sums, squares = torch.zeros_like(centre), torch.zeros_like(centre)
    for dy, dx in _offsets(search.patch):
        difference = padded[:, dy : dy + rows, dx : dx + width] - centre
        sums += difference
        squares.addcmul_(difference, difference)
    mean = centre + sums / size
    deviation = ((squares - sums * sums / size).clamp_(min=0) / (size - 1)).sqrt_()
    scale = 1.0 / (deviation + search.sigma_eps)
    if extra and not search.outside_rows:
        scale[:, :extra] = 0
        scale[:, -extra:] = 0
    windows = padded.unfold(1, search.patch, 1).unfold(2, search.patch, 1)
    centred = work[: mean.shape[0]].view(-1, search.patch, search.patch, rows, width)
    torch.sub(windows.permute(0, 3, 4, 1, 2), mean[:, None, None], out=centred)
    if side:
        centred *= scale[:, None, None]
    return Patches(padded, mean, deviation, scale, centred.flatten(1, 2))


def best_match(a: Patches, b: Patches, search_rows: int) -> BestMatch:
    """The largest score of every patch of ``a`` among its rows' candidates of ``b``.

    For one row of locations the candidates are ``search_rows`` whole rows of the grid, which
    lie side by side in memory: the bands of neighbouring rows overlap and are not copied.
    """
    num_maps, size, height, width = a.centred.shape
    grid_rows = b.centred.shape[2]
    candidates = search_rows * width
    scores, places = torch.empty_like(a.mean), torch.empty_like(a.mean, dtype=torch.int64)
    # On a CPU one map's scores stay in the cache between the product and the maximum.
    step = 1 if a.mean.device.type == "cpu" else num_maps
    for start in range(0, num_maps, step):
        part = b.centred[start : start + step]
        bands = part.as_strided(
            (part.shape[0], height, size, candidates),
            (size * grid_rows * width, width, grid_rows * width, 1),
        )
        rows = a.centred[start : start + step].transpose(1, 2)  # (step, H, size, W)
        score, place = _column_max(bands.transpose(2, 3) @ rows)
        scores[start : start + step], places[start : start + step] = score, place
    first_of_band = torch.arange(height, device=places.device)[:, None] * width
    return BestMatch(scores * a.scale / (size - 1), places + first_of_band)


def _column_max(scores: Tensor) -> tuple[Tensor, Tensor]:
    """(M, H, L, W) -> the maximum over L and its index, (M, H, W) each.

    On a CPU it is a pooling in channels-last memory, whose kernel is vectorised over W and faster
    than ``max``.
    """
    if scores.device.type != "cpu":
        value, index = scores.max(2)
        return value, index
    maps, height, length, width = scores.shape
    images = scores.reshape(maps * height, 1, length, width).permute(0, 3, 1, 2)
    value, index = F.max_pool2d(images, (1, length), return_indices=True)
    return value.reshape(maps, height, width), index.reshape(maps, height, width)


def score_gradients(
    a: Patches, b: Patches, best: BestMatch, kept: Tensor, search: Search
) -> tuple[Tensor, Tensor]:
    """d(sum of kept scores) / d(maps): (M, H, W) for the first maps, then for the second.

    With p a location, q its match, k an offset within the patch, and
    s = sum_k (a[p+k] - mean_a)(b[q+k] - mean_b) * scale_a * scale_b / (n - 1),

        ds / da[p+k] = pull * (b[q+k] - mean_b) - shrink_a * (a[p+k] - mean_a)
        ds / db[q+k] = pull * (a[p+k] - mean_a) - shrink_b * (b[q+k] - mean_b)

    where pull = scale_a * scale_b / (n - 1) and shrink = s * scale / (deviation * (n - 1)).
    Terms with only the pixel's own map are summed over the windows that cover the pixel; only the
    pixels of the other map are looked up, one offset at a time.
    """
    num_maps, height, width = best.score.shape
    size, patch = search.patch**2, search.patch
    place = best.place.flatten(1)
    scale_b, mean_b, deviation_b = (
        x.flatten(1).gather(1, place).view_as(best.score) for x in (b.scale, b.mean, b.deviation)
    )
    score = torch.where(kept, best.score, 0)
    pull = torch.where(kept, a.scale * scale_b / (size - 1), 0)
    shrink_a = _ratio(score * a.scale, a.deviation * (size - 1))
    shrink_b = _at_matches(_ratio(score * scale_b, deviation_b * (size - 1)), place, b.mean)
    constant_a = shrink_a * a.mean - pull * mean_b
    constant_b = shrink_b * b.mean - _at_matches(pull * a.mean, place, b.mean)

    grad_a = _spread(constant_a, patch) - a.padded * _spread(shrink_a, patch)
    grad_b = _spread(constant_b, patch) - b.padded * _spread(shrink_b, patch)
    padded_width = width + patch - 1
    corner = (place // width) * padded_width + place % width  # of q's patch, in b.padded
    flat_b, flat_grad_b = b.padded.flatten(1), grad_b.view(num_maps, -1)
    for dy, dx in _offsets(patch):
        offset = dy * padded_width + dx
        pixels_b = flat_b[:, offset:].gather(1, corner).view_as(pull)
        grad_a[:, dy : dy + height, dx : dx + width].addcmul_(pull, pixels_b)
        pixels_a = pull * a.padded[:, dy : dy + height, dx : dx + width]
        flat_grad_b[:, offset:].scatter_add_(1, corner, pixels_a.flatten(1))
    reach, extra = patch // 2, search.rows // 2
    inside_a = grad_a[:, reach:-reach, reach:-reach]
    inside_b = grad_b[:, reach + extra : reach + extra + height, reach:-reach]
    return inside_a.contiguous(), inside_b.contiguous()


def _offsets(patch: int) -> list[tuple[int, int]]:
    return [(dy, dx) for dy in range(patch) for dx in range(patch)]


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, 0 where the denominator is 0: a flat patch's deviation has no slope."""
    return torch.where(denominator > 0, numerator / denominator.clamp(min=1e-30), 0)


def _at_matches(values: Tensor, place: Tensor, grid: Tensor) -> Tensor:
    """Sum values of locations (M, H, W) over the patches they matched: (M, G, W)."""
    return torch.zeros_like(grid).flatten(1).scatter_add_(1, place, values.flatten(1)).view_as(grid)


def _spread(values: Tensor, patch: int) -> Tensor:
    """(M, G, W) values of patches -> their sums over the patches that cover each pixel.

    (M, G + patch - 1, W + patch - 1): the values, each laid over its patch's pixels.
    """
    reach = patch - 1
    rows = F.pad(values, (reach, reach, reach, reach)).unfold(1, patch, 1).sum(-1)
    return rows.unfold(2, patch, 1).sum(-1)
