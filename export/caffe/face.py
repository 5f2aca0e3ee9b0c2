"""How Caffe's files name the parts of a network, for each network with a Caffe export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reid.config.networks import MspCnnConfig
from reid.errors import BuildError, nearest
from reid.model_file.preprocess import Preprocess


@dataclass(frozen=True, slots=True)
class CaffeFace:
    """A network's names in its prototxt. Layer names follow from its module names."""

    network: str
    """Its name in ``reid.models`` and in the manifest."""
    config: type[MspCnnConfig]
    """Its settings, of which a prototxt determines ``embed_at``."""
    embeddings: Mapping[str, str]
    """``embed_at`` -> the blob with the embedding. The first one is the default for a prototxt
    that does not specify it."""
    classifier: str
    """The last layer in training, and the field with its output in the result of ``forward``.
    The embedding does not depend on it, so a file may lack it."""
    preprocess: Preprocess
    """The paper's preprocessing, the default for a prototxt that does not specify it."""


MSP_CNN = CaffeFace(
    network="msp_cnn",
    config=MspCnnConfig,
    embeddings={"bn": "fc7_bn", "relu": "fc7_relu"},
    classifier="fc8",
    preprocess=Preprocess(),
)

FACES = {face.network: face for face in (MSP_CNN,)}


def face_of(network: str) -> CaffeFace:
    """A network's Caffe names. Raises BuildError if it has no Caffe equivalent."""
    face = FACES.get(network)
    if face is None:
        raise BuildError(
            f"network {network!r}{nearest(network, FACES)} has no Caffe equivalent; networks "
            f"that have one: {', '.join(FACES)}"
        )
    return face
