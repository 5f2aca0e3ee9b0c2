"""Detector files, from the outside: what they find, and what is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from reid.data.synthetic.figure import Pose, draw_person
from reid.data.synthetic.people import random_appearance
from reid.deploy.people.boxes import overlaps
from reid.deploy.people.detector import open_detector
from reid.deploy.people.yolox import num_cells
from reid.errors import ModelFileError
from tests.deploy.people.conftest import write_detector

HEIGHT, WIDTH = 64, 32
CELLS = num_cells(HEIGHT, WIDTH)
FRAMES = [np.zeros((128, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)]


def yolox_output(count: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A person of score 0.72 in the second cell of the first row, and the same again, weaker."""
    output = np.zeros((count, CELLS, 7), np.float32)
    for cell, score in ((1, 0.9), (2, 0.8)):
        output[:, cell] = [2.5 - cell, 1, np.log(1), np.log(2), score, 0.8, 0.2]
    output[:, 5] = [0, 0, 0, 0, 1, 0.05, 0.95]  # surely something, and no person
    return output


def test_a_yolox_file_finds_its_person_in_each_frame_once(detector_path: Path) -> None:
    write_detector(detector_path, {"output": yolox_output()})
    detector = open_detector(detector_path, "cpu", 1)
    tall, square = detector.detect(FRAMES)
    # Centre (20, 8), 8 x 16 pixels of the input, which is half of the tall and of the square frame.
    assert tall.boxes.tolist() == [pytest.approx([32, 0, 48, 32])]
    assert square.boxes.tolist() == [pytest.approx([32, 0, 48, 32])]
    assert tall.scores.tolist() == pytest.approx([0.72])
    assert detector.detect([]) == []
    detector.close()
    detector.close()


def test_a_yolox_file_that_takes_several_frames_gets_them_at_once(detector_path: Path) -> None:
    write_detector(detector_path, {"output": yolox_output(2)}, ["n", 3, HEIGHT, WIDTH])
    detector = open_detector(detector_path, "cpu", 1)
    assert [len(found.scores) for found in detector.detect(FRAMES)] == [1, 1]
    with pytest.raises(ModelFileError, match=r"it gives \(2, 42, 7\)"):
        detector.detect(FRAMES[:1])  # this file gives two, whatever it gets


@pytest.mark.parametrize("leading", [(), (1,)])
@pytest.mark.parametrize("labelled", [False, True])
def test_a_file_of_boxes_is_read_by_its_contract(
    detector_path: Path, leading: tuple[int, ...], labelled: bool
) -> None:
    corners = np.array([[0, 0, 16, 32], [8, 8, 16, 40], [0, 32, 8, 64]], np.float32)
    outputs = {
        "where": corners.reshape(*leading, 3, 4),
        "score": np.array([0.6, 0.05, 0.9], np.float32).reshape(*leading, 3),
        "what": np.array([1, 1, 0], np.int64).reshape(*leading, 3),
    }
    write_detector(detector_path, outputs, ["n", 3, "h", "w"])
    contract = {
        "format": "boxes",
        "height": HEIGHT,
        "width": WIDTH,
        "resize": "stretch",
        "boxes": "where",
        "scores": "score",
        "labels": "what" if labelled else "",
        "person": 1,
    }
    Path(f"{detector_path}.json").write_text(json.dumps(contract))
    found = open_detector(detector_path, "cpu", 1).detect(FRAMES[:1])[0]
    expected = [[0, 64, 16, 128], [0, 0, 32, 64]]
    assert found.boxes.tolist() == (expected[1:] if labelled else expected)


def test_scores_of_several_classes_are_read_for_people(detector_path: Path) -> None:
    scores = np.array([[[0.9, 0.1], [0.2, 0.8]]], np.float32)
    corners = np.array([[[0, 0, 8, 16], [8, 0, 16, 16]]], np.float32)
    write_detector(detector_path, {"boxes": corners, "scores": scores})
    Path(f"{detector_path}.json").write_text('{"format": "boxes", "person": 1}')
    found = open_detector(detector_path, "cpu", 1).detect(FRAMES[:1])[0]
    assert found.scores.tolist() == pytest.approx([0.8, 0.1])


NOT_YOLOX = {
    "an embedding": ({"output": np.zeros((1, 256), np.float32)}, (1, 3, HEIGHT, WIDTH)),
    "two outputs": ({"a": yolox_output(), "b": yolox_output()}, (1, 3, HEIGHT, WIDTH)),
    "other cells": ({"output": np.zeros((1, 7, 85), np.float32)}, (1, 3, HEIGHT, WIDTH)),
    "open size": ({"output": yolox_output()}, (1, 3, "h", "w")),
    "one channel": ({"output": yolox_output()}, (1, 1, HEIGHT, WIDTH)),
    "four at once": ({"output": np.concatenate([yolox_output()] * 4)}, (4, 3, HEIGHT, WIDTH)),
    "no picture": ({"output": yolox_output()}, (1, 3)),
}


@pytest.mark.parametrize("what", NOT_YOLOX)
def test_an_onnx_file_that_is_no_detector_is_one_line(detector_path: Path, what: str) -> None:
    outputs, shape = NOT_YOLOX[what]
    write_detector(detector_path, outputs, shape)
    with pytest.raises(ModelFileError, match="is not a known people detector") as error:
        open_detector(detector_path, "cpu", 1)
    assert "\n" not in str(error.value)


def test_labels_that_are_words_are_refused(detector_path: Path) -> None:
    outputs = {
        "boxes": np.zeros((2, 4), np.float32),
        "scores": np.ones(2, np.float32),
        "labels": np.array(["person", "dog"], object),
    }
    write_detector(detector_path, outputs)
    Path(f"{detector_path}.json").write_text('{"format": "boxes", "labels": "labels"}')
    with pytest.raises(ModelFileError, match=r"labels \[2\] tensor\(string\)"):
        open_detector(detector_path, "cpu", 1)


def test_boxes_that_are_no_numbers_are_given_out_without_a_word(detector_path: Path) -> None:
    output = yolox_output()
    output[0, 6:9, 4:6] = 1
    output[0, 6:9, :4] = [[3e38, -np.inf, np.nan, 1e9], [np.inf] * 4, [np.nan] * 4]
    output[0, 9, 4:6] = [np.inf, 0]
    write_detector(detector_path, {"output": output})
    (found,) = open_detector(detector_path, "cpu", 1).detect(FRAMES[:1])  # warnings are errors
    assert [32, 0, 48, 32] in [pytest.approx(box) for box in found.boxes.tolist()]


def test_an_input_of_bytes_is_refused(detector_path: Path) -> None:
    shape = (1, 3, HEIGHT, WIDTH)
    write_detector(detector_path, {"output": yolox_output()}, shape, onnx.TensorProto.UINT8)
    with pytest.raises(ModelFileError, match="is not a known people detector"):
        open_detector(detector_path, "cpu", 1)


def test_an_output_of_five_numbers_a_cell_has_no_class(detector_path: Path) -> None:
    write_detector(detector_path, {"output": yolox_output()[..., :5]})
    with pytest.raises(ModelFileError, match=r"it gives output \[1, 42, 5\]"):
        open_detector(detector_path, "cpu", 1).detect(FRAMES[:1])


def test_boxes_and_scores_of_unlike_numbers_are_one_line(detector_path: Path) -> None:
    outputs = {"boxes": np.zeros((3, 4), np.float32), "scores": np.zeros(2, np.float32)}
    write_detector(detector_path, outputs)
    Path(f"{detector_path}.json").write_text('{"format": "boxes"}')
    with pytest.raises(ModelFileError, match=r"boxes \(3, 4\) and scores \(2,\)"):
        open_detector(detector_path, "cpu", 1).detect(FRAMES[:1])


def test_a_contract_that_names_an_output_that_is_not_there_is_one_line(detector_path: Path) -> None:
    write_detector(detector_path, {"output": yolox_output()})
    Path(f"{detector_path}.json").write_text('{"format": "boxes"}')
    with pytest.raises(ModelFileError, match=r"it gives output \[1, 42, 7\]"):
        open_detector(detector_path, "cpu", 1)


def test_a_contract_of_another_size_than_the_file_s_is_one_line(detector_path: Path) -> None:
    write_detector(detector_path, {"output": yolox_output()})
    Path(f"{detector_path}.json").write_text('{"format": "yolox", "height": 32, "width": 64}')
    with pytest.raises(ModelFileError, match=r"its height and width are \[32, 64\]"):
        open_detector(detector_path, "cpu", 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.onnx", b"", "is not an ONNX file"),
        ("a.onnx", b"no detector at all", "is not an ONNX file"),
        ("a.pt", b"x", "not an .onnx file"),
        ("absent.onnx", None, "no such file"),
    ],
)
def test_a_file_that_is_no_onnx_is_one_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=message) as error:
        open_detector(tmp_path / name, "cpu", 1)
    assert "\n" not in str(error.value)


def test_without_a_file_opencv_finds_a_drawn_person_where_it_stands() -> None:
    frame = np.full((240, 320, 3), 155, np.uint8)
    rng = np.random.default_rng(1)
    draw_person(frame, random_appearance(rng), Pose(yaw=0.3, stride=0.8), (160, 220), 150, rng)
    rows, columns = np.nonzero((frame != 155).any(axis=2))
    place = [columns.min(), rows.min(), columns.max(), rows.max()]
    found, none = open_detector(None, min_height=96).detect([frame, frame[:100, :50]])
    assert overlaps(found.boxes, np.array([place], np.float32)).ravel() == pytest.approx(
        0.7, abs=0.2
    )
    assert 0.5 < found.scores[0] <= 1
    assert len(none.scores) == 0  # smaller than a window


@pytest.mark.real_data
def test_the_real_yolox_nano_finds_the_people_of_a_real_video(
    real_data: Callable[..., Path],
) -> None:
    root = real_data("detector", "video")
    detector = open_detector(root / "detector" / "yolox_nano.onnx", "cpu", 1)
    capture = cv2.VideoCapture(str(root / "video" / "pets09_s2l1" / "video.mp4"))
    _, frame = capture.read()
    (found,) = detector.detect([np.asarray(frame, np.uint8)])
    # Frame 1 of gt.txt, brought from 768x576 to 480x360.
    truth = np.array([[499, 158, 31, 75], [258, 219, 33, 89], [633, 242, 42, 81]]) * 0.625
    corners = np.concatenate([truth[:, :2], truth[:, :2] + truth[:, 2:]], axis=1)
    common = overlaps(corners.astype(np.float32), found.boxes[found.scores > 0.5])
    assert (common.max(axis=1) > 0.5).all()
