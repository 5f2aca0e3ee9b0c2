"""Detector files of every common form find the same two people, with no contract beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from reid.deploy.people.detector import open_detector
from reid.deploy.people.yolox import is_decoded, num_cells
from reid.errors import ModelFileError
from tests.deploy.people.conftest import write_detector

SIZE = 416
CELLS = num_cells(SIZE, SIZE)
BOXES = np.array([[100, 100, 160, 260], [250, 120, 310, 300]], np.float32)
SCORES = np.array([0.9, 0.8], np.float32)
CENTRED = np.concatenate([(BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]], axis=1)
FRAME = np.zeros((2 * SIZE, 2 * SIZE, 3), np.uint8)
COCO = {"task": "detect", "names": str({0: "person", **{n: f"thing {n}" for n in range(1, 80)}})}

Arrays = Mapping[str, np.ndarray[Any, Any]]


def cells(strides: Sequence[int] = (8, 16, 32)) -> tuple[np.ndarray[Any, Any], ...]:
    """Corner x and y and stride of each cell, by a loop."""
    rows = [
        (x, y, stride)
        for stride in strides
        for y in range(SIZE // stride)
        for x in range(SIZE // stride)
    ]
    table = np.array(rows, np.float32)
    return table[:, :2], table[:, 2:]


def yolox(decoded: bool, strides: Sequence[int] = (8, 16, 32)) -> Arrays:
    """Boxes in the cells of stride 32 in which their centres lie; small ones everywhere else."""
    corners, stride = cells(strides)
    output = np.zeros((1, len(corners), 85), np.float32)
    output[0, :, :2] = 0.5
    for box, score in zip(CENTRED, SCORES, strict=True):
        mine = (stride[:, 0] == 32) & (corners == box[:2] // 32).all(axis=1)
        output[0, mine, :2] = box[:2] / 32 - box[:2] // 32
        output[0, mine, 2:4] = np.log(box[2:] / 32)
        output[0, mine, 4:6] = 1, score
    if decoded:
        output[0, :, :2] = (output[0, :, :2] + corners) * stride
        output[0, :, 2:4] = np.exp(output[0, :, 2:4]) * stride
    return {"output": output}


def ultralytics(classes: int, person: int = 0, rows: int = CELLS) -> Arrays:
    output = np.zeros((1, 4 + classes, rows), np.float32)
    output[0, :4, :2], output[0, 4 + person, :2] = CENTRED.T, SCORES
    return {"output0": output}


def v5() -> Arrays:
    output = np.zeros((1, 3 * CELLS, 85), np.float32)
    output[0, :2, :4], output[0, :2, 4], output[0, :2, 5] = CENTRED, 1, SCORES
    return {"output0": output}


def end_to_end() -> Arrays:
    output = np.zeros((1, 300, 6), np.float32)
    output[0, :2, :4], output[0, :2, 4] = BOXES, SCORES
    output[0, 2] = [0, 0, 50, 50, 0.9, 16]  # a dog
    return {"output0": output}


def rt_detr() -> Arrays:
    output = np.zeros((1, 300, 84), np.float32)
    output[0, :2, :4], output[0, :2, 4] = CENTRED / SIZE, SCORES
    return {"output0": output}


LABELS = np.zeros((1, 2), np.int64)
MMDEPLOY = {"dets": np.concatenate([BOXES, SCORES[:, None]], axis=1)[None], "labels": LABELS}
LISTED = {"boxes": BOXES, "scores": SCORES, "labels": LABELS[0]}

FORMS: dict[str, tuple[Arrays, Mapping[str, str], str]] = {
    "YOLOX": (yolox(False), {}, ""),
    "YOLOX, decoded": (yolox(True), {}, "decoding inside"),
    "YOLOX P6": (yolox(False, (8, 16, 32, 64)), {}, ""),
    "YOLOX P6, decoded": (yolox(True, (8, 16, 32, 64)), {}, "decoding inside"),
    "YOLOX of one class": ({"output": yolox(False)["output"][..., :6]}, {}, ""),
    "Ultralytics": (ultralytics(80), COCO, "yolov8, class 0 as a person, and it gets RGB of 0-1"),
    "Ultralytics, no metadata": (ultralytics(80), {}, "yolov8"),
    "Ultralytics, one class": (ultralytics(1), {}, "yolov8"),
    "Ultralytics, other classes": (
        ultralytics(3, 2),
        {"names": "{0: 'car', 1: 'dog', 2: 'Pedestrian'}"},
        "class 2 as a person",
    ),
    "Ultralytics, turned": (
        {"output0": ultralytics(80)["output0"].transpose(0, 2, 1).copy()},
        {},
        "yolov8",
    ),
    "Ultralytics, end to end": (end_to_end(), COCO | {"end2end": "True"}, "rows"),
    "Ultralytics, suppressed": (end_to_end(), {}, "rows"),
    "RT-DETR": (rt_detr(), COCO, "boxes"),
    "YOLOv5": (v5(), {}, "yolov5"),
    "mmdeploy": (MMDEPLOY, {}, "dets and labels are read as boxes, class 0"),
    "boxes": (LISTED, {}, "boxes and scores and labels"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_common_form_finds_the_same_people(detector_path: Path, form: str) -> None:
    arrays, metadata, note = FORMS[form]
    write_detector(detector_path, arrays, (1, 3, SIZE, SIZE), metadata=metadata)
    detector = open_detector(detector_path, "cpu", 1)
    (found,) = detector.detect([FRAME])
    assert found.boxes == pytest.approx(2 * BOXES, abs=0.1)
    assert found.scores == pytest.approx(SCORES)
    assert note in detector.note
    assert bool(note) == bool(detector.note)


def test_sizes_that_a_file_leaves_open_are_found_in_its_metadata_and_values(
    detector_path: Path,
) -> None:
    metadata = COCO | {"imgsz": f"[{SIZE}, {SIZE}]"}
    open_sizes = {"output0": ["batch", 84, "anchors"]}
    shape = ["batch", 3, "height", "width"]
    write_detector(detector_path, ultralytics(80), shape, metadata=metadata, declared=open_sizes)
    (found,) = open_detector(detector_path, "cpu", 1).detect([FRAME])
    assert found.boxes == pytest.approx(2 * BOXES, abs=0.1)
    open_sizes = {"output0": ["batch", "anchors", 85]}
    write_detector(detector_path, v5(), (1, 3, SIZE, SIZE), declared=open_sizes)
    (found,) = open_detector(detector_path, "cpu", 1).detect([FRAME])
    assert found.boxes == pytest.approx(2 * BOXES, abs=0.1)


def test_an_input_of_half_precision_is_fed(detector_path: Path) -> None:
    half = onnx.TensorProto.FLOAT16
    write_detector(detector_path, ultralytics(80), (1, 3, SIZE, SIZE), half)
    (found,) = open_detector(detector_path, "cpu", 1).detect([FRAME])
    assert found.scores == pytest.approx(SCORES)


@pytest.mark.parametrize(
    ("arrays", "body"),
    [
        (ultralytics(2, 1, rows=99), {"format": "yolov8", "person": 1}),
        ({"a": LABELS, **v5()}, {"format": "yolov5", "output": "output0"}),
        (end_to_end(), {"format": "rows", "channel_order": "BGR"}),
        (MMDEPLOY, {"format": "boxes", "boxes": "dets", "scores": "", "labels": "labels"}),
        (
            {"where": CENTRED / SIZE, "sure": SCORES},
            {
                "format": "boxes",
                "boxes": "where",
                "scores": "sure",
                "box": "centre",
                "relative": True,
            },
        ),
    ],
)
def test_every_form_can_be_described(
    detector_path: Path, arrays: Arrays, body: dict[str, Any]
) -> None:
    write_detector(detector_path, arrays, (1, 3, SIZE, SIZE))
    Path(f"{detector_path}.json").write_text(json.dumps(body))
    detector = open_detector(detector_path, "cpu", 1)
    (found,) = detector.detect([FRAME])
    assert found.boxes == pytest.approx(2 * BOXES, abs=0.1)
    assert detector.note == ""


def test_a_file_without_a_person_and_scores_that_are_no_scores_are_refused(
    detector_path: Path,
) -> None:
    names = {"names": "{0: 'car', 1: 'dog'}"}
    write_detector(detector_path, ultralytics(2), (1, 3, SIZE, SIZE), metadata=names)
    with pytest.raises(ModelFileError, match=r"classes is called person \(car, dog\)"):
        open_detector(detector_path, "cpu", 1)
    arrays = {"boxes": BOXES, "scores": np.array([5.0, -3.0], np.float32)}
    write_detector(detector_path, arrays, (1, 3, SIZE, SIZE))
    with pytest.raises(ModelFileError, match="its scores reach from -3 to 5, expected 0 to 1"):
        open_detector(detector_path, "cpu", 1).detect([FRAME])


@pytest.mark.parametrize("names", ["{" * 1000, "7", "{'a': 1}", "x" * 200_000, "[" * 90_000])
def test_names_that_are_none_are_left_out(detector_path: Path, names: str) -> None:
    write_detector(detector_path, ultralytics(80), (1, 3, SIZE, SIZE), metadata={"names": names})
    (found,) = open_detector(detector_path, "cpu", 1).detect([FRAME])
    assert len(found.scores) == 2


def test_noise_around_every_cell_does_not_change_what_is_decoded() -> None:
    rng = np.random.default_rng(0)
    corners, stride = cells()
    raw = rng.normal(0.5, 1.5, (CELLS, 85)).astype(np.float32)
    decoded = raw.copy()
    decoded[:, :2] = (raw[:, :2] + corners) * stride
    decoded[:, 2:4] = np.exp(raw[:, 2:4]) * stride
    assert not is_decoded(raw, SIZE, SIZE)
    assert is_decoded(decoded, SIZE, SIZE)
