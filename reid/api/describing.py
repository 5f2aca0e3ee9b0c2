"""The features of a dataset's test images in a file, as one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.data.readers.division import AS_TRAINED, AskedSplit
from reid.evaluation.evaluating import split_as_trained
from reid.matching.describing import describe_to_file
from reid.outputs import refuse_inputs
from reid.progress import SILENT, Reporter


@dataclass(frozen=True, slots=True)
class DescribedFile:
    """A file of features, the number of its images, and its size."""

    path: Path
    images: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"file": str(self.path), "images": self.images, "bytes": self.bytes}

    def to_text(self) -> str:
        """One line."""
        return (
            f"{self.path}: {self.images:,} images, {self.bytes / 1e6:.1f} MB, "
            f"{self.bytes / self.images / 1e3:.1f} kB each"
        )


def describe_dataset(
    model: Path,
    dataset: str,
    root: Path,
    out: Path,
    *,
    side: str = "gallery",
    asked: AskedSplit = AS_TRAINED,
    graph: str = "",
    stored: str = "float16",
    mirror: bool = False,
    device: str = "auto",
    threads: int = 0,
    reporter: Reporter = SILENT,
) -> DescribedFile:
    """Write the features of a dataset's gallery, or its queries, to the .safetensors file ``out``.

    ``side`` is gallery or query; ``graph``, ``stored`` and ``mirror`` are those of
    ``describe_to_file``. Raises OutputError if ``out`` is an input, and what ``split_as_trained``
    and ``describe_to_file`` raise.

    >>> file = folder / "query.safetensors"
    >>> described = describe_dataset(run, "synthetic", people, file, side="query")
    >>> described.images == len(reid.Features.load(file))
    True
    """
    split = split_as_trained(model, dataset, root, asked)
    records = split.gallery if side == "gallery" else split.query
    refuse_inputs({"--out": out}, [model, *(record.path for record in records)])
    size = describe_to_file(
        model,
        records,
        side,
        out,
        device=device,
        threads=threads,
        graph=graph,
        stored=stored,
        mirror=mirror,
        reporter=reporter,
    )
    return DescribedFile(out, len(records), size)
