"""Golden crops: written, read back, found, and refused where they are something else."""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import save_file

from reid.data.golden_crops import golden_crops
from reid.errors import DataError, ModelFileError
from reid.matching.golden import (
    EARLIER,
    FILE,
    FOLDER,
    Golden,
    answers_of,
    find_golden,
    golden_of,
    load_golden,
    save_golden,
)
from reid.runtime import open_runner
from reid.types import ArraySpec
from tests.deploy.conftest import Served

MODEL = {"network": "msp_cnn", "checkpoint": "c0ffee", "precision": "fp32"}


@pytest.fixture(scope="module")
def golden(served: Served) -> Golden:
    with closing(open_runner(served.file(), "cpu")) as runner:
        return golden_of(runner, golden_crops())


def test_crops_shrink_and_grow_and_are_of_every_aspect() -> None:
    shapes = np.array([crop.shape[:2] for crop in golden_crops()])
    aspects = shapes[:, 1] / shapes[:, 0]
    assert shapes[:, 0].min() < 160 < shapes[:, 0].max()
    assert aspects.min() < 0.36
    assert aspects.max() > 0.6
    for again, crop in zip(golden_crops(), golden_crops(), strict=True):
        assert np.array_equal(again, crop)


def test_what_was_written_comes_back(golden: Golden, served: Served, tmp_path: Path) -> None:
    path = save_golden(golden, tmp_path)
    found = load_golden(path)
    assert np.array_equal(found.answers, golden.answers)
    assert (found.network, found.precision) == ("msp_cnn", "fp32")
    assert found.checkpoint == golden.checkpoint != ""
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == len(golden.crops) == 12
    for picture, crop, stored in zip(pictures, golden.crops, found.crops, strict=True):
        assert np.array_equal(cv2.imread(str(picture)), crop)
        assert np.array_equal(stored, crop)


def test_answers_do_not_depend_on_the_batch(golden: Golden, served: Served) -> None:
    with closing(open_runner(served.file(), "cpu")) as runner:
        inputs = runner.manifest.preprocess.batch(list(golden.crops))
        for size in (1, 5, 12):
            found = answers_of(runner, inputs, size)
            np.testing.assert_allclose(found, golden.answers, atol=1e-5)


def test_a_graph_that_takes_no_image_has_no_golden_crops(served: Served) -> None:
    with closing(open_runner(served.file(), "cpu")) as runner:
        runner.manifest = dataclasses.replace(
            runner.manifest,
            stage="compare",
            inputs=(ArraySpec("query", (4,), batched=False), ArraySpec("gallery", (4,))),
            outputs=(ArraySpec("score", ()),),
        )
        with pytest.raises(ModelFileError, match=r"query \(1, 4\), gallery \(N, 4\)"):
            golden_of(runner, golden_crops())


def test_the_bundle_that_a_model_lies_in_is_found(golden: Golden, tmp_path: Path) -> None:
    path = save_golden(golden, tmp_path / FOLDER)
    assert path == tmp_path / FOLDER / FILE
    assert find_golden(tmp_path / "model.onnx") == path
    assert find_golden(tmp_path / "msp_cnn" / "1" / "model.plan") == path
    assert find_golden(tmp_path / "a" / "b" / "c" / "model.plan") is None


DAMAGES = ["text", "cut", "format", "deep", "count", "types", "rank", "not finite", "no pixels"]


@pytest.mark.parametrize("damage", [*DAMAGES, "none"])
def test_other_files_are_one_line(golden: Golden, tmp_path: Path, damage: str) -> None:
    path = save_golden(golden, tmp_path)
    if damage == "text":
        path.write_text("golden")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "format":
        save_file({"answers": golden.answers}, path, {"format": "another"})
    elif damage == "deep":
        save_file({"answers": golden.answers}, path, {"format": EARLIER[0], "model": "[" * 100_000})
    elif damage in ("no pixels", "none"):
        empty = {"crop_000": np.zeros((0, 4, 3), np.uint8)} if damage == "no pixels" else {}
        texts = {"format": EARLIER[0], "model": json.dumps(MODEL)}
        save_file({"answers": golden.answers[: len(empty)], **empty}, path, texts)
    else:
        spoilt = {
            "count": golden.answers[:3],
            "types": golden.answers.astype(np.float16),
            "rank": golden.answers[:, 0].copy(),
            "not finite": golden.answers * np.float32(np.nan),
        }
        save_golden(dataclasses.replace(golden, answers=spoilt[damage]), tmp_path)
    with pytest.raises(DataError, match="holds no golden crops") as caught:
        load_golden(path)
    assert "\n" not in str(caught.value)
