"""An open model: images in; features, distances, rankings, results and exported files out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

import reid
from reid.api.arrays import ImageList, Images
from reid.api.evaluation import EvaluationResult, Settings, evaluate_matcher
from reid.api.features import Features
from reid.api.results import ExportedFiles, RankedImages, nearest_k
from reid.api.thresholds import ThresholdResult, measured_on_data
from reid.closing import Closeable
from reid.data.readers.division import AskedSplit
from reid.errors import ClosedError, InputError, ModelFileError
from reid.evaluation.thresholds import LARGEST_FPR
from reid.matching import Matcher, open_matcher
from reid.matching.describing import refuse_not_finite
from reid.matching.files import refuse_other_model
from reid.model_file.manifest import Manifest
from reid.model_file.opening import ModelFile
from reid.packages import named_packages
from reid.progress import Reporter, reporting
from reid.types import FloatArray

ModelPath = str | os.PathLike[str]
"""A run folder, a ``.pt`` checkpoint, an ``.onnx`` or an ``.engine``."""


def load(
    path: ModelPath,
    device: str = "auto",
    threads: int = 0,
    *,
    batch_size: int | None = None,
    graph: str = "",
) -> Model:
    """Open a run folder, a ``.pt``, ``.onnx``, ``.xml`` or ``.engine`` file as a ``Model``.

    ``device`` is ``auto``, ``cpu``, ``cuda``, or for an ``.onnx`` or ``.xml`` an OpenVINO device:
    ``openvino`` (the CPU), ``openvino:GPU``, ``openvino:CPU:bf16``; ``threads`` is the number of
    CPU threads, 0 for the backend's choice; ``batch_size`` images go through the network at once
    (default 64, or 128 for a network that compares pairs; with an engine for larger batches its
    largest, up to 256); ``graph`` chooses among the embedding graphs of a run that has several
    (SiSNet's: ``cascade``, ``embed``, ``second``). An exported file loads no torch.

    Raises ModelFileError for a path that is not a model, a file that scores two images at once,
    or an unknown device or graph, ManifestError, CheckpointError, InputError for a number out of
    range, MissingPackageError.

    >>> with reid.load(run, device="cpu") as model:
    ...     model.manifest.network
    'msp_cnn'
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"expected the path of a model, found {type(path).__name__}")
    if threads < 0 or (batch_size is not None and batch_size < 1):
        raise InputError(
            f"expected threads to be 0 or more and the batch size 1 or more; found {threads} and "
            f"{batch_size}"
        )
    with named_packages():
        file = ModelFile.at(Path(path))
        matcher = open_matcher(file, device, threads, batch_size, graph)
    return Model(Path(path), file, matcher, device, threads)


class Model(Closeable):
    """An open model, from ``load``. Use it in one thread at a time, and close it at the end.

    >>> with reid.load(run) as model:
    ...     features = model.embed(people / "query")
    ...     distances = model.distances(features, people / "bounding_box_test")
    >>> distances.shape[0] == len(features)
    True
    """

    def __init__(
        self, path: Path, file: ModelFile, matcher: Matcher[Any], device: str, threads: int
    ) -> None:
        """For ``load``."""
        self.path = path
        """The path it was loaded from."""
        self.device, self.threads = device, threads
        self._file, self._matcher = file, matcher
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._matcher.backend
        return f"Model({str(self.path)!r}, {state})"

    @property
    def manifest(self) -> Manifest:
        """The file's manifest: network, preprocessing, precision, parity reports."""
        return (
            self._file.checkpoint.manifest if self._file.is_checkpoint else self._matcher.manifest
        )

    @property
    def backend(self) -> str:
        """The backend that runs the network, with its version and device."""
        return self._matcher.backend

    def embed(self, images: Images, *, progress: bool | Reporter = False) -> Features:
        """Compute features: N images -> ``Features`` of length N.

        ``images`` is a path, a folder (all images in it and its subfolders, sorted by name), an
        array, or a list of any of these. Arrays are (H, W, 3) uint8 in **BGR**, as from
        ``cv2.imread``, of any size; convert RGB with ``image[:, :, ::-1]``. An array
        (N, H, W, 3) is N images. ``progress=True`` shows a bar.

        Raises InputError for None (a failed read), another dtype (values of 0-1 are not scaled
        for you) or another shape, DataError for a file that cannot be read, ModelFileError for an
        output that is not finite, ClosedError.

        >>> image = cv2.imread(str(next((people / "query").glob("*.jpg"))))
        >>> model.embed([image, image]).vectors.shape
        (2, 256)
        """
        matcher, listed = self._opened(), ImageList(images)
        with reporting(progress) as reporter, named_packages():
            advance = reporter.begin("describing", len(listed))
            described = matcher.describe(listed.read(), advance)
        names = [name or f"image {number}" for number, name in enumerate(listed.names)]
        refuse_not_finite(matcher, described, names, "given")
        return Features(matcher.pieces(described), matcher.identity, listed.names, described)

    def distances(
        self,
        query: Images | Features,
        gallery: Images | Features,
        *,
        shortlist: int = 0,
        progress: bool | Reporter = False,
    ) -> FloatArray:
        """Distances (Q, G) float32 of each query to each gallery image; smaller is more similar.

        Either side is images as for ``embed``, or ``Features`` of this model. Distances of
        embeddings are Euclidean, 0 to 2. For a network that compares pairs the distance is minus
        its score, and ``shortlist`` limits the comparison to that many gallery images per query,
        the nearest by ranking vector.

        Raises what ``embed`` raises, InputError for an empty side, ModelFileError for features of
        another model, ConfigError for an impossible shortlist.

        >>> model.distances(people / "query", people / "query").shape[0] > 0
        True
        """
        matcher = self._opened()
        with reporting(progress) as reporter, named_packages():
            sides = [self._features(side, reporter) for side in (query, gallery)]
            for name, side in zip(("query", "gallery"), sides, strict=True):
                if not len(side):
                    raise InputError(f"the {name} is empty; expected at least one image")
            first, second = (described_by(self, side) for side in sides)
            num_pairs = len(sides[0]) * (shortlist or len(sides[1]))
            advance = reporter.begin("comparing", num_pairs)
            rows = matcher.tiles(first, second, advance, shortlist, reporter.say)
            found = rows(slice(0, len(sides[0])))
        return np.array(found, np.float32)

    def rank(
        self,
        query: Images | Features,
        gallery: Images | Features,
        k: int = 10,
        *,
        shortlist: int = 0,
        progress: bool | Reporter = False,
    ) -> RankedImages:
        """For each query its ``k`` nearest gallery images, nearest first; see ``distances``.

        A notebook shows the result's pictures. Raises what ``distances`` raises, InputError
        for ``k`` below 1.

        >>> model.rank(people / "query", people / "query", k=1)[0][0].row
        0
        """
        self._opened()
        nearest_k(k, 1)
        listed = [None if isinstance(one, Features) else ImageList(one) for one in (query, gallery)]
        with reporting(progress) as reporter:
            sides = [
                one if isinstance(one, Features) else self.embed(one, progress=reporter)
                for one in (query, gallery)
            ]
            table = self.distances(*sides, shortlist=shortlist, progress=reporter)
        order = np.argsort(table, axis=1, kind="stable")[:, : nearest_k(k, table.shape[1])]
        return RankedImages(
            order,
            np.take_along_axis(table, order, axis=1),
            sides[0].names,
            sides[1].names,
            *(() if one is None else one.sources for one in listed),
        )

    def evaluate(
        self,
        dataset: str,
        root: str | os.PathLike[str],
        *,
        shots: int | None = None,
        shortlist: int = 0,
        rerank: bool | tuple[int, int, float] = False,
        test_identities: int | None = None,
        split_seed: int | None = None,
        query_features: str | os.PathLike[str] | None = None,
        gallery_features: str | os.PathLike[str] | None = None,
        allow_trained_on: bool = False,
        any_camera: bool = False,
        progress: bool | Reporter = False,
    ) -> EvaluationResult:
        """Evaluate on a dataset by its protocol: CMC, mAP, mINP.

        ``dataset`` is one of ``reid.datasets()``, ``root`` its folder. A random split is that of
        the model's training, unless ``test_identities`` or ``split_seed`` choose another.
        ``shots`` is CUHK's protocol, single-shot (1) or multi-shot: people are ranked by that
        many random images of each, none from the query's camera; ``any_camera`` is X-Corr's, with
        one random image of each person from any camera; ``rerank`` is k-reciprocal re-ranking
        (True, or k1, k2 and lambda); the ``*_features`` are files of ``reid describe``. All results
        are shares of 1.

        Test images that the model was trained on are refused, unless ``allow_trained_on``: then
        ``result.report.num_trained_on`` counts them (None for a file that keeps no hashes). Other
        reasons why the results may be too good are warnings, also in ``result.report.warnings``.

        Raises DataError for an unknown dataset, a missing folder, a damaged image or test images
        that were trained on, ConfigError for settings that do not fit the model, ModelFileError,
        ClosedError.

        >>> result = model.evaluate("synthetic", root=people)
        >>> 0 <= result.rank1 <= 1 and 0 <= result.mAP <= 1
        True
        """
        matcher = self._opened()
        settings = Settings(
            dataset,
            Path(root),
            shots=shots,
            shortlists=(shortlist,),
            rerank=rerank,
            asked=AskedSplit(test_identities, split_seed),
            query_file=None if query_features is None else Path(query_features),
            gallery_file=None if gallery_features is None else Path(gallery_features),
            allow_trained_on=allow_trained_on,
            any_camera=any_camera,
        )
        with reporting(progress) as reporter, named_packages():
            result = evaluate_matcher(matcher, self._file, self.path, settings, reporter)
        for line in result.report.warnings:
            warnings.warn(line, stacklevel=2)
        return result

    def threshold(
        self,
        dataset: str,
        root: str | os.PathLike[str],
        *,
        fpr: float | None = None,
        test_identities: int | None = None,
        split_seed: int | None = None,
        allow_trained_on: bool = False,
        progress: bool | Reporter = False,
    ) -> ThresholdResult:
        """Measure which distance means the same person, on a dataset's test people.

        The result has the distances at false positive rates of 1e-2 to 1e-5 (and ``fpr``), the
        true positive rates over two cameras, and how often a search has a match although
        the person is not in the gallery, for several sizes of gallery. ``result.keep()`` writes
        them into the model's manifest. Arguments as for ``evaluate``.

        Raises DataError, with the number needed, for too few people to show ``fpr`` or any rate,
        InputError for a rate out of range, and what ``evaluate`` raises.

        >>> result = model.threshold("synthetic", root=crowd)
        >>> result.thresholds.rates[0].distance > 0
        True
        """
        matcher = self._opened()
        if fpr is not None and not 0 < fpr <= LARGEST_FPR:
            raise InputError(f"fpr is a rate above 0, at most {LARGEST_FPR}; found {fpr}")
        settings = Settings(
            dataset,
            Path(root),
            asked=AskedSplit(test_identities, split_seed),
            allow_trained_on=allow_trained_on,
        )
        with reporting(progress) as reporter, named_packages():
            return measured_on_data(matcher, self._file, settings, fpr, reporter)

    def export(
        self,
        out: str | os.PathLike[str],
        *,
        fp16: bool = True,
        trt: bool = False,
        caffe: bool = False,
        bn_count: int = 1,
        also: Sequence[str] = (),
        pixels: bool = False,
        int8: bool = False,
        calibrate: str = "",
        root: str | os.PathLike[str] | None = None,
        calibration_crops: int = 256,
        calibration_seed: int = 0,
        prove: bool = True,
        engine_options: Mapping[str, object] | None = None,
        progress: bool | Reporter = False,
    ) -> ExportedFiles:
        """Export a checkpoint to ONNX files in the folder ``out`` and check each file's parity.

        An ``.onnx`` file of another program, taken in by ``reid.adopt``, can be exported too.

        ``fp16`` adds half precision, ``trt`` TensorRT engines (``engine_options`` are the fields
        of ``reid.export.tensorrt.options.EngineOptions``), ``caffe`` a prototxt and a caffemodel
        (``bn_count`` 10: training goes on in Caffe as it would here);
        ``also`` names graphs that are not written by default (CSN: ``pair``; SiSNet: ``second``,
        ``cascade``); ``pixels`` puts crop, mean and scale inside the graphs. ``int8`` adds INT8
        files, calibrated on ``calibration_crops`` training images of the dataset ``calibrate`` in
        the folder ``root`` and proven on its test images. ``prove=False`` skips the parity check,
        which runs on synthetic people.

        Raises ModelFileError for an engine, DataError for too few images, ParityError if the output
        of a file differs from the checkpoint's, BuildError, ConfigError, OutputError,
        MissingPackageError, ClosedError.

        >>> files = model.export(folder / "out", fp16=False)
        >>> [file.name for file in files]
        ['msp_cnn.fp32.onnx']
        """
        self._opened()
        if not self._file.is_checkpoint and self._file.suffix != ".onnx":
            raise ModelFileError(
                f"{self.path}: an engine cannot be exported again; load the run folder, the .pt "
                "checkpoint or the .onnx file that it was made from"
            )
        export_model = cast("Any", reid.loaded(reid.UPPER["export_model"]))
        with reporting(progress) as reporter, named_packages():
            files: ExportedFiles = export_model(
                self._file,
                Path(out),
                fp16=fp16,
                trt=trt,
                caffe=caffe,
                bn_count=bn_count,
                also=also,
                pixels=pixels,
                int8=int8,
                calibrate=calibrate,
                root=root,
                calibration_crops=calibration_crops,
                calibration_seed=calibration_seed,
                prove=prove,
                engine_options=engine_options,
                reporter=reporter,
            )
        return files

    def close(self) -> None:
        """Release the file and the device; may be called twice."""
        if not self._closed:
            self._closed = True
            self._matcher.close()

    def __enter__(self) -> Model:
        self._opened()
        return self

    def _opened(self) -> Matcher[Any]:
        if self._closed:
            raise ClosedError(f"the model {self.path} is closed; load it again with reid.load")
        return self._matcher

    def _features(self, side: Images | Features, reporter: Reporter) -> Features:
        return side if isinstance(side, Features) else self.embed(side, progress=reporter)


def matcher_of(model: Model) -> Matcher[Any]:
    """The matcher of an open model. Raises ClosedError, InputError."""
    if not isinstance(model, Model):
        raise InputError(
            f"expected a model from reid.load, found {type(model).__name__}; load the file first"
        )
    return model._opened()


def described_by(model: Model, features: Features) -> Any:
    """The matcher's form of features. Raises ModelFileError for another model's."""
    matcher = matcher_of(model)
    form = features.identity.get("stored")
    if form is not None:
        matcher = matcher.storing(form)
    refuse_other_model(features.identity, matcher.identity, "the features were made")
    return features._in_form_of(matcher)
