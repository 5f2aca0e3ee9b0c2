"""What a detector's contract does to a frame, and which contracts are none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid.deploy.people.boxes import People
from reid.deploy.people.contract import DetectorContract, read_contract
from reid.errors import ModelFileError

FRAME = np.full((20, 40, 3), (10, 20, 30), np.uint8)
SIZED = DetectorContract(height=30, width=20)


def test_letterbox_keeps_the_aspect_and_pads_below_and_right() -> None:
    prepared = SIZED.prepare(FRAME)
    # 40 x 20 into 20 x 30: half as large, 20 x 10 at the top left, grey below.
    assert prepared.shape == (3, 30, 20)
    assert prepared.dtype == np.float32
    assert prepared[:, :10].reshape(3, -1).tolist() == [[10.0] * 200, [20.0] * 200, [30.0] * 200]
    assert np.all(prepared[:, 10:] == 114)


def test_stretch_fills_the_input() -> None:
    prepared = dataclasses.replace(SIZED, resize="stretch").prepare(FRAME)
    assert np.all(prepared == np.array([10, 20, 30]).reshape(3, 1, 1))


def test_mean_and_std_are_in_the_order_of_the_channels() -> None:
    contract = dataclasses.replace(
        SIZED, channel_order="RGB", mean=(1.0, 2.0, 3.0), std=(10.0, 5.0, 1.0), resize="stretch"
    )
    prepared = contract.prepare(FRAME)
    assert prepared[:, 0, 0].tolist() == pytest.approx([(30 - 1) / 10, (20 - 2) / 5, 10 - 3])


@pytest.mark.parametrize(
    ("resize", "expected"), [("letterbox", [20, 10, 40, 20]), ("stretch", [20, 10 / 3, 40, 20 / 3])]
)
def test_boxes_come_back_to_the_pixels_of_the_frame(resize: str, expected: list[float]) -> None:
    contract = dataclasses.replace(SIZED, resize=resize)
    found = People(np.array([[10, 5, 20, 10]], np.float32), np.ones(1, np.float32))
    assert contract.restore(found, 20, 40).boxes[0].tolist() == pytest.approx(expected)


def test_without_a_contract_a_file_is_yolox_s(tmp_path: Path) -> None:
    assert read_contract(tmp_path / "a.onnx") == DetectorContract()


def test_a_contract_says_what_differs(tmp_path: Path) -> None:
    body = {"format": "boxes", "channel_order": "RGB", "std": [255, 255, 255.0], "person": 3}
    (tmp_path / "a.onnx.json").write_text(json.dumps(body))
    expected = DetectorContract(format="boxes", channel_order="RGB", std=(255.0,) * 3, person=3)
    assert read_contract(tmp_path / "a.onnx") == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "Expecting value"),
        ("[]", "not a JSON object"),
        ("{}", "needs a format: yolox or boxes"),
        ('{"format": "boxes", "chanel_order": "RGB"}', "did you mean 'channel_order'"),
        ('{"format": "yolo"}', "format cannot be 'yolo'"),
        ('{"format": "boxes", "height": -1}', "height cannot be -1"),
        ('{"format": "boxes", "height": 1e9}', "height cannot be"),
        ('{"format": "boxes", "width": true}', "width cannot be True"),
        ('{"format": "boxes", "std": [1, 1, 0]}', "std cannot be"),
        ('{"format": "boxes", "std": [1, NaN, 1]}', "std cannot be"),
        ('{"format": "boxes", "std": [1, 1e-320, 1]}', "std cannot be"),
        ('{"format": "boxes", "mean": [1' + 400 * "0" + ", 1, 1]}", "mean cannot be"),
        ('{"format": "boxes", "mean": [1, 1]}', "mean cannot be"),
        ('{"format": "boxes", "mean": ["1", 1, 1]}', "mean cannot be"),
        ('{"format": "boxes", "pad": 256}', "pad cannot be 256"),
        ('{"format": "boxes", "scores": 1}', "scores cannot be 1"),
        ('{"format_version": 1, "network": "msp_cnn"}', "needs a format"),
        ("[" * 100_000, "does not describe a detector"),
    ],
)
def test_what_is_no_contract_is_one_line(tmp_path: Path, body: Any, message: str) -> None:
    (tmp_path / "a.onnx.json").write_text(body)
    with pytest.raises(ModelFileError, match=message) as error:
        read_contract(tmp_path / "a.onnx")
    assert "\n" not in str(error.value)
