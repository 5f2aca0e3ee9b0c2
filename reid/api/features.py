"""Features of images, computed once for any number of comparisons."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import ModelFileError
from reid.matching.files import read_described, refuse_other_model, write_described
from reid.matching.labels import Labels
from reid.matching.matcher import VECTOR, Array, Matcher
from reid.types import JUNK_ID, FloatArray


class Features:
    """Features of N images by one model: an embedding each, or CSN's feature maps.

    ``model.embed`` returns them. They can be saved, loaded and passed wherever that model takes
    images; a model of another checkpoint or precision rejects them. Parts are read from disk when
    needed, so they may be larger than memory.

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
        """For ``Model`` and ``load``: ``described`` is the matcher's form of ``pieces``."""
        self._pieces, self._identity, self._described = pieces, dict(identity), described
        self.names = tuple(names)
        """The images' paths as text; empty for arrays."""

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Features({len(self)} images, {self._identity.get('network', 'unknown network')})"

    @property
    def identity(self) -> Mapping[str, str]:
        """The model that computed them: network, checkpoint, precision, preprocessing."""
        return dict(self._identity)

    @property
    def vectors(self) -> FloatArray:
        """(N, D) float32 embeddings of length 1.

        Raises ModelFileError for a network that compares pairs: use ``model.distances`` there;
        its feature maps are in ``arrays``.
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
        """All stored arrays: name -> (N, ...) float32, read into memory."""
        return self._columns()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .safetensors file atomically. Raises OutputError."""
        unknown = np.full(len(self), JUNK_ID, np.int64)
        labels = Labels(unknown, np.zeros(len(self), np.int64))
        write_described(Path(path), self._identity, self._pieces, labels, self.names)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Features:
        """Read a file of ``save`` or ``reid describe``. Raises ModelFileError for others."""
        stored = read_described(Path(path))
        return cls(stored.pieces, stored.model, stored.names)

    def _described_by(self, matcher: Matcher[Any]) -> Any:
        """In the form of their model's matcher; for ``Model`` and ``Gallery``.

        Raises ModelFileError for another model's.
        """
        form = self.identity.get("stored")
        if form is not None:
            matcher = matcher.storing(form)
        refuse_other_model(self.identity, matcher.identity, "the features were made")
        if self._described is None:
            self._described = matcher.from_pieces(self._pieces)
        return self._described

    def _columns(self) -> dict[str, FloatArray]:
        names = list(self._pieces[0]) if self._pieces else []
        return {
            name: np.concatenate([np.asarray(one[name], np.float32) for one in self._pieces])
            for name in names
        }
