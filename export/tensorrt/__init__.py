"""TensorRT engines from exported ONNX files."""
