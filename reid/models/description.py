"""The description of a network: all that code outside its own package needs.

Parts that need PyTorch are import strings, "module:attribute", so that a description can be read
without PyTorch. ``reid.models.NETWORKS`` has the networks of this package.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from reid.errors import ConfigError
from reid.losses.settings import LossConfig
from reid.model_file.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reid.losses.batch import Batch

Objective: TypeAlias = (
    "Callable[[nn.Module, Batch, LossConfig, Collection[str]], dict[str, Tensor]]"
)
"""Takes the network, a batch, the losses' settings and the names of the active losses; returns the
values of these losses, unweighted, by name."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """A network's part of a configuration; each network has its own class.

    It is the only place with that network's defaults, and raises ConfigError for settings that
    the network cannot be built with.
    """

    name: str = ""

    @property
    def output_meaning(self) -> str:
        """The manifest's name for the network's output."""
        return self.name

    @property
    def usual_score(self) -> float:
        """The score above which a pair is one person, where none was measured; of networks that
        compare pairs."""
        return 0.7

    @property
    def losses_left_out(self) -> Mapping[str, str]:
        """Losses that have nothing to compare under these settings -> the setting."""
        return {}


@dataclass(frozen=True, slots=True)
class CaffeFace:
    """Names in a network's prototxt. Layers have the names of its modules."""

    embeddings: Mapping[str, str] = field(default_factory=dict)
    """The setting ``embed_at`` -> the blob that is the embedding. The first is the default for a
    prototxt without the setting."""
    classifier: str = ""
    """The last layer of training, and the field of ``forward``'s result with its output. The
    embedding does not need it, so a file may lack it. Empty: files are written, not read."""
    preprocess: Preprocess = field(default_factory=Preprocess)
    """The paper's; the default for a prototxt without it."""
    graph: str = "embed"
    """The method of the network that the prototxt describes."""
    left_out: str = ""
    """What the network has after it, for which Caffe has no layers."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """The part of a network that can load pretrained weights."""

    module: nn.Module
    file: str
    """Their path from the settings, or an empty string."""
    how_to_obtain: str
    """A message for a run without them."""


@dataclass(frozen=True, slots=True)
class Look:
    """A picture of what a network sees: its kind, and the source of its data.

    ``kind`` is one of ``reid.models.looks.KINDS``, which defines the data; ``what`` is a short
    description. ``data`` is "module:attribute" of a function of (network, preprocess, images,
    losses), with images (H, W, 3) uint8 BGR.
    """

    kind: str
    what: str
    data: str


@dataclass(frozen=True, kw_only=True)
class Network:
    """The full description of a network.

    settings:         its settings' class, whose default ``name`` is the network's name
    builder:          (number of training identities, settings) -> the newly initialised module
    objective:        its training objective, see ``Objective``
    losses:           the names of its objective's losses
    graphs:           (module, input shape, normalise) -> its graphs, see ``reid.models.graphs``
    min_size:         height and width of the smallest image that it takes
    looks:            pictures of what it sees
    no_fixed_order:   an operation of its training that has no deterministic form on CUDA
    scale_agreement:  (module) -> a module that returns, for images, how well its two scales agree
    pretrained:       (module, settings) -> the ``Backbone`` that loads pretrained weights
    caffe_face:       names of its parts in Caffe's files; None if Caffe has no equivalent layers

    Strings are import strings, "module:attribute".
    """

    settings: type[NetworkSettings]
    builder: str
    objective: str
    losses: tuple[str, ...]
    graphs: str = "reid.models.graphs:vector_graphs"
    min_size: tuple[int, int] = (1, 1)
    looks: tuple[Look, ...] = ()
    no_fixed_order: str = ""
    scale_agreement: str = ""
    pretrained: str = ""
    caffe_face: CaffeFace | None = None

    @property
    def name(self) -> str:
        """Its name in configurations and manifests."""
        return self.settings().name

    def size_problem(self, height: int, width: int) -> str:
        """Why the network cannot take images of this size, or an empty string."""
        least = self.min_size
        if height >= least[0] and width >= least[1]:
            return ""
        return f"{self.name} takes images of at least {least[0]}x{least[1]}, found {height}x{width}"


def part(import_string: str) -> Any:
    """Import "module:attribute".

    >>> part("reid.models.description:Network").__name__
    'Network'
    """
    module, _, attribute = import_string.partition(":")
    return getattr(importlib.import_module(module), attribute)


def refuse_other_words(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ConfigError if a network's setting is not one of its possible words."""
    if value not in known:
        raise ConfigError(f"network.{name} must be one of {', '.join(known)}; found {value!r}")
