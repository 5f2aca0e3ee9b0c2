"""SiSNet: one network on two scales of the same image.

Zhang et al., "Scale-Invariant Siamese Network for Person Re-Identification" (poster), Figure 2:
two branches that share all weights, a ResNet each, and class activation maps (CAM; Zhou et
al., CVPR 2016) that the DRC loss compares. The poster gives no sizes and no other
layers; they are settings, inferred from the strong baseline of Luo et al. (CVPR Workshops 2019),
whose results are nearest to the poster's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid.models.description import Backbone
from reid.models.sisnet.resnet import ResNet
from reid.models.sisnet.settings import DEFAULTS, SisNetSettings


class BranchOutput(NamedTuple):
    """One branch's output for N images; C is 2048 for depth 50, else 512.

    maps:      (N, C, h, w), the backbone's last feature map
    features:  (N, C), its mean over positions: for the triplet loss
    neck:      (N, C), batch-normalised ``features``; the same without BNNeck
    logits:    (N, num_identities)
    """

    maps: Tensor
    features: Tensor
    neck: Tensor
    logits: Tensor


class SisNetOutput(NamedTuple):
    """The input of the training losses.

    branches:     the image unchanged, then its second scale; only the first for the Baseline
    cam_weights:  (num_identities, C), see ``SisNet.cam_weights``
    """

    branches: tuple[BranchOutput, ...]
    cam_weights: Tensor


class SisNet(nn.Module):
    """The network of Figure 2; ``num_identities`` is the number of training identities.

    The second scale is made from the first inside the network, so flips, crops and erased
    rectangles are at the same position in both, and an exported graph needs one input.
    """

    def __init__(self, num_identities: int, settings: SisNetSettings = DEFAULTS) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = ResNet(settings.depth, settings.last_stride)
        self.embedding_dim = self.backbone.out_channels
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.neck = nn.BatchNorm1d(self.embedding_dim) if settings.bnneck else None
        self.classifier = nn.Linear(self.embedding_dim, num_identities, bias=not settings.bnneck)
        nn.init.normal_(self.classifier.weight, std=0.001)
        if self.neck is not None:
            self.neck.bias.requires_grad_(False)
        else:
            nn.init.zeros_(self.classifier.bias)

    def second_scale(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, *second_size), without aligned corners."""
        return F.interpolate(x, self.settings.second_size, mode="bilinear", align_corners=False)

    def branch(self, x: Tensor) -> BranchOutput:
        """Images of any scale, (N, 3, H, W)."""
        maps = self.backbone(x)  # (N, 2048, 16, 8) for 256x128
        features = torch.flatten(self.global_pool(maps), 1)
        neck = features if self.neck is None else self.neck(features)
        return BranchOutput(maps, features, neck, self.classifier(neck))

    def embed(self, x: Tensor) -> Tensor:
        """One branch at test: (N, 3, 256, 128) -> (N, C), not yet L2-normalised."""
        out: Tensor = torch.flatten(self.global_pool(self.backbone(x)), 1)
        if self.neck is not None and self.settings.embed_at == "neck":
            out = self.neck(out)
        return out

    def cam_weights(self) -> Tensor:
        """(num_identities, C): the classifier's weights for activation maps, detached.

        With ``fold_neck`` each is multiplied by the neck's factor at test, gamma / sigma, so
        that the mean of an activation map is its logit up to a constant.
        """
        weights = self.classifier.weight.detach()
        if self.neck is None or not self.settings.fold_neck:
            return weights
        state = self.neck.state_dict()  # detached
        factors: Tensor = state["weight"] / torch.sqrt(state["running_var"] + self.neck.eps)
        return weights * factors

    def forward(self, x: Tensor) -> SisNetOutput:
        """(N, 3, 256, 128) images of the first scale."""
        branches = [self.branch(x)]
        if self.settings.two_scales:
            branches.append(self.branch(self.second_scale(x)))
        return SisNetOutput(tuple(branches), self.cam_weights())


def pretrained_backbone(network: SisNet, settings: SisNetSettings) -> Backbone:
    """The ResNet, and its weights file from ``settings``."""
    return Backbone(network.backbone, settings.pretrained, how_to_obtain(settings.depth))


def how_to_obtain(depth: int) -> str:
    """The message for a run without pretrained weights."""
    return (
        f"no pretrained weights: ResNet-{depth} starts from random weights and will not reach the "
        "published results; nothing is downloaded here, so save a file once, with torchvision "
        f'installed: python -c "import torch, torchvision; torch.save(torchvision.models.resnet'
        f"{depth}(weights='IMAGENET1K_V1').state_dict(), 'resnet{depth}.pth')\", and set it with "
        f"--set network.pretrained=resnet{depth}.pth"
    )
