"""From a checkpoint to proven files, and from two files to a verdict."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid.checkpoint import network_from_checkpoint
from reid.data import load_split, read_image
from reid.data.datasets import check_name
from reid.data.synthetic import write_synthetic
from reid.errors import DataError, output_errors
from reid.evaluate import evaluate, split_of_model
from reid.files import sha256_of_file
from reid.matching import VectorMatcher
from reid.runtime import model_file, open_runner
from reid.types import ImageRecord, Split

from .caffe import caffe_from_checkpoint
from .caffe_parity import MAX_CROPS as MAX_LAYER_CROPS
from .caffe_parity import prove_layers
from .engine import BuiltEngine, build_engine
from .engine_options import EngineOptions
from .onnx import export_onnx
from .parity import compare, with_evaluations
from .proof import Proof

Say = Callable[[str], None]
Progress = Callable[[int, int, str], None]

MAX_PARITY_CROPS = 256
EXPORT_CROPS = 64
"""Crops that an export is proven on."""
EXPORT_LAYER_CROPS = 8
"""The same for Caffe files, of which every blob is compared: batches of 1, 3 and 4."""

DRAWN = "synthetic"
"""The dataset that is drawn where no folder is given."""


@dataclass(frozen=True, slots=True)
class Exported:
    """One exported file and how long it took."""

    path: Path
    precision: str
    seconds: float

    def words(self) -> str:
        """``msp_cnn.fp16.onnx  13.1 MB  4.2 s``."""
        size_mb = self.path.stat().st_size / 1e6
        return f"{self.path}  {size_mb:.1f} MB  {self.seconds:.1f} s"


def export_checkpoint(run: Path, out: Path, precisions: tuple[str, ...]) -> Iterator[Exported]:
    """Write ``<network>.<precision>.onnx`` into ``out`` for each precision, one at a time.

    Raises CheckpointError, BuildError, OutputError.
    """
    file = model_file(run)
    network, manifest = network_from_checkpoint(file)
    manifest = dataclasses.replace(manifest, source_sha256=sha256_of_file(file))
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    for precision in precisions:
        start = time.perf_counter()
        path = out / f"{manifest.network}.{precision}.onnx"
        export_onnx(network, manifest, path, fp16=precision == "fp16")
        yield Exported(path, precision, time.perf_counter() - start)


def export_caffe(run: Path, out: Path) -> tuple[Exported, Exported]:
    """Write ``<network>.prototxt`` and ``.caffemodel`` into ``out``.

    Raises CheckpointError, BuildError, OutputError.
    """
    start = time.perf_counter()
    files = caffe_from_checkpoint(run, out)
    seconds = time.perf_counter() - start
    return Exported(files.prototxt, "fp32", seconds), Exported(files.caffemodel, "fp32", seconds)


def build_engines(
    onnx_files: list[Path], out: Path, options: EngineOptions, progress: Progress | None = None
) -> Iterator[BuiltEngine]:
    """Build an engine from each ONNX file. Raises BuildError, MissingPackageError."""
    for path in onnx_files:
        yield build_engine(path, out, options, progress)


@contextmanager
def drawn_or_real(name: str, data_root: Path | None, model: Path) -> Iterator[Split]:
    """The named dataset, split as ``model`` was trained; ``synthetic`` without a root is drawn.

    Raises DataError for an unknown name, for another dataset without a root, and what
    ``load_split`` raises.
    """
    check_name(name)
    if data_root is not None:
        test_identities, seed = split_of_model(model, name)
        yield load_split(name, data_root, num_test_identities=test_identities, split_seed=seed)
        return
    if name != DRAWN:
        raise DataError(
            f"{name} has to lie in a folder, found none; name it with --data-root, or leave "
            "--data out and people are drawn"
        )
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(folder, num_train_identities=2, num_test_identities=16, images_per_camera=3)
        yield load_split(DRAWN, folder)


def prove(
    reference: Path,
    candidate: Path,
    split: Split,
    *,
    device: str = "auto",
    max_crops: int = MAX_PARITY_CROPS,
    with_evaluation: bool = True,
    progress: Progress = lambda done, total, words: None,
) -> Proof[Any]:
    """Compare two model files on a split's test images, spread evenly over query and gallery.

    ``with_evaluation`` also evaluates both on the whole split, for the change of rank-1 and
    mAP, if the crops agree. A ``.caffemodel`` is compared blob by blob on
    ``MAX_LAYER_CROPS`` at most, on the CPU and without evaluation. ``progress`` hears of the
    images done. Raises DataError, ParityError (incomparable outputs), ModelFileError,
    ManifestError, CaffeError.
    """
    layers = is_caffemodel(candidate)
    crops = spread(split, min(max_crops, MAX_LAYER_CROPS) if layers else max_crops)
    images = [read_image(record.path) for record in crops]
    with_evaluation = with_evaluation and not layers

    def phase(what: str, total: int) -> Callable[[int], None]:
        return _counted(progress, total, what)

    step = phase("crops", len(images))
    step(0)
    if layers:
        return prove_layers(reference, candidate, images, step)
    with open_runner(reference, device) as first, open_runner(candidate, device) as second:
        report = compare(first, second, images)
        step(len(images))
        if with_evaluation and report.passed:
            figures = (
                evaluate(VectorMatcher(first), split, phase=phase).report,
                evaluate(VectorMatcher(second), split, phase=phase).report,
            )
            report = with_evaluations(report, figures)
        manifest = second.manifest
    shown = dataclasses.replace(report, reference=str(reference), candidate=str(candidate))
    return Proof(shown, report, model_file(candidate), manifest)


def prove_on_drawn(reference: Path, candidates: Sequence[Path]) -> Iterator[Proof[Any]]:
    """Compare files just made with what they were made from, on a few drawn people.

    In seconds, so rank-1 and mAP stay unchecked: that is ``reid parity``'s. Raises what
    ``prove`` raises.
    """
    with drawn_or_real(DRAWN, None, reference) as split:
        for candidate in candidates:
            crops = EXPORT_LAYER_CROPS if is_caffemodel(candidate) else EXPORT_CROPS
            yield prove(reference, candidate, split, max_crops=crops, with_evaluation=False)


def is_caffemodel(file: Path) -> bool:
    """Whether a file is compared as one, by its suffix."""
    return file.suffix.lower() == ".caffemodel"


def spread(split: Split, count: int) -> list[ImageRecord]:
    """At most ``count`` test images, evenly over query and gallery, in their order."""
    records = [*split.query, *split.gallery]
    count = min(count, len(records))
    return [records[i] for i in np.linspace(0, len(records) - 1, count).round().astype(int)]


def _counted(progress: Progress, total: int, words: str) -> Callable[[int], None]:
    """``progress`` with the sum of what it is told."""
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total, words)

    return step
