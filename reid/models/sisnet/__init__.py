"""SiSNet with the DRC loss (Zhang et al., ICIP 2020)."""

from __future__ import annotations

from reid.models.description import CaffeFace, Look, Network
from reid.models.sisnet.settings import MIN_SIZE, SisNetSettings

SISNET = Network(
    settings=SisNetSettings,
    builder="reid.models.sisnet.network:SisNet",
    objective="reid.models.sisnet.objective:sisnet_losses",
    losses=("softmax", "triplet", "drc"),
    graphs="reid.models.sisnet.graphs:scale_graphs",
    min_size=MIN_SIZE,
    no_fixed_order="the gradient of bilinear interpolation",
    looks=(Look("scales", "activation maps", "reid.models.sisnet.activation_maps:scales_seen"),),
    scale_agreement="reid.models.sisnet.activation_maps:MapCorrelation",
    caffe_face=CaffeFace(),
    pretrained="reid.models.sisnet.network:pretrained_backbone",
)
