"""What a network is to everything outside its own package: one description object.

Its heavy parts stand as import strings, "module:attribute", so that a description is read
without PyTorch. ``reid.models.NETWORKS`` holds those that come with the package.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
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
"""Takes the network, a batch, the losses' settings and the names of the losses that are switched
on; gives those, unweighted, by name."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What a configuration says of its network; each network has a class of its own.

    It is the only place where a default of that network stands, and it refuses what the network
    cannot be built with, by ConfigError.
    """

    name: str = ""

    @property
    def output_meaning(self) -> str:
        """What the manifest calls the network's answer."""
        return self.name

    @property
    def losses_left_out(self) -> Mapping[str, str]:
        """Losses that these settings leave nothing to compare -> the setting."""
        return {}


@dataclass(frozen=True, slots=True)
class CaffeFace:
    """A network as its prototxt names it. Names of layers are those of its modules."""

    embeddings: Mapping[str, str]
    """The setting ``embed_at`` -> the blob that is then the embedding. The first is
    meant by a prototxt that does not say."""
    classifier: str
    """The last layer of training, and the field of ``forward``'s result that holds its output.
    It has no part in the embedding, so a file may come without it."""
    preprocess: Preprocess
    """The paper's: meant by a prototxt that does not say."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """The part of a network that takes weights trained elsewhere."""

    module: nn.Module
    file: str
    """Where the settings say that they are, or an empty string."""
    how_to_obtain: str
    """A line for a run without them."""


@dataclass(frozen=True, slots=True)
class Look:
    """One picture of what a network sees: which of the report's kinds, and where its data is from.

    ``kind`` is one of ``reid.models.looks.KINDS``, which says what ``data`` gives; ``what`` it
    shows, in a few words. ``data``: "module:attribute" of a function of (network, preprocess,
    images, losses), the images (H, W, 3) uint8 BGR.
    """

    kind: str
    what: str
    data: str


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network, whole.

    settings:         its settings' class, whose default ``name`` is the network's
    builder:          (number of training identities, settings) -> the freshly initialised module
    objective:        what it is trained for, see ``Objective``
    losses:           the names of the losses that its objective knows
    graphs:           (module, input shape, normalise) -> its graphs, see ``reid.models.graphs``
    min_size:         height and width of the smallest image that it takes
    looks:            pictures of what it sees
    scale_agreement:  (module) -> a module that gives, for images, how far its two scales agree
    pretrained:       (module, settings) -> the ``Backbone`` that takes pretrained weights
    caffe_face:       what Caffe's files call its parts; None where Caffe has no layers for it

    Strings are import strings, "module:attribute".
    """

    settings: type[NetworkSettings]
    builder: str
    objective: str
    losses: tuple[str, ...]
    graphs: str = "reid.models.graphs:vector_graphs"
    min_size: tuple[int, int] = (1, 1)
    looks: tuple[Look, ...] = ()
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
    """What "module:attribute" names, imported now.

    >>> part("reid.models.description:Network").__name__
    'Network'
    """
    module, _, attribute = import_string.partition(":")
    return getattr(importlib.import_module(module), attribute)


def refuse_other_words(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ConfigError where a network's setting is none of the words that it can be."""
    if value not in known:
        raise ConfigError(f"network.{name} is one of {', '.join(known)}; found {value!r}")
