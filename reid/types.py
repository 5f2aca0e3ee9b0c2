"""What flows between the rooms: one frozen type per step, checked where it enters.

image folder -> Split of ImageRecords -> Ranking -> EvalReport
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Image = npt.NDArray[np.uint8]
"""An image as OpenCV decodes it: (height, width, 3), BGR, 0-255."""

JUNK_ID = -1
"""``person_id`` of a gallery image that no query counts, for or against (Market-1501)."""

DISTRACTOR_ID = 0
"""``person_id`` of a gallery image of nobody: a wrong answer to every query (Market-1501)."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One named float32 array at a graph's door: (N, *shape), or (1, *shape) if not ``batched``.

    All batched arrays of a graph have the same N.
    """

    name: str
    shape: tuple[int, ...]
    batched: bool = True

    def words(self) -> str:
        """``data (N, 3, 144, 56)``."""
        first = "N" if self.batched else "1"
        return f"{self.name} ({', '.join((first, *map(str, self.shape)))})"


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image on disk and whom it shows, seen by which camera."""

    path: Path
    person_id: int
    camera_id: int


@dataclass(frozen=True, slots=True)
class Protocol:
    """How queries meet the gallery.

    ``name`` is ``"market"`` (the whole gallery; junk and same-camera images skipped),
    ``"multi_query"`` (the same, all query images of one identity and camera being one query,
    their vectors averaged), ``"single_shot"`` (one random gallery image of each identity,
    ``trials`` draws from ``seed`` averaged; the gallery is another camera's view) or
    ``"multi_shot"`` (the same with ``shots`` images, of which the nearest counts).
    """

    name: str
    trials: int = 1
    seed: int = 0
    shots: int = 1


@dataclass(frozen=True, slots=True)
class Split:
    """A dataset divided for training and testing. ``note`` says how, in words."""

    dataset: str
    train: tuple[ImageRecord, ...]
    query: tuple[ImageRecord, ...]
    gallery: tuple[ImageRecord, ...]
    protocol: Protocol
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The nearest gallery images of each query: (Q, K) indices and their distances.

    ``correct`` (Q, K) marks the right identity; ranks that the protocol skips (junk, the
    query's own camera) are left out, and a query with fewer than K has -1 at its end.
    """

    indices: IntArray
    distances: FloatArray
    correct: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CameraPair:
    """Figures in [0, 1] of one camera's queries against another's gallery images."""

    query_camera: int
    gallery_camera: int
    num_query: int
    rank1: float
    map_step: float
    map_trapezoid: float


@dataclass(frozen=True, slots=True)
class EvalReport:
    """Retrieval figures in [0, 1]; ``std`` holds their deviation over trials, if any.

    ``cmc`` maps rank k to the share of queries answered within k. ``map_step`` and
    ``map_trapezoid`` are the two definitions of mean average precision in use. ``tpr`` maps a
    false positive rate to the true positive rate there, None where pairs are too few.
    """

    model: str
    dataset: str
    protocol: Protocol
    num_query: int
    num_gallery: int
    num_unanswerable: int
    cmc: Mapping[int, float]
    map_step: float
    map_trapezoid: float
    minp: float
    std: Mapping[str, float] = field(default_factory=dict)
    tpr: Mapping[float, float | None] = field(default_factory=dict)
    camera_pairs: tuple[CameraPair, ...] = ()
    num_identities: int = 0
    """People who are searched for; 0 where it is not known."""
    reranking: str = ""
    """How the ranking was improved after the distances, in words; empty where it was not."""
    describe_s: float = 0.0
    num_compared: int = 0
    """Pairs that a network compared one by one, in ``compare_s`` seconds; 0 for vectors."""
    compare_s: float = 0.0
    sha256: Mapping[str, str] = field(default_factory=dict)
    """File name -> hash, of the model's files and of features that were read."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json`` and ``report.json``."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "protocol": self.protocol.name,
            "trials": self.protocol.trials,
            "shots": self.protocol.shots,
            "num_identities": self.num_identities,
            "num_query": self.num_query,
            "num_gallery": self.num_gallery,
            "num_unanswerable": self.num_unanswerable,
            "cmc": {f"rank{rank}": value for rank, value in self.cmc.items()},
            "map_step": self.map_step,
            "map_trapezoid": self.map_trapezoid,
            "minp": self.minp,
            "std": dict(self.std),
            "tpr_at_fpr": {str(fpr): value for fpr, value in self.tpr.items()},
            "camera_pairs": [dataclasses.asdict(one) for one in self.camera_pairs],
            "reranking": self.reranking,
            "describe_s": self.describe_s,
            "num_compared": self.num_compared,
            "compare_s": self.compare_s,
            "sha256": dict(self.sha256),
        }
