"""Export a checkpoint to a prototxt and a caffemodel that stock Caffe loads."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from reid import __version__
from reid.caffe.files import write_net, write_weights
from reid.model_file.manifest import Manifest, write_manifest
from reid.model_file.opening import ModelFile
from reid.types import ArraySpec

from .face import face_of
from .graph import traced_layers, traced_outputs
from .head import head_lines
from .layers import net_from_layers
from .weights import layers_with_weights


@dataclass(frozen=True, slots=True)
class CaffeFiles:
    """The two files of an export. The manifest is stored beside the weights."""

    prototxt: Path
    caffemodel: Path
    manifest: Manifest


def caffe_from_checkpoint(run: Path | ModelFile, out: Path, bn_count: int = 1) -> CaffeFiles:
    """Write ``<network>.prototxt`` and ``<network>.caffemodel`` into ``out``.

    The prototxt is the test graph, from the image to the embedding before normalisation,
    in stock Caffe's layers; of CSN, the maps of each level. MSP-CNN's weights also contain the
    classifier, which Caffe ignores, so that nothing in the checkpoint is lost.

    ``bn_count`` is the weight of the trained statistics when training goes on in Caffe: with
    ``moving_average_fraction: 0.9`` a count of 10 updates them as PyTorch does. With 1 a file that
    is imported again has the same bits.

    Raises CheckpointError, OutputError, and BuildError if the network has no Caffe equivalent for
    this crop.
    """
    file = ModelFile.at(run)
    network, trained = file.network(), file.checkpoint.manifest
    face = face_of(trained.network)
    shape = trained.preprocess.input_shape
    tested = traced_layers(network, shape, face.graph)
    trains = traced_layers(network, shape, field=face.classifier) if face.classifier else ()
    names = {layer.name for layer in tested}
    stored = (*tested, *(layer for layer in trains if layer.weights and layer.name not in names))
    prototxt, caffemodel = (out / f"{trained.network}.{end}" for end in ("prototxt", "caffemodel"))
    outputs = traced_outputs(network, shape, face.graph)
    manifest = dataclasses.replace(
        trained.of_graph(
            face.graph,
            (ArraySpec(tested[0].tops[0], shape),),
            tuple(ArraySpec(*output) for output in outputs.items()),
        ),
        normalised=False,
        source_sha256=file.sha256,
        file_sha256="",
        toolkit_version=__version__,
        parity={},
    )
    net = net_from_layers(trained.network, tested)
    empty = net_from_layers(trained.network, stored)
    write_weights(
        caffemodel, empty, layers_with_weights(empty, stored, network.state_dict(), bn_count)
    )
    write_net(prototxt, net, head_lines(manifest, caffemodel.name, file.sha256))
    return CaffeFiles(prototxt, caffemodel, write_manifest(caffemodel, manifest))
