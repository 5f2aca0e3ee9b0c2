"""From checkpoint to proven file: graphs, ONNX, FP16, TensorRT engines, parity.

Imports ``reid`` and never ``reid.deploy``; the two meet through a model file and its manifest.
"""
