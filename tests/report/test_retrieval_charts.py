"""Charts of an evaluation: every model has its curve, and each its colour."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from reid.evaluation.evaluating import Evaluation
from reid.report.charts import COLOURS
from reid.report.drawing import NAME_LENGTH, short
from reid.report.retrieval_charts import NEGATIVE, POSITIVE, curves_picture, distances_picture
from reid.types import FloatArray, Image
from tests.report.test_chosen import evaluation_of

MATRIX = np.random.default_rng(0).random((4, 6)).astype(np.float32)


def named(
    model: str, matrix: FloatArray = MATRIX, people: tuple[int, ...] = (1, 2, 1, 1)
) -> Evaluation:
    evaluation = evaluation_of(matrix, *people)
    return dataclasses.replace(
        evaluation, report=dataclasses.replace(evaluation.report, model=model)
    )


def num_pixels(picture: Image, colour: str) -> int:
    rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return int((picture == rgb[::-1]).all(2).sum())


def test_each_model_has_a_curve_of_its_own_in_both_charts() -> None:
    models = [named(f"run{i}", np.roll(MATRIX, i, 1)) for i in range(3)]
    for number in (1, 3):
        picture = curves_picture(models[:number])
        half = picture.shape[1] // 2
        for side in (picture[:, :half], picture[:, half:]):
            drawn = [num_pixels(side, colour) > 30 for colour in COLOURS]
            assert drawn == [i < number for i in range(len(COLOURS))]


def test_models_that_agree_are_both_seen() -> None:
    picture = curves_picture([named("run"), named("run.onnx")])
    picture = picture[:, picture.shape[1] // 2 :]  # without the legend
    assert min(num_pixels(picture, colour) for colour in COLOURS[:2]) > 100


def test_distances_have_a_panel_for_each_model() -> None:
    one, two, three = (distances_picture([named("run")] * number) for number in (1, 2, 3))
    assert one.shape[0] == two.shape[0]
    assert two.shape[1] > one.shape[1]
    assert three.shape[0] > two.shape[0]
    for colour in (POSITIVE, NEGATIVE):
        counts = [num_pixels(picture, colour) for picture in (one, two)]
        assert min(counts) > 100


@pytest.mark.parametrize("people", [(7,), (2,)])
def test_without_right_pairs_there_is_still_a_picture(people: tuple[int, ...]) -> None:
    evaluation = named("run", MATRIX[:1], people)
    for picture in (curves_picture([evaluation]), distances_picture([evaluation])):
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3


def test_a_long_name_is_shown_by_its_end() -> None:
    long = "runs/" + "x" * 50 + "/best"
    assert short(long).startswith("...")
    assert short(long).endswith("/best")
    assert len(short(long)) == NAME_LENGTH
    assert short("run") == "run"


@pytest.mark.parametrize("model", ["_run", "run$\\frac$2"])
def test_a_model_of_any_name_stands_in_the_legend(model: str) -> None:
    dark = [int((curves_picture([named(one)]) < 100).all(2).sum()) for one in (model, " ")]
    assert dark[0] > dark[1] + 50
    assert distances_picture([named(model)]).shape[2] == 3
