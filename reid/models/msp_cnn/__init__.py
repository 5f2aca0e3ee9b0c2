"""MSP-CNN (Shen et al., ACM MM 2017)."""

from __future__ import annotations

from reid.model_file.preprocess import Preprocess
from reid.models.description import CaffeFace, Look, Network
from reid.models.msp_cnn.settings import MIN_SIZE, MspCnnSettings

MSP_CNN = Network(
    settings=MspCnnSettings,
    builder="reid.models.msp_cnn.network:MspCnn",
    objective="reid.models.msp_cnn.objective:msp_cnn_losses",
    losses=("softmax", "euclidean", "cross_correlation"),
    min_size=MIN_SIZE,
    looks=(
        Look("feature_maps", "feature maps", "reid.models.msp_cnn.looks:feature_maps"),
        Look("patch_matches", "matched patches", "reid.models.msp_cnn.looks:patch_matches"),
    ),
    caffe_face=CaffeFace(
        embeddings={"bn": "fc7_bn", "relu": "fc7_relu"},
        classifier="fc8",
        preprocess=Preprocess(),
    ),
)
