"""The data passed between packages: one frozen type per step.

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

DEVICES = ("auto", "cpu", "cuda")
"""Where a network may run; auto is the GPU if there is one."""

OPENVINO = "openvino"
"""The first part of the name of an OpenVINO device, such as ``openvino:GPU``: a further place for
exported files."""

JUNK_ID = -1
"""``person_id`` of a gallery image ignored by every query (Market-1501's junk)."""

DISTRACTOR_ID = 0
"""``person_id`` of a distractor: an image of no identity, wrong for every query (Market-1501)."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One named float32 input or output of a graph: (N, *shape), or (1, *shape) if not ``batched``.

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
    """One image on disk, its identity and its camera."""

    path: Path
    person_id: int
    camera_id: int


@dataclass(frozen=True, slots=True)
class Protocol:
    """How queries are ranked against the gallery.

    ``name`` is ``"market"`` (the whole gallery; junk and same-camera images skipped),
    ``"multi_query"`` (the same, with all query images of one identity and camera as one query,
    their embeddings averaged), ``"single_shot"`` (one random gallery image of each identity,
    ``trials`` draws from ``seed`` averaged; the gallery is another camera's view),
    ``"multi_shot"`` (the same with ``shots`` images, of which the nearest counts) or
    ``"any_camera"`` (one random image of each identity, of any camera, is the gallery and all
    others are queries).
    """

    name: str
    trials: int = 1
    seed: int = 0
    shots: int = 1

    def words(self) -> str:
        """The protocol in words, with what is in a query's gallery."""
        if self.name == "multi_query":
            return "Market protocol, multi-query: the mean of a person's images in a camera"
        if self.name == "any_camera":
            return (
                "any camera (X-Corr's protocol): one random image of each person, of any camera, "
                "is the gallery, and all other images are queries"
            )
        if self.name not in ("single_shot", "multi_shot"):
            return "Market protocol, single query"
        number = "one random image"
        if self.name == "multi_shot":
            number = f"the nearest of {self.shots} random images"
        return (
            f"{self.name.replace('_', '-')} (CUHK's protocol): {number} of each person from the "
            "other cameras; no image of the query's own camera is ranked"
        )


@dataclass(frozen=True, slots=True)
class Split:
    """A dataset split for training and testing. ``note`` says how.

    ``names`` are those of the people in a user's own images, by ``person_id``.
    """

    dataset: str
    train: tuple[ImageRecord, ...]
    query: tuple[ImageRecord, ...]
    gallery: tuple[ImageRecord, ...]
    protocol: Protocol
    note: str = ""
    names: Mapping[int, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The nearest gallery images of each query: (Q, K) indices and their distances.

    ``correct`` (Q, K) marks correct matches. Images that the protocol skips (junk, the query's
    own camera) are left out; a query with fewer than K images is padded with -1.
    """

    indices: IntArray
    distances: FloatArray
    correct: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CameraPair:
    """Results in [0, 1] of one camera's queries against another camera's gallery images."""

    query_camera: int
    gallery_camera: int
    num_query: int
    rank1: float
    map_step: float
    map_trapezoid: float


@dataclass(frozen=True, slots=True)
class EvalReport:
    """Retrieval results in [0, 1]; ``std`` is their standard deviation over trials, if any.

    ``cmc`` maps rank k to the share of queries with a correct match within k. ``map_step`` and
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
    """Identities among the queries; 0 if not known."""
    reranking: str = ""
    """The re-ranking that was applied; empty if none."""
    describe_s: float = 0.0
    num_compared: int = 0
    """Pairs that a network compared, in ``compare_s`` seconds; 0 for embeddings."""
    compare_s: float = 0.0
    sha256: Mapping[str, str] = field(default_factory=dict)
    """File name -> hash, of the model's files and of features that were read."""
    num_trained_on: int | None = None
    """Test images that the model was trained on; None if the file does not tell."""
    warnings: tuple[str, ...] = ()
    """Why the results may be too good."""
    short_name: str = ""
    """What tables and pages call the model; empty: ``model``."""
    distance_at: Mapping[float, float | None] = field(default_factory=dict)
    """False positive rate -> the greatest distance that is accepted there; None as in ``tpr``."""
    unit_vectors: bool = False
    """Whether distances are Euclidean, of vectors of length 1: each is a cosine too."""
    limit: float | None = None
    """The greatest distance that means the same person in a gallery of this size, as the model's
    manifest has it; None if it was not measured."""
    limit_words: str = ""
    """Where the limit comes from."""

    @property
    def cosine_at(self) -> Mapping[float, float | None]:
        """``distance_at`` as the least cosine, 1 - d^2 / 2; empty unless ``unit_vectors``."""
        if not self.unit_vectors:
            return {}
        return {
            fpr: None if limit is None else 1 - limit**2 / 2
            for fpr, limit in self.distance_at.items()
        }

    @property
    def name(self) -> str:
        """The model's name in tables and pages."""
        return self.short_name or self.model

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json`` and ``report.json``."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "protocol": self.protocol.name,
            "trials": self.protocol.trials,
            "shots": self.protocol.shots,
            "protocol_words": self.protocol.words(),
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
            "distance_at_fpr": {str(fpr): value for fpr, value in self.distance_at.items()},
            "cosine_at_fpr": {str(fpr): value for fpr, value in self.cosine_at.items()},
            "limit": self.limit,
            "limit_words": self.limit_words,
            "camera_pairs": [dataclasses.asdict(one) for one in self.camera_pairs],
            "reranking": self.reranking,
            "describe_s": self.describe_s,
            "num_compared": self.num_compared,
            "compare_s": self.compare_s,
            "sha256": dict(self.sha256),
            "num_trained_on": self.num_trained_on,
            "warnings": list(self.warnings),
        }
