"""SiSNet: one network on two scales of the same image.

Zhang et al., "Scale-Invariant Siamese Network for Person Re-Identification" (poster), Figure 2:
two branches that share all weights, a ResNet each, and class activation maps (CAM; Zhou et
al., CVPR 2016) that the DRC loss compares. The poster gives no sizes and no layers beyond
that; what is chosen here is inferred, from the strong baseline of Luo et al. (CVPR Workshops
2019), whose figures are nearest to the poster's, and is a setting.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid.models.sisnet.resnet import ResNet

MIN_HEIGHT, MIN_WIDTH = 32, 16
"""The smallest image, of either scale: with a last stride of 1 its map is 2x1."""


class BranchOutput(NamedTuple):
    """What one branch sees in N images; C is 2048 for depth 50, else 512.

    maps:      (N, C, h, w), the backbone's last feature map
    features:  (N, C), its mean over the places: for the triplet loss
    neck:      (N, C), batch-normalised ``features``; the same without BNNeck
    logits:    (N, num_identities)
    """

    maps: Tensor
    features: Tensor
    neck: Tensor
    logits: Tensor


class SisNetOutput(NamedTuple):
    """What the training losses look at.

    branches:     the image as it comes, then its second scale; the first alone for the Baseline
    cam_weights:  (num_identities, C), see ``SisNet.cam_weights``
    """

    branches: tuple[BranchOutput, ...]
    cam_weights: Tensor


class SisNet(nn.Module):
    """The network of Figure 2; ``num_identities`` is the number of training identities.

    The second scale is made here, from the first: so flips, crops and erased rectangles are
    drawn once and lie at the same place in both, and an exported graph needs one input.

    All inferred:

    depth:          18, 34 or 50; the poster's tables say "ResNet"
    last_stride:    1 doubles the last map's sides
    second_size:    (height, width) of the second scale, bilinear
    two_scales:     off trains the first branch alone: the tables' "Baseline"
    bnneck:         batch normalisation, its shift fixed at 0, between features and classifier,
                    which then has no bias (Luo et al., section 3.5)
    embed_at:       "neck" or "features", where the embedding is taken
    fold_neck:      the neck's factor belongs to the weights of the CAM

    Raises ValueError for a setting that is none of these.
    """

    def __init__(
        self,
        num_identities: int,
        depth: int = 50,
        last_stride: int = 1,
        second_size: tuple[int, int] = (192, 96),
        two_scales: bool = True,
        bnneck: bool = True,
        embed_at: str = "neck",
        fold_neck: bool = True,
    ) -> None:
        super().__init__()
        if embed_at not in ("neck", "features"):
            raise ValueError(f"embed_at is 'neck' or 'features', not {embed_at!r}")
        problem = self.size_problem(*second_size)
        if problem:
            raise ValueError(f"second_size: {problem}")
        self.second_size = (second_size[0], second_size[1])
        self.two_scales = two_scales
        self.embed_at = embed_at
        self.fold_neck = fold_neck
        self.backbone = ResNet(depth, last_stride)
        self.embedding_dim = self.backbone.out_channels
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.neck = nn.BatchNorm1d(self.embedding_dim) if bnneck else None
        self.classifier = nn.Linear(self.embedding_dim, num_identities, bias=not bnneck)
        nn.init.normal_(self.classifier.weight, std=0.001)
        if self.neck is not None:
            self.neck.bias.requires_grad_(False)
        else:
            nn.init.zeros_(self.classifier.bias)

    def second_scale(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, *second_size), pixels taken as squares (no aligned corners)."""
        return F.interpolate(x, self.second_size, mode="bilinear", align_corners=False)

    def branch(self, x: Tensor) -> BranchOutput:
        """Images of any scale, (N, 3, H, W)."""
        maps = self.backbone(x)  # (N, 2048, 16, 8) for 256x128
        features = torch.flatten(self.global_pool(maps), 1)
        neck = features if self.neck is None else self.neck(features)
        return BranchOutput(maps, features, neck, self.classifier(neck))

    def embed(self, x: Tensor) -> Tensor:
        """The test stage of one branch: (N, 3, 256, 128) -> (N, C), not yet L2-normalised."""
        out: Tensor = torch.flatten(self.global_pool(self.backbone(x)), 1)
        if self.neck is not None and self.embed_at == "neck":
            out = self.neck(out)
        return out

    def cam_weights(self) -> Tensor:
        """(num_identities, C): the classifier's weights, detached, as the maps see them.

        With ``fold_neck`` each is multiplied by the neck's factor at test, gamma / sigma, so
        that the mean of an activation map is its logit but for a constant.
        """
        weights = self.classifier.weight.detach()
        if self.neck is None or not self.fold_neck:
            return weights
        state = self.neck.state_dict()  # detached
        factors: Tensor = state["weight"] / torch.sqrt(state["running_var"] + self.neck.eps)
        return weights * factors

    def forward(self, x: Tensor) -> SisNetOutput:
        """(N, 3, 256, 128) images of the first scale."""
        branches = [self.branch(x)]
        if self.two_scales:
            branches.append(self.branch(self.second_scale(x)))
        return SisNetOutput(tuple(branches), self.cam_weights())

    @staticmethod
    def size_problem(height: int, width: int) -> str:
        """Why the graph cannot take images of this size, or an empty string."""
        if height >= MIN_HEIGHT and width >= MIN_WIDTH:
            return ""
        return f"sisnet takes images of at least {MIN_HEIGHT}x{MIN_WIDTH}, found {height}x{width}"


def activation_maps(maps: Tensor, cam_weights: Tensor, classes: Tensor) -> Tensor:
    """Where each image speaks for its class: sum_k w[class, k] * maps[k], (N, h, w).

    CAM of Zhou et al. (CVPR 2016, Eq. 2), neither rectified nor scaled.

    Args:
        maps: (N, C, h, w); half precision is computed in float32.
        cam_weights: (M, C).
        classes: (N,) int64 in 0 .. M - 1: in training the true ones; identities that the
            network does not know have none, and the class of the largest logit stands in.
    """
    with torch.autocast(maps.device.type, enabled=False):
        maps = maps if maps.element_size() >= 4 else maps.float()
        return torch.einsum("nkhw,nk->nhw", maps, cam_weights.to(maps.dtype)[classes])
