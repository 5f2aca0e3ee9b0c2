"""Networks of other programs: an ONNX file gets the manifest that all commands need. No torch."""
