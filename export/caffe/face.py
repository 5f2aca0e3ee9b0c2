"""How Caffe's files name the parts of a network, for each network with a Caffe export."""

from __future__ import annotations

from reid.errors import BuildError, nearest
from reid.models import NETWORKS
from reid.models.description import CaffeFace


def face_of(network: str) -> CaffeFace:
    """What Caffe's files call a network's parts. Raises BuildError for one that has no face."""
    faces = _faces()
    if network not in faces:
        raise BuildError(
            f"the network {network!r}{nearest(network, faces)} has no Caffe equivalent; "
            f"those that have: {', '.join(faces)}"
        )
    return faces[network]


def readable_face_of(network: str) -> CaffeFace:
    """The same, for a network whose files are read too. Raises BuildError."""
    face = face_of(network)
    if not face.classifier:
        readable = ", ".join(name for name, one in _faces().items() if one.classifier)
        raise BuildError(
            f"Caffe files of {network!r} are written, not read; those of {readable} are read too"
        )
    return face


def unnamed_network() -> str:
    """The network of a prototxt that names none."""
    return next(name for name, face in _faces().items() if face.classifier)


def _faces() -> dict[str, CaffeFace]:
    return {name: one.caffe_face for name, one in NETWORKS.items() if one.caffe_face is not None}
