"""What Caffe's files call the parts of a network: one face for each network that has one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reid.config.networks import MspCnnConfig
from reid.errors import BuildError, nearest
from reid.model_file.preprocess import Preprocess


@dataclass(frozen=True, slots=True)
class CaffeFace:
    """A network as its prototxt names it. Names of layers are those of its modules."""

    network: str
    """Its name in ``reid.models`` and in the manifest."""
    config: type[MspCnnConfig]
    """Its settings, of which a prototxt says ``embed_at``."""
    embeddings: Mapping[str, str]
    """``embed_at`` -> the blob that is then the embedding. The first is
    meant by a prototxt that does not say."""
    classifier: str
    """The last layer of training, and the field of ``forward``'s result that holds its output.
    It has no part in the embedding, so a file may come without it."""
    preprocess: Preprocess
    """The paper's: meant by a prototxt that does not say."""


MSP_CNN = CaffeFace(
    network="msp_cnn",
    config=MspCnnConfig,
    embeddings={"bn": "fc7_bn", "relu": "fc7_relu"},
    classifier="fc8",
    preprocess=Preprocess(),
)

FACES = {face.network: face for face in (MSP_CNN,)}


def face_of(network: str) -> CaffeFace:
    """The face of a network by its name. Raises BuildError for one that has none."""
    face = FACES.get(network)
    if face is None:
        raise BuildError(
            f"the network {network!r}{nearest(network, FACES)} cannot be said in Caffe's layers; "
            f"those that can: {', '.join(FACES)}"
        )
    return face
