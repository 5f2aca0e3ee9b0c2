"""A split described by a runner made of numpy and scored; the table; what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

import reid.matching.describing
from reid.data import read_image
from reid.errors import ConfigError, DataError, ModelFileError
from reid.evaluation.evaluating import (
    chance_rank1,
    describe_split,
    evaluate,
    evaluate_models,
    with_shots,
)
from reid.evaluation.ranking import rank_distances
from reid.evaluation.reranking import Reranking
from reid.matching import VectorMatcher
from reid.matching.distances import Distances
from reid.matching.files import save_descriptions
from reid.matching.labels import labels_from_records
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.progress import Advance, Reporter
from reid.runtime import Runner
from reid.types import BoolArray, FloatArray, Image, ImageRecord, Protocol, Split
from tests.heard import Heard

PEOPLE = 6
CAMERAS = 3


class MeanColourRunner(Runner):
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


class NotFiniteRunner(MeanColourRunner):
    """As an overflowing FP16 graph: NaN for the images after the third."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        outputs = super().run(inputs)
        outputs["embedding"][3:] = np.nan
        return outputs


def colour_matcher(batch_size: int = 64) -> VectorMatcher:
    return VectorMatcher(MeanColourRunner(), batch_size)


class HueMatcher:
    """Keeps the images themselves and compares two at a time, by the hue of their mean."""

    backend = "pairs"
    manifest = Manifest("hues", "describe", Preprocess())
    seconds_per_pair = 0.0
    seconds_per_shortlist = 0.0
    words = ""

    def __init__(self) -> None:
        self.shortlists: list[int] = []
        self.num_described = 0

    def describe(self, images: Iterable[Image], progress: Advance | None = None) -> list[Image]:
        kept = list(images)
        self.num_described += len(kept)
        return kept

    def finite(self, descriptions: list[Image]) -> BoolArray:
        return np.ones(len(descriptions), np.bool_)

    def seconds(self, query: list[Image], gallery: list[Image], best: int = 0) -> float:
        each = self.seconds_per_pair * (best or len(gallery))
        return len(query) * (each + (self.seconds_per_shortlist if best else 0))

    def tiles(
        self,
        query: list[Image],
        gallery: list[Image],
        progress: Advance | None = None,
        best: int = 0,
        say: Callable[[str], object] = lambda line: None,
    ) -> Distances:
        self.shortlists.append(best)
        if self.words:
            say(self.words)

        def distance(one: Image, other: Image) -> float:
            a, b = one.mean(axis=(0, 1)), other.mean(axis=(0, 1))
            return 1 - float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))

        def distances(rows: slice) -> FloatArray:
            if progress is not None:
                progress(len(query[rows]) * (best or len(gallery)))
            return np.array(
                [[distance(one, other) for other in gallery] for one in query[rows]], np.float32
            )

        return distances

    def refuse_shortlist(self, best: int, num_gallery: int) -> None:
        if best > num_gallery:
            raise ConfigError(f"at most {num_gallery}, found {best}")

    def close(self) -> None:
        """Nothing to release."""


class SlowMatcher(HueMatcher):
    """Takes 1 s a pair, and to begin a query's shortlist as long as for three."""

    seconds_per_pair = 1.0
    seconds_per_shortlist = 3.0


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


class Never(Reporter):
    """Fails where anything begins."""

    def begin(self, what: str, total: int) -> Advance:
        pytest.fail(what)


def test_a_model_that_knows_everybody_has_full_marks(split: Split) -> None:
    heard = Heard()
    found = evaluate(colour_matcher(7), split, reporter=heard, model_name="colour")
    report = found.report
    assert report.cmc[1] == 1.0
    assert report.map_step == report.map_trapezoid == 1.0
    assert (report.num_query, report.num_gallery) == (6, 30)
    assert (report.model, report.dataset, report.protocol) == ("colour", "colours", split.protocol)
    assert report.describe_s > 0
    assert heard.begun == {"describing": 36}
    assert sum(heard.done["describing"]) == 36
    assert heard.said == []


def test_comparisons_that_take_long_are_announced_counted_and_timed(split: Split) -> None:
    heard = Heard()
    report = evaluate(SlowMatcher(), split, reporter=heard).report
    assert heard.said == ["180 pairs to compare: about 3 min"]
    assert heard.begun == {"describing": 36, "comparing": 180}
    assert sum(heard.done["comparing"]) == 180
    assert report.num_compared == 180
    assert report.compare_s > 0


def test_a_shortlist_of_images_already_described_compares_only_its_best(split: Split) -> None:
    matcher, heard = SlowMatcher(), Heard()
    described = describe_split(matcher, split)
    found = evaluate(matcher, split, described=described, best=5, reporter=heard).report
    assert matcher.num_described == 36
    assert matcher.shortlists == [5]
    assert heard.said == ["30 pairs to compare: about 48 s (all 180: about 3 min)"]
    assert heard.begun == {"comparing": 30}
    assert (found.num_compared, found.describe_s) == (30, described.seconds)


def test_a_shortlist_is_announced_however_quick_but_has_a_bar_only_when_it_is_slow(
    split: Split,
) -> None:
    heard = Heard()
    matcher = SlowMatcher()
    matcher.seconds_per_pair, matcher.seconds_per_shortlist = 0.025, 0.0
    evaluate(matcher, split, best=5, reporter=heard)
    assert heard.said == ["30 pairs to compare: under 1 s (all 180: about 4 s)"]
    assert heard.begun == {"describing": 36}
    matcher.seconds_per_shortlist = 0.5
    evaluate(matcher, split, best=5, reporter=heard)
    assert heard.said[1:] == ["30 pairs to compare: about 4 s (all 180: about 4 s)"]
    assert heard.begun == {"describing": 36, "comparing": 30}


def test_all_pairs_that_are_compared_in_a_moment_are_not_announced(split: Split) -> None:
    heard = Heard()
    matcher = SlowMatcher()
    matcher.seconds_per_pair = 0.01
    evaluate(matcher, split, reporter=heard)
    assert (heard.said, heard.begun) == ([], {"describing": 36})


def test_what_the_matcher_has_to_say_about_its_distances_is_heard(split: Split) -> None:
    matcher, heard = HueMatcher(), Heard()
    matcher.words = "not kept"
    evaluate(matcher, split, reporter=heard)
    assert heard.said == ["not kept"]


def test_vectors_have_no_comparisons_to_report(split: Split) -> None:
    report = evaluate(colour_matcher(), split).report
    assert (report.num_compared, report.compare_s) == (0, 0.0)


def test_the_batch_size_does_not_change_the_report(split: Split) -> None:
    reports = [evaluate(colour_matcher(size), split).report for size in (1, 5, 64)]
    assert len({(one.map_step, one.cmc[1], one.minp) for one in reports}) == 1


def test_a_model_without_a_name_is_called_by_its_backend(split: Split) -> None:
    assert evaluate(colour_matcher(), split).report.model == "numpy"


def test_distances_and_labels_keep_the_order_of_the_records(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reid.matching.describing, "READ_AHEAD", 4)
    matcher = colour_matcher(7)
    found = evaluate(matcher, split)

    def alone(record: ImageRecord) -> FloatArray:
        return matcher.describe([read_image(record.path)])[0]

    expected = [
        [float(np.linalg.norm(alone(query) - alone(image))) for image in split.gallery]
        for query in split.query
    ]
    np.testing.assert_allclose(found.distances(slice(0, PEOPLE)), expected, atol=1e-3)
    assert found.split == split


def test_multi_query_is_one_query_of_the_mean_vector_for_each_person_and_camera(
    split: Split,
) -> None:
    several = dataclasses.replace(split, query=split.gallery, protocol=Protocol("multi_query"))
    found = evaluate(colour_matcher(), several)
    groups: dict[tuple[int, int], list[ImageRecord]] = {}
    for record in split.gallery:
        groups.setdefault((record.person_id, record.camera_id), []).append(record)
    assert found.report.num_query == len(groups) < len(split.gallery)
    assert found.split.query == tuple(members[0] for members in groups.values())
    matcher = colour_matcher()

    def vectors(records: list[ImageRecord]) -> FloatArray:
        return matcher.describe([cv2.imread(str(record.path)) for record in records])

    gallery = vectors([*split.gallery])
    means = np.stack([vectors(members).mean(axis=0) for members in groups.values()])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    expected = np.linalg.norm(means[:, None] - gallery[None], axis=2)
    np.testing.assert_allclose(found.distances(slice(0, len(groups))), expected, atol=1e-3)
    assert 0 < chance_rank1(several) < 1


def test_the_ranking_of_an_evaluation_is_that_of_its_distances(split: Split) -> None:
    found = evaluate(colour_matcher(), split)
    matrix = found.distances(slice(0, PEOPLE))
    query, gallery = labels_from_records(split.query), labels_from_records(split.gallery)
    expected = rank_distances(lambda rows: matrix[rows], query, gallery, 3)
    ranking = found.ranking(3)
    assert ranking.indices.tolist() == expected.indices.tolist()
    assert ranking.distances.tolist() == expected.distances.tolist()
    assert ranking.correct.all()


def test_more_images_than_were_kept_are_refused_and_more_than_there_are_end_with_none(
    split: Split,
) -> None:
    found = evaluate(colour_matcher(), split, keep=40)
    assert (found.ranking(40).indices[:, -5:] == -1).all()
    with pytest.raises(ValueError, match="1 to 40 nearest images were kept, found 41"):
        found.ranking(41)
    assert evaluate(colour_matcher(), split).kept.indices.shape == (PEOPLE, 20)


def test_an_evaluation_has_the_curves_and_the_table_of_cameras(split: Split) -> None:
    found = evaluate(colour_matcher(), split)
    assert found.cmc_curve.tolist() == [1.0] * 30
    positives = PEOPLE * 4
    assert found.verification.positives.sum() == positives
    assert found.report.tpr[1e-2] == found.verification.tpr_at(1e-2)
    assert found.report.tpr[1e-4] is None  # of some hundred pairs
    assert found.report.distance_at[1e-2] == found.verification.distance_at(1e-2)
    cameras = [(one.query_camera, one.gallery_camera) for one in found.report.camera_pairs]
    assert cameras == [(1, 2), (1, 3)]
    assert {one.rank1 for one in found.report.camera_pairs} == {1.0}
    assert found.report.num_identities == PEOPLE


def test_vectors_can_be_re_ranked_and_networks_of_pairs_cannot(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    settings = Reranking(k1=4, k2=2)
    found = evaluate(colour_matcher(), split, rerank=settings, reporter=heard)
    assert found.report.reranking == "k1 4, k2 2, lambda 0.3"
    assert found.report.cmc[1] == 1.0
    assert heard.begun == {"describing": 36, "re-ranking": 36}
    assert sum(heard.done["re-ranking"]) == 36
    plain = evaluate(colour_matcher(), split)
    assert plain.kept.distances.tolist() != found.kept.distances.tolist()
    pairs = HueMatcher()
    monkeypatch.setattr(reid.evaluation.evaluating, "open_matcher", lambda *_: pairs)
    with pytest.raises(ConfigError, match="leave --rerank out"):
        evaluate_models([Path("run")], split, rerank=settings)
    assert (pairs.num_described, pairs.shortlists) == (0, [])  # refused before anything took long
    monkeypatch.setattr(reid.evaluation.evaluating, "open_matcher", lambda *_: colour_matcher())
    both = evaluate_models([Path("run")], split, rerank=settings)
    assert [one.report.model for one in both] == ["run", "run, re-ranked"]
    assert [one.report.reranking for one in both] == ["", settings.words()]


def test_shots_change_the_protocol_and_nothing_else(split: Split) -> None:
    single, several = with_shots(split, 1), with_shots(split, 3)
    trials = 10 if split.protocol.name == "market" else split.protocol.trials
    assert single.protocol == Protocol("single_shot", trials, split.protocol.seed)
    assert several.protocol == Protocol("multi_shot", trials, split.protocol.seed, 3)
    assert dataclasses.replace(several, protocol=split.protocol) == split
    assert evaluate(colour_matcher(), several).report.cmc[1] == 1.0
    assert chance_rank1(several) == pytest.approx(1 / PEOPLE)


def test_a_matcher_of_pairs_is_scored_as_one_of_vectors_is(split: Split) -> None:
    report = evaluate(HueMatcher(), split).report
    assert (report.model, report.cmc[1], report.map_step) == ("pairs", 1.0, 1.0)


def test_models_are_evaluated_in_turn_and_each_is_closed(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    class Watched(VectorMatcher):
        def __init__(
            self, path: Path, device: str, threads: int, batch_size: int | None, graph: str
        ) -> None:
            assert not graph
            events.append(f"open {path} {device} {threads} {batch_size}")
            super().__init__(MeanColourRunner(), batch_size)

        def close(self) -> None:
            events.append("close")

    monkeypatch.setattr(reid.evaluation.evaluating, "open_matcher", Watched)
    models = [Path("a.onnx"), Path("b.onnx")]
    found = evaluate_models(models, split, device="cpu", threads=1, batch_size=9)
    assert [one.report.model for one in found] == ["a.onnx", "b.onnx"]
    assert events == ["open a.onnx cpu 1 9", "close", "open b.onnx cpu 1 9", "close"]
    split.gallery[0].path.unlink()
    with pytest.raises(DataError, match=split.gallery[0].path.name):
        evaluate_models(models, split)
    assert events[4:] == ["open a.onnx auto 0 None", "close"]  # the matcher's own batch


def test_an_unreadable_image_among_good_ones_is_named(split: Split) -> None:
    damaged = split.gallery[20].path
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(DataError, match=damaged.name):
        evaluate(colour_matcher(4), split)


def test_a_missing_image_is_named(split: Split) -> None:
    split.query[2].path.unlink()
    with pytest.raises(DataError, match=split.query[2].path.name):
        evaluate(colour_matcher(), split)


def test_descriptions_that_are_not_finite_are_refused_by_name(split: Split) -> None:
    with pytest.raises(ModelFileError, match="3 of 6 query images") as caught:
        evaluate(VectorMatcher(NotFiniteRunner()), split)
    for record in split.query[3:]:
        assert record.path.name in str(caught.value)
    assert split.query[2].path.name not in str(caught.value)


def test_stored_descriptions_that_are_not_finite_are_refused_by_name(
    split: Split, tmp_path: Path
) -> None:
    matcher, file = colour_matcher(), tmp_path / "gallery.safetensors"
    vectors = matcher.describe([read_image(record.path) for record in split.gallery])
    vectors[[3, 7], 0] = np.nan, np.inf
    save_descriptions(file, matcher, vectors, split.gallery)
    with pytest.raises(ModelFileError, match="2 of 30 gallery images") as caught:
        describe_split(matcher, split, gallery_file=file)
    assert all(split.gallery[i].path.name in str(caught.value) for i in (3, 7))


@pytest.mark.parametrize("field", ["person_id", "camera_id"])
def test_stored_descriptions_of_other_people_are_refused_though_their_files_have_the_names(
    split: Split, tmp_path: Path, field: str
) -> None:
    matcher, file = colour_matcher(), tmp_path / "gallery.safetensors"
    vectors = matcher.describe([read_image(record.path) for record in split.gallery])
    others = [dataclasses.replace(one, **{field: 77}) for one in split.gallery]
    save_descriptions(file, matcher, vectors, others)
    with pytest.raises(ModelFileError, match="images that are not the gallery of this data"):
        describe_split(matcher, split, gallery_file=file)


def test_each_model_is_described_once_for_all_its_shortlists(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher = HueMatcher()
    monkeypatch.setattr(reid.evaluation.evaluating, "open_matcher", lambda *_: matcher)
    found = evaluate_models([Path("run")], split, shortlists=(0, 10, 5))
    assert [one.report.model for one in found] == ["run", "run, best 10", "run, best 5"]
    assert matcher.num_described == 36
    assert matcher.shortlists == [0, 10, 5]


def test_a_shortlist_that_cannot_be_is_refused_before_anything_is_described(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher = HueMatcher()
    monkeypatch.setattr(reid.evaluation.evaluating, "open_matcher", lambda *_: matcher)
    most = len(split.gallery)
    with pytest.raises(ConfigError, match=f"at most {most}, found {most + 1}"):
        evaluate_models([Path("run")], split, shortlists=(0, most + 1))
    with pytest.raises(ConfigError, match=f"at most {most}, found {most + 1}"):
        evaluate(HueMatcher(), split, best=most + 1, reporter=Never())
    assert matcher.num_described == 0


def test_of_many_descriptions_that_are_not_finite_three_are_named(split: Split) -> None:
    class NothingFinite(VectorMatcher):
        def finite(self, descriptions: FloatArray) -> BoolArray:
            return np.full(len(descriptions), len(descriptions) == len(split.query))

    with pytest.raises(
        ModelFileError, match=r"30 of 30 gallery images \(.* and 27 more\)"
    ) as caught:
        evaluate(NothingFinite(MeanColourRunner()), split)
    named = [record.path.name in str(caught.value) for record in split.gallery]
    assert named == [True] * 3 + [False] * 27


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_an_empty_side_is_refused_before_anything_is_described(side: str, tmp_path: Path) -> None:
    record = ImageRecord(tmp_path / "missing.jpg", 1, 1)
    sides = {"query": (record,), "gallery": (record,), side: ()}
    split = Split("colours", (), sides["query"], sides["gallery"], Protocol("market"))
    with pytest.raises(DataError, match=f"colours: the {side} is empty"):
        evaluate(colour_matcher(), split)
    with pytest.raises(DataError, match=f"the {side} is empty"):
        chance_rank1(split)


def test_a_misspelt_protocol_names_the_nearest(tmp_path: Path) -> None:
    split = write_split(tmp_path, Protocol("singleshot"))
    for use in (chance_rank1, lambda split: evaluate(colour_matcher(), split)):
        with pytest.raises(ConfigError, match=r"'singleshot'.*did you mean 'single_shot'"):
            use(split)


def test_chance_is_exact_for_each_protocol(tmp_path: Path) -> None:
    # 30 gallery images; a query skips its own camera's one and has 4 right ones in 29.
    assert chance_rank1(write_split(tmp_path, Protocol("market"))) == pytest.approx(4 / 29)
    # One image of each of the six people is drawn.
    assert chance_rank1(write_split(tmp_path, Protocol("single_shot", 3))) == pytest.approx(1 / 6)
