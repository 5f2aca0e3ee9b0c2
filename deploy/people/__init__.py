"""Detecting people in frames: with a detector file, or by default with OpenCV's HOG.

``reid.deploy.people.detector.open_detector`` opens either. A detector file is an ONNX file in
YOLOX's format, or any other with a contract beside it (see ``contract.py``).
"""
