"""What exported files are called: a network that has several graphs names which one."""

from __future__ import annotations

from reid.model_file.manifest import Manifest

VECTOR_GRAPH = "embed"
"""The only graph of a vector network, which its files need not name."""


PIXELS = "pixels"
"""In the names of graphs that crop and normalise by themselves."""


def graph_name(manifest: Manifest, graph: str) -> str:
    """``msp_cnn``, ``csn.describe``, ``msp_cnn.pixels``: what the graph's files begin with."""
    words = [manifest.network]
    if graph != VECTOR_GRAPH:
        words.append(graph)
    if manifest.preprocess == manifest.preprocess.resize_only():
        words.append(PIXELS)
    return ".".join(words)


def onnx_file_name(manifest: Manifest, graph: str, precision: str) -> str:
    """``msp_cnn.fp16.onnx``, ``csn.describe.fp16.onnx``."""
    return f"{graph_name(manifest, graph)}.{precision}.onnx"
