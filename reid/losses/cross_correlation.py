"""The normalised cross-correlation loss on Pool1: the low level of MSP-CNN's similarity.

Shen et al., ACM MM 2017, sections 2.1 and 2.2: for each local patch of the first map, take the
patch of the second map with the largest response; raise that score for positive pairs and
lower it for negative ones. The paper gives no formula. The operator is that of X-Corr
(Subramaniam et al., NIPS 2016, and its code), which the paper builds on; the loss over
its scores is inferred.

The search and its gradient are in ``patch_matching``; here pairs are processed a few at a time
and only the gradient on the maps is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from reid.losses.patch_matching import (
    Search,
    best_match,
    patch_workspace,
    patches_of,
    score_gradients,
)
from reid.losses.settings import DEFAULTS

CHUNK_PAIRS_CPU = 1
"""Pairs at a time on a CPU: least memory; more are not faster."""

CHUNK_PAIRS_FIXED = 8
"""Pairs at a time on other devices whose free memory is unknown, or must not decide: sums in
another order differ in their last bits, and ``run.deterministic`` forbids that."""

FREE_SHARE = 0.5
"""On CUDA as many pairs at a time as this share of the free memory holds: each chunk launches the
same kernels, whatever its size."""

_MOST_ELEMENTS = 2**31 - 1  # of one array: more need slower 64-bit indices
_SMALL_ARRAYS = 30  # arrays of a map's size, beside the patches and scores


def cross_correlation_loss(
    pool1: Tensor,
    pair_first: Tensor,
    pair_second: Tensor,
    pair_same: Tensor,
    *,
    patch: int = DEFAULTS.correlation_patch,
    rows: int = DEFAULTS.correlation_rows,
    sigma_eps: float = DEFAULTS.correlation_sigma_eps,
    positive_threshold: float = DEFAULTS.correlation_positive_threshold,
    negative_threshold: float = DEFAULTS.correlation_negative_threshold,
    positives_only: bool = DEFAULTS.correlation_positives_only,
    symmetric: bool = DEFAULTS.correlation_symmetric,
    outside_rows: bool = DEFAULTS.correlation_outside_rows,
    chunk_pairs: int | None = None,
) -> Tensor:
    """Pull the best-matching patches of a positive pair together, push a negative's apart.

    A location's score R is the largest NCC of its zero-padded patch with the patches of
    the other map in the same channel, over rows y - rows // 2 .. y + rows // 2 and all
    columns, where NCC = sum(a * b) / (patch^2 - 1) of patches standardised by their mean
    and (deviation of n - 1) + ``sigma_eps`` [X-Corr]. Then [inferred]:

    - positive pairs keep R >= ``positive_threshold`` (below is noise): mean(1 - R);
    - negative pairs keep 0 < R <= ``negative_threshold`` (above is a pattern that people
      share, such as black hair, which the paper ignores): mean(R);
    - the loss is the sum of the two means over the kept scores, each 0 if none is kept.

    A dead patch of the first map (all its values equal, common after a ReLU) has no
    information and counts in neither mean.

    Args:
        pool1: (N, C, H, W); half precision is computed in float32.
        pair_first, pair_second: (P,) indices into ``pool1``.
        pair_same: (P,) bool, True for a positive pair.
        positives_only: leave negative pairs out completely, the other reading of "we will
            ignore such situations".
        symmetric: also search the first map for the second's patches; X-Corr does not.
        outside_rows: patches centred on rows outside the map are candidates too; their
            windows still cover some of its rows, as in X-Corr's code. Off, a row outside
            the map scores 0.
        chunk_pairs: pairs computed at a time; bounds the memory, not the result.

    Returns a scalar, float64 for float64 maps and else float32. First derivatives only.
    Raises ValueError for an even ``patch`` or ``rows``, or maps that are not 4-D.
    """
    if pool1.dim() != 4:
        raise ValueError(f"pool1 must be (N, C, H, W), found shape {tuple(pool1.shape)}")
    for name, size, least in (("patch", patch, 3), ("rows", rows, 1)):
        if size < least or size % 2 == 0:
            raise ValueError(f"{name} must be odd and at least {least}, found {size}")
    if chunk_pairs is None:
        chunk_pairs = pairs_at_a_time(pool1, Search(patch, rows, sigma_eps, outside_rows))
    if chunk_pairs < 1:
        raise ValueError(f"chunk_pairs must be at least 1, found {chunk_pairs}")
    if symmetric:
        pair_first, pair_second, pair_same = (
            torch.cat([pair_first, pair_second]),
            torch.cat([pair_second, pair_first]),
            torch.cat([pair_same, pair_same]),
        )
    search = Search(patch, rows, sigma_eps, outside_rows)
    if positives_only:  # a GPU is waited for here once, which is quicker than the negatives
        pair_first, pair_second = pair_first[pair_same], pair_second[pair_same]
        pair_same = torch.ones_like(pair_first, dtype=torch.bool)

    def keep(score: Tensor, same: Tensor) -> Tensor:
        pattern = (score > 0) & (score <= negative_threshold)
        return torch.where(same, score >= positive_threshold, pattern)

    with torch.autocast(pool1.device.type, enabled=False):
        maps = pool1 if pool1.dtype == torch.float64 else pool1.float()
        means, numbers = _kept_means(
            maps, pair_first, pair_second, pair_same, keep, search, chunk_pairs
        )
        pushed, pulled = means.unbind()
        # mean(1 - R) over the kept scores is 1 - mean(R), but 0 instead of 1 if none is kept.
        return (numbers[1] > 0).to(pulled.dtype) - pulled + pushed


def pairs_at_a_time(maps: Tensor, search: Search) -> int:
    """How many pairs of (N, C, H, W) maps to compute at once on their device."""
    if maps.device.type == "cpu":
        return CHUNK_PAIRS_CPU
    if maps.device.type != "cuda" or torch.are_deterministic_algorithms_enabled():
        return CHUNK_PAIRS_FIXED
    # The caching allocator's spare memory is free too, though the driver counts it as taken.
    spare = torch.cuda.memory_reserved(maps.device) - torch.cuda.memory_allocated(maps.device)
    free_bytes = torch.cuda.mem_get_info(maps.device)[0] + spare
    return pairs_that_fit(maps.shape, search, free_bytes // max(4, maps.element_size()))


def pairs_that_fit(shape: Sequence[int], search: Search, free_elements: int) -> int:
    """How many pairs of (N, C, H, W) maps ``FREE_SHARE`` of so much memory holds; at least 1.

    Per location: two patches, the rows of candidates that the product copies, and their scores.
    """
    _, channels, height, width = shape
    size, rows = search.patch**2, search.rows
    largest = channels * height * width * rows * max(size, width)
    patches = channels * width * size * (2 * height + rows)
    elements = patches + channels * height * width * (rows * (size + width) + _SMALL_ARRAYS)
    fitting = int(FREE_SHARE * free_elements / elements)
    return max(1, min(fitting, _MOST_ELEMENTS // largest))


Keep = Callable[[Tensor, Tensor], Tensor]
"""Scores (M, H, W) and whether their pairs are positive, (M, 1, 1) -> which scores count."""


def _kept_means(
    maps: Tensor,
    first: Tensor,
    second: Tensor,
    same: Tensor,
    keep: Keep,
    search: Search,
    chunk_pairs: int,
) -> tuple[Tensor, Tensor]:
    """The mean score over the locations chosen by ``keep`` (0 if none), and their number.

    Both are (2,): of the negative pairs, then of the positive ones. A GPU is never waited for: that
    is why both kinds go through the same operations.
    """
    means, numbers = _KeptMeans.apply(  # type: ignore[no-untyped-call]
        maps, first, second, same, keep, search, chunk_pairs
    )
    return means, numbers


class _KeptMeans(torch.autograd.Function):
    """Scores the pairs chunk by chunk, each with its gradient while the patches exist.

    So backward only scales the gradients, and no chunk's intermediates are kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        first: Tensor,
        second: Tensor,
        same: Tensor,
        keep: Keep,
        search: Search,
        chunk_pairs: int,
    ) -> tuple[Tensor, Tensor]:
        num_images, channels = maps.shape[:2]
        totals = maps.new_zeros(2, dtype=torch.float64)
        numbers = torch.zeros(2, dtype=torch.int64, device=maps.device)
        gradients = maps.new_zeros(
            2 * num_images if ctx.needs_input_grad[0] else 0, *maps.shape[1:]
        )
        most = min(chunk_pairs, first.numel()) * channels
        work_a, work_b = (
            patch_workspace(maps, most, search, 0),
            patch_workspace(maps, most, search, 1),
        )
        for start in range(0, first.numel(), chunk_pairs):
            a, b = first[start : start + chunk_pairs], second[start : start + chunk_pairs]
            kind = same[start : start + chunk_pairs].long()
            patches_a = patches_of(maps[a], search, 0, work_a)
            patches_b = patches_of(maps[b], search, 1, work_b)
            best = best_match(patches_a, patches_b, search.rows)
            positive = same[start : start + chunk_pairs].repeat_interleave(channels)[:, None, None]
            kept = keep(best.score, positive) & (patches_a.deviation > 0)
            scores = torch.where(kept, best.score, 0).view(len(a), -1)
            totals.index_add_(0, kind, scores.sum(1, dtype=torch.float64))
            numbers.index_add_(0, kind, kept.view(len(a), -1).sum(1))
            if ctx.needs_input_grad[0]:
                grad_a, grad_b = score_gradients(patches_a, patches_b, best, kept, search)
                for images, gradient in ((a, grad_a), (b, grad_b)):
                    rows = gradient.view(-1, *maps.shape[1:])
                    gradients.index_add_(0, images + num_images * kind, rows)
        scale = 1.0 / numbers.clamp(min=1).double()
        if ctx.needs_input_grad[0]:
            of_each = scale.to(maps.dtype).view(2, 1, 1, 1, 1)
            gradients = gradients.view(2, *maps.shape).mul_(of_each)
        ctx.save_for_backward(gradients)
        ctx.mark_non_differentiable(numbers)
        return (totals * scale).to(maps.dtype), numbers

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradients,) = ctx.saved_tensors
        negative, positive = grad_outputs[0].unbind()
        gradient = negative * gradients[0] + positive * gradients[1]
        return gradient, None, None, None, None, None, None
