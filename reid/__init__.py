"""Person re-identification: learn an embedding, measure it, run it; export and deploy beside it.

``reid`` learns, evaluates and runs one array; ``reid.export`` turns a checkpoint into a
proven file; ``reid.deploy`` runs that file at the camera. Importing any of the three
packages loads no torch, ONNX, TensorRT or OpenCV: their modules do, when asked for.
"""

from __future__ import annotations

__version__ = "0.1.0"
"""The toolkit's version; the distribution's metadata is read from here."""

__all__ = ["__version__"]
