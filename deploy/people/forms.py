"""What the outputs of a detector file mean: recognised by name, shape and values, and decoded.

``recognise`` finds the form of a file without a contract, ``people_of`` reads the outputs of any.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from reid.types import FloatArray

from .boxes import People
from .contract import USUAL, DetectorContract
from .yolox import cell_counts, corners_of, people_from_yolox

MIN_SCORE = 0.1
"""The lowest score in the output."""

PERSON_NAMES = ("person", "people", "pedestrian", "human")
"""How a file that names its classes calls a person."""

_COCO_CLASSES = 80
_LONGEST_NAMES = 100_000
_SCORE_SLACK = 1e-3


class Output(NamedTuple):
    """One output of a file; a size that it leaves open is -1."""

    name: str
    shape: tuple[int, ...]


def recognise(
    outputs: Sequence[Output], contract: DetectorContract, metadata: Mapping[str, str]
) -> DetectorContract | None:
    """The contract of a file with these outputs and ``metadata``; None if no known form fits.

    ``contract`` has the input's size. Raises ValueError if the file names its classes, and none of
    them is a person.
    """
    names = class_names(metadata)
    form = _by_names({output.name for output in outputs})
    if form is None and outputs and (len(outputs) == 1 or "task" in metadata):
        form = _by_shape(outputs[0], contract, names, metadata)
    if form is None:
        return None
    return dataclasses.replace(
        contract, **{**USUAL[form["format"]], "person": _person(names), **form}
    )


def class_names(metadata: Mapping[str, str]) -> dict[int, str]:
    """Class number -> name, from Ultralytics' metadata; empty without it."""
    text = metadata.get("names", "")
    try:
        found = ast.literal_eval(text) if len(text) <= _LONGEST_NAMES else None
        found = dict(enumerate(found)) if isinstance(found, list) else found
        return {int(key): str(value) for key, value in (found or {}).items()}
    except (ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError):
        return {}


def input_size(metadata: Mapping[str, str]) -> list[int]:
    """Height and width of the input from Ultralytics' metadata; zeros without it."""
    sizes = re.fullmatch(r"\[(\d{1,5}), ?(\d{1,5})\]", metadata.get("imgsz", ""))
    return [int(sizes[1]), int(sizes[2])] if sizes else [0, 0]


def _person(names: Mapping[int, str]) -> int:
    for number, name in names.items():
        if name.lower() in PERSON_NAMES:
            return number
    if len(names) > 1:
        shown = ", ".join(list(names.values())[:8])
        raise ValueError(f"none of its classes is called person ({shown})")
    return next(iter(names), 0)


def _by_names(names: set[str]) -> dict[str, Any] | None:
    if {"dets", "labels"} <= names:
        return {"format": "boxes", "boxes": "dets", "scores": "", "labels": "labels"}
    if {"boxes", "scores"} <= names:
        return {"format": "boxes", "labels": "labels" if "labels" in names else ""}
    return None


def _by_shape(
    output: Output,
    contract: DetectorContract,
    names: Mapping[int, str],
    metadata: Mapping[str, str],
) -> dict[str, Any] | None:
    """By the number of cells of YOLO's grids, and the number of columns."""
    if len(output.shape) != 3:
        return None
    _, rows, columns = output.shape
    cells = (*cell_counts(contract.height, contract.width), -1)
    classes = len(names) or _COCO_CLASSES
    form: dict[str, Any] = {"output": output.name}
    if metadata.get("end2end", "").lower() == "true" and columns >= 6:
        return form | {"format": "rows"}
    if rows in cells and columns == 4 + classes:
        return form | {"format": "yolov8"}
    if columns in cells and (rows >= 5 or rows == -1) and rows not in cells[:2]:
        return form | {"format": "yolov8"}
    if rows in cells and columns >= 6 and not (rows == -1 and names):
        return form | {"format": "yolox"}
    if rows in (*(3 * count for count in cells[:2]), -1) and columns >= 6:
        return form | {"format": "yolov5"}
    if names and columns == 4 + classes:  # RT-DETR
        relative = {"box": "centre", "relative": True, "resize": "stretch", "scores": ""}
        return {**USUAL["rows"], **relative, "format": "boxes", "boxes": output.name}
    return form | {"format": "rows"} if columns == 6 else None


def people_of(
    arrays: Sequence[FloatArray], contract: DetectorContract, count: int, decoded: bool
) -> list[People]:
    """The people of ``count`` frames in pixels of the input, not suppressed.

    Raises ValueError with what was found, for shapes or scores that are not of the contract's form.
    """
    if contract.format == "boxes":
        return [_listed(contract, *arrays)]
    (output,) = arrays
    height, width, person = contract.height, contract.width, contract.person
    cells = cell_counts(height, width)
    if contract.format == "yolov8" and output.ndim == 3 and output.shape[1] not in cells:
        output = output.transpose(0, 2, 1)
    needed = {"yolox": 6 + person, "yolov5": 6 + person, "yolov8": 5 + person, "rows": 6}
    fits = output.ndim == 3 and len(output) == count and output.shape[2] >= needed[contract.format]
    if not fits or (contract.format == "yolox" and output.shape[1] not in cells):
        raise ValueError(f"it gives {arrays[0].shape}")
    if contract.format == "yolox":
        return [people_from_yolox(one, height, width, person, MIN_SCORE, decoded) for one in output]
    return [_from_columns(contract, one) for one in output]


def _from_columns(contract: DetectorContract, rows: FloatArray) -> People:
    """People from one row for each box, of the formats yolov5, yolov8 and rows."""
    if contract.format == "rows":
        found = People(rows[:, :4], rows[:, 4])
        return _likely(contract, found, rows[:, 5] == contract.person, "corners")
    scores = rows[:, 4 + contract.person]
    if contract.format == "yolov5":
        scores = rows[:, 4] * rows[:, 5 + contract.person]
    return _likely(contract, People(rows[:, :4], scores), True, "centre")


def _listed(contract: DetectorContract, boxes: FloatArray, *others: FloatArray) -> People:
    """People from the outputs of the format ``boxes``."""
    given = zip(contract.outputs, (boxes, *others), strict=True)
    shapes = " and ".join(f"{name} {array.shape}" for name, array in given)
    scores, labels = (others[0], others[1:]) if contract.scores else (boxes[..., 4:], others)
    boxes = boxes if contract.scores else boxes[..., :4]
    by_class = scores.ndim == boxes.ndim and scores.size != boxes.size // 4
    if by_class and contract.person < scores.shape[-1]:
        scores = scores[..., contract.person]
    columns = [scores.ravel(), *(label.ravel() for label in labels)]
    if boxes.shape[-1:] != (4,) or {len(column) for column in columns} != {boxes.size // 4}:
        raise ValueError(f"it gives {shapes}")
    chosen = np.ones(len(columns[0]), bool)
    for label in columns[1:]:
        chosen &= label == contract.person
    found = People(boxes.reshape(-1, 4), columns[0])
    return _likely(contract, found, chosen, contract.box)


def _likely(contract: DetectorContract, people: People, chosen: Any, box: str) -> People:
    """The chosen ones with a score of MIN_SCORE or more, as corners in pixels of the input."""
    scores = people.scores[np.isfinite(people.scores)]
    if len(scores) and not -_SCORE_SLACK <= scores.min() <= scores.max() <= 1 + _SCORE_SLACK:
        raise ValueError(
            f"its scores reach from {scores.min():.3g} to {scores.max():.3g}, expected 0 to 1"
        )
    (rows,) = np.nonzero((people.scores >= MIN_SCORE) & chosen)
    places = people.boxes[rows]
    if contract.relative:
        places = places * np.array([contract.width, contract.height] * 2, np.float32)
    boxes = corners_of(places) if box == "centre" else places.astype(np.float32)
    return People(boxes, people.scores[rows].astype(np.float32))
