"""A Triton backend called `onnxruntime`, for a server that was built without one.

The server runs it by its Python backend.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        version = Path(args["model_repository"], args["model_version"])
        file = version / config["default_model_filename"]
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self.inputs, self.outputs = (
            [array["name"] for array in config[side]] for side in ("input", "output")
        )

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        given = {
            name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs
        }
        found = self.session.run(self.outputs, given)
        arrays = [np.asarray(array, np.float32) for array in found]
        tensors = [triton.Tensor(*pair) for pair in zip(self.outputs, arrays, strict=True)]
        return triton.InferenceResponse(tensors)
