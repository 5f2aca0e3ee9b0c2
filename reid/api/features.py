"""Images that a model has described, to be compared as often as one likes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import ModelFileError
from reid.matching.files import read_described, write_described
from reid.matching.labels import Labels
from reid.matching.matcher import VECTOR, Array, Matcher
from reid.types import JUNK_ID, FloatArray


class Features:
    """N images as one model describes them: a vector each, or CSN's maps.

    ``model.embed`` makes them. They can be given wherever that model takes images, saved, and
    loaded again; of another model, or another precision, they are refused. Pieces of them are
    read from disk when needed, so they may be larger than the memory.

    >>> features = model.embed(people / "query")
    >>> features.vectors.shape == (len(features), 256)
    True
    >>> features.save(folder / "query.safetensors")
    >>> again = reid.Features.load(folder / "query.safetensors")
    >>> bool((again.vectors == features.vectors).all())
    True
    >>> float(model.distances(again, features).diagonal().max()) < 1e-3
    True
    """

    def __init__(
        self,
        pieces: Sequence[Mapping[str, Array]],
        identity: Mapping[str, str],
        names: Sequence[str],
        described: object = None,
    ) -> None:
        """For ``Model`` and ``load``: ``described`` is the matcher's own form of ``pieces``."""
        self._pieces, self._identity, self._described = pieces, dict(identity), described
        self.names = tuple(names)
        """The images' paths as text; empty for arrays."""

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Features({len(self)} images, {self._identity.get('network', 'unknown network')})"

    @property
    def identity(self) -> Mapping[str, str]:
        """The model behind them: network, checkpoint, precision, preprocessing."""
        return dict(self._identity)

    @property
    def vectors(self) -> FloatArray:
        """(N, D) float32, a vector of length 1 for each image.

        Raises ModelFileError for a network that compares pairs: its distance is no distance of
        vectors, so use ``model.distances``; what it keeps is in ``arrays``.
        """
        arrays = self._columns()
        if arrays.keys() - {VECTOR}:
            raise ModelFileError(
                f"these features are {self._identity.get('network')}'s maps "
                f"({', '.join(arrays)}), not vectors; compare them with model.distances, or take "
                "Features.arrays"
            )
        return arrays.get(VECTOR, np.zeros((0, 0), np.float32))

    @property
    def arrays(self) -> dict[str, FloatArray]:
        """All that is kept of the images: name -> (N, ...) float32, read into memory."""
        return self._columns()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .safetensors file in one step. Raises OutputError."""
        unknown = np.full(len(self), JUNK_ID, np.int64)
        labels = Labels(unknown, np.zeros(len(self), np.int64))
        write_described(Path(path), self._identity, self._pieces, labels, self.names)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Features:
        """Read what ``save`` or ``reid describe`` wrote. Raises ModelFileError for another file."""
        stored = read_described(Path(path))
        return cls(stored.pieces, stored.model, stored.names)

    def _in_form_of(self, matcher: Matcher[Any]) -> Any:
        """As the matcher of their own model keeps them; for ``Model`` and ``Gallery``."""
        if self._described is None:
            self._described = matcher.from_pieces(self._pieces)
        return self._described

    def _columns(self) -> dict[str, FloatArray]:
        names = list(self._pieces[0]) if self._pieces else []
        return {
            name: np.concatenate([np.asarray(one[name], np.float32) for one in self._pieces])
            for name in names
        }
