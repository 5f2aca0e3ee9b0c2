"""The manifest of a checkpoint or exported file, stored beside it as ``<file>.json``.

An ONNX file has the same JSON in its ``metadata_props``. The manifest is the preprocessing
contract: a program needs nothing else to use the file correctly.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from reid.errors import ConfigError, ManifestError
from reid.files import write_text
from reid.model_file.parts import sha256_of_model
from reid.model_file.preprocess import Preprocess
from reid.model_file.quantisation import Quantisation, quantisation_from_json
from reid.model_file.thresholds import Thresholds, thresholds_from_json
from reid.printing import printable
from reid.types import ArraySpec

FORMAT_VERSION = 1
METADATA_KEY = "reid.manifest"
"""Key of the JSON in an ONNX file's ``metadata_props``."""


class BatchProfile(NamedTuple):
    """The batch sizes of one optimisation profile: smallest, optimal, largest."""

    min_batch: int
    opt_batch: int
    max_batch: int

    def __str__(self) -> str:
        """``1-8-32``."""
        return "-".join(str(size) for size in self)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Where a TensorRT engine can run: it is tied to these unless built to be compatible."""

    gpu_architecture: str
    """Such as ``sm87``; ``ampere_plus`` (hardware compatible); ``rtx`` (ahead of time)."""
    tensorrt_version: str
    flavour: str
    min_batch: int
    opt_batch: int
    max_batch: int
    hardware_compatible: bool = False
    version_compatible: bool = False
    stripped: bool = False
    """Whether it was built without weights and must be refitted before it can run."""
    precision_proof: str = ""
    """Evidence that the engine computes in the manifest's precision."""
    more_profiles: tuple[BatchProfile, ...] = ()
    """Optimisation profiles after the first, which is ``min_batch`` to ``max_batch``."""

    @property
    def profiles(self) -> tuple[BatchProfile, ...]:
        """All optimisation profiles, in the engine's order."""
        first = BatchProfile(self.min_batch, self.opt_batch, self.max_batch)
        return (first, *self.more_profiles)

    @property
    def largest_batch(self) -> int:
        """The largest batch of any profile."""
        return max(profile.max_batch for profile in self.profiles)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contract of one model file.

    ``stage`` is the exported graph: ``"train"`` for a checkpoint, ``"embed"`` for a network
    that outputs vectors, ``"describe"``, ``"compare"`` or ``"pair"`` for a graph of a network
    that compares pairs. ``input_name``, ``output_name`` and ``output_dim`` describe a graph
    from one image to one vector; any other graph lists its arrays in ``inputs`` and
    ``outputs``. ``dataset``, ``num_test_identities`` and ``split_seed`` are the split used for
    training. ``output_meaning`` and ``normalised`` describe the vector. ``usual_score``, for a
    network that compares pairs, is the score above which a pair is taken for one person as long as
    ``thresholds`` are not measured. ``precision`` is the graph's arithmetic (fp32, fp16, int8).
    ``source_sha256`` is the hash of the file it was made from, ``checkpoint_sha256`` that of the
    original checkpoint (of a network of another program: of the file that was imported), and
    ``file_sha256`` that of the described file itself (of an OpenVINO ``.xml``: of it and its
    ``.bin``), each empty if unknown. ``static_batch`` is the batch size that the graph is fixed to;
    0: any.
    """

    network: str
    stage: str
    preprocess: Preprocess
    input_name: str = "data"
    output_name: str = "embedding"
    output_meaning: str = "fc7_bn"
    usual_score: float = 0.7
    output_dim: int = 256
    inputs: tuple[ArraySpec, ...] = ()
    outputs: tuple[ArraySpec, ...] = ()
    normalised: bool = True
    precision: str = "fp32"
    fp32_islands: tuple[str, ...] = ()
    opset: int = 0
    static_batch: int = 0
    dataset: str = ""
    num_test_identities: int = 0
    split_seed: int = 0
    source_sha256: str = ""
    checkpoint_sha256: str = ""
    file_sha256: str = ""
    toolkit_version: str = ""
    engine: EngineInfo | None = None
    inside: Preprocess | None = None
    """Preprocessing inside the graph (``--pixels``), which callers must not apply again."""
    parity: dict[str, Any] = field(default_factory=dict)
    """The report of the last parity run; empty if not checked."""
    quantisation: Quantisation | None = None
    """How an INT8 file was made; None for other files, and for INT8 of another program."""
    thresholds: Thresholds | None = None
    """The distances that mean the same person; None if they were not measured."""
    mirrored: bool = False
    """Whether a vector is the mean of the image's and its mirror image's, of length 1 again."""

    @property
    def model_sha256(self) -> str:
        """The hash that says which model it is: the checkpoint's, or else the file's own."""
        return self.checkpoint_sha256 or self.file_sha256

    @property
    def input_arrays(self) -> tuple[ArraySpec, ...]:
        """The graph's inputs, in order."""
        return self.inputs or (ArraySpec(self.input_name, self.preprocess.input_shape),)

    @property
    def output_arrays(self) -> tuple[ArraySpec, ...]:
        """The graph's outputs, in order."""
        return self.outputs or (ArraySpec(self.output_name, (self.output_dim,)),)

    def of_graph(
        self, graph: str, inputs: tuple[ArraySpec, ...], outputs: tuple[ArraySpec, ...]
    ) -> Manifest:
        """The same contract for another graph of the network."""
        vector = len(inputs) == len(outputs) == len(outputs[0].shape) == 1
        batched = all(array.batched for array in (*inputs, *outputs))
        if not (vector and batched) or inputs[0].shape != self.preprocess.input_shape:
            own = dataclasses.replace(self, stage=graph, inputs=inputs, outputs=outputs)
            return own._with_own_thresholds()
        return dataclasses.replace(
            self,
            stage=graph,
            input_name=inputs[0].name,
            output_name=outputs[0].name,
            output_dim=outputs[0].shape[0],
            inputs=(),
            outputs=(),
        )._with_own_thresholds()

    def with_mirror(self) -> Manifest:
        """The contract with the mirror image averaged in; thresholds were measured without it."""
        if self.mirrored:
            return self
        return dataclasses.replace(self, mirrored=True, normalised=True, thresholds=None)

    def _with_own_thresholds(self) -> Manifest:
        """Without thresholds that were measured with another graph of the network."""
        if self.thresholds is None or self.thresholds.graph == self.stage:
            return self
        return dataclasses.replace(self, thresholds=None)

    def to_json(self) -> str:
        """Stable, indented JSON."""
        body = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(body, indent=2, sort_keys=False) + "\n"

    @staticmethod
    def from_json(text: str, where: str) -> Manifest:
        """Parse a manifest; ``where`` names the source in errors. Raises ManifestError."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{where} is not JSON ({error}); export the model again") from None
        if not isinstance(body, dict):
            raise ManifestError(
                f"{where}: expected a JSON object, found {type(body).__name__}; export the model "
                "again"
            )
        version = body.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise ManifestError(
                f"{where} has format_version {version}, expected {FORMAT_VERSION}; export the "
                "model again with this version of the toolkit"
            )
        try:
            body["preprocess"] = _preprocess(body.pop("preprocess"))
            inside = body.pop("inside", None)
            body["inside"] = _preprocess(inside) if inside else None
            body["fp32_islands"] = tuple(body.get("fp32_islands", ()))
            if not all(isinstance(island, str) for island in body["fp32_islands"]):
                raise TypeError(f"fp32_islands must be names, found {body['fp32_islands']}")
            for key in ("inputs", "outputs"):
                body[key] = tuple(_array_spec(item) for item in body.get(key, ()))
            names = [array.name for key in ("inputs", "outputs") for array in body[key]]
            if len(set(names)) < len(names):
                raise TypeError(f"array names must be unique, found {', '.join(names)}")
            engine = body.pop("engine", None)
            body["engine"] = _engine_info(engine) if engine else None
            quantisation = body.pop("quantisation", None)
            body["quantisation"] = quantisation_from_json(quantisation) if quantisation else None
            measured = body.pop("thresholds", None)
            body["thresholds"] = thresholds_from_json(measured) if measured else None
            manifest = _typed(Manifest(**body))
            _require_names(manifest)
            if manifest.output_dim < 1 or manifest.static_batch < 0:
                raise TypeError(
                    "output_dim must be above 0 and static_batch at least 0, found "
                    f"{manifest.output_dim} and {manifest.static_batch}"
                )
            if not 0 < manifest.usual_score < math.inf:
                raise TypeError(f"usual_score must be above 0, found {manifest.usual_score}")
            return manifest
        except (KeyError, TypeError, AttributeError, ConfigError) as error:
            raise ManifestError(
                f"{where} is not a valid manifest ({error}); export the model again"
            ) from None


def _preprocess(item: Any) -> Preprocess:
    """Raises KeyError, TypeError or ConfigError, like the other parts."""
    return _typed(Preprocess(**{**item, "mean": tuple(item["mean"]), "std": tuple(item["std"])}))


def _engine_info(item: Any) -> EngineInfo:
    """Raises TypeError or AttributeError, like the other parts."""
    further = tuple(BatchProfile(*sizes) for sizes in item.pop("more_profiles", ()))
    info = _typed(EngineInfo(**item, more_profiles=further))
    if not all(type(size) is int and size > 0 for profile in info.profiles for size in profile):
        raise TypeError(f"batch sizes must be integers above 0, found {info.profiles}")
    return info


def _array_spec(item: Any) -> ArraySpec:
    """Raises KeyError, TypeError or AttributeError, like the other parts."""
    shape = tuple(item["shape"])
    whole = all(type(size) is int and size > 0 for size in shape)
    if not isinstance(item["name"], str) or not whole:
        raise TypeError(f"an array must have a name and integer sizes above 0, found {item}")
    return ArraySpec(item["name"], shape, bool(item["batched"]))


def _require_names(manifest: Manifest) -> None:
    """Raise TypeError for words that cannot be part of a file's name, as exports use them."""
    architecture = manifest.engine.gpu_architecture if manifest.engine else ""
    for word in (manifest.network, manifest.stage, manifest.precision, architecture):
        if printable(word) != word or word.startswith(".") or set(word) & set("/\\"):
            raise TypeError(f"expected a name without signs such as /, found {word!r}")


_PLAIN = {"str": str, "int": int, "bool": bool, "dict[str, Any]": dict}
"""Declared types that can be compared with a JSON value's type directly; the other fields are
checked on construction."""

Part = TypeVar("Part", Manifest, EngineInfo, Preprocess)


def _typed(part: Part) -> Part:
    """Return ``part`` after checking the types of its plain fields. Raises TypeError."""
    for one in dataclasses.fields(part):
        value = getattr(part, one.name)
        if one.type in _PLAIN and type(value) is not _PLAIN[str(one.type)]:
            raise TypeError(f"{one.name} must be {one.type}, found {value!r}")
    return part


def manifest_path(model_path: Path) -> Path:
    """``model.onnx`` -> ``model.onnx.json``."""
    return model_path.with_name(model_path.name + ".json")


def write_manifest(model_path: Path, manifest: Manifest) -> Manifest:
    """Write the manifest beside ``model_path``, with the file's hash; return that manifest."""
    stamped = dataclasses.replace(manifest, file_sha256=sha256_of_model(model_path))
    write_text(manifest_path(model_path), stamped.to_json())
    return stamped


def read_manifest(model_path: Path, check_hash: bool = True) -> Manifest:
    """Read the manifest beside a model file.

    Raises ManifestError if it is missing or invalid, or, with ``check_hash``, if it describes
    another file, ModelFileError for an OpenVINO ``.xml`` without its ``.bin``.
    """
    path = manifest_path(model_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"cannot read the manifest {path} beside the model ({error}); "
            "keep the .json with its file, or export the model again"
        ) from None
    manifest = Manifest.from_json(text, str(path))
    if check_hash and manifest.file_sha256:
        try:
            found = sha256_of_model(model_path)
        except OSError as error:
            raise ManifestError(
                f"{path} describes {model_path.name}, which cannot be read ({error.strerror}); "
                "keep the two files together"
            ) from None
        if found != manifest.file_sha256:
            raise ManifestError(
                f"{path} describes another file: expected SHA-256 "
                f"{manifest.file_sha256[:12]}..., {model_path.name} has {found[:12]}...; "
                "copy the two files together, or write them again (reid export, reid bundle)"
            )
    return manifest
