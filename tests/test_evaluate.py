"""A split described by a runner made of numpy and scored; the table; what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import pytest

import reid.evaluate
from reid.errors import ConfigError, DataError, ModelFileError
from reid.evaluate import chance_rank1, describe_records, evaluate, evaluate_features
from reid.manifest import Manifest
from reid.matching import VectorMatcher
from reid.preprocess import Preprocess
from reid.runtime import Runner
from reid.tables import table
from reid.types import EvalReport, Features, FloatArray, ImageRecord, Protocol, Split

PEOPLE = 6
CAMERAS = 3


class MeanColourRunner:
    """Describes a crop by its mean colour, not normalised."""

    backend = "numpy"
    manifest = Manifest(
        network="fake",
        stage="embed",
        preprocess=Preprocess(16, 8, 16, 8, mean=(0.0, 0.0, 0.0)),
        output_dim=3,
        normalised=False,
    )

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return {"embedding": inputs["data"].mean(axis=(2, 3))}

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class NotFiniteRunner(MeanColourRunner):
    """As an overflowing FP16 graph: NaN for the images after the third."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        outputs = super().run(inputs)
        outputs["embedding"][3:] = np.nan
        return outputs


def write_split(folder: Path, protocol: Protocol) -> Split:
    """People who differ in colour, each seen twice by three cameras of different light.

    Camera 1 gives the queries. The hues are far enough apart for the mean colour to tell
    every one of them.
    """
    rng = np.random.default_rng(0)
    hues = rng.integers(20, 200, (PEOPLE, 3))
    hues[:, 0] = np.linspace(20, 200, PEOPLE)
    hues[:, 1] = np.linspace(200, 20, PEOPLE)
    query: list[ImageRecord] = []
    gallery: list[ImageRecord] = []
    for person in range(1, PEOPLE + 1):
        for camera in range(1, CAMERAS + 1):
            for index in range(2):
                noise = rng.integers(0, 6, (24, 12, 3))
                image = (hues[person - 1] * (0.8 + 0.1 * camera) + noise).clip(0, 255)
                path = folder / f"{person:04d}_c{camera}_{index}.png"
                assert cv2.imwrite(str(path), image.astype(np.uint8))
                side = query if camera == 1 and index == 0 else gallery
                side.append(ImageRecord(path, person, camera))
    return Split("colours", (), tuple(query), tuple(gallery), protocol)


@pytest.fixture(params=["market", "single_shot"])
def split(request: pytest.FixtureRequest, tmp_path: Path) -> Split:
    trials = 1 if request.param == "market" else 4
    return write_split(tmp_path, Protocol(request.param, trials, seed=1))


def test_a_model_that_knows_everybody_has_full_marks(split: Split) -> None:
    done: list[int] = []
    report = evaluate(
        MeanColourRunner(), split, batch_size=7, progress=done.append, model_name="colour"
    )
    assert report.cmc[1] == 1.0
    assert report.map_step == report.map_trapezoid == 1.0
    assert (report.num_query, report.num_gallery) == (6, 30)
    assert (report.model, report.dataset, report.protocol) == ("colour", "colours", split.protocol)
    assert sum(done) == 36
    assert report.describe_s > 0


def test_the_batch_size_does_not_change_the_report(split: Split) -> None:
    reports = [evaluate(MeanColourRunner(), split, batch_size=size) for size in (1, 5, 64)]
    assert len({(one.map_step, one.cmc[1], one.minp) for one in reports}) == 1


def test_features_keep_the_order_and_the_names_of_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reid.evaluate, "READ_AHEAD", 4)
    records = write_split(tmp_path, Protocol("market")).gallery
    matcher = VectorMatcher(MeanColourRunner(), batch_size=7)
    features = describe_records(matcher, records)
    one_by_one = [describe_records(matcher, [record]).vectors[0] for record in records]
    np.testing.assert_allclose(features.vectors, one_by_one, atol=1e-6)
    assert features.paths == tuple(str(record.path) for record in records)
    assert features.person_ids.tolist() == [record.person_id for record in records]
    assert features.camera_ids.tolist() == [record.camera_id for record in records]


def test_an_unreadable_image_among_good_ones_is_named(split: Split) -> None:
    damaged = split.gallery[20].path
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(DataError, match=damaged.name):
        evaluate(MeanColourRunner(), split, batch_size=4)


def test_a_missing_image_is_named(split: Split) -> None:
    split.query[2].path.unlink()
    with pytest.raises(DataError, match=split.query[2].path.name):
        evaluate(MeanColourRunner(), split)


def test_features_that_are_not_finite_are_refused_by_name(split: Split) -> None:
    with pytest.raises(ModelFileError, match="3 of 6 query images") as caught:
        evaluate(NotFiniteRunner(), split)
    for record in split.query[3:]:
        assert record.path.name in str(caught.value)
    assert split.query[2].path.name not in str(caught.value)


def test_features_without_paths_are_named_by_number() -> None:
    good = Features(np.ones((2, 2), np.float32), np.array([1, 2]), np.array([1, 1]))
    vectors = np.array([[1, 1], [np.inf, 1]], np.float32)
    bad = Features(vectors, np.array([1, 2]), np.array([2, 2]))
    with pytest.raises(ModelFileError, match=r"1 of 2 gallery images \(number 1\)"):
        evaluate_features(good, bad, Protocol("market"))


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_an_empty_side_is_refused_before_anything_is_described(side: str, tmp_path: Path) -> None:
    record = ImageRecord(tmp_path / "missing.jpg", 1, 1)
    sides = {"query": (record,), "gallery": (record,), side: ()}
    split = Split("colours", (), sides["query"], sides["gallery"], Protocol("market"))
    with pytest.raises(DataError, match=f"colours: the {side} is empty"):
        evaluate(MeanColourRunner(), split)
    with pytest.raises(DataError, match=f"the {side} is empty"):
        chance_rank1(split)


def test_a_misspelt_protocol_names_the_nearest() -> None:
    features = Features(np.ones((1, 2), np.float32), np.array([1]), np.array([1]))
    with pytest.raises(ConfigError, match=r"'singleshot'.*did you mean 'single_shot'"):
        evaluate_features(features, features, Protocol("singleshot"))


def test_chance_is_exact_for_each_protocol(tmp_path: Path) -> None:
    # 30 gallery images; a query skips its own camera's one and has 4 right ones in 29.
    assert chance_rank1(write_split(tmp_path, Protocol("market"))) == pytest.approx(4 / 29)
    # One image of each of the six people is drawn.
    assert chance_rank1(write_split(tmp_path, Protocol("single_shot", 3))) == pytest.approx(1 / 6)


def report(model: str, **changes: object) -> EvalReport:
    fields: dict[str, object] = {
        "model": model,
        "dataset": "market1501",
        "protocol": Protocol("market"),
        "num_query": 3368,
        "num_gallery": 15913,
        "num_unanswerable": 0,
        "cmc": {1: 0.7312, 5: 0.88, 10: 0.92, 20: 1.0},
        "map_step": 0.6208,
        "map_trapezoid": 0.6049,
        "minp": 0.3,
    }
    return EvalReport(**(fields | changes))  # type: ignore[arg-type]


def test_the_table_has_one_row_per_model_under_protocol_and_counts() -> None:
    text = table([report("run"), report("model.onnx", map_step=0.5)], chance=0.0123)
    assert text.splitlines() == [
        "market1501: Market protocol, single query",
        "3,368 queries, 15,913 gallery images",
        "a random ranking would have rank-1 1.2 %",
        "",
        "model       rank-1  rank-5  rank-10  rank-20  mAP (step)  mAP (trapezoid)  mINP",
        "run           73.1    88.0     92.0    100.0        62.1             60.5  30.0",
        "model.onnx    73.1    88.0     92.0    100.0        50.0             60.5  30.0",
    ]


def test_the_table_shows_the_deviation_over_trials() -> None:
    text = table(
        [
            report(
                "run",
                dataset="cuhk01",
                protocol=Protocol("single_shot", 10, seed=3),
                std={"rank1": 0.0123, "map_step": 0.01},
            )
        ]
    )
    assert "cuhk01: single-shot, mean and std of 10 draws, seed 3" in text
    assert "73.1 ± 1.2" in text
    assert "62.1 ± 1.0" in text


def test_the_table_says_how_many_queries_have_no_answer() -> None:
    words = "queries without a right image in the gallery, left out of the means"
    assert f"{words}: 7" in table([report("run", num_unanswerable=7)])
    assert words not in table([report("run")])


def test_models_measured_on_different_data_stand_in_tables_of_their_own() -> None:
    text = table([report("a"), report("b", dataset="cuhk01"), report("c")])
    assert text.count("model  rank-1") == 2
    assert text.index("c  ") < text.index("b  ")


def test_no_report_makes_an_empty_table() -> None:
    assert table([]) == ""
