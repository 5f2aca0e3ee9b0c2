"""CSN (Guo and Cheung, CVPR 2018)."""

from __future__ import annotations

from reid.models.csn.settings import MIN_SIZE, CsnSettings
from reid.models.description import CaffeFace, Look, Network

CSN = Network(
    settings=CsnSettings,
    builder="reid.models.csn.network:build",
    objective="reid.models.csn.objective:csn_losses",
    losses=("classification", "contrastive", "transform_prior", "softmax"),
    graphs="reid.models.csn.graphs:pair_graphs",
    min_size=MIN_SIZE,
    no_fixed_order="the gradient of grid_sample",
    caffe_face=CaffeFace(
        graph="maps", left_out="the spatial transformers and the comparison of two images"
    ),
    looks=(
        Look(
            "parts",
            "attended parts and similarity maps",
            "reid.models.csn.similarity_maps:parts_seen",
        ),
    ),
)
