"""A gallery opened without its model: for erasing, checking and listing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from reid.errors import ConfigError
from reid.matching import Matcher
from reid.matching.matcher import VECTOR, Array
from reid.model_file.manifest import Manifest
from reid.progress import Advance, Say
from reid.types import BoolArray, Image, IntArray


class NoModel:
    """The ``Matcher`` of any gallery: it passes features on, and neither makes nor compares them.

    ``identity`` is the one that the gallery was made with.
    """

    manifest: Manifest
    identity: Mapping[str, str]

    def __init__(self, identity: Mapping[str, str]) -> None:
        self.identity = identity

    def __getattr__(self, name: str) -> Any:
        """For ``manifest``: raises ConfigError, as all that needs a model."""
        raise _needed()

    @property
    def backend(self) -> str:
        """It computes nothing."""
        return "none"

    def describe(self, images: Iterable[Image], progress: Advance | None = None) -> Any:
        """Raises ConfigError."""
        raise _needed()

    def finite(self, descriptions: Any) -> BoolArray:
        """Raises ConfigError."""
        raise _needed()

    def overflowed(self, descriptions: Any) -> set[int]:
        """Raises ConfigError."""
        raise _needed()

    def storing(self, stored: str) -> Matcher[Any]:
        """Itself."""
        return self

    def seconds(self, query: Any, gallery: Any, best: int = 0) -> float:
        """Raises ConfigError."""
        raise _needed()

    def tiles(
        self,
        query: Any,
        gallery: Any,
        progress: Advance | None = None,
        best: int = 0,
        say: Say = lambda line: None,
    ) -> Any:
        """Raises ConfigError."""
        raise _needed()

    def refuse_shortlist(self, best: int, num_gallery: int) -> None:
        """Raises ConfigError."""
        raise _needed()

    def means(self, descriptions: Any, groups: IntArray) -> Any:
        """Raises ConfigError."""
        raise _needed()

    def pieces(self, descriptions: Any) -> Sequence[Mapping[str, Array]]:
        """Vectors as they are; those of another network are not recognized here."""
        return [{VECTOR: np.asarray(descriptions)}]

    def from_pieces(self, pieces: Sequence[Mapping[str, Array]]) -> Any:
        """The pieces' vectors; the pieces themselves of a network that compares pairs."""
        if any(set(piece) != {VECTOR} for piece in pieces):
            return list(pieces)
        return np.concatenate([piece[VECTOR] for piece in pieces]) if pieces else np.zeros((0, 0))

    def close(self) -> None:
        """Nothing to close."""


def _needed() -> ConfigError:
    return ConfigError("the gallery was opened without its model, which this needs; name the model")
