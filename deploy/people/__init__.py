"""Finding people in frames: a detector file, or OpenCV's own HOG where there is none.

``reid.deploy.people.detector.open_detector`` opens either. A detector file is an ONNX of
YOLOX's form, or any other with a contract beside it (``contract.py`` says what stands in it).
"""
