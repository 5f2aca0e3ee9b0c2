"""Optional packages, the extras that install them, and the error if one is missing."""

from __future__ import annotations

import importlib
import os
import sys
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
    "onnxconverter_common": ("cpu", "gpu"),
    "onnxruntime": ("cpu", "gpu", "edge"),
    "onnxscript": ("cpu", "gpu"),
    "openvino": ("openvino",),
    "pycuda": ("pycuda",),
    "pymilvus": ("milvus",),
    "safetensors": ("cpu", "gpu", "edge"),
    "tensorboardX": ("cpu", "gpu"),
    "tensorrt": ("gpu",),
    "torch": ("cpu", "gpu"),
}
"""Import name -> the extras that install it."""

DISTRIBUTIONS: Mapping[str, str] = {
    "faiss": "faiss-cpu",
    "google": "protobuf",
    "onnxconverter_common": "onnxconverter-common",
}
"""Import name -> package name, where the two differ."""


OTHER = "reid"
"""Another project's distribution, which also installs the import name ``reid``."""


def clash() -> str:
    """One line about the other distribution if it is installed beside this one; else empty.

    The folders are listed first because ``importlib.metadata`` is slow to import.
    """
    if not any(_holds_other(folder) for folder in sys.path):
        return ""
    metadata = importlib.import_module("importlib.metadata")
    try:
        version = metadata.distribution(OTHER).version
    except metadata.PackageNotFoundError:
        return ""
    return (
        f"another project's distribution {OTHER!r} ({version}) is installed beside reid-toolkit, "
        f"and both are imported as reid; uninstall both (pip uninstall {OTHER} reid-toolkit) and "
        "install reid-toolkit again"
    )


def _holds_other(folder: str) -> bool:
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return False
    return any(
        name.startswith(f"{OTHER}-") and name.endswith((".dist-info", ".egg-info"))
        for name in names
    )


def missing(package: str, what: str = "this", extra: str = "") -> MissingPackageError:
    """The error for an optional package that is missing: what needs it, how to install it.

    ``extra`` is the extra named in the install line; by default the package's first.
    """
    extras = EXTRAS.get(package, ("cpu",))
    chosen = extra or extras[0]
    return MissingPackageError(
        f"{what} needs {DISTRIBUTIONS.get(package, package)}, which is not installed; "
        f"it comes with {' or '.join(f'[{one}]' for one in extras)}: "
        f"pip install 'reid-toolkit[{chosen}]', or in a clone pip install -e '.[{chosen}]'"
    )


@contextmanager
def named_packages() -> Iterator[None]:
    """Turn the import error of an optional package into a MissingPackageError.

    It says how to install the package. Import errors of other packages pass through.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise missing(package) from error
