"""Person re-identification: train a network, measure it, run it, export it, deploy it.

    import reid

    with reid.load("runs/market") as model:
        features = model.embed(["a.jpg", "b.jpg"])
        distances = model.distances(["query.jpg"], features)

Everything listed in ``reid.__all__`` is public. Images are BGR as OpenCV reads them, figures are
shares of 1, distances are smaller for images that are more alike. Whatever goes wrong is a
``ReidError`` (the tree is in ``reid.errors``). Nothing is loaded before it is used: this import
brings no torch, ONNX, TensorRT or OpenCV, and an exported file runs without torch.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from reid import errors
from reid.errors import (
    BuildError,
    CaffeError,
    CheckpointError,
    ClosedError,
    ConfigError,
    DataError,
    EngineMismatchError,
    InputError,
    ManifestError,
    MissingPackageError,
    ModelFileError,
    OutputError,
    ParityError,
    ReidError,
    TrainingError,
    UnavailableError,
)
from reid.packages import clash, named_packages

if TYPE_CHECKING:
    from reid.api.features import Features as Features
    from reid.api.listing import datasets as datasets
    from reid.api.listing import recipes as recipes
    from reid.api.model import Model as Model
    from reid.api.model import load as load
    from reid.api.reproducing import reproduce as reproduce
    from reid.api.scoring import score as score
    from reid.api.training import Run as Run
    from reid.api.training import train as train
    from reid.deploy.api.gallery import Gallery as Gallery
    from reid.deploy.api.tracking import Tracker as Tracker
    from reid.export.adopting.writing import adopt as adopt
    from reid.export.api import prove as prove
    from reid.export.building import build as build

__version__ = "0.1.0"
"""The toolkit's version; the distribution's metadata is read from here."""

_LAZY: Mapping[str, str] = {
    "Features": "reid.api.features:Features",
    "Gallery": "reid.deploy.api.gallery:Gallery",
    "Model": "reid.api.model:Model",
    "Run": "reid.api.training:Run",
    "Tracker": "reid.deploy.api.tracking:Tracker",
    "adopt": "reid.export.adopting.writing:adopt",
    "build": "reid.export.building:build",
    "datasets": "reid.api.listing:datasets",
    "load": "reid.api.model:load",
    "prove": "reid.export.api:prove",
    "recipes": "reid.api.listing:recipes",
    "reproduce": "reid.api.reproducing:reproduce",
    "score": "reid.api.scoring:score",
    "train": "reid.api.training:train",
}
"""Public name -> where it is (``module:attribute``)."""

UPPER: Mapping[str, str] = {
    "bench_model": "reid.deploy.api.timing:bench_model",
    "export_model": "reid.export.api:export_model",
    "prove": "reid.export.api:prove",
}
"""What the ground floor asks of an upper one, by ``loaded``; nothing else may name it there."""

__all__ = [
    "BuildError",
    "CaffeError",
    "CheckpointError",
    "ClosedError",
    "ConfigError",
    "DataError",
    "EngineMismatchError",
    "Features",
    "Gallery",
    "InputError",
    "ManifestError",
    "MissingPackageError",
    "Model",
    "ModelFileError",
    "OutputError",
    "ParityError",
    "ReidError",
    "Run",
    "Tracker",
    "TrainingError",
    "UnavailableError",
    "__version__",
    "adopt",
    "build",
    "datasets",
    "errors",
    "load",
    "prove",
    "recipes",
    "reproduce",
    "score",
    "train",
]


def loaded(target: str) -> object:
    """What an import string (``module:attribute``) names."""
    module, _, attribute = target.partition(":")
    with named_packages():
        return getattr(importlib.import_module(module), attribute)


if not TYPE_CHECKING:  # a type checker knows the names above, and no others

    def __getattr__(name: str) -> object:
        if name not in _LAZY:
            raise AttributeError(f"module 'reid' has no attribute {name!r}")
        value = globals()[name] = loaded(_LAZY[name])
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# In a clone's own folder Python finds this package there, and not where it is installed: the upper
# floors then lie beside it, not in it.
_HERE = os.path.dirname(__file__)
_CLONE = os.path.dirname(_HERE)
if not os.path.isdir(os.path.join(_HERE, "export")) and os.path.isfile(
    os.path.join(_CLONE, "export", "__init__.py")
):
    __path__.append(_CLONE)

if _clash := clash():
    warnings.warn(_clash, stacklevel=2)
