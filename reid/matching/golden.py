"""Golden crops: images with the outputs that a model must give for them on any machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from reid.data.golden_crops import NUM_CROPS
from reid.errors import DataError, ModelFileError
from reid.files import write_atomically
from reid.matching.columns import Column, open_columns, write_columns
from reid.runtime import Runner
from reid.types import FloatArray, Image

FOLDER = "golden"
FILE = "golden.safetensors"
FORMAT = "reid-toolkit golden crops 2"
EARLIER = ("reid-toolkit golden crops 1",)
"""Formats without checksums."""

_ANSWERS, _CROP = "answers", "crop_"


@dataclass(frozen=True, slots=True)
class Golden:
    """N crops, (H, W, 3) uint8 BGR of different sizes, and their expected outputs ``answers``,
    (N, D) float32.

    ``precision`` is that of the model that computed the answers, ``checkpoint`` the first digits
    of its checkpoint's SHA-256.
    """

    crops: tuple[Image, ...]
    answers: FloatArray
    network: str
    checkpoint: str
    precision: str

    @property
    def spread(self) -> float:
        """The median distance of an answer from the mean answer: errors are relative to it."""
        distances = np.linalg.norm(self.answers - self.answers.mean(axis=0), axis=1)
        return float(np.median(distances))


def answers_of(runner: Runner, inputs: FloatArray, batch_size: int = NUM_CROPS) -> FloatArray:
    """All outputs of a graph for images (N, 3, H, W), as rows (N, D) float32.

    Raises ModelFileError for a graph whose input is not one image.
    """
    specs = runner.manifest.input_arrays
    if len(specs) != 1 or specs[0].shape != runner.manifest.preprocess.input_shape:
        raise ModelFileError(
            f"golden crops need a graph that takes one image; {runner.manifest.network}'s "
            f"{runner.manifest.stage!r} takes {', '.join(spec.words() for spec in specs)}: name "
            "the graph that describes images"
        )
    rows = []
    for start in range(0, len(inputs), batch_size):
        outputs = runner.run({specs[0].name: inputs[start : start + batch_size]})
        arrays = [outputs[spec.name] for spec in runner.manifest.output_arrays]
        rows.append(np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1))
    return np.concatenate(rows)


def golden_of(runner: Runner, crops: Sequence[Image]) -> Golden:
    """The crops with this model's outputs as answers. Raises what ``answers_of`` raises."""
    manifest = runner.manifest
    answers = answers_of(runner, manifest.preprocess.batch(list(crops)))
    if not np.isfinite(answers).all():
        raise ModelFileError(
            "the model's outputs for the golden crops are not all finite; check its weights"
        )
    return Golden(
        tuple(crops),
        answers,
        manifest.network,
        manifest.checkpoint_sha256[:16],
        manifest.precision,
    )


def save_golden(golden: Golden, folder: Path) -> Path:
    """Write ``golden.safetensors``, and the crops as PNG files for any other program.

    Returns the path of the first. Raises OutputError.
    """
    arrays = {f"{_CROP}{index:03d}": crop for index, crop in enumerate(golden.crops)}
    texts = {
        "model": json.dumps(
            {
                "network": golden.network,
                "checkpoint": golden.checkpoint,
                "precision": golden.precision,
            }
        ),
    }
    for name, crop in arrays.items():
        done, encoded = cv2.imencode(".png", crop)
        if not done:
            raise ValueError(f"OpenCV cannot encode an image of shape {crop.shape} as PNG")
        _write(folder / f"{name}.png", encoded.tobytes())
    columns: dict[str, list[Column]] = {name: [crop] for name, crop in arrays.items()}
    columns[_ANSWERS] = [golden.answers]
    write_columns(folder / FILE, FORMAT, texts, columns)
    return folder / FILE


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))


def load_golden(path: Path) -> Golden:
    """Read what ``save_golden`` wrote. Raises DataError for anything else."""
    try:
        file = open_columns(path, FORMAT, "file of golden crops", "copy it again", earlier=EARLIER)
        if file.format_name == FORMAT and not file.seal:
            raise ValueError("it has no checksums")
        file.require_undamaged()
        arrays = {name: np.array(column) for name, column in file.columns.items()}
        model = {key: str(value) for key, value in json.loads(file.texts["model"]).items()}
        answers = arrays.pop(_ANSWERS)
        crops = tuple(arrays[name] for name in sorted(arrays))
        images = all(
            crop.dtype == np.uint8 and crop.shape[2:] == (3,) and crop.size for crop in crops
        )
        rows = answers.dtype == np.float32 and answers.ndim == 2 and len(answers) == len(crops)
        if not crops or not images or not rows or not np.isfinite(answers).all():
            raise ValueError("its arrays are not crops with one answer each")
        return Golden(crops, answers, model["network"], model["checkpoint"], model["precision"])
    except (ModelFileError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} holds no golden crops ({error}); expected the {FILE} of a `reid bundle`"
        ) from None


def golden_beside(repository: Path, name: str = "") -> Path:
    """The folder of a model's golden crops beside a Triton repository: ``models-golden/NAME``.

    Not inside, because Triton takes every folder there for a model. Without a name it is the
    folder of all of them.
    """
    return repository.with_name(f"{repository.name}-{FOLDER}") / name


def find_golden(model: Path) -> Path | None:
    """The golden crops of the bundle around a model file; None without any.

    In a Triton repository the model is two folders down, and its crops are beside the repository;
    earlier versions had them inside.
    """
    version, name, repository = (*model.parents, *[Path()] * 3)[:3]
    folders = [version / FOLDER]
    if repository.name:
        folders += [golden_beside(repository, name.name), golden_beside(repository)]
    for folder in (*folders, name / FOLDER, repository / FOLDER):
        if (folder / FILE).is_file():
            return folder / FILE
    return None
