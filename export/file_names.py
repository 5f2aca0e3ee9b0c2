"""What exported files are called: a network that has several graphs names which one."""

from __future__ import annotations

VECTOR_STAGE = "embed"
"""The only graph of a vector network, which its files need not name."""


def graph_name(network: str, stage: str) -> str:
    """``msp_cnn`` or ``csn.describe``: what every file of the graph begins with."""
    return network if stage == VECTOR_STAGE else f"{network}.{stage}"


def onnx_file_name(network: str, stage: str, precision: str) -> str:
    """``msp_cnn.fp16.onnx``, ``csn.describe.fp16.onnx``."""
    return f"{graph_name(network, stage)}.{precision}.onnx"
