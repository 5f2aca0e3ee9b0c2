"""Names of exported files, with the graph's name if the network has several."""

from __future__ import annotations

from reid.model_file.manifest import Manifest

VECTOR_GRAPH = "embed"
"""The only graph of a vector network, left out of its files' names."""


PIXELS = "pixels"
"""In the names of graphs that include crop and normalisation."""

MIRROR = "mirror"
"""In the names of graphs that average the mirror image in."""


def graph_name(manifest: Manifest, graph: str) -> str:
    """How a graph's file names begin: ``msp_cnn``, ``csn.describe``, ``msp_cnn.mirror.pixels``."""
    words = [manifest.network]
    if graph != VECTOR_GRAPH:
        words.append(graph)
    if manifest.mirrored:
        words.append(MIRROR)
    if manifest.preprocess == manifest.preprocess.resize_only():
        words.append(PIXELS)
    return ".".join(words)


def onnx_file_name(manifest: Manifest, graph: str, precision: str) -> str:
    """``msp_cnn.fp16.onnx``, ``csn.describe.fp16.onnx``."""
    return f"{graph_name(manifest, graph)}.{precision}.onnx"
