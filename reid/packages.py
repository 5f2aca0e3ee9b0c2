"""Packages that come with an extra, and what to say where one is not installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from reid.errors import MissingPackageError

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "cv2": ("cpu", "gpu", "edge"),
    "faiss": ("cpu", "gpu", "edge"),
    "google": ("cpu", "gpu"),
    "h5py": ("cpu", "gpu"),
    "matplotlib": ("cpu", "gpu"),
    "onnx": ("cpu", "gpu"),
    "onnxruntime": ("cpu", "gpu", "edge"),
    "onnxscript": ("cpu", "gpu"),
    "pycuda": ("gpu",),
    "pymilvus": ("milvus",),
    "safetensors": ("cpu", "gpu", "edge"),
    "tensorboardX": ("cpu", "gpu"),
    "tensorrt": ("gpu",),
    "torch": ("cpu", "gpu"),
}
"""Importable name -> the extras that install it."""

DISTRIBUTIONS: Mapping[str, str] = {"faiss": "faiss-cpu", "google": "protobuf"}
"""Importable name -> the package's, where no one would guess it."""


@contextmanager
def named_packages() -> Iterator[None]:
    """Turn the import error of an extra's package into a MissingPackageError that says how to
    install it; errors of other packages pass."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        extras = EXTRAS[package]
        raise MissingPackageError(
            f"this needs {DISTRIBUTIONS.get(package, package)}, which is not installed; "
            f"it comes with {' or '.join(f'[{extra}]' for extra in extras)}: "
            f"pip install 'reid-toolkit[{extras[0]}]', "
            f"or in a clone pip install -e '.[{extras[0]}]'"
        ) from error
