"""Results of API calls: ranked images and exported files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from reid.api.notebook import Cell, rows_of_pictures
from reid.errors import InputError
from reid.types import FloatArray, Image, IntArray


class RankedImage(NamedTuple):
    """A gallery image in a ranking: row in the gallery, path (empty for an array), distance."""

    row: int
    name: str
    distance: float


@dataclass(frozen=True, slots=True)
class RankedImages:
    """For each query its ``k`` nearest gallery images, nearest first.

    ``indices`` and ``distances`` are (Q, k). A notebook shows the pictures of
    images given as paths, or as arrays to ``rank`` itself.

    >>> ranked = model.rank(people / "query", people / "bounding_box_test", k=3)
    >>> ranked.indices.shape == (len(ranked), 3)
    True
    >>> ranked[0][0].distance <= ranked[0][1].distance
    True
    """

    indices: IntArray
    distances: FloatArray
    query_names: tuple[str, ...]
    gallery_names: tuple[str, ...]
    query_sources: Sequence[Path | Image] = field(default=(), repr=False)
    gallery_sources: Sequence[Path | Image] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, query: int) -> list[RankedImage]:
        """The images of one query. Raises IndexError."""
        return [
            RankedImage(int(index), self.gallery_names[index], float(distance))
            for index, distance in zip(self.indices[query], self.distances[query], strict=True)
        ]

    def __iter__(self) -> Iterator[list[RankedImage]]:
        return (self[query] for query in range(len(self)))

    def _repr_html_(self) -> str:
        queries = [
            [
                Cell(_source(self.query_sources, self.query_names, number), "query"),
                *(
                    Cell(
                        _source(self.gallery_sources, self.gallery_names, one.row),
                        f"{rank} · {one.distance:.3f}",
                    )
                    for rank, one in enumerate(matches, 1)
                ),
            ]
            for number, matches in enumerate(self)
        ]
        return rows_of_pictures(queries)


def _source(
    sources: Sequence[Path | Image], names: Sequence[str], number: int
) -> Path | Image | None:
    if sources:
        return sources[number]
    return Path(names[number]) if names[number] else None


def nearest_k(k: int, num_gallery: int) -> int:
    """``k``, at most the gallery's size. Raises InputError for less than 1."""
    if k < 1:
        raise InputError(f"k is the number of images to find, 1 or more; found {k}")
    return min(k, num_gallery)


@dataclass(frozen=True, slots=True)
class ExportedFiles:
    """The files of an export, each with its parity checked unless that was skipped.

    ``proofs`` are the parity reports, as in the manifests: one for each ONNX file (a network that
    compares pairs has one for its two) and one for the Caffe files.
    """

    onnx: tuple[Path, ...]
    engines: tuple[Path, ...] = ()
    caffe: tuple[Path, ...] = ()
    proofs: tuple[dict[str, object], ...] = ()
    deployed: Path | None = None
    """The last ONNX file written by default: FP16 if that was chosen."""
    description_bytes: int = 0
    """Size of a gallery image as float32 if the network compares pairs; else 0."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``reid export --json`` prints them."""
        return {
            "files": list(map(str, self.onnx)),
            "caffe": list(map(str, self.caffe)),
            "engines": list(map(str, self.engines)),
            "parity": list(self.proofs),
            "description_bytes": self.description_bytes,
        }

    @property
    def files(self) -> tuple[Path, ...]:
        """All files."""
        return (*self.onnx, *self.caffe, *self.engines)

    def __iter__(self) -> Iterator[Path]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)
